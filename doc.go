// Package dramatiq is a task queue: functions that are called here and run there, now or later, at least once. It speaks
// the protocol of the Python library Dramatiq, so that senders and workers of both languages share one fleet.
//
// # Declare, send, work
//
// An [Actor] is a function with a name; a [Func] also has a result. Both are values, declared once, usually as package
// variables:
//
//	var SendEmail = dramatiq.NewActor("send_email", func(ctx context.Context, e Email) error { … },
//		dramatiq.Queue("mail"), dramatiq.MaxRetries(5), dramatiq.TimeLimit(time.Minute))
//
// A [Broker] is the handle on a message store, made from a driver. Any program sends:
//
//	driver, err := sqlite.Open("sqlite:tasks.db")
//	broker, err := dramatiq.NewBroker(driver, dramatiq.BrokerConfig{})
//	msg, err := SendEmail.Send(ctx, broker, Email{To: "a@b.c"}, dramatiq.Delay(10*time.Second))
//
// and a [Worker] in the same program or in another runs what was sent:
//
//	w, err := dramatiq.NewWorker(broker, dramatiq.Actors{SendEmail}, dramatiq.WorkerConfig{})
//	err = w.Run(ctx) // until ctx ends, then gracefully
//
// An actor that lives elsewhere, in another binary or in Python, is declared without a handler ([Declare],
// [DeclareFunc]); with Handle it gets one where its dependencies are.
//
// # What is promised
//
// Send returns nil only after the broker has accepted the message. An accepted message runs to its end at least once, or
// ends in the dead-letter queue with its reason. A message is acknowledged only together with what follows from it: its
// retry, its callbacks, the next step of its pipeline, and what its handler has sent through [FollowUps]. Handlers should
// be idempotent, as a crash repeats them.
//
// # Errors
//
// A handler that returns an error or panics is retried with a growing delay ([MaxRetries], [MinBackoff]), unless the error
// is [Permanent] or one that the actor [Throws]; [RetryAfter] chooses the delay. When its time limit passes or its worker
// shuts down, its context is cancelled with the cause [ErrTimeLimitExceeded] or [ErrShutdown].
//
// # Extending
//
// [Middleware] hooks into every step of a message's way; retries, time limits and callbacks are ordinary middleware.
// Package driver is the contract of message stores, and package drivertest proves one. Package dramatiqtest helps to test
// code that sends and handles messages.
package dramatiq
