#!/bin/sh
# Builds Quell and shows it at work on this machine: a controller, three agents and a small shop whose faults heal.
#
#   ./deploy/quickstart.sh           keeps running when the faults are healed; Ctrl-C ends it and cleans up
#   ./deploy/quickstart.sh --once    ends then, with status 0 only if all four healed
#
# It needs Rust, git and a C compiler; no root, no fixed port. It writes below Cargo's target directory and one
# temporary directory, which it removes.
set -eu
cd "$(dirname "$0")/.."

if ! command -v cargo >/dev/null 2>&1; then
    echo "quickstart: cargo is not installed; see https://rustup.rs" >&2
    exit 1
fi
target=${CARGO_TARGET_DIR:-target}
started=$(date +%s)
echo "quickstart: building (about four minutes on two cores the first time; cargo shows how far it is) ..."
cargo build --profile quick --workspace --bins
echo "quickstart: built in $(($(date +%s) - started)) s"
exec "$target/quick/quell-quickstart" --policies deploy/policies "$@"
