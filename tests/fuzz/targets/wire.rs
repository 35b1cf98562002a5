//! The wire: any bytes as a message of either side or of Alertmanager, and any text as a join string. What is read writes back as it was
//! read, and what the controller takes from an agent is within its documented bounds.

#![no_main]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use quell_agent::wire as agent;
use quell_controller::{alerts, wire as controller};
use quell_link::join::JoinString;
use quell_model::{
    digest::Digest,
    probe::ProbeSpec,
    value::{Fields, Value},
};
use quell_wire::v1::{self, agent_message::Body as FromAgent, controller_message::Body as FromController};

/// Bounds of `controller::wire`, as the `.proto` files tell them.
const NAME_BYTES: usize = 256;
const TEXT_BYTES: usize = 16 << 10;
const LINE_BYTES: usize = 4 << 10;
const OUTPUT_BYTES: usize = 8 << 10;
const ITEMS: usize = 1_000;
/// Most commands that an agent may have at hand.
const AT_HAND: usize = 10_000;
/// Bytes of a label of another system's alert.
const LABEL_BYTES: usize = 1_024;
/// Bytes of a join string's checksum.
const JOIN_CHECKSUM: usize = 4;

fuzz_target!(|bytes: &[u8]| {
    if let Some(v1::AgentMessage { body: Some(body), .. }) = written_again(bytes) {
        from_agent(body);
    }
    if let Some(v1::ControllerMessage { body: Some(FromController::Assign(assign)) }) = written_again(bytes) {
        assign.probes.iter().for_each(from_controller);
    }
    written_again::<v1::JoinRequest>(bytes);
    written_again::<v1::JoinResponse>(bytes);
    join_string(bytes);
    for alert in alerts::read(bytes).unwrap_or_default() {
        let is_bounded = |text: &String| text.len() <= LABEL_BYTES;
        assert!(
            alert.fingerprint.len() < NAME_BYTES && alert.labels.iter().all(|it| is_bounded(it.0) && is_bounded(it.1))
        );
    }
});

/// Bytes as a join string, and as what stands in one behind its checksum, which no chance would get right.
fn join_string(bytes: &[u8]) {
    let mut content = Digest::of(bytes).0[..JOIN_CHECKSUM].to_vec();
    content.extend(bytes);
    let sealed = format!("quell1.{}", URL_SAFE_NO_PAD.encode(content));
    for text in [String::from_utf8_lossy(bytes).into_owned(), sealed] {
        let Ok(joined) = text.parse::<JoinString>() else { continue };
        assert_eq!(joined.to_string().parse().as_ref(), Ok(&joined), "a join string reads back as another");
    }
}

/// Reads a message, and sees that writing and reading change nothing. Compared as bytes, because NaN is not itself.
fn written_again<M: Message + Default + std::fmt::Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let written = message.encode_to_vec();
    let again = M::decode(written.as_slice()).unwrap_or_else(|error| panic!("{message:?} does not read back: {error}"));
    assert!(again.encode_to_vec() == written, "{message:?} reads back as {again:?}");
    Some(message)
}

fn from_agent(body: FromAgent) {
    match body {
        FromAgent::Hello(hello) => {
            if let Ok(hello) = controller::hello(hello, 1) {
                assert!(hello.facts.len() <= ITEMS && hello.journal.len() <= ITEMS && hello.at_hand.len() <= AT_HAND);
                assert!(hello.set_versions.len() <= ITEMS);
                assert!(hello.agent_version.len() <= NAME_BYTES && hello.instance.len() <= NAME_BYTES);
                hello.journal.into_iter().filter_map(|(_, outcome)| outcome).for_each(bounded_outcome);
            }
        }
        FromAgent::Samples(batch) => batch.samples.into_iter().for_each(sample),
        FromAgent::Preview(preview) => {
            if let Ok((_, preview)) = controller::preview(preview) {
                assert!(quell_model::preview::check(&preview.items).is_ok());
                assert!(preview.refusal.iter().all(|line| line.len() <= LINE_BYTES));
            }
        }
        FromAgent::Outcome(outcome) => {
            let _ = controller::command_id(&outcome.command_id);
            let _ = controller::outcome(outcome).map(bounded_outcome);
        }
        FromAgent::LogTail(tail) => {
            if let Ok((_, Ok(lines))) = controller::log_tail(tail) {
                assert!(lines.len() <= ITEMS && lines.iter().all(|line| line.len() <= LINE_BYTES));
            }
        }
        FromAgent::HostHold(hold) => {
            if let Ok(Some((reason, _))) = controller::host_hold(hold) {
                assert!(reason.len() <= LINE_BYTES);
            }
        }
        FromAgent::Started(started) => {
            let _ = controller::command_id(&started.command_id);
        }
        FromAgent::Heartbeat(_) => {}
    }
}

fn bounded_outcome(outcome: quell_engine::state::Outcome) {
    assert!(outcome.summary.len() <= LINE_BYTES && outcome.remedy.len() <= LINE_BYTES);
    assert!(outcome.output.len() <= OUTPUT_BYTES);
    bounded_fields(&outcome.values);
}

fn sample(sample: v1::Sample) {
    let now = Timestamp::UNIX_EPOCH;
    assert!(controller::time_of(now, sample.age_ms) <= now, "a sample from the future");
    let _ = controller::probe_key(sample.probe);
    let Ok(fields) = controller::fields(sample.fields) else { return };
    bounded_fields(&fields);
    // An agent that sends just these is understood to have sent just these.
    let sent = fields.iter().filter_map(agent::field).collect();
    assert_eq!(controller::fields(sent), Ok(fields));
}

fn bounded_fields(fields: &Fields) {
    assert!(fields.len() <= ITEMS);
    for (name, value) in fields {
        assert!((1..=NAME_BYTES).contains(&name.len()), "a name of {} bytes", name.len());
        match value {
            Value::Number(number) => assert!(number.is_finite(), "{name} is {number}"),
            Value::Text(text) => assert!(text.len() <= TEXT_BYTES, "{name} has {} bytes", text.len()),
            Value::Flag(_) => {}
        }
    }
}

/// What an agent does with an assignment: it runs the probe, or says why it does not.
fn from_controller(message: &v1::ProbeAssignment) {
    // Whoever signed everything: what a signature would keep out is tried too.
    let vouched = std::str::from_utf8(&message.spec)
        .ok()
        .and_then(|spec| quell_model::manifest::probe_from_canonical(spec).ok())
        .map(|probe| probe.canonical)
        .into_iter()
        .collect();
    let assignment = agent::assignment(message, &vouched);
    assert_eq!(&*assignment.key, message.key);
    assert!(!assignment.every.is_zero() && !assignment.timeout.is_zero(), "{assignment:?} never rests");
    if let Ok(ProbeSpec::LogMatch { pattern, .. }) = &assignment.spec {
        let _ = quell_agent::probes::pattern::compile(pattern);
    }
}
