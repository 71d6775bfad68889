module github.com/dramatiq-go/dramatiq/faults

go 1.26.0

require (
	github.com/dramatiq-go/dramatiq v0.0.0
	go.uber.org/goleak v1.3.0
)

replace github.com/dramatiq-go/dramatiq => ../
