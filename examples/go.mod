module github.com/dramatiq-go/dramatiq/examples

go 1.26.0

require (
	github.com/dramatiq-go/dramatiq v0.0.0
	github.com/dramatiq-go/dramatiq/cli v0.0.0
	github.com/dramatiq-go/dramatiq/connect v0.0.0
)

require (
	github.com/dramatiq-go/dramatiq/rabbitmq v0.0.0 // indirect
	github.com/dramatiq-go/dramatiq/sqlite v0.0.0 // indirect
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/ncruces/go-strftime v1.1.0 // indirect
	github.com/rabbitmq/amqp091-go v1.16.0 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	github.com/spf13/cobra v1.10.2 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	golang.org/x/sys v0.49.0 // indirect
	modernc.org/libc v1.79.0 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.12.1 // indirect
	modernc.org/sqlite v1.61.1 // indirect
)

replace (
	github.com/dramatiq-go/dramatiq => ../
	github.com/dramatiq-go/dramatiq/cli => ../cli
	github.com/dramatiq-go/dramatiq/connect => ../connect
	github.com/dramatiq-go/dramatiq/rabbitmq => ../rabbitmq
	github.com/dramatiq-go/dramatiq/sqlite => ../sqlite
)
