//! What is wrong, and what is said about it.

use super::*;

/// A policy with a hole for one line of its spec, which is line 8 of the file.
fn policy_with(line: &str) -> String {
    format!(
        "apiVersion: quell/v1\nkind: Policy\nmetadata: {{ name: x }}\nspec:\n  description: A test.\n  hosts: all\n  \
         trigger: {{ when: host.cpu.used_percent > 90 }}\n  {line}\n"
    )
}

/// Every error of a text, joined.
fn errors_of(text: &str) -> String {
    parse_one(text).map_or_else(|errors| shown(&errors), |_| "no error".to_owned())
}

#[test]
fn fields_and_values_are_checked() {
    for (line, message) in [
        ("mdoe: observe", "a.yaml:8:3: unknown field `mdoe`: did you mean `mode`?"),
        ("colour: red", "a.yaml:8:3: unknown field `colour`: there are description"),
        ("mode: act", "a.yaml:8:9: `mode` is observe, propose or enforce, not \"act\""),
        ("mode: enforce", "a.yaml:8:9: a policy that acts says who is called when nothing helps"),
        ("mode:", "a.yaml:8:3: `mode` has no value"),
        ("hosts: all", "a.yaml:8:3: `hosts` is there twice; first in line 6"),
        ("toil: 5", "a.yaml:8:9: `spec.toil` is a number, not a map with minutes, category"),
        ("toil: { minutes: five, category: x }", "a.yaml:8:20: `minutes` is a number, not \"five\""),
        ("guards: { cooldown: 30 }", "a.yaml:8:23: 30 is not a duration, it has no unit: write 30s"),
        ("guards: { cooldown: 30 s }", "a.yaml:8:23: \"30 s\" is not a duration"),
        ("guards: { disturb: { percent: 110 } }", "a.yaml:8:33: \"110\" is not a percentage"),
        ("guards: { disturb: { hosts: -1 } }", "a.yaml:8:31: -1 is not a whole number from 0"),
        ("guards: { yieldTo: [lunch] }", "a.yaml:8:23: \"lunch\": there are package-lock"),
        ("guards: { budget: { perTarget: yes } }", "`perTarget` is a number, not \"yes\""),
        ("service: Big One", "a.yaml:8:12: \"Big One\" is not a name: lower-case letters"),
        ("service: 12", "a.yaml:8:12: `service` is text, and this reads as a number: put it in quotes"),
        ("service: true", "`service` is text, and this reads as true or false: put it in quotes"),
        ("target: everything", "`target` is host or fleet, or { each: …, as: …, where: … }, not \"everything\""),
        (
            "target: { each: host.cpus, as: cpu }",
            "a.yaml:8:19: `each` is host.disks or host.network, not \"host.cpus\"",
        ),
        ("target: { each: host.disks, as: probe }", "`probe` means something else in conditions"),
        ("tell: { text: x }", "a.yaml:8:9: `tell` is a map, not a list"),
        ("tell: [{ contact: a, text: '$(x)' }]", "a.yaml:8:31: $(x) is neither a value of the policy"),
        ("tell: [{ contact: a, text: 'a $(x' }]", "a.yaml:8:33: `$(` is never closed"),
        ("tell: [{ contact: a, text: b, attach: [probe.x] }]", "there is no probe `x` to attach"),
        ("tell: [{ at: noon, contact: a, text: b }]", "`at` is firing, held, acted or resolved, not \"noon\""),
        ("expect: { every: 1w }", "units are d, h, m, s and ms"),
        ("signals: { bad: { that: 'true', quorum: 4 of 3 } }", "\"4 of 3\" is not a quorum: write `2 of 3`"),
        (
            "signals: { bad: { that: 'true', quorum: 2 of 3 } }",
            "a quorum counts observing hosts, so it needs `target: fleet`",
        ),
        ("signals: { a: 'true', b: '!signal.a' }", "a.yaml:8:28: a signal asks probes, not the signal `a`"),
        ("signals: { host: 'true' }", "a.yaml:8:14: `host` means something else in conditions"),
        ("values: { a: { is: '\"x\"', oneOf: [] } }", "`oneOf` lists texts, numbers or truth values, at least one"),
        ("values: { a: { is: '\"x\"' } }", "`spec.values.a` lacks `oneOf` (What it may be"),
    ] {
        let errors = errors_of(&policy_with(line));
        assert!(errors.contains(message), "{line}\n{errors}");
    }
}

#[test]
fn probes_are_checked() {
    for (probe, message) in [
        ("{ every: 5s }", "`spec.probes.p` needs one of http, tcp, tls"),
        ("{ tcp: { address: 'a:1' }, file: { path: /a } }", "`spec.probes.p` takes only one of tcp, file"),
        ("{ ping: {} }", "unknown field `ping`"),
        ("{ dns: { server: ns1.example, name: a.b } }", "\"ns1.example\" is not an IP address"),
        ("{ dns: { server: 192.0.2.1, name: a.b, port: 70000 } }", "70000 is not a port"),
        ("{ dns: { server: 192.0.2.1, name: a.b, record: ANY } }", "`record` is one of A, AAAA"),
        ("{ dns: { server: 192.0.2.1, name: a.b, reach: icmp } }", "`reach` is tcp/PORT, like tcp/22, not \"icmp\""),
        ("{ tcp: { address: localhost } }", "\"localhost\" is not a address: host:port"),
        ("{ http: { url: 'ftp://x' } }", "\"ftp://x\" is not a URL"),
        ("{ http: { url: 'http://user:secret@x/' } }", "no user or password"),
        ("{ file: { path: var/x } }", "\"var/x\" is not a path: it begins with /"),
        ("{ file: { path: /var/../etc/shadow } }", "no '..'"),
        ("{ file: { path: /a, parse: '(' } }", "\"(\" is not a regular expression: unclosed group"),
        ("{ logMatch: { path: /a, pattern: '(((a{1000}){1000}){1000})' } }", "the regular expression needs more than"),
        ("{ logMatch: { path: /a, pattern: a, window: 0 } }", "0 is not a whole number from 1 to 10000"),
        ("{ command: { argv: [] } }", "`argv` is empty: name a program"),
        ("{ command: { argv: [a, 1] } }", "`argv` is text, and this reads as a number: put it in quotes"),
        ("{ process: {} }", "`spec.probes.p.process` needs one of name, command"),
        ("{ file: { path: /a }, every: 5s, timeout: 6s }", "`timeout` is longer than `every` (5s)"),
        ("{ file: { path: /a }, every: 10ms }", "10ms is too often: at least 1s"),
        ("{ file: { path: /a }, on: { pick: 1 } }", "`on` chooses nobody"),
        ("{ file: { path: /a }, on: { matchLabels: { a: $(b) } } }", "values are known in rungs and steps only"),
    ] {
        let errors = errors_of(&policy_with(&format!("probes: {{ p: {probe} }}")));
        assert!(errors.contains(message), "{probe}\n{errors}");
    }
    let errors = errors_of(&policy_with("probes: { \"a-b\": { file: { path: /a } } }"));
    assert!(errors.contains("a.yaml:8:13: \"a-b\" is not a name that conditions can use"), "{errors}");
}

#[test]
fn one_fault_is_told_once() {
    let broken = policy_with(
        "probes: { p: { logMatch: { path: x, pattern: '(?<a>.)' }, every: 1 } }\n  signals: { s: probe.p.captures.a == \"x\" }",
    );
    let errors = errors_of(&broken.replace("host.cpu.used_percent > 90", "signal.s && probe.p.matches > 0"));
    let lines: Vec<_> = errors.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("\"x\" is not a path") && lines[1].contains("no unit"), "{errors}");
}

#[test]
fn what_previews_list_is_named_only_where_it_is_known() {
    let restart = "{ action: service.restart, with: { service: a } }";
    let reclaim = "{ action: disk.reclaim, with: { directory: /srv, names: ['*'], olderThan: 1d } }";
    let rung = |steps: &str, rest: &str| policy_with(&format!("ladder: [{{ name: r, do: [{steps}]{rest} }}]"));
    let verify = ", verify: { that: outcome.bytes_freed >= 0.9 * plan.bytes && plan.items > 0 }";
    for (steps, rest, message) in [
        (restart, verify.to_owned(), "this rung is not previewed"),
        (restart, format!("{verify}, approval: {{ role: a }}, if: plan.bytes > 1"), "known in `verify` only"),
        (restart, format!("{verify}, approval: {{ role: a, if: plan.items > 1 }}"), "known in `verify` only"),
        (reclaim, format!("{verify}, require: [{{ that: plan.items > 1, because: x }}]"), "known in `verify` only"),
        (&format!("{restart}, {reclaim}"), verify.to_owned(), "is the first step of its rung"),
        (restart, format!(", verify: {{ that: 'true' }}, finally: [{reclaim}]"), "is the first step of its rung"),
    ] {
        let errors = errors_of(&rung(steps, &rest));
        assert!(errors.contains(message), "{steps} {rest}\n{errors}");
    }
    for (steps, rest) in [(reclaim, verify.to_owned()), (restart, format!("{verify}, approval: {{ role: a }}"))] {
        assert_eq!(errors_of(&rung(steps, &rest)), "no error", "{steps} {rest}");
    }
}

/// A ladder of one rung, whose step and rest are given.
fn ladder_with(step: &str, rest: &str) -> String {
    policy_with(&format!("ladder: [{{ name: r, do: [{step}], verify: {{ that: host.cpu.used_percent < 80 }}{rest} }}]"))
}

#[test]
fn ladders_are_checked() {
    let restart = "{ action: service.restart, with: { service: a } }";
    for (step, rest, message) in [
        ("{ action: service.restrat }", "", "unknown action `service.restrat`: did you mean `service.restart`?"),
        ("{ action: service.restart }", "", "lacks `service`"),
        ("{ action: service.restart, with: { service: 'a b' } }", "", "\"a b\" is not a name of a service or unit"),
        ("{ action: log.rotate, with: { path: ../x } }", "", "\"../x\" is not a path"),
        (
            "{ action: exec, with: { argv: ['$(x)'] } }",
            "",
            "$(x) is not a value of the policy: declare it under `values`",
        ),
        ("{ action: exec, with: { argv: ['a$(x)'] } }", "", "\"a$(x)\": a $(value) has to be the whole argument"),
        (
            "{ action: dns.failover, with: { tool: [t], from: dns1, to: dns2 } }",
            "",
            "`from` has to be a $(value) of the policy with `oneOf`",
        ),
        ("{ action: service.restart, with: { service: a }, timeout: 0s }", "", "a `timeout` of nothing always fails"),
        (restart, ", unless: 'true'", "`unless` shortens `after`, and there is none"),
        (restart, ", otherwise: pray", "`otherwise` is next, undo or page, not \"pray\""),
        (restart, ", rollout: { waves: [] }", "`waves` is empty"),
        (restart, ", rollout: { waves: [0] }", "0 is not a whole number from 1"),
        (restart, ", approval: { role: a, choices: [a, a] }", "`choices` are distinct"),
        (restart, ", approval: { role: a, choices: [{ name: b, tell: c }] }", "one of them runs the plan"),
        (restart, ", approval: { role: a, choices: [{ name: b, tell: c }, a] }", "put one before it that runs"),
        (restart, ", approval: { role: a, choices: [a, { name: reject, tell: c }] }", "call it otherwise"),
        (restart, ", approval: { role: a, choices: [a, { name: b, tel: c }] }", "tell"),
        (restart, ", approval: { role: a, choices: [a, { name: b, tell: c, text: $(x) }] }", "neither a value"),
        (restart, ", approval: {}", "lacks `role`"),
        ("", "", "`do` is empty: a rung does something"),
    ] {
        let errors = errors_of(&ladder_with(step, rest));
        assert!(errors.contains(message), "{step} {rest}\n{errors}");
    }
    let unverified = policy_with(&format!("ladder: [{{ name: r, do: [{restart}] }}]"));
    assert!(
        errors_of(&unverified).contains("`spec.ladder[0]` lacks `verify` (How it is known that the symptom is gone)")
    );
    let endless = unverified.replace(" }]", ", verify: { that: 'true', stable: 2m, within: 1m } }]");
    assert!(errors_of(&endless).contains("`stable` is longer than `within`"), "{}", errors_of(&endless));
    let fleet = ladder_with(restart, "").replace("  hosts: all\n", "  hosts: all\n  target: fleet\n");
    assert!(errors_of(&fleet).contains("the fleet is no host of its own: say where the step runs with `on`"));
}

#[test]
fn a_fleet_judges_hosts_by_quorum() {
    let text = FAILOVER.replace(
        "dead: { that: 'probe[value.active].failures >= 3', quorum: 2 of 3 }",
        "dead: probe.dns1.failures >= 3",
    );
    let errors = errors_of(&text);
    assert!(
        errors.contains("a.yaml:24:11: `dns1` gives a value for each host and the target is the fleet"),
        "{errors}"
    );
    let text = FAILOVER.replace("pick: 1 }\n      every", "pick: 2 }\n      every");
    assert!(errors_of(&text).contains("`tool` gives a value for each host"), "{}", errors_of(&text));
}

#[test]
fn values_wait_for_those_that_they_need() {
    let circle = FAILOVER.replace("is: probe.tool.active,", "is: value.standby,");
    assert!(errors_of(&circle).contains("the value needs itself"), "{}", errors_of(&circle));
    let late = FAILOVER
        .replace("active:  {", "zactive: {")
        .replace("value.active", "value.zactive")
        .replace("$(active)", "$(zactive)");
    assert_eq!(errors_of(&late), "no error");
}

#[test]
fn conditions_are_checked_where_they_stand() {
    let errors = errors_of(&FAILOVER.replace("when: signal.dead", "when: signal.daed"));
    assert!(errors.starts_with("a.yaml:29:18: "), "{errors}");
    assert!(errors.contains("daed"), "{errors}");
}

#[test]
fn limits_bound_something_that_there_is() {
    const HEAD: &str = "apiVersion: quell/v1\nkind: Limits\nmetadata: { name: x }\n";
    let empty = errors_of(&format!("{HEAD}spec: {{ description: A. }}\n"));
    assert!(empty.starts_with("a.yaml:4:7: `spec` bounds nothing: give at least one of actions, hosts"), "{empty}");
    for (spec, message) in [
        ("actions: []", "a.yaml:4:18: `actions` is empty: to let nothing be done, write `mode: observe`"),
        ("actions: [service.restat]", "a.yaml:4:19: unknown action `service.restat`: did you mean `service.restart`?"),
        ("hosts: { matchLabels: {} }", "a.yaml:4:16: `hosts` chooses nobody"),
        ("mode: act", "`mode` is observe, propose or enforce, not \"act\""),
        ("budget: { within: 1h }", "a.yaml:4:17: `budget` needs `perHost`, `perNamespace` or both"),
        ("budget: { perHost: 0 }", "is not a whole number from 1"),
        ("budget: { perHost: 1, within: 0s }", "`within` is more than 0s"),
        ("disturb: {}", "a.yaml:4:18: `disturb` needs `hosts`, `percent` or both"),
        ("approvals: [{ actions: [exec] }]", "lacks `role`"),
        ("calendar: business-hours", "`spec.calendar` is text, not a map with timeZone, open"),
        ("wave: 0", "is not a whole number from 1"),
        ("cooldown: 5", "5 is not a duration, it has no unit"),
    ] {
        let errors = errors_of(&format!("{HEAD}spec: {{ {spec}, description: A. }}\n"));
        assert!(errors.contains(message), "{spec}: {errors}");
    }
}

#[test]
fn a_policy_that_passes_a_ceiling_is_told_where() {
    let policy = "apiVersion: quell/v1\nkind: Policy\nmetadata: { name: x }\nspec:\n  description: A test.\n  mode: enforce\n  \
                  hosts: all\n  probes: { web: { tcp: { address: 'web.example:80' } } }\n  trigger: { when: '!probe.web.ok' }\n  \
                  escalate: { to: a }\n  ladder:\n    - name: r\n      on: all\n      do:\n        \
                  - { action: exec, with: { argv: [/bin/true] } }\n      verify: { that: probe.web.ok }\n  guards: { disturb: { hosts: 3 } }\n";
    let limits = "---\napiVersion: quell/v1\nkind: Limits\nmetadata: { name: ceiling }\nspec:\n  description: Bounds.\n  \
                  mode: propose\n  actions: [log.rotate]\n  cooldown: 1h\n  disturb: { hosts: 2 }\n  wave: 2\n";
    let passed = |limits: &str| {
        let file = File { name: "a.yaml".to_owned(), text: format!("{policy}{limits}") };
        let parsed = parse(std::slice::from_ref(&file)).map_err(|errors| shown(&errors)).unwrap();
        let manifests: Vec<_> = parsed.iter().map(|one| &one.manifest).collect();
        shown(&check_limits(&[file], &manifests, &[]))
    };
    let wanted = [
        "a.yaml:6:9: Policy default/x: `mode` passes Limits default/ceiling: it is enforce, and at most propose is allowed",
        "a.yaml:12:7: Policy default/x: `ladder[0].rollout.waves` passes Limits default/ceiling: a wave may have 4 hosts, and at most \
         2 are allowed",
        "a.yaml:15:21: Policy default/x: `ladder[0].do[0].action` passes Limits default/ceiling: it is exec, and allowed are log.rotate",
        "a.yaml:17:11: Policy default/x: `guards.cooldown` passes Limits default/ceiling: it is 30m, and at least 1h is demanded",
        "a.yaml:17:31: Policy default/x: `guards.disturb.hosts` passes Limits default/ceiling: it is 3, and at most 2 are allowed",
    ];
    assert_eq!(passed(limits), wanted.join("\n"));
    let elsewhere = limits.replace("{ name: ceiling }", "{ namespace: other, name: ceiling }");
    assert_eq!(passed(&elsewhere), "", "of another namespace");
}

/// A policy that the alerts of another system trigger.
fn triggered_by(target: &str, alert: &str, more: &str) -> String {
    policy_with(&format!("target: {target}\n  {more}"))
        .replace("{ when: host.cpu.used_percent > 90 }", &format!("{{ alert: {{ {alert} }} }}"))
}

#[test]
fn alerts_of_other_systems_name_their_source_their_labels_and_their_host() {
    let good = "source: prometheus, match: { alertname: HighLag }, target: labels.instance";
    let verified = |that: &str| {
        format!(
            "ladder: [{{ name: r, if: alert.firing, do: [{{ action: service.restart, with: {{ service: a }} }}], verify: {{ \
             that: '{that}' }} }}]"
        )
    };
    assert_eq!(errors_of(&triggered_by("host", good, "mode: observe")), "no error");
    assert_eq!(errors_of(&triggered_by("host", good, &verified("host.uptime > 1"))), "no error");
    for (target, alert, more, message) in [
        ("host", "source: prometheus", "mode: observe", "lacks `match` (Labels that it must have"),
        (
            "host",
            "source: p, match: {}, target: labels.a",
            "mode: observe",
            "`match` names no label, and no label is no alert",
        ),
        ("host", "source: p, match: { a: b }", "mode: observe", "add `target: labels.instance`"),
        (
            "host",
            "source: p, match: { a: b }, target: instance",
            "mode: observe",
            "\"instance\" is not a label of the alert",
        ),
        ("fleet", good, "mode: observe", "the policy's target is the fleet, so no label"),
        ("{ each: host.disks, as: disk }", good, "mode: observe", "an alert is about a host or the fleet"),
        ("host", &format!("{good}, stale: 5"), "mode: observe", "5 is not a duration"),
        ("host", good, &verified("!alert.firing"), "rung `r`: an act is verified by samples that were taken after it"),
        ("host", good, &format!("signals: {{ s: alert.firing }}\n  {}", verified("!signal.s")), "ask a probe"),
        (
            "host",
            good,
            &format!("values: {{ v: {{ is: alert.firing, oneOf: [true, false] }} }}\n  {}", verified("!value.v")),
            "ask a probe",
        ),
        (
            "fleet",
            "source: p, match: { a: b }",
            "signals: { s: { that: 'alert.firing && true', quorum: 2 of 3 } }",
            "one voice, however many observers repeat it",
        ),
        ("host", good, &verified("alert.labels == \"x\""), "of an alert there is alert.firing"),
    ] {
        let errors = errors_of(&triggered_by(target, alert, more));
        assert!(errors.contains(message), "{target} {alert} {more}: {errors}");
    }
    let both = triggered_by("host", good, "mode: observe").replace("trigger: {", "trigger: { when: 'true',");
    assert!(errors_of(&both).contains("takes only one of when, alert"), "{}", errors_of(&both));
    let none = errors_of(&policy_with("signals: { s: alert.firing }"));
    assert!(none.contains("there is no alert of another system here"), "{none}");
}

#[test]
fn what_a_later_version_knows_is_said_to_be_later() {
    let errors = errors_of(&policy_with("mode: observe").replace("kind: Policy", "kind: PolicyTest"));
    assert_eq!(errors, "a.yaml:2:7: kind PolicyTest is not known yet to this version");
    let errors = errors_of(&policy_with("mode: observe").replace("kind: Policy", "kind: policy"));
    assert_eq!(errors, "a.yaml:2:7: unknown kind `policy`: did you mean `Policy`?");
}

#[test]
fn yaml_is_read_strictly() {
    for (text, message) in [
        ("a: !probe.web.ok && x", "a.yaml:1:4: '!' begins a tag, which manifests do not have: quote the value"),
        ("a: &b c", "'&' begins an anchor, which manifests do not have"),
        ("a: *b", "a.yaml:1:4: '*' begins an alias, which manifests do not have"),
        ("<<: { a: b }", "a.yaml:1:1: '<<' begins a merge, which manifests do not have"),
        ("a: Error #12", "a.yaml:1:4: the value ends where ' #' begins a comment: quote it, or put two spaces before"),
        ("a: [b #c\n]", "a.yaml:1:5: the value ends where ' #' begins a comment"),
        ("%YAML 1.2\n---\na: b", "a.yaml:1:1: not YAML:"),
        ("a: b\na: c", "a.yaml:2:1: `a` is there twice; first in line 1"),
        ("? [a]\n: b", "a key has to be text"),
        ("a: {b", "not YAML:"),
        ("a: `x`", "a value that begins so has to be quoted"),
        ("a: 1e999", "a.yaml:1:4: 1e999 is too large for a number"),
        ("- a", "a.yaml:1:1: the manifest is a list, not a map with apiVersion"),
        ("a: \"b", "not YAML:"),
    ] {
        let errors = errors_of(text);
        assert!(errors.contains(message), "{text}\n{errors}");
    }
    let nested = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    assert!(errors_of(&nested).contains("not YAML:"), "{}", errors_of(&nested));
    let large = "#".repeat(yaml::LARGEST + 1);
    assert!(errors_of(&large).contains("the file has 1048577 bytes; at most 1048576 are read"));
    let many = "--- a\n".repeat(yaml::MOST_DOCUMENTS + 1);
    assert!(errors_of(&many).contains("more than 500 documents"));
    assert_eq!(errors_of("# nothing\n---\n---\n"), "no error");
}

#[test]
fn words_are_not_truth_values_and_digits_are_not_numbers_unless_they_are() {
    let (documents, faults) =
        yaml::read("[yes, no, on, True, 0644, 1_0, 0x1F, .inf, 12:30, 2026-12-24, -1.5, 1e3, 'true', \"1\", ~]");
    assert!(faults.is_empty());
    let wanted = serde_json::json!([
        "yes",
        "no",
        "on",
        "True",
        "0644",
        "1_0",
        "0x1F",
        ".inf",
        "12:30",
        "2026-12-24",
        -1.5,
        1000.0,
        "true",
        "1",
        null
    ]);
    assert_eq!(documents[0].to_json(), wanted);
}

#[test]
fn every_error_of_every_file_is_told_at_once() {
    let first = policy_with("mode: act\n  severity: loud\n---\n{ broken\n---\nkind: Contact");
    let files = [("one.yaml", first.as_str()), ("two.yaml", "a: b\n")];
    let files = files.map(|(name, text)| File { name: name.to_owned(), text: text.to_owned() });
    let errors = parse(&files).unwrap_err();
    let places: Vec<_> = errors.iter().map(|error| (error.file.as_str(), error.line)).collect();
    assert!(places.is_sorted(), "{places:?}");
    for wanted in [("one.yaml", 8), ("one.yaml", 9), ("one.yaml", 13), ("two.yaml", 1)] {
        assert!(places.contains(&wanted), "{wanted:?} is not in\n{}", shown(&errors));
    }
}

#[test]
fn a_name_is_given_once() {
    let text = policy_with("mode: observe");
    let errors = errors_of(&format!("{text}---\n{text}"));
    assert_eq!(errors, "a.yaml:10:1: Policy default/x is there twice");
}

#[test]
fn the_other_kinds_are_checked() {
    for (kind, spec, message) in [
        ("Service", "{ members: {} }", "`members` chooses nobody"),
        ("Service", "{ members: all, health: x }", "a service's `health` is not known yet to this version"),
        ("Calendar", "{ timeZone: Mars, open: [] }", "\"Mars\" is not a time zone"),
        ("Calendar", "{ timeZone: UTC, open: [{ days: monday }] }", "\"monday\" is not a day"),
        (
            "Calendar",
            "{ timeZone: UTC, open: [{ days: mon, from: 9am }] }",
            "\"9am\" is not a time of day: write 09:00",
        ),
        ("Calendar", "{ timeZone: UTC, open: [{ days: mon, from: '09:00', to: '09:00' }] }", "are the same time"),
        ("Calendar", "{ timeZone: UTC, open: [], exceptions: [{ date: 24.12.2026, closed: true }] }", "is not a date"),
        (
            "Calendar",
            "{ timeZone: UTC, open: [], exceptions: [{ date: 2026-12-24 }] }",
            "an exception is { date, closed: true }",
        ),
        (
            "Calendar",
            "{ timeZone: UTC, open: [], exceptions: [{ date: 2026-12-24, closed: yes }] }",
            "`closed` is true or false, not \"yes\"",
        ),
        (
            "Window",
            "{ hosts: all, suppress: [], from: 2026-12-24T17:00:00Z, until: 2026-12-24T18:00:00Z, reason: x }",
            "`suppress` is empty",
        ),
        (
            "Window",
            "{ hosts: all, suppress: [act], from: tomorrow, until: 2026-12-24T18:00:00Z, reason: x }",
            "\"tomorrow\" is not a moment",
        ),
        (
            "Window",
            "{ hosts: all, suppress: [act], from: 2026-12-24T17:00:00Z, until: 2026-12-24T17:00:00Z, reason: x }",
            "`until` is not after `from`",
        ),
        (
            "Window",
            "{ hosts: all, suppress: [act], from: 2026-12-24T17:00:00Z, until: 2026-12-24T18:00:00Z }",
            "lacks `reason`",
        ),
        ("Contact", "{ via: [] }", "`via` is empty"),
        ("Contact", "{ via: [email] }", "`via` is log, or { webhook: … }, not \"email\""),
        ("Contact", "{ via: [{ webhook: { url: localhost } }] }", "\"localhost\" is not a URL"),
        ("Contact", "{ via: [{ webhook: {} }] }", "needs one of url, urlFile"),
        ("Contact", "{ via: [{ webhook: { url: 'http://x/', urlFile: x } }] }", "takes only one of url, urlFile"),
        ("Contact", "{ via: [{ webhook: { urlFile: ../authority/ca.key.pem } }] }", "is not a name"),
    ] {
        let errors = errors_of(&format!("apiVersion: quell/v1\nkind: {kind}\nmetadata: {{ name: x }}\nspec: {spec}\n"));
        assert!(errors.contains(message), "{kind} {spec}\n{errors}");
    }
    assert!(
        errors_of("apiVersion: quell/v2\nkind: Contact\nmetadata: { name: x }\nspec: {}")
            .contains("`apiVersion` is quell/v1, not")
    );
    assert!(
        errors_of("apiVersion: quell/v1\nkind: Contact\nmetadata: { name: X }\nspec: {}")
            .contains("\"X\" is not a name")
    );
}
