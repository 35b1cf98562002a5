#!/bin/sh
# Has a real Alertmanager tell of its alerts, over mutual TLS, with the files that `quell operator create --pem` makes.
set -eu
for program in prometheus-alertmanager amtool; do
    if ! command -v "$program" >/dev/null 2>&1; then
        echo "skipped: $program is not installed (Debian: prometheus-alertmanager)"
        exit 77
    fi
done
cargo build --workspace --bins --locked
QUELL_HOST_TESTS=1 cargo test --locked -p quell-tests --test alerts alertmanager
