#!/bin/sh
# Cuts the power of a disk while the controller's store writes to it, and looks at what is left. Each round goes on with
# what the last one left.
#
#   sudo ./tests/host/powercut.sh [CUTS]      default 20
#
# First the same is done with a writer that does not sync: unless that one is caught, this test proves nothing.
set -eu
. tests/host/lib/cuts.sh
cuts=${1:-20}
cuts_begin
cargo build --locked --quiet -p quell-controller --example durability
program=${CARGO_TARGET_DIR:-target}/debug/examples/durability
acks=$work/acks

new_disk
caught=0
for round in 1 2 3 4 5; do
    cut_power "$acks" 500 "$program" lie "$disk/data" "$acks"
    if ! "$program" check "$disk/data" "$acks" >"$work/check.log" 2>&1; then
        caught=1
        break
    fi
done
[ "$caught" -eq 1 ] || { echo "a writer that does not sync was not caught: this test sees nothing"; exit 1; }
echo "a writer that does not sync is caught in cut $round: $(grep -m 1 ^Error "$work/check.log" | cut -c 1-160)"

new_disk
rm "$acks"
round=0
mended=0
while [ "$round" -lt "$cuts" ]; do
    round=$((round + 1))
    cut_power "$acks" 500 "$program" write "$disk/data" "$acks"
    if ! "$program" check "$disk/data" "$acks" >"$work/check.log" 2>&1; then
        echo "cut $round: FAILED"
        cat "$work/check.log"
        exit 1
    fi
    [ $((round % 10)) -ne 0 ] || echo "cut $round: $(tail -n 1 "$work/check.log")"
    [ ! -e "$disk/data/view.damaged" ] || { mended=$((mended + 1)); rm -rf "$disk/data/view.damaged"; }
done
echo "$cuts power cuts: nothing acknowledged was lost; the view was made anew $mended times"
