package cli

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// closeTimeout is how long a broker may take to close.
const closeTimeout = 10 * time.Second

// The values of --log-format.
const (
	formatText = "text"
	formatJSON = "json"
)

// logFlags say what is logged and how.
type logFlags struct {
	level   slog.Level
	format  string
	verbose bool
}

func (f *logFlags) register(flags *pflag.FlagSet) {
	f.format = formatText
	flags.Var(&levelFlag{&f.level}, "log-level", "log records of this level and above: debug, info, warn or error")
	flags.Var(&choiceFlag{&f.format, []string{formatText, formatJSON}}, "log-format", "form of log records: text or json")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "the same as --log-level debug")
}

func (f *logFlags) logger(w io.Writer) *slog.Logger {
	level := f.level
	if f.verbose {
		level = min(level, slog.LevelDebug)
	}
	options := &slog.HandlerOptions{Level: level}
	if f.format == formatJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// levelFlag is a log level.
type levelFlag struct{ level *slog.Level }

func (f *levelFlag) String() string {
	if f.level == nil {
		return ""
	}
	return strings.ToLower(f.level.String())
}

func (f *levelFlag) Type() string { return "level" }

func (f *levelFlag) Set(text string) error {
	if err := f.level.UnmarshalText([]byte(text)); err != nil {
		return fmt.Errorf("must be debug, info, warn or error")
	}
	return nil
}

// choiceFlag is one of a few words.
type choiceFlag struct {
	value   *string
	choices []string
}

func (f *choiceFlag) String() string {
	if f.value == nil {
		return ""
	}
	return *f.value
}

func (f *choiceFlag) Type() string { return "format" }

func (f *choiceFlag) Set(text string) error {
	if !slices.Contains(f.choices, text) {
		return fmt.Errorf("must be %s", strings.Join(f.choices, " or "))
	}
	*f.value = text
	return nil
}

// millisFlag is a duration: whole milliseconds, as Python has it, or in Go's form.
type millisFlag struct {
	value time.Duration
	given bool
}

func (f *millisFlag) String() string {
	if !f.given {
		return ""
	}
	return f.value.String()
}

func (f *millisFlag) Type() string { return "duration" }

func (f *millisFlag) Set(text string) error {
	d, err := time.ParseDuration(text)
	if ms, intErr := strconv.ParseUint(text, 10, 43); intErr == nil {
		d, err = time.Duration(ms)*time.Millisecond, nil //nolint:gosec // 43 bits
	}
	if err != nil || d <= 0 {
		return fmt.Errorf("must be a number of milliseconds such as 5000, or a duration such as 5s or 1m30s, above zero")
	}
	f.value, f.given = d, true
	return nil
}

// redact returns a URL without password and parameters.
func redact(text string) string {
	if text == "" {
		return "the default"
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Fragment != "" || u.Opaque != "" && u.Scheme != "sqlite" ||
		strings.Contains(u.Path+u.RawQuery, "@") {
		return "(not shown: the URL cannot be told from its password)"
	}
	u.RawQuery = ""
	if user := u.User.Username(); u.User != nil {
		u.User = url.User(user)
	}
	return u.String()
}
