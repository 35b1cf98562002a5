//! After a crash: what was begun and has no outcome.
//!
//! The host is looked at first. An effect that is there is verified; one that is not there, and that may safely be
//! applied again, goes on while its time is not over and the host's rules still allow it; whatever cannot be told is
//! unknown, and people see to it.

use std::{sync::Arc, time::Duration};

use quell_wire::v1;

use super::{
    Shared,
    carry_out::{self, Finish},
    journal::Intent,
    outcome::{End, Kind},
    queue::Cancel,
};
use crate::{
    actions::{Action, Change, Standing},
    guard,
};

/// Takes up one order.
pub(super) async fn recover(shared: Arc<Shared>, intent: Intent, cancel: Cancel) -> Finish {
    let age = jiff::Timestamp::now().as_millisecond().saturating_sub(intent.begun_unix_ms);
    let age = Duration::from_millis(u64::try_from(age).unwrap_or_default());
    tracing::warn!(
        command = intent.command_id,
        action = intent.action,
        ?age,
        "an order was interrupted and is taken up"
    );
    let end = decide(&shared, &intent, age, &cancel).await;
    let command = v1::Command {
        command_id: intent.command_id.clone(),
        idempotency_key: super::wire_key(&intent.key).to_owned(),
        fence: intent.fence,
        action: intent.action.clone(),
        ..v1::Command::default()
    };
    carry_out::finish(&shared, &command, &intent.key, end, age).await
}

async fn decide(shared: &Arc<Shared>, intent: &Intent, age: Duration, cancel: &Cancel) -> End {
    if intent.undoes.is_some() {
        return End::new(Kind::Unknown, "the agent ended while it took an earlier order back");
    }
    let parameters = serde_json::to_vec(&intent.parameters).unwrap_or_default();
    let action = match guard::read(&intent.action, &parameters) {
        Ok(action) => action,
        Err(refusal) => return End::new(Kind::Unknown, format!("interrupted, and not understood: {refusal}")),
    };
    match action.look(&shared.host, &intent.prepared).await {
        Standing::Done(change) => {
            let work = carry_out::work(shared, cancel, Duration::from_millis(intent.timeout_ms), true);
            match action.verify(&work, &intent.prepared).await {
                Ok(()) => End { kind: Kind::Succeeded, change, remedy: String::new(), moved: false },
                Err(failure) => End::new(Kind::Failed, failure.reason),
            }
        }
        Standing::Doubtful(reason) => End::new(Kind::Unknown, reason),
        Standing::Open => {
            let open = Change::new("interrupted before it took effect");
            go_on(shared, intent, age, action.as_ref(), cancel, open).await
        }
        Standing::Begun(mut begun) => {
            begun.summary = format!("interrupted: {}", begun.summary);
            go_on(shared, intent, age, action.as_ref(), cancel, begun).await
        }
    }
}

/// Applies it again while it may; otherwise it ends as it stands.
async fn go_on(
    shared: &Arc<Shared>,
    intent: &Intent,
    age: Duration,
    action: &dyn Action,
    cancel: &Cancel,
    mut stands: Change,
) -> End {
    match may_go_on(shared, intent, age, action).await {
        Ok(left) => {
            let work = carry_out::work(shared, cancel, left, true);
            carry_out::apply_and_verify(action, &work, &intent.prepared, cancel).await
        }
        Err(reason) => {
            stands.summary.push_str(&format!(", and {reason}"));
            End { kind: Kind::Failed, change: stands, remedy: String::new(), moved: false }
        }
    }
}

/// How long it may still take, or why it does not go on.
async fn may_go_on(
    shared: &Arc<Shared>,
    intent: &Intent,
    age: Duration,
    action: &dyn Action,
) -> Result<Duration, String> {
    let allowed = shared.host.config.allow.actions.contains(&intent.action);
    if !allowed || action.permitted(&shared.host.config).is_err() {
        return Err("agent.toml does not allow it any more".to_owned());
    }
    let asked = Arc::clone(shared);
    if let Some(held) = crate::actions::blocking(move || (asked.host_hold)()).await? {
        return Err(format!("the host is held: {}", held.reason));
    }
    match Duration::from_millis(intent.timeout_ms).checked_sub(age) {
        Some(left) if !left.is_zero() => Ok(left),
        _ => Err("its time was over when the agent came back".to_owned()),
    }
}
