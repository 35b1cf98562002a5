#!/bin/sh
# Runs the agent's host tests on a machine with a real systemd: restarts over D-Bus, units that die, units that a person
# wants to be down.
set -eu
. tests/host/lib/machines.sh
machines_begin

binary=$(cargo test --locked -p quell-agent --test host --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/host-[^"]*\)".*/\1/p' | tail -n 1)
[ -x "$binary" ] || { echo "the host tests of the agent were not built"; exit 1; }

trap machines_end EXIT
trap 'exit 1' INT TERM
tree=$(machine_tree hosttest) || { echo "skipped: nothing can be mounted here"; exit 77; }
install -m 0755 "$binary" "$tree/usr/local/bin/quell-host-test"
machine_boot hosttest --private-network
# As a unit, like the agent itself.
log=$(inside hosttest timeout 180 systemd-run --quiet --wait --pipe --collect --setenv=QUELL_HOST_TESTS=1 \
    /usr/local/bin/quell-host-test --nocapture --test-threads=1 2>&1) || { echo "$log"; exit 1; }
echo "$log"
# A test that skips in here has tested nothing.
case $log in *skipped*) exit 1 ;; esac
