//! Ceilings over a namespace: each holds what passes it, says whose it is, and changes by its own signers alone.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use quell_engine::{
    input::{Refusal, Request},
    state::{PlanState, Verdict},
};
use quell_model::{
    name::FullName,
    selector::Selector,
    trust::{PolicySet, TrustRoot, set::SignedSet},
};
use serde_json::json;
use world::{Done, World, signing};

const POLICY: &str = "
apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec: { via: [log] }
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: web-down }
spec:
  description: web is down
  mode: enforce
  hosts: { matchLabels: { role: web } }
  probes: { web: { tcp: { address: 'web.example:80' }, every: 10s } }
  trigger: { when: '!probe.web.ok', for: 0s }
  escalate: { to: on-call, after: 15m }
  guards: { cooldown: 1m, disturb: { hosts: 10, percent: 100 } }
  ladder:
    - name: restart
      do: [{ action: service.restart, with: { service: web } }]
      verify: { that: probe.web.ok, within: 60s }
    - name: again
      do: [{ action: service.restart, with: { service: web } }]
      verify: { that: probe.web.ok, within: 60s }
";

/// Limits of a namespace.
fn limits(namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: quell/v1\nkind: Limits\nmetadata: {{ namespace: {namespace}, name: ceiling }}\nspec: {{ description: \
         What security allows., {spec} }}\n"
    )
}

/// Two web servers that a restart heals.
fn shop(bounds: &[String]) -> World {
    let mut world = World::begin("2026-11-23T09:59:00+01:00");
    for name in ["web1", "web2"] {
        world.join(name, &[("role", "web")]);
    }
    world.apply(POLICY);
    for limits in bounds {
        world.apply(limits);
    }
    world.set_all("web", &[("ok", true.into())]);
    world.on("service.restart", |order, facts| {
        facts.set(&order.host, "web", &[("ok", true.into())]);
        Done::ok()
    });
    world.run("1m");
    world
}

fn dies(world: &mut World, host: &str, span: &str) {
    world.set(host, "web", &[("ok", false.into())]);
    world.run(span);
}

/// Why the policy is held on a host, when the limits hold it.
fn held_because(world: &World, host: &str) -> String {
    let why = world.why("web-down").into_iter().find(|why| why.target.to_string() == host).unwrap();
    assert_eq!(why.verdict, Verdict::Held, "{why:#?}");
    let no = why.first_no.unwrap();
    assert_eq!(no.guard, "limits", "{no:?}");
    no.reason
}

#[test]
fn what_keeps_to_the_limits_acts() {
    let bounds = "actions: [service.restart], hosts: { matchLabels: { role: web } }, mode: enforce, cooldown: 1m, \
                  budget: { perHost: 1, perNamespace: 2 }, disturb: { hosts: 10, percent: 100 }, wave: 1, \
                  calendar: { timeZone: UTC, open: [{ days: mon }] }";
    let mut world = shop(&[limits("plants", bounds)]);
    dies(&mut world, "web1", "2m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
}

#[test]
fn each_ceiling_holds_and_is_named() {
    for (spec, reason) in [
        (
            "actions: [exec]",
            "`ladder[0].do[0].action` passes Limits plants/ceiling: it is service.restart, and allowed are exec",
        ),
        ("hosts: { matchLabels: { role: db } }", "Limits plants/ceiling do not let web1 be acted on"),
        ("mode: propose", "`mode` passes Limits plants/ceiling: it is enforce, and at most propose is allowed"),
        ("cooldown: 1h", "`guards.cooldown` passes Limits plants/ceiling: it is 1m, and at least 1h"),
        ("disturb: { hosts: 5 }", "`guards.disturb.hosts` passes Limits plants/ceiling: it is 10, and at most 5"),
        (
            "approvals: [{ actions: [service.restart], role: staff }]",
            "`ladder[0].approval` passes Limits plants/ceiling",
        ),
        (
            "calendar: { timeZone: UTC, open: [{ days: tue }] }",
            "Limits plants/ceiling are closed; they open 2026-11-24T00:00:00Z",
        ),
    ] {
        let mut world = shop(&[limits("plants", spec)]);
        dies(&mut world, "web1", "2m");
        assert_eq!(world.sent().len(), 0, "{spec}: {}", world.story());
        let because = held_because(&world, "web1");
        assert!(because.contains(reason), "{spec}: {because}");
    }
    let mut elsewhere = shop(&[limits("other", "actions: [exec]")]);
    dies(&mut elsewhere, "web1", "2m");
    assert_eq!(elsewhere.sent().len(), 1, "the limits of another namespace: {}", elsewhere.story());
}

#[test]
fn hours_end_and_begin() {
    let mut world = shop(&[limits("plants", "calendar: { timeZone: UTC, open: [{ days: tue }] }")]);
    dies(&mut world, "web1", "2m");
    assert_eq!(world.sent().len(), 0, "{}", world.story());
    world.run_to("2026-11-24T01:01:00+01:00");
    assert_eq!(world.sent().len(), 1, "it is Tuesday: {}", world.story());
}

#[test]
fn acts_are_counted_on_a_host_and_in_all() {
    let mut world = shop(&[limits("plants", "budget: { perHost: 1, perNamespace: 2, within: 12h }")]);
    dies(&mut world, "web1", "7m");
    dies(&mut world, "web1", "7m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    assert!(
        held_because(&world, "web1").contains("1 acts on web1 within 12h are spent"),
        "{}",
        held_because(&world, "web1")
    );
    dies(&mut world, "web2", "7m");
    assert_eq!(world.sent().len(), 2, "another host has its own: {}", world.story());
    world.join("web3", &[("role", "web")]);
    world.set("web3", "web", &[("ok", true.into())]);
    world.run("2m");
    dies(&mut world, "web3", "7m");
    assert_eq!(world.sent().len(), 2, "{}", world.story());
    assert!(held_because(&world, "web3").contains("2 acts in plants within 12h"), "{}", held_because(&world, "web3"));
    world.run("12h");
    assert!(world.sent().len() > 2, "there is budget again: {}", world.story());
}

#[test]
fn a_wave_is_no_wider_than_allowed() {
    let fleet = POLICY.replace("      do: [{ action: service.restart, with: { service: web } }]", "      on: { matchLabels: { role: web } }\n      do: [{ action: service.restart, with: { service: web } }]\n      rollout: { waves: [2] }");
    for (most, reason) in [(1, Some("a wave may have 2 hosts, and at most 1 are allowed")), (2, None)] {
        let mut world = shop(&[limits("plants", &format!("wave: {most}"))]);
        world.apply(&fleet);
        dies(&mut world, "web1", "2m");
        assert_eq!(world.sent().is_empty(), reason.is_some(), "{most}: {}", world.story());
        if let Some(reason) = reason {
            assert!(held_because(&world, "web1").contains(reason), "{}", held_because(&world, "web1"));
        }
    }
}

#[test]
fn lowered_limits_hold_what_was_let_through_and_raised_ones_let_go() {
    let mut world = shop(&[limits("plants", "mode: enforce")]);
    dies(&mut world, "web1", "7m");
    assert_eq!(world.sent().len(), 1);
    world.apply(&limits("plants", "mode: observe"));
    dies(&mut world, "web1", "7m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    assert!(held_because(&world, "web1").contains("at most observe"), "{}", held_because(&world, "web1"));
    world.apply(&limits("plants", "mode: enforce"));
    world.run("2m");
    assert_eq!(world.sent().len(), 2, "{}", world.story());
}

#[test]
fn orders_by_hand_are_bounded_by_run_and_by_the_policies_that_they_are_the_remedy_of() {
    let order = |world: &mut World| {
        let run = world.a_run(
            "service.restart",
            Selector::labels([("role".into(), "web".into())].into()),
            json!({"service": "web"}),
        );
        world.run_by("ada", run).unwrap();
        world.run("1m");
        world.sent().len()
    };
    for (namespace, spec, done) in [
        ("run", "actions: [exec]", 0),
        ("run", "mode: observe", 0),
        ("run", "wave: 2", 0),
        ("run", "approvals: [{ actions: [service.restart], role: staff }]", 0),
        ("run", "actions: [service.restart], mode: propose", 1),
        ("plants", "hosts: { matchLabels: { role: db } }", 0),
    ] {
        let mut world = shop(&[limits(namespace, spec)]);
        assert_eq!(order(&mut world).min(1), done, "{namespace} {spec}: {}", world.story());
        if done == 0 {
            let hold = world.plans_in(PlanState::Held)[0].hold.clone().unwrap();
            assert_eq!(hold.guard, "limits", "{spec}: {hold:?}");
            assert!(hold.reason.contains(&format!("Limits {namespace}/ceiling")), "{spec}: {hold:?}");
        }
    }
}

/// A signed apply, meddled with on the way.
fn apply(world: &mut World, yaml: &str, meddle: impl FnOnce(&mut Vec<SignedSet>)) -> Result<(), Refusal> {
    let put = world::canonical(yaml);
    let request = signing::apply("ada", &world.state, world.now, put, Vec::new());
    let Request::Apply { put, remove, mut sets } = request else { unreachable!("it is an apply") };
    meddle(&mut sets);
    world.ask("ada", Request::Apply { put, remove, sets }).map(drop)
}

#[test]
fn limits_that_were_signed_change_by_their_signers_only() {
    let mut world = shop(&[]);
    // Unsigned ones bind the controller, who may apply them may change them.
    apply(&mut world, &limits("plants", "mode: observe"), Vec::clear).unwrap();
    dies(&mut world, "web1", "2m");
    assert_eq!(world.sent().len(), 0, "{}", world.story());
    let warnings = quell_engine::signing_warnings(&world.state, world.now).join("\n");
    assert!(warnings.contains("Limits plants/ceiling are not signed"), "{warnings}");
    assert!(warnings.contains("plants/web-down does not act: `mode` passes"), "{warnings}");
    apply(&mut world, &limits("plants", "mode: propose"), Vec::clear).unwrap();
    // Signed by a key for policies they are no limits.
    let forged = apply(&mut world, &limits("plants", "mode: enforce"), |sets| {
        sets[0].signatures = vec![signing::sign("ada", "quell-policy", &sets[0].bytes)];
    });
    assert!(matches!(&forged, Err(Refusal::Forbidden(_))), "{forged:?}");
    apply(&mut world, &limits("plants", "mode: enforce"), |_| {}).unwrap();
    assert!(world.state.sets.contains_key("plants/limits"), "{:?}", world.state.sets.keys().collect::<Vec<_>>());
    let before = world.state.clone();
    let loose = apply(&mut world, &limits("plants", "wave: 9"), Vec::clear);
    assert!(matches!(&loose, Err(Refusal::Forbidden(why)) if why.contains("change by a signature only")), "{loose:?}");
    let name: FullName = "plants/ceiling".parse().unwrap();
    let gone = world
        .ask("ada", Request::Apply { put: Vec::new(), remove: vec![("Limits".to_owned(), name)], sets: Vec::new() });
    assert!(matches!(&gone, Err(Refusal::Forbidden(_))), "{gone:?}");
    assert_eq!(before.rows(), world.state.rows(), "a refused apply changes nothing");
    // The policies of the namespace go on as they were, and have versions of their own.
    let versions = world.state.meta.set_versions.clone();
    assert_eq!((versions["plants"], versions["plants/limits"]), (1, 1));
    world.apply(&POLICY.replace("web is down", "it is down"));
    assert_eq!(world.state.meta.set_versions["plants"], 2);
    assert_eq!(world.state.meta.set_versions["plants/limits"], 1);
}

/// Another version of whom hosts believe.
fn believe(world: &mut World, change: impl FnOnce(&mut TrustRoot)) {
    let mut root = world.state.trust.get_max().unwrap().1.root().unwrap();
    root.version += 1;
    change(&mut root);
    let bytes = root.canonical().into_bytes();
    let signatures = vec![signing::sign("admin", "quell-trust", &bytes)];
    world.ask("admin", Request::ChangeTrust { root: bytes, signatures }).unwrap();
}

#[test]
fn where_hosts_demand_limits_nothing_is_planned_that_they_would_refuse() {
    let mut world = shop(&[]);
    believe(&mut world, |root| {
        root.required.insert("limits".parse().unwrap(), 1);
    });
    dies(&mut world, "web1", "2m");
    assert_eq!(world.sent().len(), 0, "{}", world.story());
    assert!(held_because(&world, "web1").contains("hosts do nothing without signed limits, and plants has none"));
    apply(&mut world, &limits("plants", "mode: enforce"), Vec::clear).unwrap();
    world.run("2m");
    assert_eq!(world.sent().len(), 0, "unsigned ones do not count: {}", world.story());
    let mut ends = world.now;
    apply(&mut world, &limits("plants", "wave: 4"), |sets| {
        let mut set = PolicySet::parse(&sets[0].bytes).unwrap();
        set.expires = set.issued + jiff::SignedDuration::from_hours(20 * 24);
        ends = set.expires;
        sets[0] = signing::signed("ada", &set);
    })
    .unwrap();
    world.run("2m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    world.run_until(ends);
    assert!(world.kinds().contains("setExpiresSoon"), "{}", world.story());
    dies(&mut world, "web1", "2m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    assert!(
        held_because(&world, "web1").contains("the signed limits of plants expired"),
        "{}",
        held_because(&world, "web1")
    );
}

#[test]
fn signers_who_are_believed_no_longer_take_their_limits_with_them() {
    let mut world = shop(&[]);
    apply(&mut world, &limits("plants", "mode: enforce"), |_| {}).unwrap();
    believe(&mut world, |root| {
        let lines = root.allowed_signers.lines().filter(|line| !line.starts_with("ada "));
        root.allowed_signers = lines.map(|line| format!("{line}\n")).collect();
    });
    assert!(!world.state.sets.contains_key("plants/limits"));
    let loose = apply(&mut world, &limits("plants", "wave: 9"), Vec::clear);
    assert!(matches!(&loose, Err(Refusal::Forbidden(_))), "they were signed once: {loose:?}");
}
