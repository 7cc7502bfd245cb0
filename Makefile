# What a contributor needs by name. `make` alone lists it.

CARGO ?= cargo

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what tests and demo need and is missing: PostgreSQL, the drivers' packages
	@.ci/setup postgresql drivers

.PHONY: build
build: ## Build the release binary, target/release/pgdrover
	$(CARGO) build --locked --release

.PHONY: demo
demo: ## Start a cluster of 3 shards with pgdrover in front, until Ctrl-C
	@.ci/setup postgresql
	$(CARGO) build --locked --profile demo
	@target/demo/pgdrover demo $(ARGS)

.PHONY: lint
lint: ## Check format, lints and, with cargo-deny, licences and advisories
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- --deny warnings
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check; \
	else echo "cargo-deny is not installed: licences and advisories are not checked"; fi

.PHONY: test
test: setup ## Everything that CI checks: format, lints, unit, tidy and integration tests
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- --deny warnings
	$(CARGO) test --locked

.PHONY: fuzz
fuzz: ## Feed what reads strangers' bytes for long: FUZZ_CASES and FUZZ_SECONDS bound each target
	FUZZ_CASES=$${FUZZ_CASES:-2000000} FUZZ_SECONDS=$${FUZZ_SECONDS:-60} \
		$(CARGO) test --locked --profile fuzz --lib fuzz_ -- --nocapture

.PHONY: bench
bench: ## pgbench through pgdrover and through PgBouncer in turn; ARGS="--rounds 3 --seconds 5"
	@.ci/setup postgresql pgbouncer
	$(CARGO) build --locked --release
	target/release/pgdrover demo --shards 1 --replicas 0 --port 0 --no-data -- \
		benches/pgbench.py --pgdrover target/release/pgdrover $(ARGS)
