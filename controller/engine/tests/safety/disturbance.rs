//! Disturbance is counted per service, over all plans and people: many small plans do not escape what one large plan
//! may not do.

use std::collections::BTreeSet;

use quell_engine::{id::PlanId, input::Reply, state::PlanState};
use quell_model::selector::Selector;

use crate::world::{World, signing};

const SERVICE: &str = "
apiVersion: quell/v1
kind: Service
metadata: { namespace: plants, name: NAME }
spec: { members: { matchLabels: { NAME: member } }, keepHealthy: KEEP }
";

const POLICY: &str = "
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: web-down }
spec:
  description: web is down
  service: web
  mode: enforce
  hosts: { matchLabels: { web: member } }
  probes: { web: { tcp: { address: 'web.example:80' }, every: 10s } }
  trigger: { when: '!probe.web.ok' }
  escalate: { to: on-call, after: 15m }
  ladder:
    - name: restart
      do: [{ action: service.restart, with: { service: web } }]
      verify: { that: probe.web.ok, within: 60s }
";

/// Forty web servers; the last of them has the database too.
fn farm(database: u32) -> World {
    let mut world = World::begin("2026-11-23T09:59:00+01:00");
    for number in 1..=40 {
        let database = if number == 40 { "member" } else { "none" };
        let number = number.to_string();
        let labels = [("web", "member"), ("database", database), ("number", number.as_str())];
        world.join(&format!("web{number}"), &labels);
    }
    world.apply_files(&["calendars", "contacts"], &[]);
    world.apply(&SERVICE.replace("NAME", "web").replace("KEEP", "1"));
    world.apply(&SERVICE.replace("NAME", "database").replace("KEEP", &database.to_string()));
    world.run("1m");
    world
}

fn run(world: &mut World, number: usize, with: &serde_json::Value) -> PlanId {
    let action = if with.get("argv").is_some() { "exec" } else { "service.restart" };
    let hosts = Selector::labels([("number".to_owned(), number.to_string())].into());
    let run = world.a_run(action, hosts, with.clone());
    match world.run_by("ada", run) {
        Ok(Reply::Plan { plan, .. }) => plan,
        other => panic!("{other:?}"),
    }
}

fn anything() -> serde_json::Value {
    serde_json::json!({ "argv": ["/bin/true"] })
}

fn disturbed(world: &World) -> BTreeSet<String> {
    world.sent().iter().map(|line| line.rsplit_once(' ').unwrap().1.to_owned()).collect()
}

fn held_by(world: &World, plan: PlanId) -> String {
    world.state.plans[&plan].hold.as_ref().map_or("nothing", |hold| hold.guard.as_str()).to_owned()
}

#[test]
fn forty_plans_of_one_host_disturb_no_more_than_one_plan_of_forty_may() {
    let mut world = farm(0);
    for number in 1..=40 {
        run(&mut world, number, &anything());
        world.run("10s");
    }
    world.run("50m");
    assert_eq!(disturbed(&world).len(), 4, "a tenth of forty within an hour: {}", world.story());
    assert!(world.plans_in(PlanState::Held).iter().all(|plan| plan.hold.as_ref().unwrap().guard == "disturb"));
}

#[test]
fn what_people_disturb_leaves_less_for_policies_and_the_other_way_round() {
    let mut world = farm(0);
    world.apply(POLICY);
    world.set_all("web", &[("ok", true.into())]);
    for number in 1..=3 {
        run(&mut world, number, &anything());
    }
    world.run("1m");
    world.set("web5", "web", &[("ok", false.into())]);
    world.run("1m");
    assert_eq!(disturbed(&world).len(), 4, "{}", world.story());
    world.set("web6", "web", &[("ok", false.into())]);
    world.run("1m");
    let held = world.plans_in(PlanState::Held);
    assert_eq!(held[0].hold.as_ref().unwrap().guard, "disturb", "{}", world.story());
    let plan = run(&mut world, 7, &anything());
    assert_eq!(held_by(&world, plan), "disturb", "{}", world.story());
}

#[test]
fn a_run_counts_for_every_service_of_its_hosts_unless_it_names_one() {
    let mut world = farm(1);
    let plan = run(&mut world, 40, &anything());
    assert_eq!(held_by(&world, plan), "keepHealthy", "the only member of the database: {}", world.story());
    let plan = run(&mut world, 40, &serde_json::json!({ "service": "web" }));
    assert_eq!(held_by(&world, plan), "nothing", "{}", world.story());
    assert_eq!(disturbed(&world), ["web40".to_owned()].into());
    // What was named is what is counted: the database has not been disturbed.
    let mut world = farm(0);
    for number in 1..=4 {
        run(&mut world, number, &anything());
    }
    let plan = run(&mut world, 40, &anything());
    assert_eq!(held_by(&world, plan), "disturb", "the web has had its tenth: {}", world.story());
    let plan = run(&mut world, 40, &serde_json::json!({ "service": "database" }));
    assert_eq!(held_by(&world, plan), "nothing", "{}", world.story());
}

#[test]
fn what_an_agent_refused_disturbed_nobody() {
    let mut world = farm(0);
    world.on("exec", |_, _| crate::world::Done::refused("not allowed here"));
    for number in 1..=6 {
        run(&mut world, number, &anything());
        world.run("10s");
    }
    assert_eq!(disturbed(&world).len(), 6, "{}", world.story());
}

/// A run over four hosts in waves has touched one when another wants a fifth.
#[test]
fn what_is_under_way_counts_with_the_hosts_that_it_will_come_to() {
    let mut world = farm(0);
    for number in 1..=4 {
        let labels = [("web", "member"), ("number", &*number.to_string()), ("batch", "yes")];
        let request = signing::relabel("admin", &world.state, &format!("web{number}"), &labels);
        world.ask("admin", request).unwrap();
    }
    let batch = Selector::labels([("batch".to_owned(), "yes".to_owned())].into());
    let mut run_of_four = world.a_run("exec", batch, anything());
    run_of_four.waves = vec![1];
    world.run_by("ada", run_of_four).unwrap();
    world.run("5s");
    assert_eq!(disturbed(&world).len(), 1, "{}", world.story());
    let plan = run(&mut world, 9, &serde_json::json!({ "service": "web" }));
    assert_eq!(held_by(&world, plan), "disturb", "{}", world.story());
}
