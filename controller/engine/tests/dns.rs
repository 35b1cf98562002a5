//! S4, DNS failover, told in virtual time with the shop's own policy and numbers.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use quell_engine::state::{IncidentState, PlanState};
use quell_model::name::HostName;
use world::{Done, Facts, World};

const OBSERVERS: [&str; 3] = ["opshost", "planthost1", "planthost2"];

/// Three observers, two of them the DNS servers' own hosts, and dns1 active and well.
fn shop() -> World {
    let mut world = World::begin("2026-11-23T10:00:00+01:00");
    world.join("planthost1", &[("observer", "dns"), ("serves", "dns"), ("dns", "dns1")]);
    world.join("planthost2", &[("observer", "dns"), ("serves", "dns"), ("dns", "dns2")]);
    world.join("opshost", &[("observer", "dns"), ("role", "ops")]);
    world.apply_files(&["calendars", "contacts", "services", "dns"], &[]);
    for host in OBSERVERS {
        answers(&mut world, host, "dns1", true, true);
        answers(&mut world, host, "dns2", true, true);
    }
    world.set("opshost", "tool", &[("active", "dns1".into()), ("exit", 0.0.into())]);
    world.set("planthost1", "log1", &[("matches", 0.0.into())]);
    world.set("planthost2", "log2", &[("matches", 0.0.into())]);
    world.facts.write_log("planthost1", &["Unexpected Error encountered."]);
    world.on("dns.failover", |order, facts| {
        assert_eq!(order.parameters.get("from").and_then(|from| from.as_str()), Some("dns1"), "{order:?}");
        let to = order.parameters.get("to").and_then(|to| to.as_str()).unwrap().to_owned();
        facts.set(&order.host, "tool", &[("active", to.as_str().into())]);
        Done::ok().after("2s")
    });
    world.run("5m");
    world
}

fn answers(world: &mut World, host: &str, server: &str, ok: bool, reachable: bool) {
    world.set(host, server, &[("ok", ok.into()), ("reachable", reachable.into())]);
}

fn all(facts: &mut Facts, server: &str, ok: bool) {
    for host in OBSERVERS {
        facts.set(&host.parse::<HostName>().unwrap(), server, &[("ok", ok.into()), ("reachable", true.into())]);
    }
}

fn dies(world: &mut World, server: &str, reachable: bool) {
    for host in OBSERVERS {
        answers(world, host, server, false, reachable);
    }
}

#[test]
fn unreachable_is_failed_over_within_thirty_seconds() {
    let mut world = shop();
    dies(&mut world, "dns1", false);
    world.run("30s");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    assert!(world.sent()[0].ends_with("dns.failover opshost"), "{:?}", world.sent());
    world.run("1m");
    insta::assert_snapshot!(world.story());
    assert_eq!(world.incident(1).state, IncidentState::Resolved);
    // It never bounces back, though dns1 comes back and stays.
    for host in OBSERVERS {
        answers(&mut world, host, "dns1", true, true);
    }
    world.run("24h");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
}

#[test]
fn reachable_but_failing_is_restarted_once_and_failed_over_at_exactly_300_s() {
    let mut world = shop();
    dies(&mut world, "dns1", true);
    world.run("10m");
    insta::assert_snapshot!(world.story());
    let fired = world.state.incidents.values().next().unwrap().opened_at;
    let failover = world.state.commands.values().find(|command| command.action == "dns.failover").unwrap();
    assert_eq!(failover.sent_at.unwrap().duration_since(fired).as_secs_f64(), 300.0);
    assert_eq!(world.sent().len(), 2);
    let networking: Vec<_> =
        world.messages.iter().filter(|message| message.contact.name.as_str() == "networking").collect();
    assert!(networking[0].body.contains("Unexpected Error encountered."), "{}", networking[0].body);
}

#[test]
fn a_controller_restart_at_200_s_changes_nothing() {
    let mut world = shop();
    dies(&mut world, "dns1", true);
    while world.state.incidents.is_empty() {
        world.run("1s");
    }
    let fired = world.incident(1).opened_at;
    world.run("200s");
    world.restart();
    world.run("5m");
    let failovers: Vec<_> = world.state.commands.values().filter(|command| command.action == "dns.failover").collect();
    assert_eq!(failovers.len(), 1, "{}", world.story());
    assert_eq!(failovers[0].sent_at.unwrap().duration_since(fired).as_secs_f64(), 300.0);
    assert_eq!(world.incident(1).state, IncidentState::Resolved);
    assert!(world.effects().values().all(|count| *count == 1));
}

#[test]
fn healthy_again_before_300_s_closes_it_without_a_failover() {
    let mut world = shop();
    world.on("service.restart", |_, facts| {
        all(facts, "dns1", true);
        Done::ok().after("3s")
    });
    dies(&mut world, "dns1", true);
    world.run("20m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    assert_eq!(world.incident(1).resolution.as_deref(), Some("the symptom cleared after service.restart"));
}

#[test]
fn one_blind_observer_or_one_broken_network_never_fires() {
    let mut world = shop();
    answers(&mut world, "planthost1", "dns1", false, false);
    world.run("1h");
    assert!(world.state.incidents.is_empty(), "{}", world.story());
    world.blind("planthost2", "dns1");
    world.run("1h");
    assert!(world.state.incidents.is_empty(), "one that fails and one that is blind are no quorum: {}", world.story());
    world.blind("opshost", "dns1");
    world.run("1h");
    assert!(world.state.incidents.is_empty(), "{}", world.story());
    assert!(world.sent().is_empty());
}

#[test]
fn every_observer_blind_is_unknown_and_nothing_is_done() {
    let mut world = shop();
    for host in OBSERVERS {
        world.disconnect(host);
    }
    world.run("2h");
    assert!(world.state.incidents.is_empty(), "{}", world.story());
    assert_eq!(world.tell(&["hostSilent"]).lines().count(), 3);
}

#[test]
fn a_dead_standby_means_no_failover_and_everybody_is_paged() {
    let mut world = shop();
    dies(&mut world, "dns2", false);
    world.run("1m");
    dies(&mut world, "dns1", false);
    world.run("1m");
    assert!(world.sent().is_empty(), "{}", world.story());
    assert!(
        world
            .told()
            .iter()
            .any(|line| line.starts_with("on-call: inc-1") && line.contains("the standby does not answer")),
        "{:?}",
        world.told()
    );
    world.run("10m");
    assert!(
        world.told().iter().any(|line| line.starts_with("operations: inc-1")),
        "nobody answered: {:?}",
        world.told()
    );
    let why = world.why("dns-failover");
    assert_eq!(why[0].first_no.as_ref().unwrap().guard, "require");
}

#[test]
fn two_failovers_in_an_hour_need_an_approval() {
    let mut world = shop();
    world.on("dns.failover", |order, facts| {
        let to = order.parameters.get("to").and_then(|to| to.as_str()).unwrap().to_owned();
        facts.set(&order.host, "tool", &[("active", to.as_str().into())]);
        Done::ok().after("2s")
    });
    dies(&mut world, "dns1", false);
    world.run("5m");
    for host in OBSERVERS {
        answers(&mut world, host, "dns1", true, true);
    }
    world.run("20m");
    dies(&mut world, "dns2", false);
    world.run("2m");
    let proposed = world.plans_in(PlanState::Proposed);
    assert_eq!(proposed.len(), 1, "{}", world.story());
    assert_eq!(world.sent().len(), 1);
    let plan = proposed[0].id;
    assert!(world.approve("nora", &["developers"], plan).is_err(), "the role decides");
    world.approve("nora", &["networking"], plan).unwrap();
    world.run("15m");
    assert_eq!(world.sent().len(), 2, "{}", world.story());
    insta::assert_snapshot!(world.story());
}
