package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/connect"
)

const defaultConcurrency = 8

// environment is what the environment asks for. An empty variable counts as unset.
type environment struct {
	brokerURL string // with what other variables say about the broker
	ledgerURL string
	worker    dramatiq.WorkerConfig
}

// readEnvironment returns the settings; brokerURL is that of the command line or of DRAMATIQ_BROKER_URL.
func readEnvironment(brokerURL string) (environment, error) {
	env := environment{ledgerURL: os.Getenv("INTEROP_LEDGER_URL")}
	env.worker.Concurrency = defaultConcurrency
	for q := range strings.SplitSeq(os.Getenv("INTEROP_QUEUES"), ",") {
		if q = strings.TrimSpace(q); q != "" {
			env.worker.Queues = append(env.worker.Queues, q)
		}
	}
	if os.Getenv("INTEROP_RESULTS_URL") != "" {
		return env, errors.New("INTEROP_RESULTS_URL is set, but goworker stores no results yet; unset it")
	}
	var err error
	if env.brokerURL, err = withParameters(brokerURL); err != nil {
		return env, err
	}
	if err := positive("INTEROP_CONCURRENCY", &env.worker.Concurrency); err != nil {
		return env, err
	}
	if os.Getenv("INTEROP_CRASH_LIMIT") == "off" {
		env.worker.CrashLimit = dramatiq.NoLimit
		return env, nil
	}
	return env, positive("INTEROP_CRASH_LIMIT", &env.worker.CrashLimit)
}

// positive reads a variable that is a number above zero, if it is set.
func positive(name string, value *int) error {
	text := os.Getenv(name)
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return fmt.Errorf("%s must be an integer above zero, not %q", name, text)
	}
	*value = n
	return nil
}

// withParameters puts into the broker's URL what has a variable of its own in the contract.
func withParameters(text string) (string, error) {
	if text == "" {
		return "", fmt.Errorf("%s is not set", connect.URLVariable)
	}
	timeout := cmp.Or(os.Getenv("DRAMATIQ_HEARTBEAT_TIMEOUT"), "60s")
	if d, err := time.ParseDuration(timeout); err != nil || d <= 0 {
		return "", fmt.Errorf("DRAMATIQ_HEARTBEAT_TIMEOUT must be a duration above zero such as 500ms or 60s, not %q", timeout)
	}
	scheme, _, _ := strings.Cut(text, ":")
	switch strings.ToLower(scheme) {
	case "sqlite":
		return withParameter(text, "heartbeat_timeout", timeout), nil
	case "amqp", "amqps":
		return withParameter(text, "max_priority", os.Getenv("INTEROP_MAX_PRIORITY")), nil
	default:
		return text, nil
	}
}

// withParameter adds a parameter, unless it is empty or the URL has it already.
func withParameter(text, name, value string) string {
	before, query, _ := strings.Cut(text, "?")
	if value == "" || strings.Contains("&"+query, "&"+name+"=") {
		return text
	}
	if query != "" {
		query += "&"
	}
	return before + "?" + query + name + "=" + url.QueryEscape(value)
}
