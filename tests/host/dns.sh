#!/bin/sh
# What a fail-over by RFC 2136 promises, at a real name server: BIND compares before it sets, refuses the same plan when it
# is stale, and refuses keys that are wrong or have no right; and the whole way from a policy to BIND and back. BIND listens on
# the loopback of a network namespace of its own.
set -eu
for program in named unshare nsenter ip; do
    if ! command -v "$program" >/dev/null 2>&1; then
        echo "skipped: $program is not installed (Debian: bind9 util-linux iproute2)"
        exit 77
    fi
done
[ "$(id -u)" -eq 0 ] || { echo "skipped: a network namespace needs root"; exit 77; }
unshare --net true 2>/dev/null || { echo "skipped: no network namespace can be made here"; exit 77; }

cargo build --locked --workspace --bins
built() { # the executable of a test: its package, its kind, its name
    cargo test --locked -p "$1" $2 --no-run --message-format=json |
        sed -n "s/.*\"executable\":\"\([^\"]*\/$3-[^\"]*\)\".*/\1/p" | tail -n 1
}
binary=$(built quell-agent --lib quell_agent)
[ -x "$binary" ] || { echo "the tests of the agent were not built"; exit 1; }
story=$(built quell-tests "--test failover" failover)
[ -x "$story" ] || { echo "the story of a fail-over was not built"; exit 1; }

work=$(mktemp -d)
named=
end() {
    [ -z "$named" ] || { kill -CONT "$named"; kill "$named"; wait "$named"; } 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT
trap 'exit 1' INT TERM

umask 077
for key in failover:hmac-sha256:32 strong:hmac-sha512:64 reader:hmac-sha256:32; do
    name=${key%%:*}
    algorithm=${key#*:}
    head -c "${algorithm#*:}" /dev/urandom | base64 -w 0 >"$work/$name.secret"
    echo "key $name { algorithm ${algorithm%:*}; secret \"$(cat "$work/$name.secret")\"; };"
done >"$work/named.conf"
cat >>"$work/named.conf" <<CONF
options {
    directory "$work";
    pid-file "$work/named.pid";
    session-keyfile none;
    listen-on port 5300 { 127.0.0.1; };
    listen-on-v6 { none; };
    recursion no;
    dnssec-validation no;
    notify no;
};
controls { };
zone "exoticplant.plant" {
    type primary;
    file "zone";
    update-policy {
        grant failover subdomain exoticplant.plant. A AAAA;
        grant strong name alias.exoticplant.plant. CNAME;
    };
};
CONF
cat >"$work/zone" <<'ZONE'
$TTL 5
@ SOA dns1 admin 1 30 5 600 5
@ NS dns1
dns1 A 127.0.0.1
www A 192.0.2.53
six AAAA 2001:db8::53
alias CNAME DNS1
two A 192.0.2.53
two A 192.0.2.54
kept A 192.0.2.53
hung A 192.0.2.53
shop A 192.0.2.53
ZONE

# The namespace lives as long as BIND does.
unshare --net sh -c 'ip link set lo up && exec named -g -c "$1/named.conf"' named "$work" >"$work/log" 2>&1 &
named=$!
for _ in $(seq 100); do
    grep -q ' running$' "$work/log" && break
    kill -0 "$named" 2>/dev/null || break
    sleep 0.1
done
grep -q ' running$' "$work/log" || { echo "BIND did not start:"; cat "$work/log"; exit 1; }

status=0
said=$(QUELL_NAME_SERVER=127.0.0.1:5300 QUELL_NAME_SERVER_KEYS=$work QUELL_NAME_SERVER_PID=$named \
    nsenter --net="/proc/$named/ns/net" timeout 120 "$binary" rfc2136::bind --nocapture --test-threads=1 2>&1) || status=$?
echo "$said"
[ "$status" -eq 0 ] || { echo "BIND's log:"; cat "$work/log"; exit 1; }
# A test that skips in here has tested nothing.
case $said in *skipped*) exit 1 ;; esac
case $said in *"4 passed"*) ;; *) echo "not all of them ran"; exit 1 ;; esac

said=$(QUELL_NAME_SERVER=127.0.0.1:5300 QUELL_NAME_SERVER_KEYS=$work \
    nsenter --net="/proc/$named/ns/net" timeout 120 "$story" --nocapture 2>&1) || status=$?
echo "$said"
[ "$status" -eq 0 ] || { echo "BIND's log:"; cat "$work/log"; exit 1; }
case $said in *skipped*) exit 1 ;; esac
case $said in *"1 passed"*) ;; *) echo "the story did not run"; exit 1 ;; esac
