//! The last healthy members of a service: a rollout takes its members wave by wave, and no wave takes too many.

use std::collections::BTreeSet;

use quell_engine::state::PlanState;

use crate::world::{Done, World};

/// The shop goes wrong as a whole, and every member is restarted.
const POLICY: &str = "
apiVersion: quell/v1
kind: Service
metadata: { namespace: plants, name: shop }
spec: { members: { matchLabels: { role: web } }, keepHealthy: KEEP }
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: NAME }
spec:
  description: the shop is wrong
  service: shop
  mode: enforce
  hosts: { matchLabels: { role: ops } }
  target: fleet
  probes: { PROBE: { tcp: { address: 'PROBE.example:80' }, on: { matchLabels: { role: ops }, pick: 1 }, every: 10s } }
  trigger: { when: '!probe.PROBE.ok' }
  escalate: { to: on-call, after: 15m }
  guards: { cooldown: 1m, disturb: { hosts: 10, percent: 100, over: 1m } }
  ladder:
    - name: restart
      on: { matchLabels: { role: web } }
      do: [{ action: exec, with: { argv: [/bin/NAME] } }]
      rollout: { waves: WAVES, settle: 10s, maxErrors: 1 }
      verify: { that: probe.PROBE.ok, within: 60s }
      otherwise: page
";

fn policy(name: &str, keep: u32, waves: &str) -> String {
    let filled = POLICY.replace("KEEP", &keep.to_string()).replace("WAVES", waves);
    filled.replace("NAME", name).replace("PROBE", &format!("{name}probe"))
}

/// Three members, all well, and a shop that goes wrong.
fn wrong(policy: &str) -> World {
    let mut world = World::begin("2026-11-23T09:59:00+01:00");
    world.join("ops", &[("role", "ops")]);
    for number in 1..=3 {
        world.join(&format!("web{number}"), &[("role", "web")]);
    }
    world.apply_files(&["calendars", "contacts"], &[]);
    world.on("exec", |_, _| Done::ok().after("5s"));
    world.apply(policy);
    world.run("1m");
    goes_wrong(&mut world, "sweep");
    world
}

fn goes_wrong(world: &mut World, name: &str) {
    world.set("ops", &format!("{name}probe"), &[("ok", false.into())]);
}

fn restarted(world: &World) -> BTreeSet<String> {
    world.sent().iter().map(|line| line.rsplit_once(' ').unwrap().1.to_owned()).collect()
}

fn held_by(world: &World) -> &str {
    world.plans()[0].hold.as_ref().map_or("nothing", |hold| hold.guard.as_str())
}

#[test]
fn all_members_are_restarted_one_after_the_other() {
    let mut world = wrong(&policy("sweep", 2, "[1]"));
    world.run("5m");
    assert_eq!(restarted(&world).len(), 3, "{}", world.story());
}

#[test]
fn a_wave_that_would_take_too_many_is_held() {
    let mut world = wrong(&policy("sweep", 2, "[1, 2]"));
    world.run("2m");
    assert_eq!(restarted(&world).len(), 1, "{}", world.story());
    assert_eq!(held_by(&world), "keepHealthy", "{}", world.story());
}

#[test]
fn a_first_wave_that_would_take_too_many_does_not_begin() {
    let mut world = wrong(&policy("sweep", 1, "[3]"));
    world.run("2m");
    assert!(world.sent().is_empty(), "{}", world.story());
    assert_eq!(held_by(&world), "keepHealthy", "{}", world.story());
}

#[test]
fn a_member_on_which_the_step_failed_is_not_given_back() {
    let mut world = wrong(&policy("sweep", 2, "[1]"));
    world.on("exec", |_, _| Done::failed("exit 1"));
    world.run("2m");
    assert_eq!(restarted(&world).len(), 1, "{}", world.story());
    assert_eq!(held_by(&world), "keepHealthy", "{}", world.story());
}

#[test]
fn a_member_that_was_lost_meanwhile_holds_the_next_wave_until_it_is_back() {
    let mut world = wrong(&policy("sweep", 2, "[1]"));
    world.run("12s");
    world.disconnect("web3");
    world.run("5m");
    assert_eq!(restarted(&world), ["web1".to_owned()].into(), "{}", world.story());
    world.connect("web3");
    world.run("5m");
    assert_eq!(restarted(&world).len(), 3, "{}", world.story());
}

fn drained(keep_healthy: u32) -> String {
    policy("sweep", keep_healthy, "[1]")
        .replace("      rollout:", "      finally: [{ action: exec, with: { argv: [/bin/undrain] } }]\n      rollout:")
}

#[test]
fn members_that_finally_brings_back_are_taken_one_after_the_other() {
    let mut world = wrong(&drained(2));
    world.run("10m");
    let mut sent: Vec<_> = world.state.commands.values().filter(|command| command.sent_at.is_some()).collect();
    sent.sort_by_key(|command| command.fence);
    let order: Vec<(&str, bool)> = sent.iter().map(|command| (command.host.as_str(), command.finally)).collect();
    let wanted = [("web1", false), ("web1", true), ("web2", false), ("web2", true), ("web3", false), ("web3", true)];
    assert_eq!(order, wanted, "{}", world.story());
}

#[test]
fn a_member_that_could_not_be_brought_back_counts_and_fails() {
    let fails = |world: &mut World| {
        world.on("exec", |order, _| if order.finally { Done::failed("still drained") } else { Done::ok() });
        world.run("1m");
        assert_eq!(restarted(world), ["web1".to_owned()].into(), "{}", world.story());
    };
    let mut world = wrong(&drained(2));
    fails(&mut world);
    assert_eq!(held_by(&world), "keepHealthy", "{}", world.story());
    let mut world = wrong(&drained(1).replace("maxErrors: 1", "maxErrors: 0"));
    fails(&mut world);
    assert!(world.plans_in(PlanState::Failed)[0].verification.contains("still drained"), "{}", world.story());
}

#[test]
fn what_was_not_begun_is_not_brought_back() {
    let mut world = wrong(&drained(2));
    world.on("exec", |order, _| if order.finally { Done::ok() } else { Done::failed("exit 1") });
    world.run("2m");
    let back = world.state.commands.values().filter(|command| command.finally && command.sent_at.is_some());
    let back: BTreeSet<String> = back.map(|command| command.host.to_string()).collect();
    assert_eq!(back, restarted(&world), "{}", world.story());
    assert_eq!(back.len(), 1, "{}", world.story());
}

#[test]
fn two_rollouts_share_what_may_be_taken() {
    let mut world = wrong(&policy("sweep", 2, "[1]"));
    world.on("exec", |_, _| Done::ok().after("60s"));
    world.run("20s");
    world.apply(&policy("polish", 2, "[1]"));
    goes_wrong(&mut world, "polish");
    for _ in 0..900 {
        world.run("1s");
        let live = world.state.live.commands.iter().map(|id| &world.state.commands[id].host);
        assert!(live.collect::<BTreeSet<_>>().len() <= 1, "{}", world.story());
    }
    assert_eq!(world.plans_in(PlanState::Failed).len(), 2, "neither helped, both came to their end: {}", world.story());
    assert_eq!(world.sent().len(), 6, "{}", world.story());
}

#[test]
fn a_member_with_an_incident_of_its_own_is_not_counted_on() {
    let mut world = World::begin("2026-11-23T09:59:00+01:00");
    world.join("ops", &[("role", "ops")]);
    for number in 1..=3 {
        world.join(&format!("web{number}"), &[("role", "web")]);
    }
    world.apply_files(&["calendars", "contacts"], &[]);
    world.apply(&policy("sweep", 2, "[1]"));
    world.apply(
        "apiVersion: quell/v1\nkind: Policy\nmetadata: { namespace: plants, name: ill }\nspec:\n  description: ill\n  \
         service: shop\n  hosts: { matchLabels: { role: web } }\n  probes: { ill: { tcp: { address: 'ill.example:80' }, \
         every: 10s } }\n  trigger: { when: '!probe.ill.ok' }\n",
    );
    world.set("web3", "ill", &[("ok", false.into())]);
    world.run("1m");
    goes_wrong(&mut world, "sweep");
    world.run("1m");
    assert!(world.sent().is_empty(), "{}", world.story());
    assert_eq!(held_by(&world), "keepHealthy", "{}", world.story());
    world.set("web3", "ill", &[("ok", true.into())]);
    world.run("5m");
    assert_eq!(restarted(&world).len(), 3, "{}", world.story());
}
