package checker_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/faults/checker"
	"github.com/dramatiq-go/dramatiq/faults/ledger"
)

// run is a run of a message; an end of 0 is a run that was cut short.
func run(id string, pid int, start, end int64, outcome string) ledger.Entry {
	return ledger.Entry{Actor: "work", MessageID: id, Lang: "go", PID: pid, StartMS: start, EndMS: end, Outcome: outcome}
}

func fault(pid int, at int64) checker.Fault {
	return checker.Fault{At: time.UnixMilli(at), PID: pid, Kind: "kill"}
}

// violations are the message ids of each kind of violation, in order.
type violations struct {
	lost, unexplained, strangers, unreasoned []string
}

func violationsOf(report checker.Report) violations {
	v := violations{lost: report.Lost, unreasoned: report.Unreasoned}
	for _, extra := range report.Unexplained {
		v.unexplained = append(v.unexplained, fmt.Sprintf("%s@%d", extra.Run.MessageID, extra.Run.StartMS))
	}
	for _, stranger := range report.Strangers {
		v.strangers = append(v.strangers, stranger.MessageID)
	}
	return v
}

type checkCase struct {
	name     string
	evidence checker.Evidence
	want     violations
}

func TestCheck_fates(t *testing.T) {
	t.Parallel()
	checkAll(t, []checkCase{
		{name: "nothing happened"},
		{
			name: "completed, dead-lettered or queued is not lost",
			evidence: checker.Evidence{
				Accepted:    []string{"done", "dead", "waiting"},
				Entries:     []ledger.Entry{run("done", 1, 10, 20, ledger.OK), run("dead", 1, 10, 20, ledger.Failed)},
				DeadLetters: []checker.DeadLetter{{ID: "dead", Reason: "retries exceeded"}},
				Queued:      []string{"waiting"},
			},
		},
		{
			name:     "never run is lost",
			evidence: checker.Evidence{Accepted: []string{"b", "a", "b"}},
			want:     violations{lost: []string{"a", "b"}},
		},
		{
			name: "failed for the last time is lost",
			evidence: checker.Evidence{
				Accepted: []string{"a"}, Entries: []ledger.Entry{run("a", 1, 10, 20, ledger.Failed)},
			},
			want: violations{lost: []string{"a"}},
		},
		{
			name: "cut short for the last time is lost",
			evidence: checker.Evidence{
				Accepted: []string{"a"}, Entries: []ledger.Entry{run("a", 1, 10, 0, ledger.Started)},
				Faults: []checker.Fault{fault(1, 15)},
			},
			want: violations{lost: []string{"a"}},
		},
		{
			name:     "an unknown send may be lost",
			evidence: checker.Evidence{Unknown: []string{"a"}},
		},
		{
			name: "an unknown send may run",
			evidence: checker.Evidence{
				Unknown: []string{"a"}, Entries: []ledger.Entry{run("a", 1, 10, 20, ledger.OK)},
			},
		},
		{
			name:     "a run of what nobody sent",
			evidence: checker.Evidence{Entries: []ledger.Entry{run("ghost", 1, 10, 20, ledger.OK)}},
			want:     violations{strangers: []string{"ghost"}},
		},
		{
			name: "a dead letter without a reason",
			evidence: checker.Evidence{
				Accepted: []string{"a"}, DeadLetters: []checker.DeadLetter{{ID: "a"}},
			},
			want: violations{unreasoned: []string{"a"}},
		},
	})
}

func TestCheck_extraRuns(t *testing.T) {
	t.Parallel()
	// twice is a message that was completed by pid 1 from 10 to 20 ms and by pid 2 at 100 ms.
	twice := func(faults ...checker.Fault) checker.Evidence {
		return checker.Evidence{
			Accepted: []string{"a"},
			Entries:  []ledger.Entry{run("a", 1, 10, 20, ledger.OK), run("a", 2, 100, 110, ledger.OK)},
			Faults:   faults,
			Slack:    30 * time.Millisecond,
		}
	}
	// cut is a message whose first run was cut short.
	cut := func(faults ...checker.Fault) checker.Evidence {
		e := twice(faults...)
		e.Entries[0] = run("a", 1, 10, 0, ledger.Started)
		return e
	}
	unexplained := violations{unexplained: []string{"a@100"}}
	checkAll(t, []checkCase{
		{name: "without a reason", evidence: twice(), want: unexplained},
		{name: "killed during the run", evidence: twice(fault(1, 15))},
		{name: "killed as it began", evidence: twice(fault(1, 10))},
		{name: "killed within the slack", evidence: twice(fault(1, 50))},
		{name: "killed after the slack", evidence: twice(fault(1, 51)), want: unexplained},
		{name: "killed before the run", evidence: twice(fault(1, 9)), want: unexplained},
		{name: "another process killed", evidence: twice(fault(3, 15)), want: unexplained},
		{name: "the process of the extra run killed", evidence: twice(fault(2, 105)), want: unexplained},
		{name: "the broker failed during the run", evidence: twice(fault(0, 15))},
		{name: "the broker failed long after", evidence: twice(fault(0, 90)), want: unexplained},
		{name: "cut short by a kill", evidence: cut(fault(1, 90))},
		{name: "cut short by nothing", evidence: cut(), want: unexplained},
		{name: "killed only after the extra run began", evidence: cut(fault(1, 101)), want: unexplained},
	})
}

func TestCheck_everyReasonExplainsOneRun(t *testing.T) {
	t.Parallel()
	three := func(first, second ledger.Entry, faults ...checker.Fault) checker.Evidence {
		return checker.Evidence{
			Accepted: []string{"a"},
			Entries:  []ledger.Entry{run("a", 3, 200, 210, ledger.OK), second, first}, // in any order
			Faults:   faults,
		}
	}
	ok1, ok2 := run("a", 1, 10, 20, ledger.OK), run("a", 2, 100, 110, ledger.OK)
	bad1, bad2 := run("a", 1, 10, 20, ledger.Failed), run("a", 2, 100, 110, ledger.Failed)
	checkAll(t, []checkCase{
		{name: "two failures, two retries", evidence: three(bad1, bad2)},
		{name: "a failure and a kill", evidence: three(bad1, ok2, fault(2, 105))},
		{name: "two faults in one run", evidence: three(ok1, ok2, fault(1, 15), fault(0, 16))},
		{
			name: "one failure, two more runs", evidence: three(bad1, ok2),
			want: violations{unexplained: []string{"a@200"}},
		},
		{
			name: "one kill, two more runs", evidence: three(ok1, ok2, fault(1, 15)),
			want: violations{unexplained: []string{"a@200"}},
		},
		{
			name: "a kill that came too late for the second", evidence: three(ok1, ok2, fault(2, 105)),
			want: violations{unexplained: []string{"a@100"}},
		},
		{
			name: "both beyond explanation", evidence: three(ok1, ok2),
			want: violations{unexplained: []string{"a@100", "a@200"}},
		},
	})
}

func TestCheck_startAndEndAreOneRun(t *testing.T) {
	t.Parallel()
	started := run("a", 1, 10, 0, ledger.Started)
	report := checker.Check(checker.Evidence{
		Accepted: []string{"a"}, Entries: []ledger.Entry{started, run("a", 1, 10, 20, ledger.OK)},
	})
	if !report.OK() || report.Runs != 1 || report.Completed != 1 {
		t.Errorf("got %v, want one completed run", report)
	}
}

func checkAll(t *testing.T, cases []checkCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			report := checker.Check(c.evidence)
			if got := violationsOf(report); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			sound := reflect.DeepEqual(c.want, violations{})
			if report.OK() != sound || errors.Is(report.Err(), checker.ErrViolated) == sound {
				t.Errorf("OK() is %v and Err() is %v, want sound to be %v", report.OK(), report.Err(), sound)
			}
		})
	}
}

func TestReport_isReadable(t *testing.T) {
	t.Parallel()
	evidence := checker.Evidence{
		Accepted:    []string{"twice"},
		DeadLetters: []checker.DeadLetter{{ID: "silent"}},
		Entries: []ledger.Entry{
			run("twice", 1, 10, 0, ledger.Started), run("twice", 2, 100, 110, ledger.OK), run("ghost", 3, 5, 6, ledger.Failed),
		},
	}
	for n := range 25 {
		evidence.Accepted = append(evidence.Accepted, fmt.Sprintf("lost-%02d", n))
	}
	got := checker.Check(evidence).String()
	for _, want := range []string{
		"26 accepted, 1 completed, 1 dead-lettered, 3 runs of which 0 beyond the first are explained; " +
			"25 lost, 1 unexplained runs, 1 runs of unknown messages, 1 dead letters without a reason\n",
		"  lost: lost-00\n", "  lost: lost-19\n  lost: and 5 more\n",
		"  unexplained: twice of work, attempt 0, go pid 2, at 100 ms, +10 ms, ok\n" +
			"    after twice of work, attempt 0, go pid 1, at 10 ms, no end, started\n",
		"  unknown: ghost of work, attempt 0, go pid 3, at 5 ms, +1 ms, error\n",
		"  no reason: silent\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the report lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "lost-20") {
		t.Errorf("the report lists more than 20 offenders:\n%s", got)
	}
}
