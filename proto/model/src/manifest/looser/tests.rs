use super::looser;
use crate::{
    manifest::{File, parse},
    policy::Manifest,
};

const POLICY: &str = "\
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: backlog }
spec:
  description: Orders wait.
  service: orders
  mode: propose
  hosts: { matchLabels: { role: orders, zone: a } }
  target: fleet
  probes:
    queue: { command: { argv: [/bin/queue], parse: '(?<waiting>[0-9]+)' }, every: 30s, timeout: 5s }
  values:
    unit: { is: '\"orders\"', oneOf: [orders] }
  signals:
    long: { that: 'double(probe.queue.waiting) > 15.0', quorum: 2 of 3 }
  trigger: { when: signal.long, for: 5m }
  ladder:
    - name: restart
      after: 10m
      if: signal.long
      require:
        - { that: '!signal.long', because: it still takes orders }
      on: { matchLabels: { role: ops }, pick: 1 }
      do:
        - { action: service.restart, with: { service: orders }, timeout: 30s, once: incident }
      rollout: { waves: [1, 2], settle: 2m, maxErrors: 0 }
      approval: { role: shop, count: 2, expires: 15m, choices: [restart, reject] }
      verify: { that: '!signal.long', stable: 30s, within: 60s }
  guards:
    cooldown: 30m
    calendar: business-hours
    disturb: { hosts: 1, percent: 10, over: 1h }
    budget: { perTarget: 3, perPolicy: 10, within: 24h }
    yieldTo: [package-lock, human-session]
  escalate: { to: on-call, after: 15m }
";

const SERVICE: &str = "\
apiVersion: quell/v1
kind: Service
metadata: { namespace: plants, name: orders }
spec: { members: { matchLabels: { role: orders } }, keepHealthy: 2, dependsOn: [dns], calendar: business-hours }
";

const CALENDAR: &str = "\
apiVersion: quell/v1
kind: Calendar
metadata: { namespace: plants, name: business-hours }
spec:
  timeZone: Europe/Berlin
  open:
    - { days: mon-fri, from: '09:00', to: '17:00' }
";

const WINDOW: &str = "\
apiVersion: quell/v1
kind: Window
metadata: { namespace: plants, name: release }
spec:
  hosts: { matchLabels: { role: orders } }
  suppress: [act]
  from: 2026-12-01T00:00:00Z
  until: 2026-12-02T00:00:00Z
  reason: a release
";

const LIMITS: &str = "\
apiVersion: quell/v1
kind: Limits
metadata: { namespace: plants, name: ceiling }
spec:
  description: What security allows.
  actions: [service.restart]
  hosts: { matchLabels: { role: orders } }
  mode: propose
  approvals: [{ actions: [service.restart], role: shop, count: 2 }]
  calendar: { timeZone: UTC, open: [{ days: mon }] }
  cooldown: 30m
  budget: { perHost: 2, perNamespace: 9, within: 24h }
  disturb: { hosts: 5, percent: 10 }
  wave: 2
";

fn read(text: &str) -> Manifest {
    let file = File { name: "a.yaml".to_owned(), text: text.to_owned() };
    let parsed = parse(&[file]).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    parsed[0].manifest.clone()
}

/// What is looser when a part of a text is replaced; and that nothing is when it is put back, unless it says so.
fn change(text: &str, part: &str, by: &str) -> Vec<String> {
    assert!(text.contains(part), "{part}");
    let found = looser(Some(&read(text)), Some(&read(&text.replace(part, by))));
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn what_bounds_a_policy_less_is_told() {
    for (part, by, told) in [
        ("mode: propose", "mode: enforce", "mode: propose → enforce"),
        ("zone: a }", "zone: b }", "hosts: role=orders,zone=a → role=orders,zone=b"),
        ("role: orders, zone: a", "role: orders", "hosts: role=orders,zone=a → role=orders"),
        ("hosts: { matchLabels: { role: orders, zone: a } }", "hosts: all", "hosts: role=orders,zone=a → all"),
        ("  service: orders\n  mode", "  mode", "service: orders → none"),
        ("for: 5m", "for: 1m", "trigger.for: 5m → 1m"),
        ("quorum: 2 of 3", "quorum: 1 of 3", "signals.long.quorum: 2 of 3 → 1 of 3"),
        ("oneOf: [orders]", "oneOf: [orders, web]", "values.unit.oneOf: \"orders\" → \"orders\", \"web\""),
        ("after: 10m\n", "after: 5m\n", "ladder.restart.after: 10m → 5m"),
        (
            "after: 10m\n",
            "after: 10m\n      unless: signal.long\n",
            "ladder.restart.unless: waits for `after` in any case → may not wait",
        ),
        ("      if: signal.long\n", "", "ladder.restart.if: a condition → none"),
        (
            "        - { that: '!signal.long', because: it still takes orders }\n",
            "        []\n",
            "ladder.restart.require: !signal.long → none, or another",
        ),
        ("role: ops }, pick: 1", "role: ops }, pick: 2", "ladder.restart.on.pick: 1 → 2"),
        ("{ role: ops }, pick: 1", "{ role: web }, pick: 1", "ladder.restart.on: role=ops → role=web"),
        ("timeout: 30s, once", "timeout: 60s, once", "ladder.restart.do[0].timeout: 30s → 1m"),
        (", once: incident", "", "ladder.restart.do[0].once: in an incident → as often as the guards let it"),
        ("waves: [1, 2]", "waves: [1, 4]", "ladder.restart.rollout.waves: 1, 2 → 1, 4"),
        ("settle: 2m", "settle: 1m", "ladder.restart.rollout.settle: 2m → 1m"),
        ("maxErrors: 0", "maxErrors: 2", "ladder.restart.rollout.maxErrors: 0 → 2"),
        (
            "      approval: { role: shop, count: 2, expires: 15m, choices: [restart, reject] }\n",
            "",
            "ladder.restart.approval.role: 2 of shop → nobody is asked",
        ),
        ("role: shop", "role: anybody", "ladder.restart.approval.role: shop → anybody"),
        ("count: 2", "count: 1", "ladder.restart.approval.count: 2 → 1"),
        ("approval: { role", "approval: { if: signal.long, role", "ladder.restart.approval.if: always → signal.long"),
        ("expires: 15m", "expires: 1h", "ladder.restart.approval.expires: 15m → 1h"),
        (
            "expires: 15m,",
            "expires: 15m, signed: false,",
            "ladder.restart.approval.signed: hosts count signatures → hosts take the controller's word",
        ),
        ("stable: 30s", "stable: 10s", "ladder.restart.verify.stable: 30s → 10s"),
        ("within: 60s", "within: 5m", "ladder.restart.verify.within: 1m → 5m"),
        ("cooldown: 30m", "cooldown: 1m", "guards.cooldown: 30m → 1m"),
        ("    calendar: business-hours\n", "", "guards.calendar: business-hours → none"),
        ("calendar: business-hours", "calendar: always", "guards.calendar: business-hours → none"),
        ("hosts: 1,", "hosts: 5,", "guards.disturb.hosts: 1 → 5"),
        ("percent: 10", "percent: 50", "guards.disturb.percent: 10 → 50"),
        ("over: 1h", "over: 5m", "guards.disturb.over: 1h → 5m"),
        ("perTarget: 3", "perTarget: 4", "guards.budget.perTarget: 3 → 4"),
        ("perPolicy: 10", "perPolicy: 11", "guards.budget.perPolicy: 10 → 11"),
        ("within: 24h", "within: 1h", "guards.budget.within: 1d → 1h"),
        ("[package-lock, human-session]", "[package-lock]", "guards.yieldTo: human-session → none"),
    ] {
        assert_eq!(change(POLICY, part, by), [told], "{part} → {by}");
    }
    let tells = POLICY.replace("[restart, reject]", "[restart, { name: later, tell: on-call }, reject]");
    assert_eq!(
        change(&tells, "{ name: later, tell: on-call }", "later"),
        ["ladder.restart.approval.choices.later: tells on-call, and nothing is run → runs the plan"]
    );
}

#[test]
fn what_bounds_more_or_is_only_said_otherwise_is_no_loosening() {
    for (part, by) in [
        ("mode: propose", "mode: observe"),
        ("zone: a }", "zone: a, rack: r1 }"),
        ("for: 5m", "for: 10m"),
        ("quorum: 2 of 3", "quorum: 3 of 3"),
        ("after: 10m\n", "after: 20m\n"),
        ("timeout: 30s, once", "timeout: 20s, once"),
        ("waves: [1, 2]", "waves: [1]"),
        ("count: 2", "count: 3"),
        ("cooldown: 30m", "cooldown: 1h"),
        ("hosts: 1,", "hosts: 0,"),
        ("description: Orders wait.", "description: Too many orders wait."),
        ("> 15.0", "> 5.0"),
    ] {
        assert!(change(POLICY, part, by).is_empty(), "{part} → {by}: {:?}", change(POLICY, part, by));
    }
}

#[test]
fn what_is_done_besides_is_told() {
    let more = "once: incident }\n        - { action: exec, with: { argv: [/bin/true] }, timeout: 30s }\n";
    assert_eq!(change(POLICY, "once: incident }\n", more), ["ladder.restart.do: not done → exec"]);
    assert_eq!(
        change(POLICY, "- name: restart", "- name: again"),
        ["ladder.again: no such rung → service.restart"],
        "a rung by another name is another one"
    );
    let rule = "      approval: { role: shop, count: 2, expires: 15m, choices: [restart, reject] }\n";
    let without = POLICY.replace(rule, "");
    let (verify, unsigned) = ("      verify:", "      approval: { role: shop, signed: false }\n      verify:");
    assert_eq!(
        change(&without, verify, unsigned),
        ["ladder.restart.approval.signed: hosts count signatures → hosts take the controller's word"],
        "what is proposed without a rule asks for a signature"
    );
    assert!(
        change(&without.replace("mode: propose", "mode: enforce"), verify, unsigned).is_empty(),
        "nobody was asked"
    );
    let policy = read(POLICY);
    assert_eq!(looser(None, Some(&policy))[0].to_string(), "mode: no policy → propose");
    assert!(looser(None, Some(&read(&POLICY.replace("mode: propose", "mode: observe")))).is_empty());
    assert!(looser(Some(&policy), None).is_empty(), "a policy that is gone does nothing");
}

#[test]
fn ceilings_that_are_raised_or_gone_are_told() {
    for (part, by, told) in [
        (
            "actions: [service.restart]\n",
            "actions: [service.restart, exec]\n",
            "actions: service.restart → exec, service.restart",
        ),
        ("  actions: [service.restart]\n", "", "actions: service.restart → any"),
        ("  hosts: { matchLabels: { role: orders } }\n", "", "hosts: role=orders → any"),
        ("hosts: { matchLabels: { role: orders } }", "hosts: all", "hosts: role=orders → all"),
        ("mode: propose", "mode: enforce", "mode: propose → enforce"),
        ("  mode: propose\n", "", "mode: propose → any"),
        ("count: 2", "count: 1", "approvals.service.restart: 2 of shop → fewer"),
        ("role: shop", "role: staff", "approvals.service.restart: 2 of shop → fewer"),
        ("days: mon", "days: mon-tue", "calendar.open.tue: closed → 00:00-00:00"),
        ("  calendar: { timeZone: UTC, open: [{ days: mon }] }\n", "", "calendar: hours → always"),
        ("cooldown: 30m", "cooldown: 1m", "cooldown: 30m → 1m"),
        ("  cooldown: 30m\n", "", "cooldown: 30m → 0s"),
        ("perHost: 2", "perHost: 3", "budget.perHost: 2 → 3"),
        ("perNamespace: 9, ", "", "budget.perNamespace: 9 → any"),
        ("within: 24h", "within: 1h", "budget.within: 1d → 1h"),
        ("hosts: 5", "hosts: 6", "disturb.hosts: 5 → 6"),
        ("percent: 10", "percent: 11", "disturb.percent: 10 → 11"),
        ("wave: 2", "wave: 3", "wave: 2 → 3"),
        ("  wave: 2\n", "", "wave: 2 → any"),
    ] {
        assert_eq!(change(LIMITS, part, by), [told], "{part} → {by}");
    }
    for (part, by) in [("mode: propose", "mode: observe"), ("wave: 2", "wave: 1"), ("perHost: 2", "perHost: 1")] {
        assert!(change(LIMITS, part, by).is_empty(), "{part} → {by}");
    }
    assert_eq!(looser(Some(&read(LIMITS)), None)[0].to_string(), "limits: What security allows. → removed");
    assert!(looser(None, Some(&read(LIMITS))).is_empty());
}

#[test]
fn services_calendars_and_windows_bound_as_well() {
    for (text, part, by, told) in [
        (SERVICE, "keepHealthy: 2", "keepHealthy: 1", "keepHealthy: 2 → 1"),
        (SERVICE, "dependsOn: [dns], ", "", "dependsOn: dns → none"),
        (SERVICE, ", calendar: business-hours", "", "calendar: business-hours → none"),
        (SERVICE, "matchLabels: { role: orders }", "matchLabels: { zone: a }", "members: role=orders → zone=a"),
        (CALENDAR, "Europe/Berlin", "UTC", "timeZone: Europe/Berlin → UTC"),
        (CALENDAR, "days: mon-fri", "days: mon-sat", "open.sat: closed → 09:00-17:00"),
        (WINDOW, "suppress: [act]", "suppress: [notify]", "suppress: acts → not acts"),
        (WINDOW, "2026-12-02T", "2026-12-01T12", "until: 2026-12-02T00:00:00Z → 2026-12-01T12:00:00Z"),
        (WINDOW, "2026-12-01T00", "2026-12-01T05", "from: 2026-12-01T00:00:00Z → 2026-12-01T05:00:00Z"),
        (WINDOW, "{ role: orders }", "{ role: orders, zone: a }", "hosts: role=orders → role=orders,zone=a"),
    ] {
        let by = if by == "2026-12-01T12" { "2026-12-01T12:00:00Z" } else { by };
        let part = if part == "2026-12-02T" { "2026-12-02T00:00:00Z" } else { part };
        assert_eq!(change(text, part, by), [told], "{part} → {by}");
    }
    let later = change(CALENDAR, "to: '17:00'", "to: '18:00'");
    assert_eq!(later.len(), 5, "{later:?}");
    assert_eq!(later[0], "open.mon: 09:00-17:00 → 09:00-18:00");
    assert!(change(CALENDAR, "from: '09:00', to: '17:00'", "from: '10:00', to: '16:00'").is_empty());
    assert!(change(WINDOW, "2026-12-02T00", "2026-12-03T00").is_empty());
    assert_eq!(looser(Some(&read(WINDOW)), None).len(), 1);
    assert_eq!(looser(Some(&read(SERVICE)), None).len(), 2);
}

#[test]
fn alerts_of_another_system_that_start_more_are_looser() {
    let text = POLICY.replace(
        "trigger: { when: signal.long, for: 5m }",
        "trigger: { alert: { source: prometheus, match: { alertname: Lag, tier: web } }, for: 5m }",
    );
    assert!(text.contains("alertname"), "the policy has another trigger: {text}");
    let changed = |part: &str, by: &str| {
        let found = looser(Some(&read(&text)), Some(&read(&text.replace(part, by))));
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(changed(", tier: web", ""), ["trigger.alert.match: alertname=Lag, tier=web → alertname=Lag"]);
    assert_eq!(changed("tier: web", "tier: web, zone: a"), Vec::<String>::new());
    assert_eq!(changed("source: prometheus", "source: other"), ["trigger.alert.source: prometheus → other"]);
    assert_eq!(changed("tier: web }", "tier: web }, stale: 1h"), ["trigger.alert.stale: 15m → 1h"]);
    let found = looser(Some(&read(POLICY)), Some(&read(&text)));
    assert_eq!(found[0].to_string(), "trigger.alert: what Quell sees by itself → what prometheus says");
}
