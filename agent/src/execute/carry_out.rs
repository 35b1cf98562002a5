//! One order, from its last guards to its outcome.

use std::{sync::Arc, time::Duration};

use quell_model::action::lists_objects;
use quell_wire::v1;
use tokio::time::Instant;

use super::{
    Report, Shared,
    journal::{Intent, Line},
    outcome::{self, End, Kind, Stored},
    queue::{Cancel, Order},
    wire_key,
};
use crate::{
    actions::{Action, Failure, Preview, Refusal, Work},
    guard::{
        Signed,
        standing::{self, Moment},
    },
};

/// How long after its deadline an action may still tell how it ended.
const GRACE: Duration = Duration::from_secs(30);

/// What the queue does with the order afterwards.
pub(super) enum Finish {
    /// Nothing.
    Ended,
    /// It tries again later.
    GaveWay(Box<Order>),
}

/// Carries an order out.
pub(super) async fn carry_out(shared: Arc<Shared>, mut order: Box<Order>) -> Finish {
    if let Some(end) = not_started(&order) {
        return finish(&shared, &order.command, &order.key, end, Duration::ZERO).await;
    }
    match may_begin(&shared, &order).await {
        Ok(None) => {}
        Ok(Some(reason)) => {
            order.gave_way = reason;
            return Finish::GaveWay(order);
        }
        Err(refusal) => {
            return finish(&shared, &order.command, &order.key, End::refused(refusal), Duration::ZERO).await;
        }
    }
    if order.command.undo { undo(&shared, &order).await } else { act(&shared, &order).await }
}

/// Answers an order that is not carried out.
pub(super) async fn answer(shared: Arc<Shared>, command: Box<v1::Command>, key: String, end: End) -> Finish {
    if command.preview_only {
        let refusal = Refusal { reason: end.change.summary, remedy: end.remedy };
        shared.report(Report::Preview(outcome::preview(&command.command_id, Err(refusal)))).await;
        return Finish::Ended;
    }
    finish(&shared, &command, &key, end, Duration::ZERO).await
}

/// Answers what an order would do.
pub(super) async fn look(shared: Arc<Shared>, order: Box<Order>) -> Finish {
    let checked = if order.command.undo {
        Err(Refusal::because("what an undo would do is not known before it is done"))
    } else {
        let look = |shared: &Shared, asked: &Asked| {
            standing::look(&shared.beliefs, Moment::now(&shared.clock), &asked.command, &asked.signed)
        };
        match off_the_runtime(&shared, &order, look).await {
            Ok(()) => order.action.check(&shared.host).await,
            Err(refusal) => Err(refusal),
        }
    };
    if order.command.preview_only {
        // A fence that was only seen is kept as well.
        if order.command.fence > shared.journal.fence()
            && let Err(error) = shared.journal.append(vec![Line::Fence(order.command.fence)], true).await
        {
            tracing::error!(%error, "a fence could not be kept");
        }
        shared.report(Report::Preview(outcome::preview(&order.command.command_id, checked))).await;
        return Finish::Ended;
    }
    finish(&shared, &order.command, &order.key, outcome::dry_run(checked), Duration::ZERO).await
}

/// The controller has an outcome: of the order with this key, or of the one that undid it.
pub(super) async fn acknowledge(shared: Arc<Shared>, key: String) -> Finish {
    let keys = [format!("{}{key}", super::UNDO), key];
    let lines: Vec<Line> = keys
        .into_iter()
        .filter(|key| shared.journal.find(key).is_some_and(|record| record.outcome.is_some() && !record.acknowledged))
        .map(|key| {
            shared.ends.forget(&key);
            Line::Acknowledged(key)
        })
        .collect();
    // Not synced: a forgotten acknowledgement costs a repeated outcome.
    if !lines.is_empty()
        && let Err(error) = shared.journal.append(lines, false).await
    {
        tracing::error!(%error, "an acknowledgement could not be kept");
    }
    Finish::Ended
}

fn not_started(order: &Order) -> Option<End> {
    if let Some(reason) = order.cancel.reason() {
        return Some(End::new(Kind::NotStarted, format!("called off before it began: {reason}")));
    }
    (Instant::now() >= order.not_after).then(|| {
        let why = if order.gave_way.is_empty() { "it waited for its turn" } else { &order.gave_way };
        End::new(Kind::NotStarted, format!("the time in which it might begin is over: {why}"))
    })
}

/// The guards that are asked at the last moment: the host's hold, what it has seen and done, and whom it gives way to.
async fn may_begin(shared: &Arc<Shared>, order: &Order) -> Result<Option<String>, Refusal> {
    off_the_runtime(shared, order, |asked, order| {
        if let Some(held) = (asked.host_hold)() {
            return Err(Refusal::because(format!(
                "this host's administrator holds it until {}: {}; it is lifted with: quell-agent hold --lift",
                held.until, held.reason
            )));
        }
        standing::ask(&asked.beliefs, Moment::now(&asked.clock), &order.command, &order.signed)?;
        Ok(asked.surroundings.gives_way(&order.command.yield_to))
    })
    .await
}

/// What a guard that blocks needs of an order.
struct Asked {
    command: Box<v1::Command>,
    signed: Signed,
}

/// Asks a guard that blocks.
async fn off_the_runtime<T: Send + 'static>(
    shared: &Arc<Shared>,
    order: &Order,
    ask: impl FnOnce(&Shared, &Asked) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let shared = Arc::clone(shared);
    let asked = Asked { command: order.command.clone(), signed: order.signed.clone() };
    let answer = crate::actions::blocking(move || ask(&shared, &asked)).await;
    answer.unwrap_or_else(|error| Err(Refusal::because(error)))
}

async fn act(shared: &Arc<Shared>, order: &Order) -> Finish {
    let begun = Instant::now();
    let prepared = match check_and_prepare(shared, order).await {
        Ok(prepared) => prepared,
        Err(end) => return finish(shared, &order.command, &order.key, end, begun.elapsed()).await,
    };
    if let Err(end) = intend(shared, order, prepared.clone(), None).await {
        return finish(shared, &order.command, &order.key, end, begun.elapsed()).await;
    }
    let work = work(shared, &order.cancel, Duration::from_millis(order.command.timeout_ms), false);
    let end = apply_and_verify(order.action.as_ref(), &work, &prepared, &order.cancel).await;
    finish(shared, &order.command, &order.key, end, begun.elapsed()).await
}

/// Everything that only looks.
async fn check_and_prepare(shared: &Shared, order: &Order) -> Result<serde_json::Value, End> {
    let preview = order.action.check(&shared.host).await.map_err(End::refused)?;
    check_preview(order, &preview)?;
    if preview.items.is_empty() {
        return Err(End::new(Kind::NoChange, preview.note));
    }
    let prepared = order.action.prepare(&shared.host, &preview).await.map_err(End::refused)?;
    // Looking took its time.
    not_started(order).map_or(Ok(prepared), Err)
}

/// What people approved by its preview is done as it was shown, or not at all.
fn check_preview(order: &Order, preview: &Preview) -> Result<(), End> {
    let action = &order.command.action;
    match order.signed.preview() {
        None if lists_objects(action) => Err(End::refused(Refusal::because(format!(
            "{action} touches only what stands on a list that its plan holds, and this plan holds none: ask for the \
             preview first, and order the plan that was made with it"
        )))),
        Some(approved) if outcome::preview_digest(preview) != approved => {
            let why = "what it would touch is not what it was when the plan was previewed: nothing was done; it is previewed anew";
            Err(End { moved: true, ..End::refused(Refusal::because(why)) })
        }
        _ => Ok(()),
    }
}

/// Makes durable that it begins, in the ledger and in the journal; without that nothing is done.
async fn intend(
    shared: &Arc<Shared>,
    order: &Order,
    prepared: serde_json::Value,
    undoes: Option<String>,
) -> Result<(), End> {
    let begin = |shared: &Shared, asked: &Asked| {
        standing::begin(&shared.beliefs, Moment::now(&shared.clock), &asked.command, &asked.signed)
    };
    off_the_runtime(shared, order, begin).await.map_err(End::refused)?;
    let command = &order.command;
    let intent = Intent {
        key: order.key.clone(),
        command_id: command.command_id.clone(),
        action: command.action.clone(),
        parameters: serde_json::from_slice(&command.parameters).unwrap_or_default(),
        fence: command.fence,
        plan: Some(order.signed.plan()),
        step: command.step,
        timeout_ms: command.timeout_ms,
        begun_unix_ms: jiff::Timestamp::now().as_millisecond(),
        resources: order.resources.iter().cloned().collect(),
        prepared,
        undoes,
    };
    let durable = shared.journal.append(vec![Line::Intent(intent)], true).await;
    durable.map_err(|error| End::refused(Refusal::because(error.to_string())))?;
    let started =
        v1::ActionStarted { command_id: command.command_id.clone(), idempotency_key: wire_key(&order.key).to_owned() };
    shared.report(Report::Started(started)).await;
    Ok(())
}

pub(super) fn work<'a>(shared: &'a Shared, cancel: &Cancel, span: Duration, resumed: bool) -> Work<'a> {
    Work { host: &shared.host, deadline: Instant::now() + span, cancel: cancel.token.clone(), resumed }
}

/// Does it, looks whether it holds, and takes it back where a failure is taken back.
pub(super) async fn apply_and_verify(
    action: &dyn Action,
    work: &Work<'_>,
    prepared: &serde_json::Value,
    cancel: &Cancel,
) -> End {
    let steps = async {
        let change = action.apply(work, prepared).await?;
        match action.verify(work, prepared).await {
            Ok(()) => Ok(change),
            Err(failure) => Err(Failure { change, ..failure }),
        }
    };
    let failure = match tokio::time::timeout_at(work.deadline + GRACE, steps).await {
        Ok(Ok(change)) => return End { kind: Kind::Succeeded, change, remedy: String::new(), moved: false },
        Ok(Err(failure)) => failure,
        Err(_) => return End::new(Kind::Unknown, "it did not end, long after its time was over"),
    };
    let called_off = cancel.reason().map(|reason| format!(" (called off: {reason})")).unwrap_or_default();
    let reason = format!("{}{called_off}", failure.reason);
    let mut end = End { kind: Kind::Failed, change: failure.change, remedy: String::new(), moved: false };
    end.change.summary.clone_from(&reason);
    if failure.in_doubt {
        end.kind = Kind::Unknown;
    } else if action.undoes_failures() {
        match action.undo(work, prepared).await {
            Ok(None) => {}
            Ok(Some(undone)) => {
                end.kind = Kind::Undone;
                end.change.summary = format!("{reason}; {}", undone.summary);
            }
            Err(failed) => end.change.summary = format!("{reason}; and it could not be undone: {}", failed.reason),
        }
    }
    end
}

/// Takes back, from the journal, what an earlier order did.
async fn undo(shared: &Arc<Shared>, order: &Order) -> Finish {
    let begun = Instant::now();
    let original = wire_key(&order.key).to_owned();
    let done = shared.journal.find(&original).and_then(|record| Some((record.intent?, record.outcome)));
    let end = match done {
        None => End::new(Kind::Refused, "this host's journal knows of nothing that was done under this order's key"),
        Some((intent, _)) if !is_of(&intent, order) => End::new(
            Kind::Refused,
            "what was done under this order's key is no step of this plan, so it says nothing of it",
        ),
        Some((intent, _)) => match intend(shared, order, intent.prepared.clone(), Some(original)).await {
            Err(end) => end,
            Ok(()) => take_back(shared, order, &intent).await,
        },
    };
    finish(shared, &order.command, &order.key, end, begun.elapsed()).await
}

/// Whether what was done is the very step that an order takes back: the order's evidence speaks of no other.
fn is_of(intent: &Intent, order: &Order) -> bool {
    let parameters: serde_json::Value = serde_json::from_slice(&order.command.parameters).unwrap_or_default();
    intent.plan == Some(order.signed.plan())
        && intent.step == order.command.step
        && intent.action == order.command.action
        && intent.parameters == parameters
}

async fn take_back(shared: &Shared, order: &Order, intent: &Intent) -> End {
    let work = work(shared, &order.cancel, Duration::from_millis(order.command.timeout_ms), false);
    let parameters = serde_json::to_vec(&intent.parameters).unwrap_or_default();
    let action = match crate::guard::read(&intent.action, &parameters) {
        Ok(action) => action,
        Err(refusal) => return End::refused(refusal),
    };
    match action.undo(&work, &intent.prepared).await {
        Ok(Some(change)) => End { kind: Kind::Succeeded, change, remedy: String::new(), moved: false },
        Ok(None) => End::new(Kind::NoChange, format!("there is nothing to take back of {}", intent.action)),
        Err(failure) => End::new(Kind::Failed, failure.reason),
    }
}

/// Makes the outcome durable and reports it.
pub(super) async fn finish(shared: &Shared, command: &v1::Command, key: &str, end: End, duration: Duration) -> Finish {
    let stored = Stored::of(command, key, end, duration, jiff::Timestamp::now());
    tracing::info!(
        command = stored.command_id, plan = command.plan_id, incident = command.incident_id, action = command.action,
        outcome = ?stored.kind, summary = stored.summary, "an order has ended"
    );
    shared.ends.note(key);
    if let Err(error) = shared.journal.append(vec![Line::Outcome(stored.clone())], true).await {
        // It is true all the same; the next agent finds the intent and looks again.
        tracing::error!(command = stored.command_id, %error, "an outcome could not be made durable");
    }
    shared.report(Report::Outcome(shared.ends.wire(&stored))).await;
    Finish::Ended
}
