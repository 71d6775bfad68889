# Needs Go, make and, on the first run, apt-get (as root or through sudo). "make help" lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# short or full: how long the proofs (tests named TestProof…) run. Tests read it from the environment.
export DRAMATIQ_PROOF ?= short
# Which benchmarks "make bench" runs and how often; BASE=old.txt compares with an earlier run.
BENCH ?= .
COUNT ?= 6
BASE ?=
# Which proofs "make proof" runs.
PROOF ?= ^TestProof

bin := $(CURDIR)/.cache/bin
# $(each) COMMAND; done runs a command in every module of the workspace that holds Go code; $$module is its folder.
each = modules="$$(go list -f '{{.Module.Dir}}' work | sort -u)"; for module in $$modules; do
step = printf '\n==> %s\n'

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: install fmt-check tidy-check lint cross ## everything a change must pass
	@tools/with-servers --meanwhile '$(MAKE) vet' $(MAKE) test-with-servers
	@$(step) 'make test: all passed'

.PHONY: test-with-servers
test-with-servers:
	@$(step) 'tests with the race detector, in random order'
	@go test -race -shuffle=on -skip '^TestProof' work
	@$(step) 'one run of each benchmark'
	@go test -run '^$$' -bench . -benchtime 1x work
	@$(step) 'proofs ($(DRAMATIQ_PROOF)), one package at a time, without the race detector'
	@go test -count=1 -p 1 -run '$(PROOF)' work

.PHONY: proof
proof: export DRAMATIQ_PROOF = full
proof: install-servers ## the proofs of docs/guarantees.md at full length (PROOF=regexp chooses)
	@$(step) 'proofs (full), one package at a time'
	@tools/with-servers go test -count=1 -p 1 -v -timeout 60m -run '$(PROOF)' work

.PHONY: install
install: ## servers, Python packages and tools, as far as they are missing
	@$(step) 'what the tests need'
	@tools/install

.PHONY: install-servers install-go-tools
install-servers:
	@$(step) 'the servers and Python packages the tests need'
	@tools/install servers
	@tools/install python
install-go-tools:
	@tools/install go-tools

.PHONY: fmt
fmt: install-go-tools ## format all Go files
	@$(step) 'gofumpt, import order'
	@$(bin)/gofumpt -w .
	@$(each) (cd "$$module" && $(bin)/golangci-lint fmt ./...); done

.PHONY: fmt-check
fmt-check: install-go-tools
	@$(step) 'gofumpt'
	@files="$$($(bin)/gofumpt -l .)"; [ -z "$$files" ] || { printf 'not formatted (make fmt):\n%s\n' "$$files"; exit 1; }

.PHONY: tidy
tidy: ## go mod tidy in every module
	@$(each) (cd "$$module" && GOWORK=off go mod tidy); done

.PHONY: tidy-check
tidy-check:
	@$(step) 'go mod tidy -diff'
	@$(each) \
	  (cd "$$module" && GOWORK=off go mod tidy -diff) || { echo "$$module/go.mod is not tidy (make tidy)"; exit 1; }; \
	done

.PHONY: vet
vet:
	@$(step) 'go vet'
	@go vet work

.PHONY: lint
lint: install-go-tools ## golangci-lint in every module
	@$(step) 'golangci-lint'
	@$(bin)/golangci-lint config verify
	@failed=0; $(each) \
	  echo "    .$${module#$(CURDIR)}"; (cd "$$module" && $(bin)/golangci-lint run ./...) || failed=1; \
	done; exit $$failed

.PHONY: cross
cross: ## build every module for macOS and Windows
	@$(step) 'builds for darwin and windows'
	@for os in darwin windows; do GOOS=$$os go build -o /dev/null work; done

.PHONY: bench
bench: install-servers install-go-tools ## benchmarks (BENCH=regexp COUNT=6 BASE=old.txt compares)
	@$(step) 'benchmarks'
	@tools/with-servers go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) -p 1 work | tee .cache/bench.txt
	@$(bin)/benchstat $(BASE) .cache/bench.txt

.PHONY: cover
cover: install-servers ## test coverage, per function in .cache/cover.txt
	@$(step) 'coverage'
	@tools/with-servers go test -coverprofile .cache/cover.out -coverpkg work work
	@go tool cover -func .cache/cover.out >.cache/cover.txt
	@tail -n 1 .cache/cover.txt

.PHONY: quickstart
quickstart: ## one message from sender to worker, without any server
	@go run ./examples/quickstart
