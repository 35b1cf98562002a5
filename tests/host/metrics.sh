#!/bin/sh
# Gives /metrics to promtool, which knows the format and the naming rules.
set -eu
if ! command -v promtool >/dev/null 2>&1; then
    echo "skipped: promtool is not installed (Debian: prometheus)"
    exit 77
fi
cargo build --workspace --bins --locked
QUELL_HOST_TESTS=1 cargo test --locked -p quell-tests --test host
