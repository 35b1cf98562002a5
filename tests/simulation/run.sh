#!/usr/bin/env bash
# Runs the simulation: 200 seeds, or what is asked for (`--seeds 1000`, `--seed 7 --trace`, `--sweep`). With `--optimised` as
# the first word it is built in a profile of its own: five minutes at first, and a run then takes a sixth of the time.
# docs/simulation.md says what it does and what it has found.
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=dev
if [ "${1:-}" = --optimised ]; then
    profile=simulation
    shift
fi
exec cargo run --quiet --locked --profile "$profile" -p quell-simulation -- "$@"
