#!/usr/bin/env bash
# Runs each fuzz target for SECONDS (10 by default) and fails on the first crash: fuzz/smoke.sh [SECONDS] [TARGET...]
#
# Needs a stable rustc and a C++ compiler, nothing else: the flags are the coverage half of what cargo-fuzz passes. The
# address sanitizer is left out because the core forbids unsafe code.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-10}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then targets=(read_ops write_ops tls_bytes proxy_header); fi

host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1
  -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# With a target named, the flags reach neither build scripts nor macros.
cargo build --release --locked --target "$host" --bins

finds=$(mktemp -d)
trap 'rm -rf "$finds"' EXIT
for target in "${targets[@]}"; do
    mkdir -p "artifacts/$target" "$finds/$target"
    # New finds go to the first folder; the saved corpus is only read.
    "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -max_len=1024 -timeout=10 \
        -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="artifacts/$target/" \
        "$finds/$target" "corpus/$target"
done
