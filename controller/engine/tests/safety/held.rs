//! Guards one by one: each holds, says why, and lets go at the moment at which it says.

use std::time::Duration;

use quell_engine::{
    input::{HoldScope, Request},
    state::PlanState,
};
use quell_model::selector::Selector;

use crate::world::{Done, World};

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
    spare: { tcp: { address: 'spare.example:80' }, every: 10s }
  trigger: { when: '!probe.web.ok' }
  escalate: { to: on-call, after: 15m }
  guards: { cooldown: 10m, disturb: { hosts: 10, percent: 100, over: 1m } }
  ladder:
    - name: restart
      do: [{ action: service.restart, with: { service: web } }]
      verify: { that: probe.web.ok, within: 60s }
      otherwise: page
";

/// One server, well, whose restart helps.
fn farm(policies: &[&str]) -> World {
    farm_at("2026-11-23T09:59:00+01:00", policies)
}

fn farm_at(begins: &str, policies: &[&str]) -> World {
    let mut world = World::begin(begins);
    world.join("web1", &[("role", "web")]);
    world.apply_files(&["calendars", "contacts"], &[]);
    for policy in policies {
        world.apply(policy);
    }
    world.set("web1", "web", &[("ok", true.into())]);
    world.set("web1", "spare", &[("ok", true.into())]);
    world.on("service.restart", |order, facts| {
        facts.set(&order.host, "web", &[("ok", true.into())]);
        Done::ok()
    });
    world.run("1m");
    world
}

fn dies(world: &mut World, span: &str) {
    world.set("web1", "web", &[("ok", false.into())]);
    world.run(span);
}

fn held_by(world: &World) -> String {
    let held = world.plans_in(PlanState::Held);
    held.first().and_then(|plan| plan.hold.as_ref()).map_or("nothing", |hold| hold.guard.as_str()).to_owned()
}

/// The moments at which something was sent, in seconds after the first.
fn moments(world: &World) -> Vec<i64> {
    let times: Vec<_> = world.state.commands.values().filter_map(|command| command.sent_at).collect();
    times.iter().map(|at| at.duration_since(times[0]).as_secs()).collect()
}

fn freeze(world: &mut World) {
    let scope = HoldScope::Hosts(Selector::All);
    world.ask("ada", Request::Hold { scope, span: Duration::from_secs(300), reason: "wait".to_owned() }).unwrap();
}

#[test]
fn the_cool_down_ends_when_it_says_and_not_before() {
    let mut world = farm(&[&POLICY.replace("otherwise: page", "otherwise: page\n    - { name: again, do: [{ action: service.restart, with: { service: web } }], verify: { that: probe.web.ok, within: 60s } }")]);
    dies(&mut world, "5m");
    dies(&mut world, "20m");
    let moments = moments(&world);
    assert_eq!(moments.len(), 2, "{}", world.story());
    assert!((600..=601).contains(&moments[1]), "{moments:?}\n{}", world.story());
}

#[test]
fn a_host_that_is_not_there_is_waited_for() {
    let fleet = POLICY
        .replace("  hosts: { matchLabels: { role: web } }", "  hosts: { matchLabels: { role: ops } }\n  target: fleet")
        .replace("every: 10s }", "on: { matchLabels: { role: ops }, pick: 1 }, every: 10s }")
        .replace("- name: restart", "- name: restart\n      on: { matchLabels: { role: web } }");
    let mut world = farm(&[&fleet]);
    world.join("ops", &[("role", "ops")]);
    world.disconnect("web1");
    world.set("ops", "web", &[("ok", false.into())]);
    world.run("1m");
    assert_eq!(held_by(&world), "online", "{}", world.story());
    assert!(world.sent().is_empty());
    world.connect("web1");
    world.run("1m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
}

#[test]
fn a_host_settles_after_any_act_before_another_policy_acts_on_it() {
    let other = POLICY
        .replace("web-down", "web-slow")
        .replace("service: web }", "service: cache }")
        .replace("trigger: { when: '!probe.web.ok' }", "trigger: { when: '!probe.spare.ok' }");
    let mut world = farm(&[POLICY, &other.replace("that: probe.web.ok", "that: probe.spare.ok")]);
    world.set("web1", "web-slow/spare", &[("ok", true.into())]);
    dies(&mut world, "20s");
    assert_eq!(world.plans_in(PlanState::Succeeded).len(), 1, "{}", world.story());
    world.set("web1", "spare", &[("ok", false.into())]);
    world.run("15s");
    assert_eq!(held_by(&world), "settle", "{}", world.story());
    world.run("1m");
    assert!(moments(&world)[1] >= 60, "{}", world.story());
}

#[test]
fn what_a_rung_requires_is_asked_again_when_it_is_carried_out() {
    for (field, guard) in
        [("require: [{ that: probe.spare.ok, because: no spare }]", "require"), ("if: probe.spare.ok", "if")]
    {
        let mut world = farm(&[&POLICY.replace("- name: restart", &format!("- name: restart\n      {field}"))]);
        freeze(&mut world);
        dies(&mut world, "1m");
        assert_eq!(held_by(&world), "freeze", "{}", world.story());
        world.set("web1", "spare", &[("ok", false.into())]);
        world.run("5m");
        assert_eq!(held_by(&world), guard, "{}", world.story());
        assert!(world.sent().is_empty(), "{}", world.story());
        world.set("web1", "spare", &[("ok", true.into())]);
        world.run("1m");
        assert_eq!(world.sent().len(), 1, "{}", world.story());
    }
}

/// What may be done once in eight hours.
fn once() -> String {
    POLICY.replace("service: web } }]", "service: web }, once: { key: 'probe.web.ok', in: 8h } }]")
}

#[test]
fn what_was_done_once_goes_to_people_the_second_time_until_its_span_is_over() {
    let mut world = farm(&[&once()]);
    dies(&mut world, "7h");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    dies(&mut world, "1m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    assert_eq!(world.messages.len(), 1, "people have it: {:?}", world.told());
    world.set("web1", "web", &[("ok", true.into())]);
    world.run("2h");
    dies(&mut world, "1m");
    assert_eq!(world.sent().len(), 2, "{}", world.story());
}

#[test]
fn what_an_agent_refused_was_not_done() {
    let mut world = farm(&[&once()]);
    world.on("service.restart", |_, _| Done::refused("not allowed here"));
    dies(&mut world, "1m");
    world.set("web1", "web", &[("ok", true.into())]);
    world.run("20m");
    dies(&mut world, "1m");
    assert_eq!(world.sent().len(), 2, "{}", world.story());
}

#[test]
fn nothing_new_begins_outside_the_calendar_of_the_policy_or_its_service() {
    let service = "
apiVersion: quell/v1
kind: Service
metadata: { namespace: plants, name: shop }
spec: { members: { matchLabels: { role: web } }, keepHealthy: 0, calendar: business-hours }
";
    let own = POLICY.replace("guards: {", "guards: { calendar: business-hours,");
    let of_service = POLICY.replace("  mode: enforce", "  service: shop\n  mode: enforce");
    for policy in [own, of_service] {
        let mut world = farm_at("2026-11-23T08:30:00+01:00", &[service, &policy]);
        dies(&mut world, "28m");
        assert_eq!(held_by(&world), "calendar", "{}", world.story());
        assert!(world.sent().is_empty(), "{}", world.story());
        world.run("2m");
        assert_eq!(world.sent().len(), 1, "{}", world.story());
    }
}

#[test]
fn a_calendar_that_is_gone_counts_as_closed() {
    let mut world = farm(&[&POLICY.replace("guards: {", "guards: { calendar: business-hours,")]);
    world.remove("Calendar", "business-hours");
    dies(&mut world, "10m");
    assert!(world.sent().is_empty(), "{}", world.story());
    assert_eq!(held_by(&world), "calendar", "{}", world.story());
}

#[test]
fn the_rungs_of_one_incident_are_one_remedy() {
    let next = "otherwise: next\n    - { name: again, do: [{ action: exec, with: { argv: [/bin/again] } }], verify: { that: probe.web.ok, within: 60s } }";
    let mut world = farm(&[&POLICY.replace("otherwise: page", next)]);
    world.on("service.restart", |_, _| Done::ok());
    dies(&mut world, "2m");
    assert_eq!(world.sent().len(), 2, "no cool-down and no settling between them: {}", world.story());
}
