//! What hosts say that they have seen and is not here: people are told, once, and nothing follows from it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use std::collections::BTreeMap;

use quell_engine::{
    Input, Newer, Versioned, check,
    input::{Hello, Request},
    newer, signing_warnings,
};
use quell_model::{
    name::HostName,
    trust::{PolicySet, SetName},
};
use world::{Done, World, signing};

const MANIFESTS: &str = "
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
  ladder:
    - name: restart
      do: [{ action: service.restart, with: { service: web } }]
      verify: { that: probe.web.ok, within: 60s }
";

fn shop() -> World {
    let mut world = World::begin("2026-11-23T09:59:00+01:00");
    world.join("web1", &[("role", "web")]);
    world.join("web2", &[("role", "web")]);
    world.set_all("web", &[("ok", true.into())]);
    world.on("service.restart", |order, facts| {
        facts.set(&order.host, "web", &[("ok", true.into())]);
        Done::ok()
    });
    world.apply(MANIFESTS);
    world.run("1m");
    world
}

/// A host connects and says what it has seen.
fn says(world: &mut World, host: &str, sets: &[(&str, u64)], trust_version: u64) {
    let set_versions: BTreeMap<SetName, u64> =
        sets.iter().map(|(name, version)| (name.parse().unwrap(), *version)).collect();
    hello(world, host, set_versions, trust_version);
}

fn hello(world: &mut World, host: &str, set_versions: BTreeMap<SetName, u64>, trust_version: u64) {
    let host: HostName = host.parse().unwrap();
    let hello = Hello { instance: "1".to_owned(), set_versions, trust_version, ..Hello::default() };
    world.step(Input::Connected { host, hello: Box::new(hello) });
    assert_eq!(check(&world.state), []);
}

fn told(world: &World) -> Vec<&str> {
    world.records.iter().filter(|record| record.kind == "newerVersionSeen").map(|record| &*record.text).collect()
}

/// The warnings that speak of what was seen.
fn warned(world: &World) -> Vec<String> {
    let mut warnings = signing_warnings(&world.state, world.now);
    warnings.retain(|warning| warning.contains("newest here") || warning.contains("more sets"));
    warnings
}

#[test]
fn what_a_host_has_seen_is_told_once_changes_no_decision_and_ends_when_the_version_is_here() {
    let mut world = shop();
    let root = world.state.trust.get_max().unwrap().0;
    let versions = world.state.meta.set_versions.clone();
    says(&mut world, "web1", &[("plants", versions["plants"]), ("elsewhere", 0)], root);
    assert_eq!((warned(&world), told(&world)), (vec![], vec![]), "it has seen what is here");

    says(&mut world, "web1", &[("plants", 7), ("plants/limits", 3)], root);
    let warnings = warned(&world);
    let [policies, limits] = &warnings[..] else { panic!("{warnings:#?}") };
    assert!(
        policies.starts_with(
            "web1 says that it has seen version 7 of the signed set of plants, and version 1 is the newest"
        ) && policies.contains("`quell apply --prune` and the profile that has seen the newest"),
        "{policies}"
    );
    assert!(limits.contains("version 3 of the signed set of plants/limits, and version 0 is"), "{limits}");
    assert!(limits.contains("a key for quell-limits"), "{limits}");
    says(&mut world, "web1", &[("plants", 7), ("plants/limits", 3)], root);
    says(&mut world, "web1", &[("plants", 7)], root);
    assert_eq!(told(&world).len(), 1, "{:?}", told(&world));
    says(&mut world, "web2", &[("plants", 8)], root);
    assert!(warned(&world)[0].starts_with("web1, web2 say that they have seen version 8"), "{:?}", warned(&world));
    assert_eq!(told(&world).len(), 2, "{:?}", told(&world));

    // Neither the version nor what is done follows from it.
    assert_eq!(world.state.meta.set_versions, versions);
    world.set("web1", "web", &[("ok", false.into())]);
    world.run("2m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());

    // Whoever has seen the newest signs the next one.
    let put = world::canonical(&MANIFESTS.replace("web is down", "web is away"));
    let Request::Apply { put, remove, mut sets } = signing::apply("ada", &world.state, world.now, put, vec![]) else {
        unreachable!("it is an apply")
    };
    let set = PolicySet { version: 9, ..PolicySet::parse(&sets[0].bytes).unwrap() };
    sets[0] = signing::signed("ada", &set);
    world.ask("ada", Request::Apply { put, remove, sets }).unwrap();
    assert_eq!(warned(&world), [] as [String; 0]);
    assert!(world.state.hosts.values().all(|row| newer(&world.state, row).is_empty()));
    says(&mut world, "web2", &[("plants", 9)], root);
    assert_eq!(told(&world).len(), 2, "{:?}", told(&world));
}

#[test]
fn a_trust_root_that_is_newer_than_ours_is_given_back() {
    let mut world = shop();
    let root = world.state.trust.get_max().unwrap().0;
    says(&mut world, "web1", &[], root + 2);
    let expected = Newer { what: Versioned::TrustRoot, seen: root + 2, here: root };
    assert_eq!(newer(&world.state, &world.state.hosts["web1"]), [expected]);
    assert!(warned(&world)[0].contains("`quell trust give-back`"), "{:?}", warned(&world));
    says(&mut world, "web1", &[], root + 2);
    assert_eq!(told(&world).len(), 1, "{:?}", told(&world));
}

#[test]
fn a_host_that_lies_fills_neither_its_row_nor_the_screen_and_is_silent_when_it_is_revoked() {
    let mut world = shop();
    let before = world.state.clone();
    for round in 0..3 {
        let names = (0..5_000).map(|number| (format!("lie{round}-{number:04}").parse().unwrap(), u64::MAX));
        hello(&mut world, "web1", names.collect(), u64::MAX);
    }
    assert_eq!(world.state.hosts["web1"].seen_newer.len(), 32);
    let warnings = warned(&world);
    assert_eq!(warnings.len(), 9, "{warnings:#?}");
    assert!(warnings[8].contains("25 more sets"), "{warnings:#?}");
    assert!(told(&world).iter().all(|text| text.len() < 8_192));
    assert_eq!(world.state.meta.set_versions, before.meta.set_versions);
    assert_eq!((world.state.sets.len(), world.state.trust.len()), (before.sets.len(), before.trust.len()));

    let name = "web1".parse().unwrap();
    world.ask("admin", Request::RevokeHost { name, reason: "it lies".to_owned() }).unwrap();
    assert_eq!(warned(&world), [] as [String; 0]);
}
