use std::collections::BTreeMap;

use super::*;
use crate::{condition::Reference, name::HostName, policy};

mod errors;
mod properties;

/// The hardest policy of the shop, with nearly everything that a policy can say.
const FAILOVER: &str = include_str!("tests/failover.yaml");

fn parse_one(text: &str) -> Result<Vec<Parsed>, Vec<Error>> {
    parse(&[File { name: "a.yaml".to_owned(), text: text.to_owned() }])
}

fn shown(errors: &[Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn failover() -> policy::Policy {
    let parsed = parse_one(FAILOVER).map_err(|errors| shown(&errors)).unwrap();
    let Manifest::Policy(policy) = &parsed[0].manifest else { panic!("{:?}", parsed[0]) };
    (**policy).clone()
}

#[test]
fn the_failover_policy_says_what_it_says() {
    let policy = failover();
    assert_eq!(policy.name.to_string(), "plants/dns-failover");
    assert_eq!((policy.problem.as_str(), policy.mode), ("dns-down", policy::Mode::Enforce));
    assert!(matches!(policy.target, policy::TargetRule::Fleet));
    assert_eq!(
        policy.probes["dns1"].canonical,
        r#"{"dns":{"name":"exoticplant.plant","reach":"tcp/22","server":"192.0.2.53"},"every":"5s","timeout":"2s"}"#
    );
    assert_eq!(policy.probes["tool"].on.as_ref().unwrap().pick, Some(1));
    assert_eq!(policy.values.iter().map(|value| value.name.as_str()).collect::<Vec<_>>(), ["active", "standby"]);
    assert_eq!(policy.signals["dead"].quorum, Some(policy::Quorum { of: 2, among: 3 }));
    let failover = &policy.ladder[1];
    assert_eq!(failover.after, Some(std::time::Duration::from_secs(300)));
    assert_eq!(failover.steps[0].with["from"], "$(active)");
    assert!(matches!(failover.steps[0].once, Some(policy::Once::Incident)));
    assert_eq!(failover.otherwise, policy::Otherwise::Page);
    assert_eq!(policy.escalate.as_ref().unwrap().after, std::time::Duration::from_secs(900));
}

#[test]
fn what_was_left_out_is_listed() {
    let policy = failover();
    for wanted in ["guards.budget.perTarget=3", "guards.yieldTo=package-lock, boot 5m", "ladder[0].otherwise=next"] {
        assert!(policy.defaults.iter().any(|line| line == wanted), "{wanted} is not in {:#?}", policy.defaults);
    }
    assert!(!policy.defaults.iter().any(|line| line.starts_with("guards.cooldown")), "it was written");
    assert_eq!(
        policy.guards.budget,
        policy::Budget { per_target: 3, per_policy: 10, within: std::time::Duration::from_secs(86_400) }
    );
}

#[test]
fn canonical_json_is_read_back_through_the_same_checks() {
    let parsed = parse_one(FAILOVER).unwrap();
    for one in &parsed {
        let again = from_canonical(&one.canonical).map_err(|errors| shown(&errors)).unwrap();
        assert_eq!(format!("{again:?}"), format!("{:?}", one.manifest));
    }
    let errors =
        from_canonical(r#"{"apiVersion":"quell/v1","kind":"Policy","metadata":{"name":"x"},"spec":{"hosts":"none"}}"#);
    assert!(shown(&errors.unwrap_err()).contains("`hosts` is all, or { matchLabels: … }, not \"none\""));
    assert!(from_canonical("{").is_err());
}

/// Every condition of a policy: its text and what it reads.
fn conditions(policy: &policy::Policy) -> Vec<(&str, &[Reference])> {
    let policy::Trigger::When { when, clear, .. } = &policy.trigger else { panic!("{:?}", policy.trigger) };
    let signals = policy.signals.values().map(|signal| &signal.that);
    let told = policy.tell.iter().filter_map(|tell| tell.when.as_ref());
    let rungs = policy.ladder.iter().flat_map(|rung| {
        let required = rung.require.iter().map(|one| &one.that);
        let asked = rung.approval.iter().filter_map(|rule| rule.only_if.as_ref());
        let verified = rung.verify.iter().map(|verify| &verify.that);
        rung.only_if.iter().chain(&rung.unless).chain(required).chain(asked).chain(verified)
    });
    let all = clear.iter().chain([when]).chain(signals).chain(told).chain(rungs);
    let mut values: Vec<_> = policy.values.iter().map(|value| (value.is.text(), value.is.reads())).collect();
    values.sort_unstable();
    all.map(|condition| (condition.text(), condition.reads())).chain(values).collect()
}

#[test]
fn what_was_signed_means_the_same_when_it_is_asked() {
    let parsed = parse_one(FAILOVER).unwrap();
    for one in &parsed {
        let signed = from_signed(&one.canonical).map_err(|errors| shown(&errors)).unwrap();
        assert_eq!(signed.digest(), one.manifest.digest());
        let (Manifest::Policy(signed), Manifest::Policy(written)) = (&signed, &one.manifest) else { continue };
        assert_eq!(conditions(signed), conditions(written));
        assert_eq!(signed.defaults, written.defaults);
        assert!(conditions(signed).iter().all(|(text, reads)| !reads.is_empty() || *text == "true"));
    }
    let broken = parsed[0].canonical.replace("signal.dead", "signal.ded");
    assert!(shown(&from_canonical(&broken).unwrap_err()).contains("no signal is called ded"));
    let Ok(Manifest::Policy(policy)) = from_signed(&broken) else { panic!("only its conditions are wrong") };
    let (text, reads) = conditions(&policy).into_iter().find(|(text, _)| text.contains("ded")).unwrap();
    assert!(reads.is_empty(), "{text} reads {reads:?}");
    assert!(from_signed(&broken.replace("\"mode\":\"enforce\"", "\"mode\":\"act\"")).is_err(), "all else is looked at");
}

#[test]
fn a_probe_is_read_back_from_what_agents_get() {
    for probe in failover().probes.values() {
        let again = probe_from_canonical(&probe.canonical).unwrap();
        assert_eq!((&again.spec, again.every, again.timeout), (&probe.spec, probe.every, probe.timeout));
        assert_eq!(again.key(), probe.key());
    }
    assert!(probe_from_canonical(r#"{"dns":{}}"#).is_err());
    assert!(probe_from_canonical(r#"{"ping":{}}"#).is_err());
}

#[test]
fn the_same_measurement_has_one_key_however_it_is_spelt() {
    let minute = probe_from_canonical(r#"{"file":{"path":"/a"},"every":"60s"}"#).unwrap();
    let same = probe_from_canonical(r#"{"every":"1m","timeout":"5s","file":{"path":"/a"}}"#).unwrap();
    assert_eq!(minute.key(), same.key());
}

#[test]
fn every_kind_is_read() {
    let parsed = parse_one(include_str!("tests/kinds.yaml")).map_err(|errors| shown(&errors)).unwrap();
    let kinds: Vec<_> = parsed.iter().map(|one| one.manifest.kind()).collect();
    assert_eq!(kinds, ["Service", "Calendar", "Window", "Contact", "Contact", "Policy", "Limits"]);
    let Manifest::Service(service) = &parsed[0].manifest else { panic!() };
    assert_eq!((service.keep_healthy, service.depends_on.len()), (0, 1));
    let Manifest::Calendar(calendar) = &parsed[1].manifest else { panic!() };
    assert!(calendar.is_open("2026-11-23T08:00:00Z".parse().unwrap()));
    assert!(!calendar.is_open("2026-12-24T08:00:00Z".parse().unwrap()));
    let Manifest::Window(window) = &parsed[2].manifest else { panic!() };
    assert!(window.suppress_act && !window.suppress_notify);
    let Manifest::Contact(contact) = &parsed[3].manifest else { panic!() };
    assert_eq!(contact.via.len(), 2);
    let Manifest::Policy(policy) = &parsed[5].manifest else { panic!() };
    assert!(
        matches!(&policy.trigger, policy::Trigger::Schedule(schedule) if schedule.missed_within.as_secs() == 14_400)
    );
    assert_eq!(policy.expect, Some(std::time::Duration::from_secs(93_600)));
    let Manifest::Limits(limits) = &parsed[6].manifest else { panic!() };
    assert_eq!(limits.budget.unwrap().within.as_secs(), 86_400);
    assert_eq!((limits.approvals[0].count, limits.wave), (2, Some(4)));
    assert!(!limits.calendar.as_ref().unwrap().is_open("2026-11-22T08:00:00Z".parse().unwrap()));
}

#[test]
fn references_lead_somewhere() {
    let parsed = parse_one(FAILOVER).unwrap();
    let manifests: Vec<_> = parsed.iter().map(|one| &one.manifest).collect();
    let found: Vec<_> = check_references(&manifests).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "Policy plants/dns-failover: `escalate.to` names Contact plants/on-call, which is not there: apply it too, or mend \
         the name",
            "Policy plants/dns-failover: `guards.calendar` names Calendar plants/business-hours, which is not there: apply it \
         too, or mend the name",
            "Policy plants/dns-failover: `service` names Service plants/dns, which is not there: apply it too, or mend the name",
            "Policy plants/dns-failover: `tell.contact` names Contact plants/networking, which is not there: apply it too, or \
         mend the name",
        ]
    );
    let circle =
        "apiVersion: quell/v1\nkind: Service\nmetadata: { name: NAME }\nspec: { members: all, dependsOn: [ON] }\n";
    let circle = format!(
        "{}---\n{}",
        circle.replace("NAME", "a").replace("ON", "b"),
        circle.replace("NAME", "b").replace("ON", "a")
    );
    let parsed = parse_one(&circle).unwrap();
    let found = check_references(&[&parsed[0].manifest, &parsed[1].manifest]);
    assert!(found.len() == 2 && found[0].message.contains("leads back to itself"), "{found:?}");
}

#[test]
fn selectors_choose_nobody_by_silence() {
    assert!("planthost1".parse::<HostName>().is_ok());
    for hosts in ["hosts: {}", "hosts: { matchLabels: {} }"] {
        let errors = parse_one(&FAILOVER.replacen("hosts: { matchLabels: { observer: dns } }", hosts, 1)).unwrap_err();
        assert!(shown(&errors).contains("`hosts` chooses nobody"), "{hosts}: {}", shown(&errors));
    }
}

#[test]
fn values_fill_scalars_and_nothing_else() {
    let fill_with = |text: &str, values: &[(&str, &str)]| {
        let values: BTreeMap<_, _> =
            values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        fill("a.yaml", text, &values).map_err(|errors| shown(&errors))
    };
    for (text, values, filled) in [
        ("a: ${x:-5s}", vec![], Ok("a: 5s")),
        ("a: ${x:-5s}", vec![("x", "9m")], Ok("a: 9m")),
        ("{ port: ${p:-53}, b: \"${p:-53}\" }", vec![], Ok("{ port: 53, b: \"53\" }")),
        ("a: ${x:-1}/${y:-2} # ${z}", vec![], Ok("a: 1/2 # ${z}")),
        ("a: ${x:-1}", vec![("x", "b\nc: d")], Ok("a: \"b\\nc: d\"")),
        ("a: ${x:-1}", vec![("x", "[1, 2]")], Ok("a: \"[1, 2]\"")),
        ("a: [${x:-1}]", vec![("x", "1], b: [2")], Ok("a: [\"1], b: [2\"]")),
        ("a: ${x:-1}", vec![("x", "b # c")], Ok("a: \"b # c\"")),
        ("a: 'it''s ${x:-1}'", vec![("x", "\" #")], Ok("a: \"it's \\\" #\"")),
        ("a: |\n  one ${x:-1}\n  two\n", vec![("x", "2")], Ok("a: |\n  one 2\n  two\n")),
        ("a: $(b) ${ c } ${}", vec![], Ok("a: $(b) ${ c } ${}")),
        ("a: ${x}", vec![], Err("a.yaml:1:4: `x` has no value and no default: give one with --set x=…")),
        ("a: 1\n${x:-k}: 1", vec![], Err("a.yaml:2:1: a key cannot be filled in, only values can")),
    ] {
        let wanted = filled.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(fill_with(text, &values), wanted, "{text}");
    }
    let block = fill_with("a: |\n  one ${x:-1}\n", &[("x", "2\nb: 3")]).unwrap_err();
    assert!(block.starts_with("a.yaml:2:7: a text of several lines takes only"), "{block}");
    assert_eq!(placeholders("a: ${x:-1} ${y} # ${z}").len(), 3);
}

#[test]
fn the_table_explains_paths() {
    let paths = |path| schema::explain(path).into_iter().map(|entry| entry.path).collect::<Vec<_>>();
    assert!(paths("policy.trigger").contains(&"spec.trigger.when".to_owned()));
    assert_eq!(paths("Policy.spec.ladder.verify.within"), ["spec.ladder[].verify.within"]);
    assert!(paths("Policy").contains(&"spec.description".to_owned()));
    assert!(!paths("Policy").contains(&"spec.trigger.when".to_owned()));
    assert!(paths("policy.nothing").is_empty() && paths("nothing").is_empty());
}

#[test]
fn the_table_is_whole_sentences_and_its_defaults_are_listed_with_it() {
    for kind in schema::KINDS {
        for entry in schema::entries(kind) {
            assert!(
                entry.field.about.ends_with(['.', ',', ';']) || entry.field.about.ends_with(" or"),
                "{}",
                entry.path
            );
        }
    }
}
