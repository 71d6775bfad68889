package dramatiq

// Keys of structured log records. They are the same wherever a record comes from, so that a log can be searched by them.
const (
	LogActor    = "actor"
	LogQueue    = "queue"
	LogMessage  = "message_id"
	LogAttempt  = "attempt"
	LogError    = "error"
	LogReason   = "reason"
	LogDuration = "duration"
	LogDelay    = "delay"
	LogQueues   = "queues"
	LogCount    = "count"
	LogHook     = "hook"
	LogStack    = "stack"
	LogBroker   = "broker"
	LogReplaced = "replaced"
	LogCallback = "callback"
	LogOutcome  = "outcome"
)
