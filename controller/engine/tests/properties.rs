//! Whatever happens, in whatever order, some things never do: random weeks of a small shop.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use quell_engine::{
    id::PlanId,
    input::{HoldScope, Request},
    state::{LedgerRow, OutcomeKind, PlanState},
};
use quell_model::{name::Target, selector::Selector, trust::run::Run};
use world::{Done, World};

const HOSTS: [&str; 4] = ["web1", "web2", "web3", "ops1"];

const POLICIES: &str = r"
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
  trigger: { when: '!probe.web.ok', for: 20s, clear: probe.web.successes >= 2 }
  escalate: { to: on-call, after: 15m }
  guards: { cooldown: 10m, budget: { perTarget: 2, perPolicy: 5, within: 24h }, disturb: { hosts: 2, percent: 100, over: 10m } }
  ladder:
    - name: reload
      do: [{ action: exec, with: { argv: [/bin/reload] } }]
      verify: { that: probe.web.ok, within: 60s }
      otherwise: undo
    - name: restart
      do: [{ action: service.restart, with: { service: web } }]
      finally: [{ action: exec, with: { argv: [/bin/undrain] } }]
      verify: { that: probe.web.ok, stable: 10s, within: 60s }
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: sweep }
spec:
  description: the pool is stale
  mode: enforce
  hosts: { matchLabels: { role: web } }
  target: fleet
  probes: { pool: { tcp: { address: 'pool.example:80' }, every: 10s } }
  signals: { stale: { that: '!probe.pool.ok', quorum: 2 of 3 }, fine: { that: probe.pool.ok, quorum: 2 of 3 } }
  trigger: { when: signal.stale, clear: signal.fine }
  escalate: { to: on-call, after: 15m }
  guards: { cooldown: 5m, disturb: { hosts: 3, percent: 100, over: 1m } }
  ladder:
    - name: refresh
      on: { matchLabels: { role: web } }
      do: [{ action: exec, with: { argv: [/bin/refresh] } }]
      rollout: { waves: [1, 2], settle: 5s, maxErrors: 1 }
      approval: { if: ledger.acted('1h') >= 1, role: ops, count: 2, expires: 30m }
      verify: { that: signal.fine, within: 60s }
";

#[derive(Debug, Clone)]
enum Op {
    Wait(u16),
    Set(u8, bool, bool),
    Blind(u8, bool),
    Cut(u8),
    Isolate(u8),
    Connect(u8),
    Restart,
    Freeze(u8),
    Thaw,
    Run(u8),
    Vote(u8, bool),
    Behave(u8),
    ClockJump,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1..400_u16).prop_map(Op::Wait),
        6 => (0..3_u8, any::<bool>(), any::<bool>()).prop_map(|(host, web, ok)| Op::Set(host, web, ok)),
        2 => (0..3_u8, any::<bool>()).prop_map(|(host, web)| Op::Blind(host, web)),
        1 => (0..4_u8).prop_map(Op::Cut),
        1 => (0..4_u8).prop_map(Op::Isolate),
        3 => (0..4_u8).prop_map(Op::Connect),
        2 => Just(Op::Restart),
        1 => any::<u8>().prop_map(Op::Freeze),
        2 => Just(Op::Thaw),
        1 => (0..3_u8).prop_map(Op::Run),
        3 => (0..4_u8, any::<bool>()).prop_map(|(who, yes)| Op::Vote(who, yes)),
        3 => (0..6_u8).prop_map(Op::Behave),
        1 => Just(Op::ClockJump),
    ]
}

fn begin() -> World {
    let mut world = World::begin("2026-11-23T10:00:00+01:00");
    for host in HOSTS {
        world.join(host, &[("role", if host == "ops1" { "ops" } else { "web" })]);
    }
    world.apply(POLICIES);
    for host in HOSTS {
        world.set(host, "web", &[("ok", true.into())]);
        world.set(host, "pool", &[("ok", true.into())]);
    }
    world.run("1m");
    world
}

fn act(world: &mut World, op: &Op) {
    match op {
        Op::Wait(seconds) => world.run(&format!("{seconds}s")),
        Op::Set(host, web, ok) => {
            let probe = if *web { "web" } else { "pool" };
            world.set(HOSTS[*host as usize], probe, &[("ok", (*ok).into())]);
        }
        Op::Blind(host, web) => world.blind(HOSTS[*host as usize], if *web { "web" } else { "pool" }),
        Op::Cut(host) => world.disconnect(HOSTS[*host as usize]),
        Op::Isolate(host) => world.isolate(HOSTS[*host as usize]),
        Op::Connect(host) => world.connect(HOSTS[*host as usize]),
        Op::Restart => world.restart(),
        Op::Freeze(minutes) => {
            let span = Duration::from_secs(60 * u64::from(*minutes) + 1);
            let request = Request::Hold { scope: HoldScope::Hosts(Selector::All), span, reason: "chaos".to_owned() };
            world.ask("ada", request).unwrap();
        }
        Op::Thaw => drop(world.ask("ada", Request::Release { window: None, reason: "calm".to_owned() })),
        Op::Run(host) => {
            let run = run(world, *host);
            drop(world.run_by("ada", run));
        }
        Op::Vote(who, yes) => vote(world, *who, *yes),
        Op::Behave(kind) => behave(world, *kind),
        Op::ClockJump => drop(world.step(quell_engine::Input::ClockJumped { seconds: 100.0 })),
    }
}

fn run(world: &mut World, host: u8) -> Run {
    let hosts =
        if host == 0 { Selector::All } else { Selector::labels([("role".to_owned(), "web".to_owned())].into()) };
    let mut run = world.a_run("service.restart", hosts, serde_json::json!({ "service": "web" }));
    run.waves = vec![u32::from(host) + 1];
    run
}

fn vote(world: &mut World, who: u8, yes: bool) {
    let proposed: Vec<PlanId> = world.plans_in(PlanState::Proposed).iter().map(|plan| plan.id).collect();
    for plan in proposed {
        let name = ["ada", "bob", "eve", "nora"][who as usize];
        let roles: &[&str] = if name == "eve" { &[] } else { &["ops"] };
        drop(if yes { world.approve(name, roles, plan) } else { world.deny(name, roles, plan) });
    }
}

fn behave(world: &mut World, kind: u8) {
    for action in ["exec", "service.restart"] {
        world.on(action, move |order, facts| match kind {
            0 => Done::failed("exit 1"),
            1 => Done::refused("not allowed"),
            2 => Done::of(OutcomeKind::Unknown, "in doubt"),
            3 => Done::never(),
            4 => Done::ok().after("45s"),
            _ => {
                facts.set(&order.host, "web", &[("ok", true.into())]);
                facts.set(&order.host, "pool", &[("ok", true.into())]);
                Done::ok()
            }
        });
    }
}

/// Acts of a policy, one a plan: when, on what, for which incident.
fn acts(world: &World, policy: &str) -> BTreeMap<PlanId, LedgerRow> {
    let rows = world
        .state
        .ledger
        .values()
        .filter(|row| !row.void && row.policy.as_ref().is_some_and(|name| name.name.as_str() == policy));
    let mut acts: BTreeMap<PlanId, LedgerRow> = BTreeMap::new();
    for row in rows {
        let first = acts.entry(row.plan).or_insert_with(|| LedgerRow::clone(row));
        first.at = first.at.min(row.at);
    }
    acts
}

fn never_more_than_may_be(world: &World) {
    let acts = acts(world, "web-down");
    for (plan, act) in &acts {
        let day_before = act.at - Duration::from_secs(86_400);
        let same = |other: &&LedgerRow| other.at > day_before && other.at <= act.at;
        let on_target = acts.values().filter(same).filter(|other| other.target == act.target).count();
        assert!(on_target <= 2, "{plan}: {on_target} acts on {}\n{}", act.target, world.story());
        let all = acts.values().filter(same).count();
        assert!(all <= 5, "{plan}: {all} acts of the policy\n{}", world.story());
        let too_soon = acts.iter().find(|(other, row)| {
            *other != plan
                && row.target == act.target
                && row.incident != act.incident
                && row.at <= act.at
                && act.at.duration_since(row.at).as_secs_f64() < 600.0
        });
        assert!(too_soon.is_none(), "{plan} acted within the cool-down of {too_soon:?}\n{}", world.story());
    }
    for (key, count) in world.effects() {
        assert_eq!(count, 1, "{key} had its effect more than once\n{}", world.story());
    }
    for plan in world.plans() {
        if plan.started_at.is_some() && plan.requester.is_some() {
            assert!(plan.votes.iter().all(|vote| Some(&vote.who) != plan.requester.as_ref()));
        }
    }
}

/// Everything that was begun comes to an end once the world is quiet.
fn every_plan_ends(world: &mut World) {
    behave(world, 5);
    for host in HOSTS {
        world.connect(host);
        world.set(host, "web", &[("ok", true.into())]);
        world.set(host, "pool", &[("ok", true.into())]);
    }
    drop(world.ask("ada", Request::Release { window: None, reason: "over".to_owned() }));
    world.run("5h");
    assert!(world.state.live.commands.is_empty(), "{:?}\n{}", world.state.live.commands, world.story());
    assert!(world.state.live.plans.is_empty(), "{:?}\n{}", world.state.live.plans, world.story());
    assert!(world.open().is_empty(), "{:#?}\n{}", world.open(), world.story());
    for alert in world.state.alerts.values() {
        assert!(alert.target != Target::Fleet || alert.state == quell_engine::state::AlertState::Resolved);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold(ops in proptest::collection::vec(op(), 1..60)) {
        let mut world = begin();
        for op in &ops {
            act(&mut world, op);
        }
        never_more_than_may_be(&world);
        every_plan_ends(&mut world);
        never_more_than_may_be(&world);
    }

    #[test]
    fn a_restart_at_any_moment_loses_and_repeats_nothing(at in 0..40_u64, ok in any::<bool>()) {
        let mut world = begin();
        behave(&mut world, if ok { 5 } else { 4 });
        world.set("web1", "web", &[("ok", false.into())]);
        world.run("20s");
        world.run_until(world.now + Duration::from_millis(at * 700));
        world.restart();
        world.run("10m");
        prop_assert!(world.effects().values().all(|count| *count == 1));
        if ok {
            prop_assert_eq!(world.sent().len(), 1, "{}", world.story());
            prop_assert!(world.open().is_empty(), "{}", world.story());
        }
    }
}
