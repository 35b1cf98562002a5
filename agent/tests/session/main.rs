//! The session against a controller that a test plays: resuming, spooling, obeying.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod played;

use std::{fs, sync::Arc, time::Duration};

use played::{Agent, PATIENT, Played};
use quell_agent::{execute::Report, hold::Hold};
use quell_model::manifest::probe_from_canonical;
use quell_wire::v1::{
    AssignProbes, CancelCommand, Command, GoAway, JournalEntry, LogRequest, Outcome, ProbeAssignment, ProbeNow,
    SignedChange, SignedPolicies, Welcome, agent_message::Body as Up, controller_message::Body as Down,
};

fn outcome(number: u32) -> Report {
    Report::Outcome(Outcome {
        command_id: format!("cmd-{number}"),
        idempotency_key: format!("key-{number}"),
        ..Outcome::default()
    })
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_after_a_break() {
    let mut agent = Agent::start().await;
    let (hello, mut first) = agent.welcome(Welcome { acknowledged: 7, ..Welcome::default() }).await;
    assert_eq!((hello.next_sequence, hello.protocol), (0, quell_wire::PROTOCOL));
    assert!(hello.capabilities.contains(&"probe.test".to_owned()));
    let (number, hold) = first.numbered().await;
    assert!(number == 8 && matches!(hold, Up::HostHold(hold) if !hold.held));
    agent.reports.send(outcome(1)).await.unwrap();
    agent.reports.send(outcome(2)).await.unwrap();
    assert_eq!(first.numbered().await.0, 9);
    assert_eq!(first.numbered().await.0, 10);
    first.acknowledge(9).await;
    assert_eq!(agent.orders.next().await, Played::Acknowledged("key-1".to_owned()));
    drop(first);

    // The controller has lost count of what left no trace, and gets all that was not acknowledged, in order.
    let (hello, mut second) = agent.welcome(Welcome { acknowledged: 3, ..Welcome::default() }).await;
    assert_eq!(hello.next_sequence, 11);
    let (number, again) = second.numbered().await;
    assert!(number == 10 && matches!(again, Up::Outcome(again) if again.idempotency_key == "key-2"));
    assert!(matches!(second.numbered().await, (11, Up::HostHold(_))));
    second.acknowledge(11).await;
    assert_eq!(agent.orders.next().await, Played::Acknowledged("key-2".to_owned()));
    agent.stop().await;
}

#[tokio::test]
async fn outcomes_of_an_earlier_process_are_told_until_they_are_acknowledged() {
    let left = Outcome { idempotency_key: "key-0".to_owned(), ..Outcome::default() };
    let entry =
        |key: &str, outcome| JournalEntry { idempotency_key: key.to_owned(), outcome, ..JournalEntry::default() };
    let mut agent = Agent::with_journal(vec![entry("key-0", Some(left)), entry("key-1", None)]).await;
    let (hello, mut peer) = agent.welcome(Welcome { acknowledged: 4, ..Welcome::default() }).await;
    assert_eq!(hello.journal.len(), 2);
    assert_eq!(hello.at_hand, ["cmd-70"], "what waits for its turn is told, too");
    let (number, told) = peer.numbered().await;
    assert!(number == 5 && matches!(told, Up::Outcome(told) if told.idempotency_key == "key-0"));
    peer.acknowledge(5).await;
    assert_eq!(agent.orders.next().await, Played::Acknowledged("key-0".to_owned()));
    agent.stop().await;
}

#[tokio::test]
async fn samples_of_an_absence_come_later_as_history() {
    let mut agent = Agent::start().await;
    agent.refuse().await;
    agent.sample("p", 1.0, false).await;
    agent.sample("p", 2.0, true).await;
    // Both are taken in while nobody is there; the session takes one thing after the other.
    agent.reports.send(outcome(1)).await.unwrap();
    let (_, mut peer) = agent.welcome(Welcome::default()).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(peer.samples_of("p").await);
    }
    assert!(seen.iter().all(|sample| sample.spooled && sample.full));
    let values: Vec<_> = seen.iter().map(played::value).collect();
    assert_eq!(values, [1.0, 2.0]);
    agent.sample("p", 3.0, true).await;
    let live = peer.samples_of("p").await;
    assert!(!live[0].spooled && live[0].full && live[0].pushed);
    agent.sample("p", 3.0, true).await;
    let same = peer.samples_of("p").await;
    assert!(!same[0].full && same[0].fields.is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn probes_are_assigned_asked_and_read() {
    let mut agent = Agent::start().await;
    let path = agent.dir.path().join("app.log");
    fs::write(&path, "one\nError 2\n").unwrap();
    let spec = format!(r#"{{"every":"1h","logMatch":{{"path":"{}","pattern":"Error"}}}}"#, path.display());
    let assign = |generation: u64, key: &str| {
        let probe = ProbeAssignment { key: key.to_owned(), spec: spec.clone().into_bytes(), authorities: Vec::new() };
        let vouched = probe_from_canonical(&spec).unwrap().canonical.into_bytes();
        let signed = vec![SignedPolicies { policies: vec![vouched], ..SignedPolicies::default() }];
        Down::Assign(AssignProbes { generation, probes: vec![probe], signed })
    };
    let (_, mut peer) = agent.welcome(Welcome::default()).await;
    peer.say(assign(5, "log")).await;
    let first = peer.samples_of("log").await;
    assert!(first[0].full && first[0].fields.iter().any(|field| field.name == "matches"));
    // An older list changes nothing: the probe is still there to be asked.
    peer.say(assign(4, "other")).await;
    peer.say(Down::ProbeNow(ProbeNow { keys: vec!["log".to_owned()] })).await;
    let second = peer.samples_of("log").await;
    assert!(!second[0].full && second[0].fields.iter().any(|field| field.name == "successes"));
    let request = |probe: &str| LogRequest { request_id: format!("for-{probe}"), probe: probe.to_owned(), lines: 1 };
    peer.say(Down::LogRequest(request("log"))).await;
    peer.say(Down::LogRequest(request("other"))).await;
    let mut tails = Vec::new();
    while tails.len() < 2 {
        if let (_, Up::LogTail(tail)) = peer.numbered().await {
            tails.push((tail.request_id, tail.lines.join("\n"), tail.error.is_empty()));
        }
    }
    tails.sort();
    assert_eq!(tails[0], ("for-log".to_owned(), "Error 2".to_owned(), true));
    assert_eq!((tails[1].0.as_str(), tails[1].2), ("for-other", false));
    agent.stop().await;
}

#[tokio::test]
async fn orders_are_handed_on_in_order() {
    let mut agent = Agent::start().await;
    let (_, peer) = agent.welcome(Welcome::default()).await;
    let command = Command { command_id: "cmd-7".to_owned(), ..Command::default() };
    peer.say(Down::Command(command)).await;
    peer.say(Down::Cancel(CancelCommand { command_id: "cmd-7".to_owned(), reason: "freeze".to_owned() })).await;
    assert_eq!(agent.orders.next().await, Played::Submitted("cmd-7".to_owned()));
    assert_eq!(agent.orders.next().await, Played::Cancelled("cmd-7".to_owned()));
    agent.stop().await;
}

#[tokio::test]
async fn a_hold_is_reported_when_it_is_put_and_lifted() {
    let mut agent = Agent::start().await;
    let (_, mut peer) = agent.welcome(Welcome::default()).await;
    assert!(matches!(peer.numbered().await.1, Up::HostHold(hold) if !hold.held));
    let since = jiff::Timestamp::now();
    let hold = Hold { reason: "new disks".to_owned(), since, until: since + jiff::SignedDuration::from_hours(2) };
    agent.hold.send(Some(hold.clone())).unwrap();
    let (_, Up::HostHold(said)) = peer.numbered().await else { panic!("no hold") };
    assert_eq!((said.held, said.reason.as_str(), said.until_unix_ms), (true, "new disks", hold.until.as_millisecond()));
    agent.hold.send(None).unwrap();
    assert!(matches!(peer.numbered().await.1, Up::HostHold(hold) if !hold.held));
    agent.stop().await;
}

#[tokio::test]
async fn the_controllers_wishes_about_coming_back_and_about_time_are_kept() {
    let mut agent = Agent::start().await;
    let unix_ms = jiff::Timestamp::now().as_millisecond() - 60_000;
    let (_, peer) = agent.welcome(Welcome { unix_ms, ..Welcome::default() }).await;
    peer.say(Down::GoAway(GoAway { reason: "maintenance".to_owned(), retry_after_ms: 400 })).await;
    let start = tokio::time::Instant::now();
    let (_, _peer) = agent.welcome(Welcome::default()).await;
    assert!(start.elapsed() >= Duration::from_millis(390), "{:?}", start.elapsed());
    let offset = agent.clock.seconds().unwrap();
    assert!((59.0..90.0).contains(&offset), "{offset}");
    agent.stop().await;
}

#[tokio::test]
async fn a_controller_that_does_not_begin_with_a_welcome_is_left_and_tried_again() {
    let mut agent = Agent::start().await;
    let peer = agent.accept().await;
    peer.say(Down::GoAway(GoAway::default())).await;
    let (_, mut peer) = agent.welcome(Welcome::default()).await;
    assert!(matches!(peer.numbered().await, (1, Up::HostHold(_))));
    let again = Arc::clone(&agent.attempts_made);
    assert!(again.load(std::sync::atomic::Ordering::Relaxed) >= 2);
    tokio::time::timeout(PATIENT, agent.stop()).await.unwrap();
}

#[tokio::test]
async fn what_is_believed_is_told_and_signed_changes_keep_their_place_among_the_orders() {
    let mut agent = Agent::start().await;
    let (hello, peer) = agent.welcome(Welcome::default()).await;
    assert_eq!((hello.trust_version, hello.label_version, hello.labels["role"].as_str()), (4, 2, "web"));
    assert_eq!(hello.set_versions["shop"], 7);
    let order = |id: &str| Down::Command(Command { command_id: id.to_owned(), ..Command::default() });
    peer.say(order("cmd-1")).await;
    peer.say(Down::Change(SignedChange { document: b"root".to_vec(), ..SignedChange::default() })).await;
    peer.say(order("cmd-2")).await;
    assert_eq!(agent.orders.next().await, Played::Submitted("cmd-1".to_owned()));
    assert_eq!(agent.orders.next().await, Played::Believed("root".to_owned()));
    assert_eq!(agent.orders.next().await, Played::Submitted("cmd-2".to_owned()));
    agent.stop().await;
}
