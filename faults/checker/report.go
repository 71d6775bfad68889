package checker

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dramatiq-go/dramatiq/faults/ledger"
)

// shown is how many offenders of each kind a report lists.
const shown = 20

// ErrViolated is wrapped by the error of a report with violations.
var ErrViolated = errors.New("checker: a guarantee was violated")

// OK reports whether all invariants held.
func (r Report) OK() bool {
	return len(r.Lost) == 0 && len(r.Unexplained) == 0 && len(r.Strangers) == 0 && len(r.Unreasoned) == 0
}

// Err returns nil, or an error with the whole report.
func (r Report) Err() error {
	if r.OK() {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrViolated, r)
}

// String returns the counts and the first offenders of each kind.
func (r Report) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d accepted, %d completed, %d dead-lettered, %d runs of which %d beyond the first are explained; "+
		"%d lost, %d unexplained runs, %d runs of unknown messages, %d dead letters without a reason\n",
		r.Accepted, r.Completed, r.DeadLettered, r.Runs, r.Explained,
		len(r.Lost), len(r.Unexplained), len(r.Strangers), len(r.Unreasoned))
	list(&text, "lost", r.Lost, func(id string) string { return id })
	list(&text, "unexplained", r.Unexplained, func(extra Extra) string {
		lines := []string{describe(extra.Run)}
		for _, run := range extra.Earlier {
			lines = append(lines, "    after "+describe(run))
		}
		return strings.Join(lines, "\n")
	})
	list(&text, "unknown", r.Strangers, describe)
	list(&text, "no reason", r.Unreasoned, func(id string) string { return id })
	return text.String()
}

// list writes the first of the offenders and how many more there are.
func list[T any](text *strings.Builder, kind string, offenders []T, line func(T) string) {
	for _, offender := range offenders[:min(shown, len(offenders))] {
		fmt.Fprintf(text, "  %s: %s\n", kind, line(offender))
	}
	if more := len(offenders) - shown; more > 0 {
		fmt.Fprintf(text, "  %s: and %d more\n", kind, more)
	}
}

func describe(run ledger.Entry) string {
	end := "no end"
	if run.Outcome != ledger.Started {
		end = fmt.Sprintf("+%d ms", run.EndMS-run.StartMS)
	}
	return fmt.Sprintf("%s of %s, attempt %d, %s pid %d, at %d ms, %s, %s",
		run.MessageID, run.Actor, run.Attempt, run.Lang, run.PID, run.StartMS, end, run.Outcome)
}
