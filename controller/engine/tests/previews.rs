//! Exact plans: hosts say what they would touch before people are asked, that list is what is approved, and one that moved
//! is asked about anew.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use std::{cell::RefCell, rc::Rc};

use quell_engine::{
    Input,
    id::{CommandId, PlanId},
    state::{IncidentState, OutcomeKind, PlanState, Preview, Verdict},
};
use quell_model::{
    plan::ExactPlan,
    preview::{self, Item, MOST_ITEMS},
};
use world::{Done, Seen, World};

const POLICY: &str = "
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: full }
spec:
  description: A queue fills its mount
  mode: MODE
  hosts: { matchLabels: { role: app } }
  probes: { queue: { file: { path: /run/queue, parse: '^(\\d+)$' }, every: 10s } }
  trigger: { when: probe.queue.value > 10, clear: probe.queue.value <= 5 }
  ladder:
    - name: clear
      do: [{ action: exec, with: { argv: [/bin/clear] }, timeout: 30s }]
      APPROVAL
      verify: { that: probe.queue.value <= 5, within: 30s }
    - name: last
      do: [{ action: service.restart, with: { service: queue }, timeout: 30s }]
      verify: { that: probe.queue.value <= 5, within: 30s }
  escalate: { to: on-call, after: 24h }
";

const APPROVAL: &str = "approval: { role: compliance, expires: 24h, choices: [clear, reject], remind: 4h }";

/// What a host would touch, to be changed by the story.
type List = Rc<RefCell<Seen>>;

fn files() -> Seen {
    Seen::list(&[("delete", "/srv/queue/a", 4 << 20), ("delete", "/srv/queue/b\u{1b}[2K", 8 << 20)])
}

fn shop(mode: &str, approval: &str) -> (World, List) {
    let mut world = World::begin("2026-11-23T10:00:00+01:00");
    world.join("app1", &[("role", "app")]);
    world.apply_files(&["contacts"], &[]);
    world.apply(&POLICY.replace("MODE", mode).replace("APPROVAL", approval));
    let list = List::new(RefCell::new(files()));
    let shown = Rc::clone(&list);
    world.previews("exec", move |_, _| shown.borrow().clone());
    world.on("exec", |order, facts| {
        facts.set(&order.host, "queue", &[("value", 0.0.into())]);
        Done::ok()
    });
    world.on("service.restart", |_, _| Done::failed("no"));
    world.set("app1", "queue", &[("value", 1.0.into())]);
    world.run("1m");
    (world, list)
}

fn full() -> (World, List) {
    let (mut world, list) = shop("enforce", APPROVAL);
    fills(&mut world);
    (world, list)
}

fn fills(world: &mut World) {
    world.set("app1", "queue", &[("value", 20.0.into())]);
    world.run("30s");
}

fn approve(world: &mut World, plan: u64) {
    world.approve("eve", &["compliance"], PlanId(plan)).unwrap();
    world.run("1m");
}

fn state(world: &World, plan: u64) -> PlanState {
    world.state.plans[&PlanId(plan)].state
}

fn questions(world: &World) -> usize {
    world.told().iter().filter(|line| line.contains("wants an approval")).count()
}

#[test]
fn the_exact_list_is_what_is_asked_about_and_approved() {
    let (mut world, _) = full();
    assert_eq!(state(&world, 1), PlanState::Proposed, "{}", world.story());
    let plan = world.state.plans[&PlanId(1)].clone();
    let exact = ExactPlan::parse(plan.canonical.as_bytes()).unwrap();
    let Seen::List(items) = files() else { unreachable!() };
    assert_eq!(exact.preview(&"app1".parse().unwrap(), 0), Some(preview::digest(&items)));
    assert_ne!(plan.draft, Some(plan.hash), "what is approved is not the draft");
    let question = world.messages.iter().find(|message| message.subject.contains("wants an approval")).unwrap();
    assert_eq!(question.contact.name.as_str(), "compliance");
    for line in ["would touch 2 objects, 12.0 MiB", "delete /srv/queue/a (4.0 MiB)", "/srv/queue/b\\u{1b}[2K (8.0 MiB)"]
    {
        assert!(question.body.contains(line), "{line}: {}", question.body);
    }
    assert!(world.state.ledger.is_empty() && world.sent().is_empty(), "a preview is no act");
    approve(&mut world, 1);
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    assert_eq!(world.incident(1).state, IncidentState::Resolved, "{}", world.story());
}

#[test]
fn the_hash_of_a_draft_approves_nothing() {
    let (mut world, list) = shop("enforce", APPROVAL);
    *list.borrow_mut() = Seen::Silence;
    fills(&mut world);
    assert_eq!(state(&world, 1), PlanState::Previewing, "{}", world.story());
    let why = world.why("full").remove(0);
    assert_eq!((why.verdict, why.first_no.unwrap().guard.as_str()), (Verdict::Held, "preview"));
    assert!(world.approve("eve", &["compliance"], PlanId(1)).is_err(), "there is nothing to approve yet");
    let draft = world.sign_vote("eve", PlanId(1), Some("clear"));
    answers(&mut world, 1, files_of(files()), preview::digest);
    assert_eq!(state(&world, 1), PlanState::Proposed, "{}", world.story());
    let request = quell_engine::input::Request::Decide {
        plan: PlanId(1),
        hash: world.state.plans[&PlanId(1)].hash,
        choice: Some("clear".to_owned()),
        reason: String::new(),
        approve: true,
        roles: vec!["compliance".to_owned()],
        signature: Some(draft),
    };
    assert!(world.ask("eve", request).is_err(), "the signature is over the draft");
    assert!(world.sent().is_empty());
}

fn files_of(seen: Seen) -> Vec<Item> {
    match seen {
        Seen::List(items) => items,
        other => panic!("{other:?}"),
    }
}

fn answers(world: &mut World, command: u64, items: Vec<Item>, digest: fn(&[Item]) -> quell_model::digest::Digest) {
    let preview = Preview { digest: digest(&items), items, refusal: None, note: "one is kept".to_owned() };
    world.step(Input::Previewed { host: "app1".parse().unwrap(), command: CommandId(command), preview });
}

#[test]
fn a_list_that_moved_is_refused_and_asked_about_anew() {
    let (mut world, list) = full();
    *list.borrow_mut() = Seen::list(&[("delete", "/srv/queue/c", 1)]);
    approve(&mut world, 1);
    let first = world.state.plans[&PlanId(1)].clone();
    assert_eq!(first.state, PlanState::Cancelled, "{}", world.story());
    assert!(first.verification.contains("has moved since its preview"), "{}", first.verification);
    assert_eq!(world.outcomes(PlanId(1))["app1"], OutcomeKind::Refused);
    let second = world.state.plans[&PlanId(2)].clone();
    assert_eq!(second.state, PlanState::Proposed, "{}", world.story());
    assert!(second.votes.is_empty() && second.hash != first.hash, "no approval is carried over");
    assert_eq!((questions(&world), world.sent().len()), (2, 1));
    world.run("1h");
    assert_eq!(world.plans().len(), 2, "it waits for people: {}", world.story());
    approve(&mut world, 2);
    assert_eq!(world.incident(1).state, IncidentState::Resolved, "{}", world.story());
}

#[test]
fn a_list_that_moves_every_time_goes_to_the_next_rung() {
    let (mut world, list) = full();
    for plan in 1..=4 {
        assert_eq!(state(&world, plan), PlanState::Proposed, "{}", world.story());
        *list.borrow_mut() = Seen::list(&[("delete", &format!("/srv/queue/{plan}"), 1)]);
        approve(&mut world, plan);
    }
    assert_eq!(state(&world, 4), PlanState::Failed, "{}", world.story());
    let last = &world.state.plans[&PlanId(5)];
    assert_eq!(last.rung, "last");
    assert_eq!(questions(&world), 4);
}

#[test]
fn with_no_approval_nothing_is_touched_and_people_are_reminded_every_four_hours() {
    let (mut world, _) = full();
    world.run("13h");
    let reminders = world.tell(&["approvalAsked"]);
    let hours: Vec<&str> = reminders.lines().map(|line| &line[..2]).collect();
    assert_eq!(hours, ["10", "14", "18", "22"], "{reminders}");
    assert!(world.messages.iter().filter(|message| message.body.contains("/srv/queue/a")).count() == 4);
    world.run("12h");
    assert_eq!(state(&world, 1), PlanState::Expired, "{}", world.story());
    assert!(world.approve("eve", &["compliance"], PlanId(1)).is_err(), "the question has fallen");
    assert!(world.sent().is_empty(), "{}", world.story());
}

#[test]
fn the_question_stands_for_its_whole_time_from_when_it_is_asked() {
    let (mut world, list) = shop("enforce", APPROVAL);
    *list.borrow_mut() = Seen::Silence;
    world.set("app1", "queue", &[("value", 20.0.into())]);
    world.run("60s");
    let asked_at = world.now;
    answers(&mut world, 1, files_of(files()), preview::digest);
    let needs = world.state.plans[&PlanId(1)].needs.clone().unwrap();
    assert_eq!(needs.expires, asked_at + std::time::Duration::from_secs(24 * 3_600));
}

#[test]
fn a_restart_while_hosts_are_asked_asks_them_again() {
    let (mut world, list) = shop("enforce", APPROVAL);
    *list.borrow_mut() = Seen::Silence;
    fills(&mut world);
    let asked = world.state.commands[&CommandId(1)].look.clone().unwrap();
    *list.borrow_mut() = files();
    world.restart();
    assert_eq!(state(&world, 1), PlanState::Previewing);
    world.run("30s");
    assert_eq!(state(&world, 1), PlanState::Proposed, "{}", world.story());
    let again = world.state.commands[&CommandId(1)].look.clone().unwrap();
    assert!(again.fence > asked.fence, "a question has a fence of its own");
    world.restart();
    world.run("30s");
    assert_eq!((world.plans().len(), questions(&world)), (1, 1), "{}", world.story());
    approve(&mut world, 1);
    assert_eq!(world.incident(1).state, IncidentState::Resolved, "{}", world.story());
}

#[test]
fn a_host_that_would_refuse_asks_nobody() {
    let (mut world, list) = shop("enforce", APPROVAL);
    *list.borrow_mut() = Seen::Refusal("a legal hold keeps /srv/queue".to_owned());
    fills(&mut world);
    let plan = &world.state.plans[&PlanId(1)];
    assert_eq!(plan.state, PlanState::Failed, "{}", world.story());
    assert_eq!(plan.verification, "app1 would refuse exec: a legal hold keeps /srv/queue");
    assert_eq!(questions(&world), 0);
    assert_eq!(world.state.plans[&PlanId(2)].rung, "last", "{}", world.story());
}

#[test]
fn a_host_that_does_not_answer_is_given_up_after_three_tries() {
    let (mut world, list) = shop("enforce", APPROVAL);
    *list.borrow_mut() = Seen::Silence;
    fills(&mut world);
    world.run("7m");
    let states: Vec<PlanState> = (1..=4).map(|plan| state(&world, plan)).collect();
    use PlanState::{Cancelled, Previewing};
    assert_eq!(states, [Cancelled, Cancelled, Cancelled, Previewing], "{}", world.story());
    world.run("2m");
    let plan = &world.state.plans[&PlanId(4)];
    assert_eq!(plan.state, PlanState::Failed, "{}", world.story());
    assert!(plan.verification.starts_with("no word within 2m") && plan.verification.ends_with("from app1"));
    assert_eq!(questions(&world), 0);
    assert!(world.sent().iter().all(|line| line.contains("service.restart")), "{:?}", world.sent());
}

#[test]
fn nothing_to_do_is_no_failure_and_leads_on() {
    let (mut world, list) = shop("enforce", APPROVAL);
    *list.borrow_mut() = Seen::list(&[]);
    fills(&mut world);
    assert_eq!(state(&world, 1), PlanState::NothingToDo, "{}", world.story());
    assert_eq!(questions(&world), 0);
    world.run("1h");
    assert_eq!(world.plans().len(), 2, "it is not planned again and again: {}", world.story());
    assert_eq!(world.state.plans[&PlanId(2)].rung, "last");
}

#[test]
fn a_symptom_that_goes_away_ends_the_draft() {
    let (mut world, list) = shop("enforce", APPROVAL);
    *list.borrow_mut() = Seen::Silence;
    fills(&mut world);
    world.set("app1", "queue", &[("value", 1.0.into())]);
    world.run("30s");
    assert_eq!(state(&world, 1), PlanState::Cancelled, "{}", world.story());
    assert_eq!(world.incident(1).state, IncidentState::Resolved);
    answers(&mut world, 1, files_of(files()), preview::digest);
    assert_eq!(state(&world, 1), PlanState::Cancelled, "an answer that comes late changes nothing");
}

#[test]
fn a_draft_of_a_policy_that_changed_meanwhile_ends() {
    let (mut world, list) = shop("enforce", APPROVAL);
    *list.borrow_mut() = Seen::Silence;
    fills(&mut world);
    assert_eq!(state(&world, 1), PlanState::Previewing);
    let changed =
        POLICY.replace("MODE", "enforce").replace("APPROVAL", APPROVAL).replace("timeout: 30s", "timeout: 40s");
    world.apply(&changed);
    world.run("1s");
    assert_eq!(state(&world, 1), PlanState::Superseded, "{}", world.story());
    answers(&mut world, 1, files_of(files()), preview::digest);
    assert_eq!(state(&world, 1), PlanState::Superseded, "an answer that comes late changes nothing");
}

#[test]
fn a_list_that_is_not_what_was_hashed_is_not_shown_to_anybody() {
    let (mut world, list) = shop("enforce", APPROVAL);
    *list.borrow_mut() = Seen::Silence;
    fills(&mut world);
    answers(&mut world, 1, files_of(files()), |_| preview::digest(&[]));
    assert!(world.state.plans[&PlanId(1)].verification.contains("digest"), "{}", world.story());
    assert_eq!((state(&world, 1), questions(&world)), (PlanState::Failed, 0));
}

#[test]
fn a_list_that_nobody_would_read_is_not_asked_about() {
    let (mut world, list) = shop("enforce", APPROVAL);
    *list.borrow_mut() = Seen::Silence;
    fills(&mut world);
    let item = files_of(files()).remove(0);
    answers(&mut world, 1, vec![item; MOST_ITEMS + 1], preview::digest);
    let plan = &world.state.plans[&PlanId(1)];
    assert_eq!((plan.state, questions(&world)), (PlanState::Failed, 0));
    assert!(plan.verification.contains("lists at most 200"), "{}", plan.verification);
    assert!(world.state.commands[&CommandId(1)].preview().unwrap().items.is_empty(), "nor is it kept");
}

#[test]
fn what_was_held_is_previewed_when_people_are_asked_after_all() {
    let (mut world, _) = shop("enforce", "");
    world.step(Input::ClockJumped { seconds: 4_000.0 });
    fills(&mut world);
    let held = world.state.plans[&PlanId(1)].clone();
    assert_eq!((held.state, held.draft), (PlanState::Held, None), "what needs nobody is not previewed");
    world.apply(&POLICY.replace("MODE", "propose").replace("APPROVAL", ""));
    world.run("30s");
    let plans = world.plans_in(PlanState::Proposed);
    assert_eq!(plans.len(), 1, "{}", world.story());
    assert!(plans[0].draft.is_some());
}

fn reclaims(world: &mut World, list: &List) {
    let shown = Rc::clone(list);
    world.previews("disk.reclaim", move |_, _| shown.borrow().clone());
    world.on("disk.reclaim", |order, facts| {
        facts.set(&order.host, "queue", &[("value", 0.0.into())]);
        Done::ok()
    });
}

#[test]
fn what_goes_by_an_exact_list_is_previewed_even_when_nobody_is_asked() {
    let (mut world, list) = shop("enforce", "");
    reclaims(&mut world, &list);
    let reclaim = "disk.reclaim, with: { directory: /srv/queue, names: ['*'], olderThan: 1d }";
    let policy = POLICY.replace("MODE", "enforce").replace("APPROVAL", "");
    world.apply(&policy.replace("exec, with: { argv: [/bin/clear] }", reclaim));
    fills(&mut world);
    let plan = &world.state.plans[&PlanId(1)];
    assert_eq!((plan.state, plan.draft.is_some(), plan.needs.is_none()), (PlanState::Succeeded, true, true));
    assert_eq!((world.sent().len(), questions(&world)), (1, 0), "{}", world.story());
}

#[test]
fn a_run_by_hand_of_what_goes_by_an_exact_list_is_previewed() {
    let (mut world, list) = shop("enforce", "");
    reclaims(&mut world, &list);
    let hosts = quell_model::selector::Selector::labels([("role".to_owned(), "app".to_owned())].into());
    let with = serde_json::json!({ "directory": "/srv/queue", "names": ["*"], "olderThan": "1d" });
    let run = world.a_run("disk.reclaim", hosts.clone(), with.clone());
    world.run_by("ada", run).unwrap();
    world.run("1m");
    let plan = &world.state.plans[&PlanId(1)];
    assert_eq!((plan.state, plan.draft.is_some()), (PlanState::Succeeded, true), "{}", world.story());
    *list.borrow_mut() = Seen::list(&[]);
    let run = world.a_run("disk.reclaim", hosts, with);
    world.run_by("ada", run).unwrap();
    world.run("1m");
    assert_eq!(state(&world, 2), PlanState::NothingToDo, "{}", world.story());
}
