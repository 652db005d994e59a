# What to type, and nothing else: each target is one or two commands that can be typed by hand.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The programs that the tests run beside; see scripts/install-tools.
MOORLINE_LAB ?= $(CURDIR)/.lab/tools
export MOORLINE_LAB

# nextest keeps its records here wherever the target directory is.
junit := target/nextest/ci/junit.xml
# The tests that need no engine, and no root.
fast := not binary(/^(real_.*|lab_selftest|hostile_mutants)$$/) | test(/^(git|push)::/)

host := $(shell rustc -vV | sed -n 's/^host: //p')

# Compiling is done by whoever you are, running the tests by root.
ifneq ($(shell id -u),0)
export CARGO_TARGET_$(shell echo $(host) | tr a-z- A-Z_)_RUNNER := $(CURDIR)/scripts/as-root
endif

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: tools
tools: ## Install what tests and demo need: engine, Compose plugin, registry, sshd, ...
	@scripts/install-tools

.PHONY: vps-image
vps-image: ## Make the hosts that tests boot: Debian 13 and 12 with systemd (once, a minute or two each)
	@scripts/install-tools --vps-image trixie
	@scripts/install-tools --vps-image bookworm

.PHONY: databases
databases: ## Make the image of databases that tests dump (once, a minute or two)
	@scripts/install-tools --databases trixie

.PHONY: build
build: ## Compile for a host
	cargo build --locked --release

# An ssh key, and a directory that is not there yet.
KEY ?=
OUT ?= target/release-files

.PHONY: release
release: tools ## Everything of a release, from a clean clone: binary, package, SBOM, checksums (OUT; signed with KEY)
	packaging/release --out $(OUT) $(if $(KEY),--key $(KEY))

.PHONY: reproducible
reproducible: tools ## The same, compiled twice in two directories and compared (a quarter of an hour; OUT, KEY)
	packaging/release --twice --out $(OUT) $(if $(KEY),--key $(KEY))

.PHONY: test
test: tools vps-image databases lint deny ## Everything: tools, lint, licences, all tests on real neighbours, documentation
	@if cargo nextest --version >/dev/null 2>&1; then \
		result=0; rm -f $(junit); \
		cargo nextest run --locked --profile ci || result=$$?; \
		[ ! -f $(junit) ] || scripts/slowest $(junit); \
		[ $$result = 0 ] || exit $$result; \
	else \
		echo 'cargo-nextest is missing (cargo install --locked cargo-nextest): using cargo test, slower and without a table of times'; \
		cargo test --locked --no-fail-fast --lib --bins --tests -- --test-threads 2; \
	fi
	cargo test --locked --doc
	@$(MAKE) --no-print-directory seeds

.PHONY: test-fast
test-fast: ## The tests that need neither root nor an engine
	cargo nextest run --locked -E '$(fast)'

# How many stories are told to a host in memory. With a moorline that is compiled with a little optimisation, they take a
# third of the time.
SEEDS ?= 100000

.PHONY: seeds
seeds: ## 100,000 random orders of commits, runs, kills and faults, against a reference model (a few minutes; SEEDS)
	CARGO_PROFILE_DEV_OPT_LEVEL=1 MOORLINE_SEEDS=$(SEEDS) cargo nextest run --locked --test sim_model

.PHONY: lint
lint: ## Formatting and clippy, as strict as they are in CI
	cargo fmt --all -- --check
	cargo clippy --locked --all-targets --quiet -- -D warnings

# The advisories are in a git repository that not every network reaches. Everything else is checked without it, and
# what was not checked is said: a quiet success would be a lie.
.PHONY: deny
deny: ## Licences, bans, sources and (where the database can be fetched) advisories of all dependencies
	@deny=$$(PATH=$(MOORLINE_LAB)/bin:$$PATH command -v cargo-deny || true); \
	if [ -z "$$deny" ]; then \
		echo 'cargo-deny is missing: licences, bans, sources and advisories were NOT checked (scripts/install-tools says why)'; \
	else \
		"$$deny" --log-level error --all-features check --hide-inclusion-graph --allow duplicate --allow license-not-encountered licenses bans sources; \
		if "$$deny" --log-level off fetch db >/dev/null 2>&1; then \
			"$$deny" --log-level error --all-features --offline check advisories; \
		else \
			echo 'advisories were NOT checked: the advisory database cannot be fetched from here'; \
		fi; \
	fi

# Seconds; the whole corpus is read first.
FUZZ_SECONDS ?= 600

# What cargo-fuzz would pass, so that nobody needs it. The first byte of an input chooses the format.
.PHONY: fuzz
fuzz: ## Ten minutes of fuzzing the SOPS decoder, from the vectors on (a nightly compiler; FUZZ_SECONDS)
	@mkdir -p fuzz/corpus fuzz/artifacts
	@for file in tests/vectors/sops/generated/* tests/vectors/sops/negative/*; do \
		case $$file in *.expected*|*.ini) continue ;; *.bin.json) first=3 ;; *.env) first=2 ;; *.json) first=1 ;; *) first=0 ;; esac; \
		{ printf $$first; cat "$$file"; } > fuzz/corpus/$$(basename "$$file"); \
	done
	cd fuzz && RUSTFLAGS='--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 $(foreach option,level=4 inline-8bit-counters pc-table trace-compares,-Cllvm-args=-sanitizer-coverage-$(option))' \
		cargo +nightly build --release --bin sops_decrypt --target $(host)
	cd fuzz && nice target/$(host)/release/sops_decrypt -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -timeout=10 \
		-rss_limit_mb=4096 -artifact_prefix=artifacts/ -print_final_stats=1 corpus

.PHONY: demo
demo: tools build ## Two hosts: a deploy, a promotion, a refused signature, data lost and restored; cleans up after itself
	scripts/demo

# Debian 13; `SUITE=bookworm`: Debian 12.
SUITE ?= trixie

.PHONY: vps
vps: tools vps-image ## A host to look at: an empty Debian that boots with our user-data, enrolled and converged; until Ctrl-C
	scripts/vps $(SUITE)

.PHONY: demo-clean
demo-clean: ## Remove what an interrupted demo left
	scripts/demo --clean

.PHONY: figures
figures: tools build ## What moorline costs a host: time, memory, bytes on the wire (printed, not judged)
	benches/figures

# `full`: 2 GiB and 400,000 tiny files, a quarter of an hour. `small`: a tenth.
SIZE ?= full

.PHONY: bench-backups
bench-backups: tools build ## Backup jobs beside restic: time, memory, bytes sent (SIZE=small for a tenth)
	benches/backups --size $(SIZE)

.PHONY: mutants
mutants: ## Break decide/trust line by line, and see which breaks no test notices (one to two hours)
	scripts/mutants

.PHONY: clean
clean: ## Remove what was compiled and what was installed for the tests
	cargo clean
	scripts/as-root rm -rf .lab
