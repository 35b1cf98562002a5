#!/bin/sh
# Cuts the power of a disk while the controller's store writes to it, and looks at what is left.
#
#   sudo ./tests/host/powercut.sh [CUTS]      default 50
#
# A killed process loses nothing that it handed to the kernel, so killing shows nothing about syncing. Here the store lies
# on an ext4 file system in an image file, and that file lies on btrfs. A reflink of the image is, in an instant, what the
# disk holds: nothing that ext4 still keeps in memory is in it. Mounting the copy is the start after the power cut. Each
# round goes on with what the last one left.
#
# First the same is done with a writer that does not sync: unless that one is caught, this test proves nothing.
set -eu
cuts=${1:-50}
[ "$(id -u)" -eq 0 ] || { echo "skipped: it mounts file systems, which needs root"; exit 77; }
for program in losetup mkfs.btrfs mkfs.ext4; do
    command -v "$program" >/dev/null 2>&1 || { echo "skipped: $program is not installed"; exit 77; }
done
cargo build --locked --quiet -p quell-controller --example durability
program=${CARGO_TARGET_DIR:-target}/debug/examples/durability

work=$(mktemp -d)
carrier=$work/carrier
disk=$work/disk
acks=$work/acks
writer=
leave() {
    if [ -n "$writer" ]; then
        kill -9 "$writer" 2>/dev/null || true
        wait "$writer" 2>/dev/null || true
    fi
    ! mountpoint -q "$disk" || umount "$disk"
    ! mountpoint -q "$carrier" || umount "$carrier"
    rm -rf "$work"
}
trap leave EXIT
trap 'exit 1' INT TERM
mkdir "$carrier" "$disk"
truncate -s 3G "$work/carrier.img"
mkfs.btrfs -q -f "$work/carrier.img" >/dev/null 2>&1
mount -o loop "$work/carrier.img" "$carrier" 2>/dev/null || { echo "skipped: no loop device can be mounted here"; exit 77; }

new_disk() {
    rm -f "$carrier/disk.img" "$acks"
    truncate -s 256M "$carrier/disk.img"
    mkfs.ext4 -q "$carrier/disk.img"
    mount -o loop "$carrier/disk.img" "$disk"
}

# Writes in mode $1 until some more was acknowledged than before, then cuts the power at a moment of chance.
cut_power() {
    before=$(wc -l 2>/dev/null <"$acks" || echo 0)
    "$program" "$1" "$disk/data" "$acks" >"$work/writer.log" 2>&1 &
    writer=$!
    chance=$(od -An -N2 -tu2 /dev/urandom)
    wanted=$((before + 20 + chance % 500))
    while [ "$(wc -l 2>/dev/null <"$acks" || echo 0)" -lt "$wanted" ]; do
        kill -0 "$writer" 2>/dev/null || { echo "the writer died:"; cat "$work/writer.log"; exit 1; }
        sleep 0.02
    done
    # It must not acknowledge anything after the cut.
    kill -STOP "$writer"
    cp --reflink=always "$carrier/disk.img" "$carrier/after.img"
    kill -9 "$writer"
    wait "$writer" 2>/dev/null || true
    writer=
    umount "$disk"
    mv "$carrier/after.img" "$carrier/disk.img"
    mount -o loop "$carrier/disk.img" "$disk"
}

new_disk
caught=0
for round in 1 2 3 4 5; do
    cut_power lie
    if ! "$program" check "$disk/data" "$acks" >"$work/check.log" 2>&1; then
        caught=1
        break
    fi
done
umount "$disk"
[ "$caught" -eq 1 ] || { echo "a writer that does not sync was not caught: this test sees nothing"; exit 1; }
echo "a writer that does not sync is caught in cut $round: $(grep -m 1 ^Error "$work/check.log" | cut -c 1-160)"

new_disk
round=0
mended=0
while [ "$round" -lt "$cuts" ]; do
    round=$((round + 1))
    cut_power write
    if ! "$program" check "$disk/data" "$acks" >"$work/check.log" 2>&1; then
        echo "cut $round: FAILED"
        cat "$work/check.log"
        exit 1
    fi
    [ $((round % 10)) -ne 0 ] || echo "cut $round: $(tail -n 1 "$work/check.log")"
    [ ! -e "$disk/data/view.damaged" ] || { mended=$((mended + 1)); rm -rf "$disk/data/view.damaged"; }
done
echo "$cuts power cuts: nothing acknowledged was lost; the view was made anew $mended times"
