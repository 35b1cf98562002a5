//! Flapping: an alert that changed in 30 % of its last 21 states trips its policy, and when it has calmed down to 20 %
//! the policy goes on by itself; what else opened the breaker waits for a person.

use std::time::Duration;

use quell_engine::input::Request;

use crate::world::{Done, World};

/// A state lasts 15 s, the interval of the host's own samples: 21 of them are 315 s.
const STATE: &str = "15s";
const POLICY: &str = "
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: web-down }
spec:
  description: web is down
  mode: enforce
  hosts: { matchLabels: { role: web } }
  probes: { web: { tcp: { address: 'web.example:80' }, every: 5s } }
  trigger: { when: '!probe.web.ok' }
  escalate: { to: on-call, after: 15m }
  guards: { cooldown: 1h }
  ladder:
    - name: restart
      do: [{ action: service.restart, with: { service: web } }]
      verify: { that: probe.web.ok, within: 60s }
      otherwise: next
";

fn farm(hosts: usize) -> World {
    let mut world = World::begin("2026-11-23T09:59:00+01:00");
    for number in 1..=hosts {
        world.join(&format!("web{number}"), &[("role", "web")]);
    }
    world.apply_files(&["calendars", "contacts"], &[]);
    world.apply(POLICY);
    world.set_all("web", &[("ok", true.into())]);
    world.on("service.restart", |_, _| Done::ok());
    world.run("1m");
    world
}

/// A server changes so often, once a state, and is well in the end when the number is even.
fn flaps(world: &mut World, host: &str, changes: usize) {
    for change in 0..changes {
        world.set(host, "web", &[("ok", (change % 2 == 1).into())]);
        world.run(STATE);
    }
}

fn tripped(world: &World) -> bool {
    !world.state.breakers.is_empty()
}

#[test]
fn six_changes_are_flapping_and_five_are_not() {
    let mut world = farm(1);
    flaps(&mut world, "web1", 5);
    assert!(!tripped(&world), "{}", world.story());
    world.set("web1", "web", &[("ok", true.into())]);
    world.run(STATE);
    assert!(tripped(&world), "{}", world.story());
}

#[test]
fn an_alert_that_has_calmed_down_closes_what_its_flapping_opened() {
    let mut world = farm(1);
    flaps(&mut world, "web1", 6);
    let begun = world.records.iter().find(|record| record.kind == "alertFiring").unwrap().time;
    // The first change leaves after 315 s: five are left, a quarter, which is neither flapping nor calm.
    world.run_until(begun + Duration::from_secs(320));
    assert!(tripped(&world), "{}", world.story());
    world.restart();
    // Then the second: four are left.
    world.run_until(begun + Duration::from_secs(315 + 30));
    assert!(!tripped(&world), "{}", world.story());
    let told = world.tell(&["breakerReset"]);
    assert!(told.contains("closes by itself: the alert on web1 has calmed down"), "{told}");
}

#[test]
fn it_flaps_again_only_from_the_upper_threshold_on() {
    let mut world = farm(1);
    flaps(&mut world, "web1", 6);
    world.run("5m");
    assert!(!tripped(&world), "{}", world.story());
    flaps(&mut world, "web1", 2);
    assert!(!tripped(&world), "{}", world.story());
    flaps(&mut world, "web1", 4);
    assert!(tripped(&world), "{}", world.story());
}

#[test]
fn the_last_of_several_closes_it() {
    let mut world = farm(4);
    flaps(&mut world, "web1", 6);
    world.run("90s");
    flaps(&mut world, "web2", 6);
    world.run("190s");
    assert!(tripped(&world), "web2 still flaps: {}", world.story());
    assert_eq!(world.tell(&["alertCalmed"]).lines().count(), 1, "{}", world.story());
    world.run("5m");
    assert!(!tripped(&world), "{}", world.story());
}

#[test]
fn a_host_that_is_gone_flaps_no_more() {
    let mut world = farm(2);
    flaps(&mut world, "web1", 6);
    let name = "web1".parse().unwrap();
    world.ask("ada", Request::RetireHost { name, reason: "sold".to_owned() }).unwrap();
    assert!(!tripped(&world), "{}", world.story());
}

#[test]
fn what_else_opened_it_waits_for_a_person() {
    let mut world = farm(10);
    flaps(&mut world, "web1", 6);
    assert!(tripped(&world));
    // Half of the fleet fires at once: that is for a person to judge, whether web1 flaps or not.
    for number in 2..=6 {
        world.set(&format!("web{number}"), "web", &[("ok", false.into())]);
    }
    world.run("1m");
    assert_eq!(world.tell(&["breakerTripped"]).lines().count(), 2, "{}", world.story());
    world.set_all("web", &[("ok", true.into())]);
    world.run("2h");
    assert!(tripped(&world), "{}", world.story());
    let policy = "plants/web-down".parse().unwrap();
    world.ask("ada", Request::ResetBreaker { policy, reason: "looked".to_owned() }).unwrap();
    assert!(!tripped(&world));
}
