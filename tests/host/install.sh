#!/bin/bash
# Types what README.md says under "Install it on real hosts", word by word, on three machines with a real systemd, and
# breaks services there: what fails is restarted over D-Bus, what a person wants down stays down.
#
# The words are taken out of README.md: only the profile's path and the join string, which differ each time, are filled in.
# QUELL_PACKAGES names a directory with packages that are made already.
set -eu
. tests/host/lib/machines.sh
machines_begin
command -v ip >/dev/null 2>&1 || { echo "skipped: ip is not installed (Debian: iproute2)"; exit 77; }

work=$(mktemp -d)
network=quell$$
hosts=
leave() {
    machines_end
    for host in $hosts; do ip netns del "$network-$host" 2>/dev/null || true; done
    ip netns del "$network" 2>/dev/null || true
    rm -rf "$work"
}
trap leave EXIT
trap 'exit 1' INT TERM

step() { printf '%3d s  %s\n' "$SECONDS" "$1"; }
fail() {
    echo "FAILED: $1"
    for host in $hosts; do
        echo "--- journal of $host"
        inside "$host" journalctl --no-pager -n 40 -u quell-controller -u quell-agent -o cat 2>/dev/null || true
    done
    exit 1
}

# Waits until a command succeeds: until CONDITION SECONDS COMMAND...
until_true() {
    local what=$1 end=$((SECONDS + $2))
    shift 2
    until "$@" >"$work/last" 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { cat "$work/last"; fail "$what"; }
        sleep 0.1
    done
}

# The Nth block of commands under the heading.
words() {
    awk -v wanted="$1" '/^## /{in_section = ($0 == "## Install it on real hosts")}
        in_section && /^```/ {open = !open; if (open) block++; next}
        in_section && open && block == wanted' README.md
}

# Types the Nth block on a machine. What it prints is kept in $work/said and shown when it fails.
walk() {
    local host=$1 block=$2 text
    shift 2
    text=$(words "$block" | sed "$@")
    [ -n "$text" ] || fail "README.md has no block $block"
    inside "$host" EDITOR=/root/editor QUELL_PROFILE="${profile:-}" sh -euc "$text" >"$work/said" 2>"$work/complained" </dev/null || {
        cat "$work/said" "$work/complained"
        fail "these words of README.md do not work on $host: $text"
    }
}

quell() { inside controller QUELL_PROFILE="$profile" quell "$@"; }
# Whether quell says what $pattern looks for; what it said is shown when that never comes.
says() { quell "$@" 2>&1 | tee /dev/stderr | grep -q "$pattern"; }
property() { inside "$1" systemctl show --value -p "$3" "$2"; }

add_host() {
    ip netns add "$network-$1"
    hosts="$hosts $1"
    ip -n "$network" link add "$1" type veth peer name host0 netns "$network-$1"
    ip -n "$network" link set "$1" master bridge up
    ip -n "$network-$1" link set lo up
    ip -n "$network-$1" addr add "$2/24" dev host0
    ip -n "$network-$1" link set host0 up
}

boot() { machine_boot "$1" --network-namespace-path="/run/netns/$network-$1"; }

[ "$(words 1)" = ./deploy/package.sh ] || fail "README.md no longer begins with ./deploy/package.sh"
packages=${QUELL_PACKAGES:-$work/packages}
if [ -z "${QUELL_PACKAGES:-}" ]; then
    # Not a release build: the other tests have built the rest already.
    ./deploy/package.sh --profile dev --out "$packages" >/dev/null 2>"$work/built" || { cat "$work/built"; exit 1; }
fi
step "packages: $(cd "$packages" && du -h -- *.deb | awk '{printf "%s %s  ", $2, $1}')"

ip netns add "$network"
ip -n "$network" link add bridge type bridge
ip -n "$network" link set bridge up
add_host controller 192.0.2.10
add_host planthost1 192.0.2.11
add_host planthost2 192.0.2.12
for host in controller planthost1 planthost2; do
    tree=$(machine_tree "$host") || { echo "skipped: nothing can be mounted here"; exit 77; }
done
cp "$packages"/quell{,-controller}_*.deb "$machines/controller/tree/root/"
cp "$packages"/quell-agent_*.deb "$machines/planthost1/tree/root/"
# The third has a checkout instead of packages.
dpkg-deb -x "$packages"/quell-agent_*.deb "$work/agent"
install -D "$work/agent/usr/bin/quell-agent" "$machines/planthost2/tree/root/target/release/quell-agent"
install -D -m 0644 -t "$machines/planthost2/tree/root/deploy/systemd" deploy/systemd/*

# What the administrator of planthost1 types in the editor, and what runs there.
cat >"$machines/planthost1/tree/root/editor" <<'EDITOR'
#!/bin/sh
cat >"$1" <<'TOML'
[allow]
actions = ["service.restart"]
services = ["web", "orders", "worker"]

[[service]]
name = "worker"
manager = "command"
start = ["/bin/sleep", "100000"]
TOML
EDITOR
chmod +x "$machines/planthost1/tree/root/editor"
units=$machines/planthost1/tree/etc/systemd/system
cat >"$units/web.service" <<'UNIT'
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
UNIT
cat >"$units/orders.service" <<'UNIT'
[Service]
ExecStart=/srv/orders/run
TimeoutStopSec=2s
[Install]
WantedBy=multi-user.target
UNIT
mkdir "$machines/planthost1/tree/srv/orders"
cat >"$machines/planthost1/tree/srv/orders/run" <<'ORDERS'
#!/bin/sh
# An order processor: each second it takes all orders that wait. Stopped in the middle, it processes nothing.
cd /srv/orders
while :; do
    waiting=$(cat outstanding 2>/dev/null || echo 0)
    done=$(cat processed 2>/dev/null || echo 0)
    echo $((done + waiting)) >processed
    echo 0 >outstanding
    sleep 1
done
ORDERS
chmod +x "$machines/planthost1/tree/srv/orders/run"

boot controller
boot planthost1
boot planthost2
inside planthost1 systemctl enable --quiet --now web orders
step "three machines are up"

walk controller 2 ""
profile=$(sed -n 's|^\(/.*profile.*\)$|\1|p' "$work/said" | tail -n 1)
[ -n "$profile" ] || { cat "$work/said"; fail "init printed no path of a profile"; }
# Type=notify: enable --now came back because the controller said that it is ready. So it must be, without waiting.
quell get hosts >/dev/null || fail "the controller said that it is ready and does not answer"
[ "$(property controller quell-controller Type)" = notify ] || fail "the controller's unit does not wait for its word"
[ "$(inside controller ps -o user= -p "$(property controller quell-controller MainPID)")" = quell ] || fail "the controller does not run as quell"
step "the controller runs under its unit as quell"

walk controller 3 "s|/path/to/that/profile|$profile|"
token=$(tail -n 1 "$work/said")
walk planthost1 4 "s|quell1\.…|$token|"
pattern='everything is well'
grep -q "$pattern" "$work/said" || { cat "$work/said"; fail "quell-agent check is not content"; }
[ "$(property planthost1 quell-agent ActiveState)" = active ] || fail "the agent is not up"
pattern='planthost1.*online'
until_true "planthost1 is not online" 20 says get hosts
step "planthost1 has joined, by its package"

walk controller 3 -e "s|/path/to/that/profile|$profile|" -e s/role=orders/role=ops/
token=$(tail -n 1 "$work/said")
walk planthost2 8 ""
inside planthost2 sh -euc "$(words 4 | sed -e /^apt/d -e "s|quell1\.…|$token|" -e s/planthost1/planthost2/ -e '/EDITOR/d')" >/dev/null ||
    fail "the words for a host without packages do not work"
pattern='planthost2.*online'
until_true "planthost2 is not online" 20 says get hosts
step "planthost2 has joined, by hand"

walk controller 5 ""
# What differs at this place: short times, always open, and a web server.
inside controller sed -i -e 's/Every:-[0-9a-z]*/Every:-1s/' -e 's/settle:-60s/settle:-1s/' policies/orders.yaml
inside controller sed -i -e 's/businessDays:-mon-fri/businessDays:-daily/' -e 's/opens:-09:00/opens:-00:00/' -e 's/closes:-17:00/closes:-24:00/' policies/calendars.yaml
inside controller tee policies/web.yaml >/dev/null <<'YAML'
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: web-down }
spec:
  description: The web server does not run.
  mode: enforce
  hosts: { matchLabels: { role: orders } }
  probes:
    web: { service: { name: web }, every: 1s }
  trigger: { when: '!probe.web.ok || probe.web.state == "failed"', clear: probe.web.ok }
  ladder:
    - name: restart
      do: [{ action: service.restart, with: { service: web }, timeout: 20s }]
      rollout: { settle: 1s }
      verify: { that: probe.web.ok, within: 20s }
  guards: { cooldown: 1s }
  escalate: { to: on-call, after: 15m }
YAML
walk controller 6 ""
step "the policies are applied"

main_pid() { property planthost1 "$1" MainPID; }
# The unit runs, and as another process than before.
is_new() { [ "$(property planthost1 "$1" ActiveState)" = active ] && [ "$(main_pid "$1")" != "$2" ]; }
are_resolved() { [ "$(quell get incidents --all -o json | grep -c '"state": "resolved"')" = "$1" ]; }
plans() { quell get plans --all -o json | grep -c '"id": "plan-'; }

pattern='^verdict: *notFiring'
until_true "the web server is not watched" 20 says why web-down planthost1
before=$(main_pid web)
inside planthost1 kill -9 "$before"
until_true "the killed web server was not restarted" 20 is_new web "$before"
until_true "the incident of the web server is not resolved" 30 are_resolved 1
step "a unit that was killed is restarted over D-Bus"

# It hangs with an error in its log, and orders come in.
until_true "the orders are not watched" 20 says why order-backlog planthost1
before=$(main_pid orders)
inside planthost1 systemctl kill --signal=STOP orders
inside planthost1 sh -c 'cd /srv/orders; printf "Processing Order 7\nError #12\n" >order_processing.log'
pattern='probe.log.matches = 1'
until_true "the agent does not tell of the error in the log" 20 says why order-backlog planthost1
inside planthost1 sh -c 'echo 20 >/srv/orders/outstanding'
until_true "the order processor that hangs was not restarted" 30 is_new orders "$before"
until_true "the incident of the orders is not resolved" 60 are_resolved 2
step "a unit that hung is restarted, and takes up its orders"

# What a person wants down is neither "down" nor restarted, whoever orders it.
acted=$(plans)
stays_down() {
    pattern='probe.web.state = "'$1'"'
    until_true "the agent does not tell that the web server is $1" 20 says why web-down planthost1
    if quell run service.restart -l role=orders --set service=web --wait >"$work/refused" 2>&1; then
        cat "$work/refused"
        fail "a unit that a person wants down was restarted by hand ($1)"
    fi
    grep -q "$2" "$work/refused" || { cat "$work/refused"; fail "the refusal does not say why"; }
    acted=$((acted + 1))
    [ "$(plans)" = "$acted" ] || fail "the policy made a plan for a unit that a person wants down"
    [ "$(main_pid web)" = 0 ] || fail "a unit that a person wants down runs"
}
is_up_again() {
    inside planthost1 systemctl "$@" web
    pattern='probe.web.ok = true'
    until_true "the agent does not tell that the web server runs" 20 says why web-down planthost1
}
inside planthost1 systemctl stop web
stays_down inactive 'web is stopped'
is_up_again start
inside planthost1 systemctl disable --quiet --now web
stays_down inactive 'web is disabled'
is_up_again enable --quiet --now
inside planthost1 mv /etc/systemd/system/web.service /usr/lib/systemd/system/
inside planthost1 systemctl mask --quiet --now web
stays_down masked 'web is masked'
step "a unit that is stopped, disabled or masked is left alone"

# A service that the agent itself started outlives it, and the next agent knows it.
quell run service.restart -l role=orders --set service=worker --wait >/dev/null || fail "the worker was not started"
before=$(inside planthost1 pgrep -f 'sleep 100000')
inside planthost1 systemctl restart quell-agent
[ "$(inside planthost1 pgrep -f 'sleep 100000')" = "$before" ] || fail "the worker did not outlive the agent"
pattern='planthost1.*online'
until_true "planthost1 is not back" 20 says get hosts
quell run service.restart -l role=orders --set service=worker --wait >/dev/null || fail "the next agent does not know the worker"
after=$(inside planthost1 pgrep -f 'sleep 100000')
[ "$(echo "$after" | wc -w)" = 1 ] && [ "$after" != "$before" ] || fail "the next agent did not restart the worker: $before, $after"
step "a service outlives the agent that started it"

# An upgrade restarts the agent and nothing else.
agent=$(main_pid quell-agent)
inside planthost1 sh -c 'apt-get install --yes --reinstall ./quell-agent_*.deb' >"$work/last" 2>&1 || { cat "$work/last"; fail "the agent cannot be upgraded"; }
is_new quell-agent "$agent" || fail "an upgrade does not restart the agent"
[ "$(inside planthost1 pgrep -f 'sleep 100000')" = "$after" ] || fail "the worker did not outlive the upgrade"
step "an upgrade restarts the agent and leaves its services alone"

for service in planthost1:quell-agent controller:quell-controller; do
    inside "${service%%:*}" systemd-analyze security --no-pager "${service##*:}" | tail -n 1
done

stops() {
    local begun=$SECONDS
    inside "$1" systemctl stop "$2"
    [ $((SECONDS - begun)) -le 20 ] || fail "$2 took $((SECONDS - begun)) s to stop"
    [ "$(property "$1" "$2" Result) $(property "$1" "$2" ExecMainStatus)" = "success 0" ] || fail "$2 did not stop in good order"
    step "$2 stopped in good order within $((SECONDS - begun + 1)) s"
}
# The controller first, while both agents are connected.
stops controller quell-controller
stops planthost1 quell-agent
[ "$(inside planthost1 pgrep -f 'sleep 100000')" = "$after" ] || fail "the worker did not outlive the agent's end"

inside planthost1 apt-get remove --yes quell-agent >"$work/last" 2>&1 || { cat "$work/last"; fail "the agent cannot be removed"; }
inside planthost1 test ! -e /usr/bin/quell-agent || fail "the agent's program stays when the package is removed"
inside planthost1 test -e /var/lib/quell-agent/agent.toml || fail "the agent's data went with the package"
step "the package was removed, and the host's data stays"
