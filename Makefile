# Weft's commands for people. `make help` lists them; each says what it does while it does it.

# rustup's own folder, which a fresh shell of root may lack.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

CARGO  ?= cargo
BIN     = $(or $(CARGO_TARGET_DIR),target)/release
SUDO    = $(if $(filter 0,$(shell id -u)),,sudo -E)
LAB    ?= demo
SHOP    = docs/examples/shop.yaml

.DEFAULT_GOAL := help
.PHONY: help setup build lab test test-long bench lint clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is missing to build (asks on a terminal; YES=1: does not)
	@.ci/setup

build: setup ## Build everything, optimised
	@echo "building the programs (cold: some minutes)"
	@$(CARGO) build --release --locked --bin weft --bin weft-agent --bin weft-operator --bin weft-cni \
		-p weft -p weft-agent -p weft-operator -p weft-cni

lab: build ## Show a two-node fabric with real packets; takes it down again (KEEP=1: not)
	@$(SUDO) env BIN="$(abspath $(BIN))" SHOP="$(SHOP)" LAB="$(LAB)" KEEP="$(KEEP)" .ci/lab

test: setup ## Run every test
	@echo "running every test; those that need root say so when they cannot run"
	@$(CARGO) build --locked --workspace
	@$(CARGO) test --locked --workspace

test-long: setup ## Run what is too long for `make test`
	@$(CARGO) build --locked --workspace
	@echo "1/2: property tests with 64 times as many cases"
	@PROPTEST_CASES=16384 $(CARGO) test --locked --workspace
	@echo "2/2: agents killed 60 times under load, away for up to 5 s (WEFT_SEED=N repeats a run)"
	@$(CARGO) test --locked --workspace --test agent_killed -- --ignored --nocapture

bench: build ## Print the benchmark table, and write it to target/bench.json (BENCH="--only rr": a part)
	@$(CARGO) build --release --locked --bin weft-bench -p weft-tests
	@mkdir -p target
	@$(SUDO) $(BIN)/weft-bench --json target/bench.json $(BENCH)

lint: setup ## Check format and lints
	@echo "checking the format"
	@$(CARGO) fmt --all --check
	@echo "checking lints"
	@$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

clean: ## Remove what was built
	@$(CARGO) clean
