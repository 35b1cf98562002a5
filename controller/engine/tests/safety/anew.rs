//! A host that joins under the name of one that left is another machine: what was meant for that one is not for it.

use std::time::Duration;

use quell_engine::{
    input::Request,
    state::{CommandState, OutcomeKind},
};

use super::waves::{POLICY, flushed, midway, outcomes};
use crate::world::World;

fn retire(world: &mut World, name: &str) {
    let request = Request::RetireHost { name: name.parse().unwrap(), reason: "its disks are dead".to_owned() };
    world.ask("ada", request).unwrap();
}

#[test]
fn a_step_that_waits_for_a_host_that_left_is_not_for_its_successor() {
    let mut world = midway(POLICY);
    retire(&mut world, "proxy2");
    world.join("proxy2", &[("role", "proxy")]);
    world.run("30m");
    assert_eq!(flushed(&world), ["proxy1", "proxy3"], "{}", world.story());
    assert_eq!(outcomes(&world)["proxy2"], OutcomeKind::Skipped, "{}", world.story());
}

#[test]
fn an_order_that_was_on_its_way_to_a_host_that_left_is_not_for_its_successor() {
    let mut world = midway(POLICY);
    world.isolate("proxy2");
    for _ in 0..120 {
        if flushed(&world).len() == 2 {
            break;
        }
        let next = world.now + Duration::from_secs(1);
        world.run_until(next);
    }
    let lost = world.state.commands.values().find(|command| command.state == CommandState::Sent).unwrap().id;
    retire(&mut world, "proxy2");
    world.join("proxy2", &[("role", "proxy")]);
    world.run("30m");
    assert!(!world.kinds().contains("commandResent"), "{}", world.story());
    assert_eq!(world.state.commands[&lost].outcome.as_ref().unwrap().kind, OutcomeKind::Unknown, "{}", world.story());
}
