module github.com/dramatiq-go/dramatiq

go 1.25.0
