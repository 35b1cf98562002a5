//! S2, low storage: the log is rotated unattended, every night and when the mount fills; a missed night is told.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use quell_engine::state::{IncidentState, PlanState};
use world::{Done, World};

fn shop(at: &str) -> World {
    let mut world = World::begin(at);
    world.join("planthost2", &[("role", "app")]);
    world.apply_files(&["calendars", "contacts", "services", "monitoring", "storage"], &[]);
    fill(&mut world, 65.0);
    world.set("planthost2", "nightly-rotation/log", &[("size", 90e6.into()), ("age", 1.0.into())]);
    world.run("10m");
    world
}

fn fill(world: &mut World, percent: f64) {
    world.set(
        "planthost2",
        "host",
        &[
            ("cpu.used_percent", 10.0.into()),
            ("memory.used_percent", 10.0.into()),
            ("disks[/home].used_percent", percent.into()),
            ("disks[/].used_percent", 20.0.into()),
        ],
    );
}

fn rotation_frees(world: &mut World, percent: f64) {
    world.on("log.rotate", move |order, facts| {
        facts.set(&order.host, "host", &[("disks[/home].used_percent", percent.into())]);
        facts.set(&order.host, "nightly-rotation/log", &[("size", 100.0.into())]);
        Done::ok().after("3s")
    });
}

#[test]
fn a_full_mount_is_rotated_and_verified() {
    let mut world = shop("2026-11-23T10:00:00+01:00");
    rotation_frees(&mut world, 41.0);
    fill(&mut world, 80.1);
    world.run("5m");
    insta::assert_snapshot!(world.story());
    assert_eq!(world.incident(1).state, IncidentState::Resolved);
    assert_eq!(world.incident(1).target.to_string(), "planthost2:/home");
    assert_eq!(world.plans_in(PlanState::Succeeded).len(), 1);
}

#[test]
fn a_rotation_that_frees_too_little_goes_to_people() {
    let mut world = shop("2026-11-23T10:00:00+01:00");
    rotation_frees(&mut world, 79.0);
    fill(&mut world, 85.0);
    world.run("10m");
    assert_eq!(world.plans_in(PlanState::Failed).len(), 1, "{}", world.story());
    assert_eq!(world.sent().len(), 1, "it is not tried again and again");
    assert!(
        world.told().iter().any(|line| line.starts_with("on-call: inc-1") && line.contains("every rung")),
        "{:?}",
        world.told()
    );
}

#[test]
fn at_95_percent_on_call_and_compliance_are_paged() {
    let mut world = shop("2026-11-23T10:00:00+01:00");
    rotation_frees(&mut world, 96.0);
    fill(&mut world, 96.0);
    world.run("1m");
    let told = world.told();
    assert!(told.iter().any(|line| line.starts_with("compliance: ") && line.contains("96% full")), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("on-call: ") && line.contains("96% full")), "{told:?}");
}

#[test]
fn every_night_it_is_rotated_across_the_change_to_winter_time() {
    // 25 October 2026 has 02:15 twice in Berlin; it runs once.
    let mut world = shop("2026-10-23T12:00:00+02:00");
    rotation_frees(&mut world, 60.0);
    world.run("4d");
    assert_eq!(world.sent().len(), 4, "{:?}", world.sent());
    assert!(world.state.incidents.is_empty(), "{}", world.story());
}

#[test]
fn a_night_without_a_run_is_told_on_day_one_with_its_reason() {
    let mut world = shop("2026-11-23T10:00:00+01:00");
    rotation_frees(&mut world, 60.0);
    world.run("1d");
    assert_eq!(world.sent().len(), 1);
    // The host is held by its administrator through the next night: held counts as missed.
    let host = "planthost2".parse().unwrap();
    let until = "2026-11-26T12:00:00+01:00".parse().unwrap();
    world.step(quell_engine::Input::HostHeld { host, hold: Some(("Steve is out sick".to_owned(), until)) });
    world.run("1d");
    let open = world.open();
    assert_eq!(open.len(), 1, "{}", world.story());
    assert!(open[0].summary.contains("Steve is out sick"), "{}", open[0].summary);
    assert!(world.told().iter().any(|line| line.starts_with("on-call: inc-1")), "{:?}", world.told());
    world.run("2d");
    assert!(world.open().is_empty(), "the next run that succeeds closes it: {}", world.story());
}

#[test]
fn a_run_that_was_missed_is_made_good_within_four_hours_and_not_later() {
    let mut world = shop("2026-11-23T22:00:00+01:00");
    rotation_frees(&mut world, 60.0);
    world.controller_is_up = false;
    world.run_to("2026-11-24T05:00:00+01:00");
    world.controller_is_up = true;
    world.restart();
    world.run("10m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    let mut late = shop("2026-11-23T22:00:00+01:00");
    late.controller_is_up = false;
    late.run_to("2026-11-24T08:00:00+01:00");
    late.controller_is_up = true;
    late.restart();
    late.run("10m");
    assert!(late.sent().is_empty(), "{}", late.story());
    assert!(late.tell(&["runSkipped"]).contains("too late"), "{}", late.story());
}

/// The host lists what Compliance may clear, and deletes it; a shop whose log has been rotated in vain.
mod reclaim {
    use std::{cell::RefCell, rc::Rc};

    use quell_engine::{
        id::PlanId,
        input::{Refusal, Reply, Request},
        state::{IncidentState, PlanState},
    };

    use crate::{
        fill, rotation_frees, shop,
        world::{Done, Seen, World},
    };

    const MIB: u64 = 1 << 20;

    type List = Rc<RefCell<Seen>>;

    fn old() -> Seen {
        Seen::list(&[
            ("delete", "/home/sre/course4/app.log.2026-10-01.gz", 300 * MIB),
            ("delete", "/home/sre/course4/app.log.2026-10-02.gz", 700 * MIB),
        ])
    }

    /// At 14:20 the question has been asked about plan-2; deleting leaves so much used, and frees so much.
    fn asked(used: f64, freed: u64) -> (World, List) {
        let mut world = shop("2026-11-23T14:00:00+01:00");
        rotation_frees(&mut world, 85.0);
        let list = List::new(RefCell::new(old()));
        let shown = Rc::clone(&list);
        world.previews("disk.reclaim", move |_, _| shown.borrow().clone());
        world.on("disk.reclaim", move |order, facts| {
            facts.set(&order.host, "host", &[("disks[/home].used_percent", used.into())]);
            let mut done = Done::ok().after("3s");
            done.values.insert("bytes_freed".to_owned(), (freed as f64).into());
            done
        });
        fill(&mut world, 85.0);
        world.run("20m");
        assert_eq!(reclaim(&world).state, PlanState::Proposed, "{}", world.story());
        (world, list)
    }

    fn reclaim(world: &World) -> &quell_engine::state::PlanRow {
        world.plans().into_iter().rfind(|plan| plan.rung == "reclaim").unwrap()
    }

    fn deleted(world: &World) -> usize {
        world.sent().iter().filter(|line| line.contains("disk.reclaim")).count()
    }

    fn choose(world: &mut World, person: &str, choice: &str, signed: bool) -> Result<Reply, Refusal> {
        let plan = reclaim(world).id;
        let request = Request::Decide {
            plan,
            hash: reclaim(world).hash,
            choice: Some(choice.to_owned()),
            reason: "as agreed".to_owned(),
            approve: true,
            roles: vec!["compliance".to_owned()],
            signature: signed.then(|| world.sign_vote(person, plan, Some(choice))),
        };
        world.ask(person, request)
    }

    #[test]
    fn compliance_clears_exactly_what_was_listed() {
        let (mut world, _) = asked(60.0, 1_000 * MIB);
        choose(&mut world, "eve", "clear", true).unwrap();
        world.run("5m");
        assert_eq!((deleted(&world), reclaim(&world).state), (1, PlanState::Succeeded), "{}", world.story());
        assert!(world.open().is_empty(), "{}", world.story());
    }

    #[test]
    fn nine_tenths_of_what_was_planned_verify_it_though_the_mount_stays_full() {
        for (freed, state) in [(900 * MIB, PlanState::Succeeded), (899 * MIB, PlanState::Failed)] {
            let (mut world, _) = asked(79.0, freed);
            choose(&mut world, "eve", "clear", true).unwrap();
            world.run("5m");
            assert_eq!(reclaim(&world).state, state, "{freed}: {}", world.story());
        }
    }

    #[test]
    fn with_no_answer_nothing_is_deleted_and_compliance_is_reminded_every_four_hours() {
        let (mut world, _) = asked(60.0, 0);
        world.run("13h");
        let asked: Vec<&quell_engine::state::Message> =
            world.messages.iter().filter(|message| message.subject.contains("an approval")).collect();
        assert_eq!(asked.len(), 4, "{:?}", world.told());
        for message in asked {
            assert_eq!(message.contact.name.as_str(), "compliance");
            assert!(message.body.contains("would touch 2 objects, 1000.0 MiB"), "{}", message.body);
            assert!(message.body.contains("delete /home/sre/course4/app.log.2026-10-02.gz (700.0 MiB)"));
            assert!(message.body.contains("storage (tells operations, and nothing is run)"));
        }
        assert_eq!(deleted(&world), 0);
    }

    #[test]
    fn asking_for_storage_deletes_nothing_and_closes_the_question() {
        let (mut world, _) = asked(60.0, 0);
        choose(&mut world, "eve", "storage", false).unwrap();
        world.run("1h");
        assert_eq!((deleted(&world), reclaim(&world).state), (0, PlanState::Denied), "{}", world.story());
        let subject = "Compliance asks for more storage for planthost2:/home";
        let told = world.messages.iter().find(|message| message.subject == subject);
        let told = told.unwrap_or_else(|| panic!("{:?}\n{}", world.told(), world.story()));
        assert_eq!(told.contact.name.as_str(), "operations");
        assert!(
            told.body.starts_with("eve chose storage instead of plan-") && told.body.contains("app.log.2026-10-01")
        );
        let incident = world.state.incidents[&reclaim(&world).incident.unwrap()].clone();
        assert_eq!((incident.state, incident.acknowledged_by.as_deref()), (IncidentState::Acknowledged, Some("eve")));
        let ended = incident.ladder_ended.as_deref().unwrap();
        assert!(ended.contains("eve chose storage, so nothing is run and operations is told: as agreed"), "{ended}");
        assert!(!world.told().iter().any(|line| line.contains("chose storage") && line.starts_with("on-call")));
        world.run("6h");
        assert!(choose(&mut world, "ann", "clear", true).is_err(), "the question is closed");
        assert_eq!(world.plans().iter().filter(|plan| plan.rung == "reclaim").count(), 1);
    }

    #[test]
    fn a_rejection_deletes_nothing_and_goes_to_people() {
        let (mut world, _) = asked(60.0, 0);
        choose(&mut world, "eve", "reject", false).unwrap();
        world.run("1h");
        assert_eq!((deleted(&world), reclaim(&world).state), (0, PlanState::Denied), "{}", world.story());
        let told = world.told();
        let paged = |line: &String| line.starts_with("on-call: ") && line.contains("not run: denied by eve: as agreed");
        assert!(told.iter().any(paged), "{told:?}");
    }

    #[test]
    fn only_the_role_decides_and_only_by_its_signature_over_this_list() {
        let (mut world, list) = asked(60.0, 1_000 * MIB);
        let plan = reclaim(&world).id;
        assert!(world.approve("bob", &[], plan).is_err(), "no role");
        assert!(choose(&mut world, "eve", "clear", false).is_err(), "no signature");
        let first = world.sign_vote("eve", plan, Some("clear"));
        *list.borrow_mut() = Seen::list(&[("delete", "/home/sre/course4/app.log.2026-10-03.gz", MIB)]);
        choose(&mut world, "ann", "clear", true).unwrap();
        world.run("1m");
        let second = reclaim(&world).clone();
        assert_ne!(second.id, plan, "the list moved, so it is asked anew: {}", world.story());
        assert_eq!((second.state, world.state.plans[&plan].state), (PlanState::Proposed, PlanState::Cancelled));
        let reused = Request::Decide {
            plan: second.id,
            hash: second.hash,
            choice: Some("clear".to_owned()),
            reason: String::new(),
            approve: true,
            roles: vec!["compliance".to_owned()],
            signature: Some(first),
        };
        assert!(world.ask("eve", reused).is_err(), "a signature over the first list says nothing of the second");
        assert_eq!(world.state.plans[&PlanId(second.id.0)].votes.len(), 0);
    }

    #[test]
    fn a_mount_that_rotation_heals_asks_nobody() {
        let mut world = shop("2026-11-23T14:00:00+01:00");
        rotation_frees(&mut world, 41.0);
        fill(&mut world, 85.0);
        world.run("1h");
        assert!(world.plans().iter().all(|plan| plan.rung != "reclaim"), "{}", world.story());
    }
}
