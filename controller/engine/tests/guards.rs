//! What holds a remedy back, each guard with its reason, and what never happens at all.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use std::time::Duration;

use quell_engine::{
    input::{HoldScope, Refusal, Reply, Request},
    state::{OutcomeKind, PlanState, Verdict},
};
use quell_model::selector::Selector;
use world::{Done, World};

/// A policy on every host that restarts `web` when it is down; `more` is put into its spec.
fn policy(more: &str) -> String {
    format!(
        r"
apiVersion: quell/v1
kind: Contact
metadata: {{ namespace: plants, name: on-call }}
spec: {{ via: [log] }}
---
apiVersion: quell/v1
kind: Policy
metadata: {{ namespace: plants, name: web-down }}
spec:
  description: web is down
  mode: enforce
  hosts: {{ matchLabels: {{ role: web }} }}
  probes: {{ web: {{ tcp: {{ address: 'web.example:80' }}, every: 10s }} }}
  trigger: {{ when: '!probe.web.ok', for: 0s }}
  escalate: {{ to: on-call, after: 15m }}
  ladder:
    - name: restart
      do: [{{ action: service.restart, with: {{ service: web }} }}]
      verify: {{ that: probe.web.ok, within: 60s }}
    - name: again
      do: [{{ action: service.restart, with: {{ service: web }} }}]
      verify: {{ that: probe.web.ok, within: 60s }}
{more}
"
    )
}

fn world(more: &str, hosts: usize) -> World {
    let mut world = World::begin("2026-11-23T09:59:00+01:00");
    for number in 1..=hosts {
        world.join(&format!("web{number}"), &[("role", "web")]);
    }
    world.apply(&policy(more));
    world.set_all("web", &[("ok", true.into())]);
    heals(&mut world);
    world.run("1m");
    world
}

fn heals(world: &mut World) {
    world.on("service.restart", |order, facts| {
        facts.set(&order.host, "web", &[("ok", true.into())]);
        Done::ok()
    });
}

fn dies(world: &mut World, host: &str) {
    world.set(host, "web", &[("ok", false.into())]);
}

fn hosts(selector: Selector) -> HoldScope {
    HoldScope::Hosts(selector)
}

#[test]
fn acted_at_10_00_the_same_alert_at_10_08_is_held_with_the_reason() {
    let mut world = world("", 1);
    dies(&mut world, "web1");
    world.run("8m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    dies(&mut world, "web1");
    world.run("1m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    let why = &world.why("web-down")[0];
    assert_eq!(why.verdict, Verdict::Held);
    let no = why.first_no.clone().unwrap();
    assert_eq!(no.guard, "cooldown");
    assert!(no.reason.contains("30m"), "{}", no.reason);
    world.run("25m");
    assert_eq!(world.sent().len(), 2, "{}", world.story());
}

#[test]
fn a_recurrence_starts_at_the_rung_after_the_one_that_healed() {
    let mut world = world("  guards: { cooldown: 1m }\n", 1);
    dies(&mut world, "web1");
    world.run("10m");
    dies(&mut world, "web1");
    world.run("10m");
    let rungs: Vec<_> = world.plans().iter().map(|plan| plan.rung.clone()).collect();
    assert_eq!(rungs, ["restart", "again"]);
    dies(&mut world, "web1");
    world.run("10m");
    assert_eq!(world.sent().len(), 2, "the ladder has ended: people are called: {}", world.story());
    assert_eq!(world.messages.len(), 1);
}

#[test]
fn three_acts_on_a_target_in_a_day_are_the_most() {
    let mut world = world("  guards: { cooldown: 1m }\n", 1);
    for _ in 0..3 {
        dies(&mut world, "web1");
        world.run("365m");
    }
    dies(&mut world, "web1");
    world.run("1h");
    assert_eq!(world.sent().len(), 3, "{}", world.story());
    assert_eq!(world.plans_in(PlanState::Held)[0].hold.as_ref().unwrap().guard, "budget");
    // 24 hours after the first act there is budget again.
    world.run_to("2026-11-24T10:01:00+01:00");
    assert_eq!(world.sent().len(), 4, "{}", world.story());
}

#[test]
fn one_host_in_ten_is_disturbed_within_an_hour_and_the_next_is_told_why() {
    let mut world = world("", 20);
    dies(&mut world, "web3");
    dies(&mut world, "web7");
    dies(&mut world, "web9");
    world.run("5m");
    assert_eq!(world.sent().len(), 2, "{}", world.story());
    let held = world.plans_in(PlanState::Held);
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].hold.as_ref().unwrap().guard, "disturb");
    world.run("1h");
    assert_eq!(world.sent().len(), 3, "{}", world.story());
}

#[test]
fn many_at_once_are_more_often_a_broken_probe() {
    let mut world = world("", 10);
    for number in 1..=10 {
        dies(&mut world, &format!("web{number}"));
    }
    world.run("5m");
    assert!(world.kinds().contains("breakerTripped"), "{}", world.story());
    assert!(world.sent().len() <= 1, "{:?}", world.sent());
    let policy = "plants/web-down".parse().unwrap();
    world.ask("ada", Request::ResetBreaker { policy, reason: "looked".to_owned() }).unwrap();
    assert!(world.state.breakers.is_empty());
}

#[test]
fn a_freeze_holds_survives_a_restart_and_ends_by_itself() {
    let mut world = world("", 1);
    let request = Request::Hold {
        scope: hosts(Selector::All),
        span: Duration::from_secs(3_600),
        reason: "moving racks".to_owned(),
    };
    assert!(matches!(world.ask("ada", request), Ok(Reply::Window(_))));
    dies(&mut world, "web1");
    world.run("10m");
    world.restart();
    world.run("10m");
    assert!(world.sent().is_empty(), "{}", world.story());
    let no = world.why("web-down")[0].first_no.clone().unwrap();
    assert_eq!(no.guard, "freeze");
    assert!(no.reason.contains("moving racks"), "{}", no.reason);
    world.run("41m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
}

#[test]
fn nobody_is_nobody() {
    let mut world = world("", 2);
    let mut run = |selector| {
        let run = world.a_run("service.restart", selector, serde_json::Value::Null);
        world.run_by("ada", run)
    };
    assert!(matches!(run(Selector::Nobody), Err(Refusal::Invalid(_))));
    assert!(matches!(run(Selector::default()), Err(Refusal::Invalid(_))));
    let none = Selector::labels([("role".to_owned(), "database".to_owned())].into());
    assert!(matches!(run(none), Err(Refusal::Invalid(_))));
    assert!(matches!(
        world.ask(
            "ada",
            Request::Hold { scope: hosts(Selector::Nobody), span: Duration::from_secs(1), reason: "x".to_owned() }
        ),
        Err(Refusal::Invalid(_))
    ));
    assert!(world.state.plans.is_empty());
}

#[test]
fn a_policy_that_proposes_waits_for_another_person_and_the_exact_plan() {
    let mut world = world("", 1);
    world.apply(&policy("").replace("mode: enforce", "mode: propose"));
    dies(&mut world, "web1");
    world.run("1m");
    let plan = world.plans_in(PlanState::Proposed)[0].id;
    assert_eq!(world.why("web-down")[0].verdict, Verdict::AwaitingApproval);
    let wrong = Request::Decide {
        plan,
        hash: quell_model::digest::Digest::of(b"other"),
        choice: None,
        reason: String::new(),
        approve: true,
        roles: Vec::new(),
        signature: None,
    };
    assert!(matches!(world.ask("bob", wrong), Err(Refusal::Conflict(_))));
    assert!(world.sent().is_empty());
    world.approve("bob", &[], plan).unwrap();
    assert_eq!(world.sent().len(), 1, "{}", world.story());
}

#[test]
fn declined_costs_no_budget_and_ends_the_ladder() {
    let mut world = world("", 1);
    world.apply(&policy("").replace("mode: enforce", "mode: propose"));
    dies(&mut world, "web1");
    world.run("1m");
    let plan = world.plans_in(PlanState::Proposed)[0].id;
    world.deny("bob", &[], plan).unwrap();
    world.run("1h");
    assert_eq!(world.plans().len(), 1, "{}", world.story());
    assert!(world.state.ledger.is_empty());
}

#[test]
fn a_refusal_by_the_agent_costs_no_budget_and_is_told() {
    let mut world = world("", 1);
    world.on("service.restart", |_, _| Done::refused("service web is not in the allow-list"));
    dies(&mut world, "web1");
    world.run("20m");
    assert!(world.state.ledger.values().all(|row| row.void), "{}", world.story());
    assert_eq!(world.plans_in(PlanState::Failed).len(), 2);
}

#[test]
fn observe_does_nothing_and_says_what_it_would_do() {
    let mut world = world("", 1);
    world.apply(&policy("").replace("mode: enforce", "mode: observe"));
    dies(&mut world, "web1");
    world.run("10m");
    assert!(world.state.plans.is_empty(), "{}", world.story());
    let why = &world.why("web-down")[0];
    assert_eq!(why.verdict, Verdict::ObserveOnly);
    assert!(!why.guards.is_empty());
}

#[test]
fn a_restore_only_observes_and_a_clock_jump_holds_until_a_person_has_looked() {
    let mut world = world("", 1);
    world.step(quell_engine::Input::ClockJumped { seconds: 4_000.0 });
    dies(&mut world, "web1");
    world.run("5m");
    assert!(world.sent().is_empty(), "{}", world.story());
    assert_eq!(world.why("web-down")[0].first_no.clone().unwrap().guard, "clock");
    world.ask("ada", Request::Release { window: None, reason: "the clock is right now".to_owned() }).unwrap();
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    world.step(quell_engine::Input::Started { restored: true });
    world.run("1h");
    dies(&mut world, "web1");
    world.run("1h");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
}

#[test]
fn an_incident_below_explains_the_one_above() {
    let mut world = world("  service: shop\n", 1);
    world.apply(
        r"
apiVersion: quell/v1
kind: Service
metadata: { namespace: plants, name: dns }
spec: { members: { matchLabels: { role: web } }, keepHealthy: 0 }
---
apiVersion: quell/v1
kind: Service
metadata: { namespace: plants, name: shop }
spec: { members: { matchLabels: { role: web } }, keepHealthy: 0, dependsOn: [dns] }
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: dns-down }
spec:
  description: dns is down
  service: dns
  hosts: { matchLabels: { role: web } }
  probes: { dns: { tcp: { address: 'dns.example:53' }, every: 10s } }
  trigger: { when: '!probe.dns.ok' }
",
    );
    world.set("web1", "dns", &[("ok", false.into())]);
    world.run("1m");
    dies(&mut world, "web1");
    world.run("1h");
    assert!(world.sent().is_empty(), "{}", world.story());
    assert!(world.messages.is_empty(), "nobody is told of what is explained: {:?}", world.told());
    assert_eq!(world.why("web-down")[0].first_no.clone().unwrap().guard, "dependency");
    world.set("web1", "dns", &[("ok", true.into())]);
    world.run("1m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
}

#[test]
fn the_last_healthy_member_is_never_taken() {
    let mut world =
        world("  service: shop\n  guards: { cooldown: 1m, disturb: { hosts: 10, percent: 100, over: 1h } }\n", 2);
    world.apply(
        "apiVersion: quell/v1\nkind: Service\nmetadata: { namespace: plants, name: shop }\nspec: { members: { matchLabels: { role: web } } }\n",
    );
    dies(&mut world, "web1");
    world.disconnect("web2");
    world.run("2m");
    assert!(world.sent().is_empty(), "{}", world.story());
    assert_eq!(world.plans_in(PlanState::Held)[0].hold.as_ref().unwrap().guard, "keepHealthy");
    world.connect("web2");
    world.run("2m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
}

#[test]
fn two_policies_on_one_unit_act_one_after_the_other() {
    let mut world = world("", 1);
    let other =
        policy("").replace("name: web-down", "name: web-slow").replace("!probe.web.ok", "!probe.web.ok && true");
    world.apply(&other);
    world.set("web1", "web", &[("ok", true.into())]);
    world.run("1m");
    world.on("service.restart", |_, _| Done::ok().after("20s"));
    dies(&mut world, "web1");
    world.run("30s");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    let held = world.plans_in(PlanState::Held);
    assert_eq!(held[0].hold.as_ref().unwrap().guard, "resource");
    assert!(held[0].hold.as_ref().unwrap().reason.contains("plan-1"));
}

#[test]
fn an_outcome_that_nobody_knows_goes_to_people() {
    let mut world = world("", 1);
    world.on("service.restart", |_, _| Done::of(OutcomeKind::Unknown, "a crash left it in doubt"));
    dies(&mut world, "web1");
    world.run("10m");
    assert_eq!(world.sent().len(), 1, "nothing is tried on top of a doubt: {}", world.story());
    assert_eq!(world.messages.len(), 1, "{:?}", world.told());
}

#[test]
fn a_freeze_takes_back_what_has_not_begun_and_the_rung_is_tried_after_it() {
    let mut world = world("", 1);
    dies(&mut world, "web1");
    while world.sent().is_empty() {
        let next = world.now + Duration::from_millis(1);
        world.run_until(next);
    }
    assert!(world.effects().is_empty(), "the order is on its way");
    let request =
        Request::Hold { scope: hosts(Selector::All), span: Duration::from_secs(600), reason: "stop".to_owned() };
    world.ask("ada", request).unwrap();
    world.run("5m");
    assert!(world.effects().is_empty(), "{}", world.story());
    world.run("10m");
    assert_eq!(world.effects().len(), 1, "{}", world.story());
    let rungs: Vec<_> = world.plans().iter().map(|plan| plan.rung.clone()).collect();
    assert_eq!(rungs, ["restart", "restart"]);
}
