//! People: who asked does not approve, one vote a person, and only a plan with all its votes starts.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use quell_engine::{input::Request, state::PlanState};
use quell_model::digest::Digest;

use super::farm::over;
use crate::world::World;

const PEOPLE: [&str; 4] = ["ann", "bob", "cyd", "dan"];

const POLICY: &str = "
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: wipe }
spec:
  description: A queue grows and somebody must say what goes.
  mode: enforce
  hosts: { matchLabels: { role: web } }
  probes: { queue: { file: { path: /run/queue, parse: '^(\\d+)$' }, every: 10s } }
  trigger: { when: probe.queue.value > 10, clear: probe.queue.value <= 5 }
  ladder:
    - name: wipe
      do: [{ action: exec, with: { argv: [/bin/wipe] }, timeout: 30s }]
      approval: { role: compliance, count: COUNT, expires: 10m, choices: [wipe, archive, reject] }
      verify: { that: probe.queue.value <= 5, within: 30s }
  escalate: { to: on-call, after: 15m }
";

/// Somebody's answer, or somebody's end.
#[derive(Debug, Clone)]
enum Act {
    Vote { who: usize, has_role: bool, choice: Option<&'static str>, approve: bool, right_hash: bool },
    Revoke(usize),
    Wait(u32),
}

fn act() -> impl Strategy<Value = Act> {
    let choice =
        prop_oneof![3 => Just(None), 2 => Just(Some("wipe")), 1 => Just(Some("archive")), 1 => Just(Some("burn"))];
    let mostly = prop::bool::weighted(0.85);
    prop_oneof![
        8 => (0..4_usize, mostly, choice, prop::bool::weighted(0.95), mostly)
            .prop_map(|(who, has_role, choice, approve, right_hash)| Act::Vote { who, has_role, choice, approve, right_hash }),
        1 => (0..4_usize).prop_map(Act::Revoke),
        1 => (1..200_u32).prop_map(Act::Wait),
    ]
}

#[test]
fn a_plan_starts_only_with_distinct_people_of_the_role() {
    over(40, &(1..4_u32, prop::collection::vec(act(), 1..16)), |(count, acts)| {
        let mut world = World::begin("2026-11-23T10:00:00+01:00");
        world.join("web0", &[("role", "web")]);
        for name in PEOPLE {
            operator(&mut world, name);
        }
        world.apply_files(&["calendars", "contacts"], &[]);
        world.apply(&POLICY.replace("COUNT", &count.to_string()));
        world.set("web0", "queue", &[("value", 20.0.into())]);
        world.run("15s");
        let plan = world.plans_in(PlanState::Proposed)[0].id;
        let (mut yes, mut decided, mut revoked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut had_started = false;
        for act in &acts {
            match act {
                Act::Wait(seconds) => {
                    let until = world.now + Duration::from_secs(u64::from(*seconds));
                    world.run_until(until);
                }
                Act::Revoke(who) => {
                    let request = Request::RevokeOperator { name: PEOPLE[*who].to_owned(), reason: "left".to_owned() };
                    if world.ask("root", request).is_ok() {
                        revoked.insert(PEOPLE[*who]);
                    }
                }
                Act::Vote { who, has_role, choice, approve, right_hash } => {
                    let name = PEOPLE[*who];
                    let hash = if *right_hash { world.state.plans[&plan].hash } else { Digest::of(b"another plan") };
                    let roles = if *has_role { vec!["compliance".to_owned()] } else { vec!["networking".to_owned()] };
                    let before = world.state.clone();
                    let signature = Some(world.sign_vote(name, plan, *choice));
                    let answer = world.ask(
                        name,
                        Request::Decide {
                            plan,
                            hash,
                            choice: choice.map(str::to_owned),
                            reason: String::new(),
                            approve: *approve,
                            roles,
                            signature,
                        },
                    );
                    if answer.is_ok() {
                        assert!(*has_role && *right_hash, "{name} may not decide that");
                        assert!(decided.insert(name), "{name} decides twice");
                        if *approve {
                            yes.insert(name);
                        }
                    } else {
                        assert_eq!(before.rows(), world.state.rows(), "a refused answer changes nothing");
                    }
                }
            }
            let started = world.state.plans[&plan].started_at.is_some();
            if started && !had_started {
                let valid = yes.iter().filter(|name| !revoked.contains(*name)).count();
                assert!(valid >= count as usize, "{valid} of {count} people\n{}", world.story());
            }
            had_started |= started;
            assert!(had_started || world.sent().is_empty(), "{}", world.story());
        }
        world.sent().len()
    });
}

fn operator(world: &mut World, name: &str) {
    let certificate_expires = world.now + Duration::from_secs(86_400);
    let key = Digest::of(name.as_bytes());
    let roles = vec!["operator".to_owned()];
    world.ask("root", Request::CreateOperator { name: name.to_owned(), roles, key, certificate_expires }).unwrap();
}
