#!/usr/bin/env bash
# Runs the simulation: 200 seeds, or what is asked for (`--seeds 1000`, `--seed 7 --trace`, `--sweep`).
# docs/simulation.md says what it does and what it has found.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec cargo run --quiet --locked -p quell-simulation -- "$@"
