# Weft's commands for people. `make help` lists them; each says what it does while it does it.

# rustup's own folder, which a fresh shell of root may lack.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

CARGO  ?= cargo
BIN     = $(or $(CARGO_TARGET_DIR),target)/release
SUDO    = $(if $(filter 0,$(shell id -u)),,sudo -E)
LAB    ?= demo
SHOP    = docs/examples/shop.yaml

.DEFAULT_GOAL := help
.PHONY: help setup build lab test test-long test-seeds test-kernel fuzz bench lint pictures clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is missing to build (asks on a terminal; YES=1: does not)
	@.ci/setup

build: setup ## Build everything, optimised
	@echo "building the programs (cold: some minutes)"
	@$(CARGO) build --release --locked --bin weft --bin weft-agent --bin weft-operator -p weft -p weft-agent -p weft-operator
	@# Linked statically: it runs on hosts with another C library or an older one, and every ADD waits for its start.
	@$(CARGO) rustc --release --locked --bin weft-cni -p weft-cni -- -C target-feature=+crt-static

lab: build ## Show a two-node fabric with real packets; takes it down again (KEEP=1: not)
	@$(SUDO) env BIN="$(abspath $(BIN))" SHOP="$(SHOP)" LAB="$(LAB)" KEEP="$(KEEP)" SUDO="$(SUDO)" .ci/lab

test: setup ## Run every test
	@.ci/setup etcd-server
	@echo "running every test; those that need root by sudo, and said where they cannot run"
	@$(CARGO) build --locked --workspace
	@CARGO="$(CARGO)" .ci/test

test-long: setup ## Run what is too long for `make test`
	@.ci/setup etcd-server chromium
	@$(CARGO) build --locked --workspace
	@echo "1/9: every test, those of properties with 16384 cases each (2048 where a case is a process)"
	@PROPTEST_CASES=16384 WEFT_BROWSER=required CARGO="$(CARGO)" .ci/test
	@echo "2/9: agents killed 60 times under load, away for up to 5 s (WEFT_SEED=N repeats a run)"
	@CARGO="$(CARGO)" .ci/test --test agent_killed -- --ignored --nocapture
	@echo "3/9: every actor of an agent blocks its thread for 8 s in turn under load"
	@CARGO="$(CARGO)" .ci/test --test agent_stalls -- --ignored --nocapture
	@echo "4/9: 200 rounds of plugins, agents and namespaces that go in the midst of CNI calls"
	@CARGO="$(CARGO)" .ci/test --test cni_killed -- --ignored --nocapture
	@echo "5/9: scenarios of the operators' world: 300 seeds with a hundred agents, 300 with few, and each in full"
	@WEFT_SEEDS=300 WEFT_AGENTS=100 CARGO="$(CARGO)" .ci/test --test scenarios
	@WEFT_SEEDS=300 CARGO="$(CARGO)" .ci/test --test scenarios -- --include-ignored
	@echo "6/9: 50 leaders killed in a lab, and operators and etcd away for a minute each, under live flows"
	@CARGO="$(CARGO)" .ci/test --test live_chaos -- --ignored --nocapture
	@echo "7/9: fuzz targets (TIME=600: ten minutes each)"
	@$(MAKE) --no-print-directory fuzz
	@echo "8/9: an hour of random everything at once (WEFT_SOAK_SECONDS=N: as long; WEFT_SEED=N: as that run)"
	@CARGO="$(CARGO)" .ci/test --test soak -- --ignored --nocapture
	@echo "9/9: make test-kernel"
	@$(MAKE) --no-print-directory test-kernel

test-seeds: setup ## Run each scenario of the simulator in a small world under SEEDS=10000 seeds: some hours (FROM=N: from that on)
	@$(CARGO) build --release --locked --bin weft-sim -p weft-sim
	@BIN="$(abspath $(BIN))" SEEDS="$(SEEDS)" FROM="$(FROM)" .ci/seeds

# Cargo builds here, .ci/kernel-6.1 runs what it built: as root there, so nobody need be root here.
test-kernel: setup ## Run the packet suite and labs on Linux 6.1, the oldest supported (QEMU; no root)
	@.ci/setup qemu-system-x86
	@$(CARGO) build --locked --workspace
	@echo "every test of programs and maps, and labs, on Debian 12's kernel: some ten minutes"
	@CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$(CURDIR)/.ci/kernel-6.1" $(CARGO) test --locked --workspace --no-fail-fast \
		--test 'root_*' --test lab_shop --test lab_packets --test lab_revocation

fuzz: ## Give each reader of strangers' bytes anything, for TIME=60 seconds (TARGETS="cni wire": only these)
	@FUZZ=1 .ci/setup
	@TIME="$(TIME)" TARGETS="$(TARGETS)" SMALL="$(SMALL)" .ci/fuzz

bench: build ## Print the benchmark table, and write it to target/bench.json (BENCH="--only rr": a part)
	@$(CARGO) build --release --locked --bin weft-bench --bin weft-sim -p weft-tests -p weft-sim
	@mkdir -p target
	@$(SUDO) $(BIN)/weft-bench --json target/bench.json $(BENCH)

lint: setup ## Check format and lints
	@echo "checking the format"
	@$(CARGO) fmt --all --check
	@$(CARGO) fmt --check --manifest-path datapath/ebpf/Cargo.toml
	@echo "checking lints"
	@$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@# As a library of this machine: what it says is of the source, and no compiler of eBPF has clippy.
	@$(CARGO) clippy --locked --manifest-path datapath/ebpf/Cargo.toml --lib -- -D warnings

pictures: build ## Draw the README's pictures anew, from a real lab in a real browser (needs chromium)
	@$(SUDO) env BIN="$(abspath $(BIN))" SHOP="$(SHOP)" LAB="$(LAB)" .ci/pictures

clean: ## Remove what was built
	@$(CARGO) clean
