//! A fail-over never bounces back by itself, under any weather.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use quell_engine::id::IncidentId;

use super::{farm::over, judge};
use crate::world::{Done, World};

const OBSERVERS: [&str; 3] = ["opshost", "planthost1", "planthost2"];

/// How a server is, as an observer sees it from now on.
#[derive(Debug, Clone, Copy)]
enum Weather {
    Fine,
    Silent,
    Gone,
    Blind,
}

fn weather() -> impl Strategy<Value = Weather> {
    prop_oneof![4 => Just(Weather::Fine), 2 => Just(Weather::Silent), 3 => Just(Weather::Gone), 1 => Just(Weather::Blind)]
}

/// A server, who sees it so (three: everybody), how it is, and how long before something else happens.
type Change = (bool, usize, Weather, u32);

fn see(world: &mut World, observer: &str, server: &str, weather: Weather) {
    match weather {
        Weather::Blind => world.blind(observer, server),
        Weather::Fine => world.set(observer, server, &[("ok", true.into()), ("reachable", true.into())]),
        Weather::Silent => world.set(observer, server, &[("ok", false.into()), ("reachable", true.into())]),
        Weather::Gone => world.set(observer, server, &[("ok", false.into()), ("reachable", false.into())]),
    }
}

fn shop() -> World {
    let mut world = World::begin("2026-11-23T10:00:00+01:00");
    world.join("planthost1", &[("observer", "dns"), ("serves", "dns"), ("dns", "dns1")]);
    world.join("planthost2", &[("observer", "dns"), ("serves", "dns"), ("dns", "dns2")]);
    world.join("opshost", &[("observer", "dns"), ("role", "ops")]);
    world.apply_files(&["calendars", "contacts", "services", "dns"], &[]);
    for observer in OBSERVERS {
        see(&mut world, observer, "dns1", Weather::Fine);
        see(&mut world, observer, "dns2", Weather::Fine);
    }
    world.set("opshost", "tool", &[("active", "dns1".into()), ("exit", 0.0.into())]);
    world.set("planthost1", "log1", &[("matches", 0.0.into())]);
    world.set("planthost2", "log2", &[("matches", 0.0.into())]);
    world.on("dns.failover", |order, facts| {
        let to = order.parameters.get("to").and_then(|to| to.as_str()).unwrap().to_owned();
        facts.set(&order.host, "tool", &[("active", to.as_str().into())]);
        Done::ok().after("2s")
    });
    // Most of the time is spent far from any decision: what the records give is looked at by the judges.
    world.compares = false;
    world.run("1m");
    world
}

#[test]
fn a_failover_never_bounces_back_by_itself() {
    let pause = prop_oneof![3 => 5..60_u32, 2 => 60..400_u32, 1 => 400..4_000_u32];
    let change = (any::<bool>(), 0..6_usize, weather(), pause);
    over(12, &prop::collection::vec(change, 3..16), |changes: Vec<Change>| {
        let mut world = shop();
        for (second, who, weather, pause) in changes {
            let server = if second { "dns2" } else { "dns1" };
            for (index, observer) in OBSERVERS.into_iter().enumerate() {
                if who == index || who >= OBSERVERS.len() {
                    see(&mut world, observer, server, weather);
                }
            }
            let until = world.now + Duration::from_secs(u64::from(pause));
            world.run_until(until);
        }
        let mut in_incident: BTreeMap<Option<IncidentId>, u32> = BTreeMap::new();
        let mut earlier: Vec<Timestamp> = Vec::new();
        judge::effects(&world);
        judge::each_sent(&world, |sent| {
            if sent.command.action != "dns.failover" {
                return;
            }
            let count = in_incident.entry(sent.plan.incident).or_default();
            *count += 1;
            assert_eq!(*count, 1, "two fail-overs in one incident\n{}", world.story());
            let lately =
                earlier.iter().filter(|at| sent.at.duration_since(**at) < SignedDuration::from_hours(1)).count();
            let votes = sent.plan.votes.iter().filter(|vote| !vote.denied).count();
            assert!(lately == 0 || votes > 0, "back within the hour, and nobody said so\n{}", world.story());
            earlier.push(sent.at);
        })
    });
}
