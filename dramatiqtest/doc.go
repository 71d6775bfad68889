// Package dramatiqtest helps to test programs that send messages and the handlers that run them: a broker in memory that
// remembers what was sent, real workers that run until nothing is left to do, dead letters with their reasons.
//
//	func TestSignUp(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			mail := &fakeMail{}
//			b := dramatiqtest.New(t, tasks.Actors(mail), dramatiqtest.FailOnError())
//
//			if err := SignUp(t.Context(), b, "ada@example.com"); err != nil { // takes a dramatiq.Sender
//				t.Fatal(err)
//			}
//			dramatiqtest.AssertSent(t, b, tasks.Welcome, tasks.Email{To: "ada@example.com"})
//
//			b.RunUntilIdle(t.Context()) // what can run now has run
//			if len(mail.sent) != 1 {
//				t.Errorf("%d mails were sent, want 1", len(mail.sent))
//			}
//			b.RunAll(t.Context()) // a reminder three days later too, at once
//			if len(mail.sent) != 2 {
//				t.Errorf("%d mails were sent, want 2", len(mail.sent))
//			}
//		})
//	}
//
// A Broker is a dramatiq.Sender; code under test that wants a *dramatiq.Broker gets its field of that name. The broker, its
// middleware and its workers are the real ones: retries, callbacks, time limits and follow-ups do what they do in production.
//
// # Time
//
// Inside a bubble of testing/synctest time passes only while nothing can run, and then at once: there RunAll takes no
// time for delays and retries over days, time.Now in handlers says what it would say then, and whatever is left running
// fails the test. Pass New the inner t.
//
// Outside of a bubble RunAll waits as long as production would, up to the end of its context. Where that is too long and
// a bubble is not to be had, because the handlers talk to a real server, for instance, SkipDelays makes every message due
// at once; what was asked for is still in Messages. The clock does not move then, so that what depends on it, like MaxAge or
// the order of two delays, is not tested.
//
// # Order
//
// One handler runs at a time, in the order of sending, so that a test does the same every time. WorkerConfig changes that.
package dramatiqtest
