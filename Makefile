# Every target runs from a fresh clone; none needs more than a stable Rust toolchain and a C compiler unless it says so.

CARGO ?= cargo

.PHONY: help demo test test-python python-soak test-redis-py lint-python lint wall loom fuzz-smoke fuzz soak faults faults-sweep bench-rust bench-rust-quick bench-tls bench-tls-quick bench-cores bench-python bench-python-quick doc package bench bench-report bench-quick profile footprint book book-open

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 20

demo: ## the whole story on loopback, in one go
	$(CARGO) run --quiet --package millstream --example demo
	.ci/demo-python

test: ## every test: unit, matrix, model, corpus, faults, documentation
	.ci/test

test-python: ## the Python package on every CPython found: its tests, and CPython's own under it
	.ci/python

python-soak: ## Ctrl-C and exit 1,000 times, 100,000 connections, two threads for 2 min; about 15 min a CPython
	.ci/python soak

test-redis-py: ## redis-py's own asyncio tests with and without these streams (redis-server, network); about 6 min
	.ci/redis-py

lint-python: ## the types that the Python package declares, by mypy and stubtest
	.ci/lint-python

lint: wall ## formatting, clippy, documentation, the wall between the rings
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --exclude millstream-py --all-targets --locked -- -D warnings
	$(CARGO) clippy --package millstream --no-default-features --all-targets --locked -- -D warnings
	$(CARGO) clippy --package millstream --features tracing --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --exclude millstream-py --no-deps --locked --quiet

wall: ## the core knows no socket, clock, runtime or Python
	.ci/wall

loom: ## the models of the halves, the flusher and the wake-ups
	LOOM_MAX_BRANCHES=10000 RUSTFLAGS="--cfg millstream_loom" CARGO_TARGET_DIR=target/loom \
		$(CARGO) test --package millstream --release --lib --locked loom_models

fuzz-smoke: ## each fuzz target for 10 s (needs a C++ compiler)
	fuzz/smoke.sh 10

fuzz: ## each fuzz target for 30 min
	fuzz/smoke.sh 1800

SOAK_SECONDS ?= 3600
soak: ## connections through a proxy that splits, stalls, ends and resets, plain and over TLS, for SOAK_SECONDS (1 h)
	MILLSTREAM_SOAK_SECONDS=$(SOAK_SECONDS) $(CARGO) test --release --package millstream --locked --test tls_soak \
		-- --nocapture

FAULTS_SIZE ?= full
faults: ## each row of the fault table with its figure beside asyncio's and tokio's (ROWS="R1 W2", FAULTS_SIZE=small, WRITE=1, JSON=FILE)
	$(CARGO) build --release --package millstream-faults --locked
	target/release/millstream-faults run $(ROWS) --size $(FAULTS_SIZE) $(if $(WRITE),--write docs/faults.md) \
		$(if $(JSON),--json $(JSON))

faults-sweep: ## the k-th accept, receive, send, connect, epoll_ctl fails, for each k until none does (strace)
	$(CARGO) build --release --package millstream-faults --locked
	target/release/millstream-faults sweep

bench-rust: ## line echo and bulk beside hand-written epoll and plain tokio; about 4 min on an idle machine
	$(CARGO) build --release --package millstream-bench --locked
	target/release/millstream-bench run

bench-rust-quick: ## the same in half a minute, too short to judge by
	$(CARGO) build --release --package millstream-bench --locked
	target/release/millstream-bench run --quick

bench-tls: ## echo over TLS beside tokio-rustls: lines, messages, bulk, handshakes, memory; about 6 min on an idle machine
	$(CARGO) build --release --package millstream-bench --locked
	target/release/millstream-bench run --suite tls

bench-tls-quick: ## the same in a minute, too short to judge by
	$(CARGO) build --release --package millstream-bench --locked
	target/release/millstream-bench run --suite tls --quick

bench-cores: ## serve_per_core on one core, two, and so on; under a minute on an idle machine
	$(CARGO) build --release --package millstream-bench --locked
	target/release/millstream-bench scaling

bench-python: ## asyncio's streams and these, on the stock loop and uvloop; about 10 min on an idle machine
	.ci/bench-python --rounds 9

bench-python-quick: ## the same in two minutes, too short to judge by
	.ci/bench-python --quick

package: ## what would be published, into target/package and target/wheels, and the proof that it is fit (STEPS="crates wheels ...")
	.ci/package $(STEPS)

bench: ## every server of both faces side by side, into docs/benchmarks.md with charts; about 40 minutes on an idle machine
	.ci/bench
	$(MAKE) --no-print-directory bench-report

bench-report: ## the tables and charts again, from the last `make bench`
	$(or $(CARGO_TARGET_DIR),target)/release/millstream-bench report target/bench/compare.json --write docs/benchmarks.md \
		--charts docs/benchmarks

bench-quick: ## the same in some minutes, too short to judge by: prints the tables, charts in target/bench, writes no document
	.ci/bench --quick
	$(or $(CARGO_TARGET_DIR),target)/release/millstream-bench report target/bench/compare.json --charts target/bench > /dev/null

profile: ## flame graphs of both faces, depth 1 and pipelined, into target/profile, with the largest costs (needs perf)
	.ci/profile

footprint: ## instructions and cache lines of code and of data a request, beside epoll's and tokio's (needs valgrind); 3 min
	$(CARGO) build --release --package millstream-bench --locked
	.ci/footprint

doc: ## the documentation, in target/doc
	$(CARGO) doc --workspace --exclude millstream-py --no-deps

MDBOOK := target/tools/bin/mdbook
# Installed when it is missing, which takes some minutes once.
$(MDBOOK):
	$(CARGO) install mdbook --version 0.5.4 --locked --no-default-features --features search --root target/tools

book: $(MDBOOK) ## the documentation site, in target/book, with its links checked (installs mdBook into target/tools)
	$(MDBOOK) build docs/book
	cp -r docs/benchmarks docs/profiles target/book/reference/
	$(CARGO) run --quiet --package millstream-book --locked -- check target/book

book-open: book ## the same, shown in the browser
	xdg-open target/book/index.html
