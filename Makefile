# Everything a person or CI does here. `make help` lists it.

CARGO ?= cargo
# Nested makes and tests find the tools that scripts/tools.sh installs.
TOOLS := $(CURDIR)/.tools
export PATH := $(TOOLS)/bin:$(PATH)

.PHONY: help run tour test lint bench bench-lanes bench-growth bench-growth-large bench-proofs-large bench-decide-large bench-idle bench-overload chaos fuzz fmt proto-check deny deploy-check image build

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' Makefile

run: ## Builds, starts the four services on SQLite under var/, walks the tour, serves until Ctrl-C
	$(CARGO) build --release --bin sammati --bin sammati-verify --bin tour
	target/release/tour --keep --folder var/dev --ports 7101

tour: ## Walks the tour on free ports and ends: 0, or the step that failed
	$(CARGO) build --release --bin sammati --bin sammati-verify --bin tour
	target/release/tour

test: lint ## Everything CI runs
	scripts/test.sh

lint: fmt proto-check deny ## Format, clippy with warnings denied, contracts, dependencies
	$(CARGO) clippy --workspace --all-targets --features sammati-fuzz/targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

FUZZ_SECONDS ?= 60
FUZZ ?= archive files log messages names tokens
fuzz: ## Fuzzes everything that reads bytes from outside for FUZZ_SECONDS a target; needs a nightly toolchain (rustup toolchain install nightly)
	scripts/tools.sh fuzz
	$(CARGO) run --locked --bin seeds fuzz/corpus
	for target in $(FUZZ); do \
		cargo +nightly fuzz run --fuzz-dir fuzz --target-dir fuzz/target --features targets $$target fuzz/corpus/$$target \
			-- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

fmt:
	$(CARGO) fmt --all --check

proto-check: ## buf lint, format and breaking changes against the last landed state
	scripts/proto.sh

deny: ## Licences, bans and sources of dependencies
	scripts/tools.sh deny
	cargo-deny --offline --log-level error check bans licenses sources

BENCH = $(CARGO) build --release --bin sammati --bin bench && target/release/bench

bench: ## Measures, and writes target/bench/summary.json
	$(BENCH)

bench-lanes: ## What the default number of lanes on Postgres rests on
	$(BENCH) --only lanes --out target/bench/lanes.json

bench-growth: ## What an approve and a check cost with 10,000 and with a million rows
	$(BENCH) --only growth --rows 10000,1000000 --out target/bench/growth.json

bench-growth-large: ## The same with ten million rows: half an hour, and 20 GB of disk
	$(BENCH) --only growth --rows 10000,10000000 --out target/bench/growth-large.json

bench-proofs-large: ## Proofs, lists and bytes of a log of ten million leaves: it takes long
	$(BENCH) --only audit --leaves 10000000 --out target/bench/proofs-large.json

bench-decide-large: ## Decisions with a million consents in the database: a quarter of an hour, and 15 GB of disk
	$(BENCH) --only decide --loaded 1000000 --out target/bench/decide-large.json

bench-idle: ## Memory and time to start, on empty databases and with a million consents: 20 GB of disk
	$(BENCH) --only idle --out target/bench/idle.json

bench-overload: ## Three times of what the service can do, for a minute
	$(BENCH) --only overload --out target/bench/overload.json

CYCLES ?= 14
SEED ?=
chaos: ## Breaks running systems CYCLES times each (faults drawn from SEED), and looks for what was acknowledged
	$(CARGO) build --bin sammati --bin chaos
	target/debug/chaos --cycles $(CYCLES) $(if $(SEED),--seed $(SEED))

deploy-check: ## Validates the image and the manifests, offline
	deploy/validate.sh

image: ## Builds the FROM-scratch image
	deploy/image/build.sh

build:
	$(CARGO) build --workspace --all-targets --locked
