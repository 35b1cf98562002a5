# Machines with a real systemd of their own, for the host tests. It is sourced and not run.
#
#   machines_begin                   ends the test with a reason where no machine can boot; makes what they start from
#   tree=$(machine_tree NAME)        the files of a new machine, to put things into before it boots
#   machine_boot NAME [OPTION...]    boots it, with options of systemd-nspawn, and waits until systemd is up
#   inside NAME COMMAND...           runs a command as root in a machine that is up
#   machine_halt NAME                powers it off and forgets its files
#   machines_end                     halts what is left; for a trap
#
# All share one minimal Debian, made once and kept beside the build (QUELL_HOST_CACHE moves it); what a machine changes lies
# in memory and goes with it. Nothing of the machine that this runs on is touched.

machines_begin() {
    for program in mmdebstrap systemd-nspawn nsenter pgrep; do
        if ! command -v "$program" >/dev/null 2>&1; then
            echo "skipped: $program is not installed (Debian: mmdebstrap systemd-container util-linux procps)"
            exit 77
        fi
    done
    [ "$(id -u)" -eq 0 ] || { echo "skipped: booting a machine needs root"; exit 77; }
    machines_cache=${QUELL_HOST_CACHE:-${CARGO_TARGET_DIR:-target}/host}
    mkdir -p "$machines_cache"
    machines_cache=$(cd "$machines_cache" && pwd)
    machines_system=$machines_cache/systemd
    if [ ! -e "$machines_system.made" ]; then
        suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
        rm -rf "$machines_system"
        mmdebstrap --quiet --variant=minbase --include=systemd-sysv,dbus,procps "$suite" "$machines_system"
        : >"$machines_system.made"
    fi
    machines=$(mktemp -d)
}

machine_tree() {
    mkdir "$machines/$1"
    mount -t tmpfs -o mode=0755,size=1g machine "$machines/$1"
    mkdir "$machines/$1/upper" "$machines/$1/work" "$machines/$1/tree"
    mount -t overlay overlay "$machines/$1/tree" \
        -o "lowerdir=$machines_system,upperdir=$machines/$1/upper,workdir=$machines/$1/work"
    echo "$machines/$1/tree"
}

machine_boot() {
    machine=$1
    shift
    # The machine that this runs on may have no systemd of its own to register with.
    systemd-nspawn --quiet --register=no --keep-unit --machine="$machine" --hostname="$machine" --console=pipe \
        --directory="$machines/$machine/tree" "$@" --boot >"$machines/$machine/console" 2>&1 </dev/null &
    echo $! >"$machines/$machine/nspawn"
    for _ in $(seq 300); do
        pgrep -P "$(cat "$machines/$machine/nspawn")" | head -n 1 >"$machines/$machine/leader"
        case $(inside "$machine" systemctl is-system-running 2>/dev/null) in
            running | degraded) return 0 ;;
        esac
        sleep 0.1
    done
    echo "$machine did not boot:"
    cat "$machines/$machine/console"
    return 1
}

inside() {
    machine=$1
    shift
    leader=$(cat "$machines/$machine/leader")
    [ -n "$leader" ] || return 1
    nsenter --target "$leader" --mount --uts --ipc --net --pid --root --wd \
        env --ignore-environment --chdir=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb "$@"
}

machine_halt() {
    if [ -e "$machines/$1/nspawn" ]; then
        nspawn=$(cat "$machines/$1/nspawn")
        # systemd powers off on this signal.
        [ ! -s "$machines/$1/leader" ] || kill -s RTMIN+4 "$(cat "$machines/$1/leader")" 2>/dev/null || true
        for _ in $(seq 150); do
            kill -0 "$nspawn" 2>/dev/null || break
            sleep 0.1
        done
        kill -9 "$nspawn" 2>/dev/null || true
        wait "$nspawn" 2>/dev/null || true
    fi
    umount "$machines/$1/tree" 2>/dev/null || umount -l "$machines/$1/tree" 2>/dev/null || true
    umount "$machines/$1" 2>/dev/null || umount -l "$machines/$1" 2>/dev/null || true
    rmdir "$machines/$1"
}

machines_end() {
    for directory in "$machines"/*/; do
        [ ! -d "$directory" ] || machine_halt "$(basename "$directory")"
    done
    rmdir "$machines"
}
