//! Messages on their way: handed to the notifiers until they are delivered or given up.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    Effect,
    draft::Entry,
    id::MessageId,
    state::{Message, MessageState},
    turn::{Subject, Turn},
    windows::after,
};

/// A message is tried so often.
const ATTEMPTS: u32 = 8;
/// The pause after the first failure; it doubles each time,
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);
/// The most of a log that a message carries, in characters.
const LOG_KEPT: usize = 12_000;

/// Looks at a message that was not delivered.
pub(crate) fn reconcile(turn: &mut Turn<'_>, id: MessageId) -> Option<Timestamp> {
    let message = turn.state().messages.get(&id).cloned().filter(|message| message.state == MessageState::Waiting)?;
    if let Some(until) = message.waits_for_log.filter(|until| *until > turn.now) {
        return Some(until);
    }
    if let Some(at) = message.next_attempt.filter(|at| *at > turn.now) {
        return Some(at);
    }
    if turn.windows.notifying.insert(id) {
        turn.effect(Effect::Notify { message: Box::new(Message::clone(&message)) });
    }
    None
}

/// Takes in how an attempt ended.
pub(crate) fn delivered(turn: &mut Turn<'_>, id: MessageId, result: Result<(), String>) {
    turn.windows.notifying.remove(&id);
    let Some(message) =
        turn.state().messages.get(&id).cloned().filter(|message| message.state == MessageState::Waiting)
    else {
        return;
    };
    let now = turn.now;
    let attempts = message.attempts + 1;
    let (state, text) = match result {
        Ok(()) => (MessageState::Delivered, format!("{id} reached {}", message.contact)),
        Err(error) if attempts >= ATTEMPTS => (
            MessageState::Failed(error.clone()),
            format!("{id} to {} is given up after {attempts} attempts: {error}", message.contact),
        ),
        Err(error) => {
            (MessageState::Waiting, format!("{id} did not reach {}: {error}; it is tried again", message.contact))
        }
    };
    let kind = if state == MessageState::Delivered { "messageDelivered" } else { "messageFailed" };
    let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempts - 1)).min(LONGEST_PAUSE);
    turn.draft.change::<Message>(&id, |row| {
        row.attempts = attempts;
        row.next_attempt = (state == MessageState::Waiting).then(|| after(now, pause));
        row.state = state;
    });
    turn.record(
        Entry::new(kind, crate::Actor::Controller, text).id("message", id).maybe_id("incident", message.incident),
    );
    turn.touch(Subject::Message(id));
}

/// Adds the end of a log to the message that waits for it.
pub(crate) fn add_log(turn: &mut Turn<'_>, id: MessageId, host: &str, lines: Result<Vec<String>, String>) {
    let Some(message) = turn.state().messages.get(&id).cloned().filter(|message| message.waits_for_log.is_some())
    else {
        return;
    };
    let text = match lines {
        Ok(lines) => {
            let text = lines.join("\n");
            let skip = text.chars().count().saturating_sub(LOG_KEPT);
            format!("the last {} lines on {host}:\n{}", lines.len(), text.chars().skip(skip).collect::<String>())
        }
        Err(error) => format!("the log on {host} could not be read: {error}"),
    };
    turn.draft.change::<Message>(&id, |row| {
        row.body = format!("{}\n{text}", row.body);
        row.logs_awaited = row.logs_awaited.saturating_sub(1);
        if row.logs_awaited == 0 {
            row.waits_for_log = None;
        }
    });
    turn.record(
        Entry::new(
            "logCaptured",
            crate::Actor::Controller,
            format!("the end of a log on {host} was captured for {id}"),
        )
        .id("message", id)
        .id("host", host)
        .maybe_id("incident", message.incident),
    );
    turn.touch(Subject::Message(id));
}
