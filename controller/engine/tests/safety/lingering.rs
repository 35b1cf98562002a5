//! An incident that was remedied but does not clear: people are told after the policy's patience, and why.

use quell_engine::{input::Request, state::IncidentState};

use crate::world::{Done, World};

/// A server is well again by one probe; that it is over, another one says.
const POLICY: &str = "
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: web-down }
spec:
  description: web is down
  mode: enforce
  hosts: { matchLabels: { role: web } }
  probes:
    web: { tcp: { address: 'web.example:80' }, every: 10s }
    queue: { file: { path: /run/queue, parse: '^(\\d+)$' }, every: 10s }
  trigger: { when: '!probe.web.ok', clear: probe.queue.value < 5 }
  escalate: { to: on-call, after: 15m }
  ladder:
    - name: restart
      do: [{ action: service.restart, with: { service: web } }]
      verify: { that: probe.web.ok, within: 60s }
      otherwise: page
";

/// A server that was restarted at ten, with a minute's verification behind it.
fn mitigated(queue: Option<f64>) -> World {
    let mut world = World::begin("2026-11-23T09:59:00+01:00");
    world.join("web1", &[("role", "web")]);
    world.apply_files(&["calendars", "contacts"], &[]);
    world.apply(POLICY);
    world.set("web1", "web", &[("ok", true.into())]);
    world.set("web1", "queue", &[("value", 0.0.into())]);
    world.on("service.restart", |order, facts| {
        facts.set(&order.host, "web", &[("ok", true.into())]);
        Done::ok()
    });
    world.run("1m");
    match queue {
        Some(length) => world.set("web1", "queue", &[("value", length.into())]),
        None => world.blind("web1", "queue"),
    }
    world.run("1m");
    world.set("web1", "web", &[("ok", false.into())]);
    world.run("1m");
    assert_eq!(world.incident(1).state, IncidentState::Mitigated, "{}", world.story());
    assert!(world.messages.is_empty(), "{:?}", world.told());
    world
}

#[test]
fn a_clearing_of_which_nobody_knows_is_told_after_the_patience() {
    let mut world = mitigated(None);
    world.run("13m");
    assert!(world.messages.is_empty(), "{:?}", world.told());
    world.restart();
    world.run("3m");
    assert_eq!(world.messages.len(), 1, "{}", world.story());
    let told = &world.told()[0];
    for part in ["on-call:", "remedied 15m ago", "`probe.queue.value < 5` is unknown", "probe.queue.value of web1"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(world.incident(1).state, IncidentState::Mitigated);
    assert!(world.incident(1).escalated_at.is_some());
    world.run("2h");
    assert_eq!(world.messages.iter().filter(|message| message.contact.name.as_str() == "on-call").count(), 1);
    world.set("web1", "queue", &[("value", 0.0.into())]);
    world.run("1m");
    assert!(world.open().is_empty(), "{}", world.story());
}

#[test]
fn one_that_is_known_not_to_hold_is_told_too() {
    let mut world = mitigated(Some(9.0));
    world.run("16m");
    assert!(world.told()[0].contains("not over: `probe.queue.value < 5` is false"), "{:?}", world.told());
}

#[test]
fn nobody_is_called_for_what_somebody_has() {
    let mut world = mitigated(None);
    let incident = world.incident(1).id;
    world.ask("ada", Request::Annotate { incident, acknowledge: true, note: String::new() }).unwrap();
    world.run("2h");
    assert!(world.messages.is_empty(), "{:?}", world.told());
}
