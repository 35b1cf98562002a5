#!/bin/sh
# What the agent's journal promises, on disks that break: nothing is done without an intent that is durable, nothing is
# done twice, a fence that was seen is never lower again, and an outcome that was told stays.
#
#   sudo ./tests/host/journal.sh [CUTS]       power cuts, default 20
#
# First the same is done with syncs that lie: unless that is caught, this test proves nothing. Then syncs fail, at every
# file that the journal syncs; then the disk is full.
set -eu
. tests/host/lib/cuts.sh
cuts=${1:-20}
command -v cc >/dev/null 2>&1 || { echo "skipped: cc is not installed (Debian: gcc, libc6-dev)"; exit 77; }
cuts_begin
cargo build --locked --quiet -p quell-agent --example journal
program=$(pwd)/target/debug/examples/journal
[ -z "${CARGO_TARGET_DIR:-}" ] || program=$CARGO_TARGET_DIR/debug/examples/journal
cc -shared -fPIC -O1 -Wall -Werror -o "$work/sync.so" tests/host/lib/sync.c
# The agent's own log.
export RUST_LOG=error RUST_BACKTRACE=0
notes=$work/notes

check() {
    "$program" check "$disk/data" "$notes" >"$work/check.log" 2>&1
}
must_be_whole() {
    check || { echo "$1: FAILED"; cat "$work/check.log"; exit 1; }
}
anew() {
    new_disk
    rm -rf "$notes"
}

anew
caught=0
for round in 1 2 3 4 5; do
    cut_power "$notes/ended" 200 env LD_PRELOAD="$work/sync.so" SYNC=lie "$program" write "$disk/data" "$notes"
    if ! check; then
        caught=1
        break
    fi
done
[ "$caught" -eq 1 ] || { echo "syncs that lie were not caught: this test sees nothing"; exit 1; }
echo "syncs that lie are caught in cut $round: $(grep -m 1 ^Error "$work/check.log" | cut -c 1-160)"

anew
round=0
while [ "$round" -lt "$cuts" ]; do
    round=$((round + 1))
    cut_power "$notes/ended" 200 "$program" write "$disk/data" "$notes"
    must_be_whole "cut $round"
    [ $((round % 10)) -ne 0 ] || echo "cut $round: $(tail -n 1 "$work/check.log")"
done
echo "$cuts power cuts: no effect without its intent, none twice, no fence lower, no outcome lost"

# The call $2 fails once for the file $3, after $4 went well; $1 is what the program does.
with_failing() {
    anew
    LD_PRELOAD=$work/sync.so SYNC=$2 FILE=$3 AFTER=$4 "$program" "$1" "$disk/data" "$notes" >"$work/said" 2>&1 || {
        echo "$2 of $3 fails after $4: FAILED"
        cat "$work/said"
        exit 1
    }
    must_be_whole "$2 of $3 failed after $4"
    echo "$2 of $3 fails after $4: $(tail -n 1 "$work/said")"
}
with_failing refused fdatasync journal 0
with_failing refused fdatasync journal 25
# The file grows.
with_failing refused fsync journal 0
# The new journal takes the old one's place, and the directory does not get durable: which of both it is, nobody knows.
with_failing refused fsync data 1
# The new journal cannot be made: the old one goes on and grows, until one can.
with_failing some fsync journal.next 1
grep -q 'could not be made anew' "$work/said" || { echo "nobody said that the journal cannot be made anew"; exit 1; }

anew
umount "$disk"
mount -t tmpfs -o size=2m tmpfs "$disk"
head -c 1000000 /dev/zero >"$disk/ballast"
"$program" full "$disk/data" "$notes" "$disk/ballast" >"$work/said" 2>&1 || { echo "full disk: FAILED"; cat "$work/said"; exit 1; }
must_be_whole "a full disk"
echo "full disk: $(tail -n 1 "$work/said")"
