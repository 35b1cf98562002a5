#!/usr/bin/env bash
# Fuzzes every target for so many seconds, as many at the same time as there are processors; or only those named.
#
#   ./tests/fuzz/run.sh SECONDS [TARGET…]
#
# Needs cargo, a stable Rust and a C++ compiler, nothing else: coverage is asked for by stable flags.
# Ends with 1 when a target found something, and says how to repeat it. See docs/fuzzing.md.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:?usage: run.sh SECONDS [TARGET…]}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "run.sh: $seconds is not a number of seconds from 1" >&2; exit 2; }
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(manifests conditions wire signatures log_match)

# What a target may take for one input. Ten seconds are a finding by themselves.
limits=(-timeout=10 -rss_limit_mb=1024 -max_len=16384)

host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=$PWD/target
export CARGO_PROFILE_DEV_INCREMENTAL=false
# With --target these are for the targets alone: build scripts and macros are built without them.
export RUSTFLAGS="-Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
unset CARGO_ENCODED_RUSTFLAGS
# Not --locked: a dependency that the workspace takes up must not fail here for want of a line in this lock file.
cargo build --bins --target "$host"
binaries=$CARGO_TARGET_DIR/$host/debug

# Where log_match writes its logs.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

# Runs one target; what it learns stays in target/corpus and is where the next run begins.
fuzz() {
    local target=$1 corpus=target/corpus/$1 findings=target/findings/$1 log=target/$1.log
    mkdir -p "$corpus" "$findings"
    local words=()
    [ ! -f "seeds/$target.dict" ] || words=(-dict="seeds/$target.dict")
    if "$binaries/$target" "${limits[@]}" "${words[@]}" -max_total_time="$seconds" -print_final_stats=1 \
        -artifact_prefix="$findings/" "$corpus" "seeds/$target" >"$log" 2>&1; then
        echo "$target: no finding in $seconds s, $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions"
        return
    fi
    local input
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    {
        echo "$target: FINDING"
        tail -n 40 "$log" | cut -c 1-400
        echo "repeat it with: (cd $PWD && $binaries/$target ${limits[*]} ${input:-seeds/$target})"
    } >&2
    return 1
}

failed=0
running=0
for target in "${targets[@]}"; do
    if [ "$running" -ge "$(nproc)" ]; then
        wait -n || failed=1
        running=$((running - 1))
    fi
    fuzz "$target" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
    wait -n || failed=1
    running=$((running - 1))
done
exit "$failed"
