// Package checker decides whether a guarantee held: it compares the messages that were accepted with the ledger of runs,
// the dead letters, what is still queued, and the faults that were injected.
//
// Two invariants are checked. Every accepted message was completed, or dead-lettered with a reason, or is still queued.
// Every run of a message beyond its first is explained: by an earlier run that failed, or by a fault that hit one.
package checker

import (
	"cmp"
	"slices"
	"time"

	"github.com/dramatiq-go/dramatiq/faults/ledger"
)

// DeadLetter is a message that was given up.
type DeadLetter struct {
	ID     string
	Reason string
}

// Fault is one injected fault. What time it was is asked before a process is killed or stopped.
type Fault struct {
	At   time.Time
	PID  int    // the process that was hit; 0 is the broker or the network, which hits all
	Kind string // for the report: kill, stop, reset, …
}

// Evidence is everything that is known after a test.
type Evidence struct {
	// Accepted are the messages whose sending succeeded.
	Accepted []string
	// Unknown are the messages whose sending failed so that they may have been stored: they may run, and may be lost.
	Unknown []string
	// Entries is the ledger.
	Entries []ledger.Entry
	// DeadLetters are the messages that were given up.
	DeadLetters []DeadLetter
	// Queued are the messages that wait or are claimed: what is left in the broker.
	Queued []string
	// Faults are the injected faults.
	Faults []Fault
	// Slack is for how long after a run's end a fault can still have hit it: until its acknowledgement was stored.
	Slack time.Duration
}

// Extra is a run of a message that nothing explains.
type Extra struct {
	Run     ledger.Entry
	Earlier []ledger.Entry // the runs of the message before it
}

// Report is what [Check] found. The lists are ordered; those of a sound test are empty.
type Report struct {
	// Lost are accepted messages that are nowhere.
	Lost []string
	// Unexplained are runs beyond the first without an explanation.
	Unexplained []Extra
	// Strangers are runs of messages that nobody sent.
	Strangers []ledger.Entry
	// Unreasoned are messages that were dead-lettered without a reason.
	Unreasoned []string

	// Accepted, Completed, DeadLettered and Runs count messages and runs, and Explained the runs beyond the first that
	// have an explanation, for a reader who wonders whether anything happened at all.
	Accepted, Completed, DeadLettered, Runs, Explained int
}

// Check compares the evidence.
func Check(e Evidence) Report {
	runs := ledger.Runs(e.Entries)
	slices.SortStableFunc(runs, func(a, b ledger.Entry) int { return cmp.Compare(a.StartMS, b.StartMS) })
	report := Report{Accepted: len(e.Accepted), DeadLettered: len(e.DeadLetters), Runs: len(runs)}
	report.checkFates(e, runs)
	report.checkRuns(e, runs)
	return report
}

// checkFates finds what was lost, and what was given up without a reason.
func (r *Report) checkFates(e Evidence, runs []ledger.Entry) {
	settled := set(e.Queued)
	completed := make(map[string]bool)
	for _, run := range runs {
		if run.Outcome == ledger.OK {
			completed[run.MessageID] = true
			settled[run.MessageID] = true
		}
	}
	r.Completed = len(completed)
	for _, dead := range e.DeadLetters {
		settled[dead.ID] = true
		if dead.Reason == "" {
			r.Unreasoned = append(r.Unreasoned, dead.ID)
		}
	}
	for id := range set(e.Accepted) {
		if !settled[id] {
			r.Lost = append(r.Lost, id)
		}
	}
	slices.Sort(r.Lost)
	slices.Sort(r.Unreasoned)
}

// checkRuns finds runs of unknown messages and runs that nothing explains. The runs are ordered by their start.
func (r *Report) checkRuns(e Evidence, runs []ledger.Entry) {
	sent := set(e.Accepted)
	for _, id := range e.Unknown {
		sent[id] = true
	}
	faults := make(map[int][]int64)
	for _, fault := range e.Faults {
		faults[fault.PID] = append(faults[fault.PID], fault.At.UnixMilli())
	}
	earlier := make(map[string][]ledger.Entry)
	used := make(map[string]int) // explanations that are taken, by message
	for _, run := range runs {
		id := run.MessageID
		if !sent[id] {
			r.Strangers = append(r.Strangers, run)
		}
		if before := earlier[id]; len(before) > 0 {
			if explanations(before, run, faults, e.Slack) > used[id] {
				used[id]++
				r.Explained++
			} else {
				r.Unexplained = append(r.Unexplained, Extra{Run: run, Earlier: slices.Clone(before)})
			}
		}
		earlier[id] = append(earlier[id], run)
	}
}

// explanations counts the reasons there are for one more run after the earlier ones. Each failure and each fault that hit
// a run is the reason for one: a single kill does not explain that a message ran three times.
func explanations(earlier []ledger.Entry, extra ledger.Entry, faults map[int][]int64, slack time.Duration) int {
	count := 0
	for _, run := range earlier {
		if run.Outcome == ledger.Failed {
			count++
		}
		until := extra.StartMS
		if run.Outcome != ledger.Started { // a run without an end lasted until it was cut short
			until = min(until, run.EndMS+slack.Milliseconds())
		}
		hits := faults[0]
		if run.PID != 0 {
			hits = slices.Concat(hits, faults[run.PID])
		}
		for _, at := range hits {
			if run.StartMS <= at && at <= until {
				count++
			}
		}
	}
	return count
}

func set(ids []string) map[string]bool {
	members := make(map[string]bool, len(ids))
	for _, id := range ids {
		members[id] = true
	}
	return members
}
