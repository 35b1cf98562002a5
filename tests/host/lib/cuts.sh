# A disk whose power can be cut, for the host tests. It is sourced and not run.
#
#   cuts_begin                          ends the test with a reason where there can be none
#   new_disk                            an empty file system at $disk
#   cut_power PROGRESS MOST COMMAND...  runs a program that writes to $disk, and cuts the power at a moment of chance: after
#                                       20 to 20 + MOST more lines in the file PROGRESS, which lies elsewhere
#   cuts_end                            for a trap
#
# A killed process loses nothing that it handed to the kernel, so killing shows nothing about syncing. Here the program
# writes to an ext4 file system in an image file, and that file lies on btrfs. A reflink of the image is, in an instant, what
# the disk holds: nothing that ext4 still keeps in memory is in it. Mounting the copy is the start after the power cut.

cuts_begin() {
    [ "$(id -u)" -eq 0 ] || { echo "skipped: it mounts file systems, which needs root"; exit 77; }
    for program in losetup mkfs.btrfs mkfs.ext4; do
        command -v "$program" >/dev/null 2>&1 || { echo "skipped: $program is not installed"; exit 77; }
    done
    work=$(mktemp -d)
    carrier=$work/carrier
    disk=$work/disk
    writer=
    trap cuts_end EXIT
    trap 'exit 1' INT TERM
    mkdir "$carrier" "$disk"
    truncate -s 3G "$work/carrier.img"
    mkfs.btrfs -q -f "$work/carrier.img" >/dev/null 2>&1
    mount -o loop "$work/carrier.img" "$carrier" 2>/dev/null || { echo "skipped: no loop device can be mounted here"; exit 77; }
}

cuts_end() {
    if [ -n "$writer" ]; then
        kill -9 "$writer" 2>/dev/null || true
        wait "$writer" 2>/dev/null || true
    fi
    ! mountpoint -q "$disk" || umount "$disk"
    ! mountpoint -q "$carrier" || umount "$carrier"
    rm -rf "$work"
}

new_disk() {
    ! mountpoint -q "$disk" || umount "$disk"
    rm -f "$carrier/disk.img"
    truncate -s 256M "$carrier/disk.img"
    mkfs.ext4 -q "$carrier/disk.img"
    mount -o loop "$carrier/disk.img" "$disk"
}

cut_power() {
    progress=$1
    wanted=$(($(wc -l 2>/dev/null <"$progress" || echo 0) + 20 + $(od -An -N2 -tu2 /dev/urandom) % $2))
    shift 2
    "$@" >"$work/writer.log" 2>&1 &
    writer=$!
    while [ "$(wc -l 2>/dev/null <"$progress" || echo 0)" -lt "$wanted" ]; do
        kill -0 "$writer" 2>/dev/null || { echo "the writer died:"; cat "$work/writer.log"; exit 1; }
        sleep 0.02
    done
    # It must not go on after the cut.
    kill -STOP "$writer"
    cp --reflink=always "$carrier/disk.img" "$carrier/after.img"
    kill -9 "$writer"
    wait "$writer" 2>/dev/null || true
    writer=
    umount "$disk"
    mv "$carrier/after.img" "$carrier/disk.img"
    mount -o loop "$carrier/disk.img" "$disk"
}
