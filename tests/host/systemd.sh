#!/bin/sh
# Boots a real systemd in a container of its own and runs the agent's host tests inside: restarts over D-Bus, units
# that die, units that a person wants to be down.
#
# The container is a minimal Debian, made once and kept beside the build (QUELL_HOST_CACHE moves it). A unit in it runs
# the tests and powers it off; nothing of the machine that this runs on is touched.
set -eu
for program in mmdebstrap systemd-nspawn; do
    if ! command -v "$program" >/dev/null 2>&1; then
        echo "skipped: $program is not installed (Debian: mmdebstrap, systemd-container)"
        exit 77
    fi
done
if [ "$(id -u)" -ne 0 ]; then
    echo "skipped: booting a container needs root"
    exit 77
fi

target=${CARGO_TARGET_DIR:-target}
cache=${QUELL_HOST_CACHE:-$target/host}
system=$cache/systemd
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")

binary=$(cargo test --locked -p quell-agent --test host --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/host-[^"]*\)".*/\1/p' | tail -n 1)
[ -x "$binary" ] || { echo "the host tests of the agent were not built"; exit 1; }

mkdir -p "$cache"
if [ ! -e "$system/etc/os-release" ]; then
    rm -rf "$system"
    mmdebstrap --quiet --variant=minbase --include=systemd-sysv,dbus,procps "$suite" "$system"
fi

install -m 0755 "$binary" "$system/usr/local/bin/quell-host-test"
mkdir -p "$system/var/lib/quell-host-test"
rm -f "$system/var/lib/quell-host-test/"* "$system/etc/systemd/system/quell-"*
cat >"$system/etc/systemd/system/host-test.service" <<'UNIT'
[Unit]
Description=The agent's host tests
After=multi-user.target dbus.service
Requires=dbus.service

[Service]
Type=oneshot
Environment=QUELL_HOST_TESTS=1 RUST_BACKTRACE=1
ExecStart=/usr/local/bin/quell-host-test --nocapture --test-threads=1
StandardOutput=file:/var/lib/quell-host-test/log
StandardError=inherit
TimeoutStartSec=180s
ExecStopPost=/bin/sh -c 'echo "$$EXIT_STATUS" >/var/lib/quell-host-test/status; systemctl --no-block poweroff'

[Install]
WantedBy=graphical.target
UNIT
mkdir -p "$system/etc/systemd/system/graphical.target.wants"
ln -sf ../host-test.service "$system/etc/systemd/system/graphical.target.wants/host-test.service"
ln -sf /lib/systemd/system/graphical.target "$system/etc/systemd/system/default.target"

# This machine may have no systemd of its own to register with.
timeout 300 systemd-nspawn --quiet --register=no --keep-unit --private-network --machine="quell-$$" \
    --console=pipe --directory="$system" --boot >"$cache/boot.log" 2>&1 </dev/null || true

cat "$system/var/lib/quell-host-test/log" 2>/dev/null || { echo "it did not boot; see $cache/boot.log"; exit 1; }
status=$(cat "$system/var/lib/quell-host-test/status" 2>/dev/null || echo unknown)
[ "$status" = 0 ] || { echo "the tests ended with status $status"; exit 1; }
# A test that skips in here has tested nothing.
if grep -q '^skipped' "$system/var/lib/quell-host-test/log"; then exit 1; fi
