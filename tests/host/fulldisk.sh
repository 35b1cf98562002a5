#!/bin/sh
# Fills the disk under the controller's store: the reserve must serve, nothing acknowledged may be lost, and the store
# must go on when there is room again.
set -eu
[ "$(id -u)" -eq 0 ] || { echo "skipped: it mounts a file system, which needs root"; exit 77; }
cargo build --locked --quiet -p quell-controller --example durability
program=${CARGO_TARGET_DIR:-target}/debug/examples/durability
disk=$(mktemp -d)
leave() {
    umount "$disk" 2>/dev/null || true
    rmdir "$disk"
}
trap leave EXIT
trap 'exit 1' INT TERM
mount -t tmpfs -o size=12m tmpfs "$disk" 2>/dev/null || { echo "skipped: nothing can be mounted here"; exit 77; }
head -c 6000000 /dev/zero >"$disk/ballast"
"$program" full "$disk/data" "$disk/ballast"
