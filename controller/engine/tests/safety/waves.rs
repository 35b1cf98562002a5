//! Between waves what gave a plan its leave is asked again: the mode, the breaker, holds, the symptom of one host.

use std::{collections::BTreeMap, time::Duration};

use quell_engine::{
    input::{HoldScope, Input, Request},
    state::{OutcomeKind, PlanState},
};

use crate::world::{Done, World};

/// A web server that is down is remedied on the three proxies, one after the other, a minute between them.
pub(super) const POLICY: &str = "
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: web-down }
spec:
  description: web is down
  mode: enforce
  hosts: { matchLabels: { role: web } }
  probes: { web: { tcp: { address: 'web.example:80' }, every: 10s } }
  trigger: { when: '!probe.web.ok' }
  escalate: { to: on-call, after: 15m }
  guards: { cooldown: 1m }
  ladder:
    - name: flush
      on: { matchLabels: { role: proxy } }
      do: [{ action: exec, with: { argv: [/bin/flush] } }]
      finally: [{ action: service.restart, with: { service: proxy } }]
      rollout: { waves: [1], settle: 60s }
      verify: { that: probe.web.ok, within: 60s }
      otherwise: next
";

/// The farm, all servers well.
pub(super) fn farm(policy: &str) -> World {
    let mut world = World::begin("2026-11-23T09:59:00+01:00");
    for number in 1..=5 {
        world.join(&format!("web{number}"), &[("role", "web")]);
    }
    for number in 1..=3 {
        world.join(&format!("proxy{number}"), &[("role", "proxy")]);
    }
    world.apply_files(&["calendars", "contacts"], &[]);
    world.apply(policy);
    world.set_all("web", &[("ok", true.into())]);
    world.run("1m");
    world
}

/// The farm, with the first proxy flushed and the others to come.
pub(super) fn midway(policy: &str) -> World {
    let mut world = farm(policy);
    dies(&mut world, 1);
    world.run("30s");
    assert_eq!(flushed(&world), ["proxy1"], "{}", world.story());
    world
}

pub(super) fn dies(world: &mut World, number: usize) {
    world.set(&format!("web{number}"), "web", &[("ok", false.into())]);
}

/// The proxies whose turn has come, in order.
pub(super) fn flushed(world: &World) -> Vec<String> {
    let lines = world.sent();
    lines.iter().filter_map(|line| Some(line.split_once(" exec ")?.1.to_owned())).collect()
}

/// How often what runs in any case was sent.
pub(super) fn recovered(world: &World) -> usize {
    world.sent().iter().filter(|line| line.contains("service.restart")).count()
}

/// How the risky commands of the first plan ended, by host.
pub(super) fn outcomes(world: &World) -> BTreeMap<String, OutcomeKind> {
    let plan = world.plans()[0];
    let own = plan.commands.iter().map(|id| &world.state.commands[id]).filter(|command| !command.finally);
    own.filter(|command| command.undoes.is_none())
        .map(|command| (command.host.to_string(), command.outcome.as_ref().unwrap().kind))
        .collect()
}

/// The plan stopped after its first wave, and what runs in any case ran.
fn stopped(world: &World) {
    assert_eq!(flushed(world), ["proxy1"], "{}", world.story());
    assert_eq!(world.plans()[0].state, PlanState::Cancelled, "{}", world.story());
    assert_eq!(outcomes(world)["proxy1"], OutcomeKind::Succeeded);
    assert_eq!(outcomes(world)["proxy2"], OutcomeKind::NotStarted);
    assert_eq!(outcomes(world)["proxy3"], OutcomeKind::NotStarted);
    assert_eq!(recovered(world), 1, "{}", world.story());
}

#[test]
fn a_breaker_that_trips_stops_the_next_wave_and_asks_people() {
    let mut world = midway(POLICY);
    (2..=5).for_each(|number| dies(&mut world, number));
    world.run("5m");
    assert!(world.kinds().contains("breakerTripped"), "{}", world.story());
    stopped(&world);
    assert!(world.plans()[0].verification.contains("the breaker is open"), "{}", world.plans()[0].verification);
    let proposed = world.plans_in(PlanState::Proposed);
    assert!(proposed.iter().any(|plan| plan.incident == world.plans()[0].incident), "{}", world.story());
}

#[test]
fn a_mode_that_is_lowered_stops_the_next_wave() {
    let mut world = midway(POLICY);
    world.apply(&POLICY.replace("mode: enforce", "mode: observe"));
    world.run("1h");
    stopped(&world);
    assert_eq!(world.plans().len(), 1, "{}", world.story());
}

#[test]
fn a_policy_that_is_removed_stops_the_next_wave() {
    let mut world = midway(POLICY);
    world.remove("Policy", "web-down");
    world.run("1h");
    assert_eq!(flushed(&world), ["proxy1"], "{}", world.story());
    assert_eq!(recovered(&world), 1, "{}", world.story());
    assert!(world.plans()[0].state.has_ended());
}

#[test]
fn what_was_done_before_the_mode_was_lowered_is_undone_where_the_rung_wants_it() {
    let undo = POLICY.replace("otherwise: next", "otherwise: undo");
    let mut world = midway(&undo);
    world.apply(&undo.replace("mode: enforce", "mode: propose"));
    world.run("5m");
    let undone: Vec<_> =
        world.state.commands.values().filter(|command| command.undoes.is_some() && command.sent_at.is_some()).collect();
    assert_eq!(undone.len(), 1, "{}", world.story());
    assert_eq!(undone[0].host.as_str(), "proxy1");
    assert_eq!(world.plans()[0].state, PlanState::Cancelled);
    assert_eq!(recovered(&world), 1, "{}", world.story());
}

#[test]
fn an_open_breaker_stops_neither_undo_nor_finally() {
    let mut world = midway(&POLICY.replace("otherwise: next", "otherwise: undo"));
    (2..=5).for_each(|number| dies(&mut world, number));
    world.run("11s");
    assert!(world.kinds().contains("breakerTripped"), "{}", world.story());
    world.on("exec", |order, _| if order.undoes.is_some() { Done::ok() } else { Done::failed("exit 1") });
    world.run("5m");
    let undone = world.state.commands.values().filter(|command| command.undoes.is_some() && command.sent_at.is_some());
    assert_eq!(undone.count(), 1, "{}", world.story());
    assert_eq!(recovered(&world), 1, "{}", world.story());
}

#[test]
fn what_people_approved_goes_on_through_its_waves() {
    let mut world = midway(POLICY);
    world.apply(&POLICY.replace("mode: enforce", "mode: propose"));
    world.run("5m");
    let plan = world.plans_in(PlanState::Proposed)[0].id;
    world.approve("bob", &[], plan).unwrap();
    world.run("5m");
    assert_eq!(flushed(&world), ["proxy1", "proxy1", "proxy2", "proxy3"], "{}", world.story());
}

#[test]
fn a_hold_by_the_host_and_one_by_people_stop_the_next_wave_until_they_end() {
    let mut world = midway(POLICY);
    let until = world.now + Duration::from_secs(600);
    let hold = Some(("look at it".to_owned(), until));
    world.step(Input::HostHeld { host: "proxy2".parse().unwrap(), hold });
    let request = Request::Hold {
        scope: HoldScope::Policy("plants/web-down".parse().unwrap()),
        span: Duration::from_secs(1_200),
        reason: "wait".to_owned(),
    };
    world.run("5m");
    assert_eq!(world.plans()[0].hold.as_ref().unwrap().guard, "hostHold", "{}", world.story());
    world.ask("ada", request).unwrap();
    world.run("10m");
    assert_eq!(world.plans()[0].hold.as_ref().unwrap().guard, "hold", "{}", world.story());
    assert_eq!(flushed(&world), ["proxy1"], "{}", world.story());
    world.run("30m");
    assert_eq!(flushed(&world), ["proxy1", "proxy2", "proxy3"], "{}", world.story());
}

#[test]
fn a_symptom_that_went_away_needs_no_further_wave() {
    let mut world = midway(POLICY);
    world.set("web1", "web", &[("ok", true.into())]);
    world.run("5m");
    assert_eq!(flushed(&world), ["proxy1"], "{}", world.story());
    assert_eq!(outcomes(&world)["proxy3"], OutcomeKind::Skipped);
    assert_eq!(world.plans()[0].state, PlanState::Succeeded, "{}", world.story());
    assert_eq!(recovered(&world), 1, "{}", world.story());
    assert!(world.open().is_empty());
}

#[test]
fn a_symptom_of_which_nobody_knows_holds_the_next_wave() {
    let mut world = midway(POLICY);
    world.blind("web1", "web");
    world.run("5m");
    assert_eq!(flushed(&world), ["proxy1"], "{}", world.story());
    assert_eq!(world.plans()[0].hold.as_ref().unwrap().guard, "symptom", "{}", world.story());
    dies(&mut world, 1);
    world.run("5m");
    assert_eq!(flushed(&world), ["proxy1", "proxy2", "proxy3"], "{}", world.story());
}

#[test]
fn a_rollout_over_the_fleet_is_one_act_whatever_its_first_wave_does_to_the_symptom() {
    let fleet = POLICY
        .replace("  probes:", "  target: fleet\n  probes:")
        .replace("every: 10s", "on: { matchLabels: { role: web }, pick: 1 }, every: 10s");
    let mut world = midway(&fleet);
    world.set("web1", "web", &[("ok", true.into())]);
    world.run("5m");
    assert_eq!(flushed(&world), ["proxy1", "proxy2", "proxy3"], "{}", world.story());
}
