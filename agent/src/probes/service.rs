//! `service`: how a service of this host stands, as its manager says, told when it changes.
//!
//! A service that is masked, disabled or was stopped by a person is not down, and not up either: its samples say how
//! it stands and have no `ok`.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use quell_model::{
    probe::{ProbeKind, ProbeSpec},
    value::Fields,
};
use tokio::sync::watch;

use super::{Attempt, Boxed, Built, Context, Kind, Probe};
use crate::managers::{Error, Manager, Managers, State, Status};

/// This kind in the list.
pub const KIND: Kind = Kind { kind: ProbeKind::Service, build };

fn build(spec: &ProbeSpec, context: &Context) -> Built {
    let ProbeSpec::Service { name } = spec else { return None };
    Some(Ok(Box::new(Service { name: name.clone(), managers: Arc::clone(&context.managers), found: None, told: None })))
}

struct Service {
    name: String,
    managers: Arc<Managers>,
    /// The manager, once it was found: a unit may be installed after the policy.
    found: Option<(Arc<dyn Manager>, watch::Receiver<Status>)>,
    /// What the manager told when it last told of a change: newer than anything that could be asked.
    told: Option<Status>,
}

impl Service {
    async fn status(&mut self) -> Result<Status, Error> {
        if self.found.is_none() {
            let manager = self.managers.find(&self.name)?;
            let watch = manager.watch();
            self.found = Some((manager, watch));
        }
        match (self.told.take(), &self.found) {
            (Some(told), _) if told.state != State::Unknown => Ok(told),
            (_, Some((manager, _))) => manager.state().await,
            (_, None) => Err(Error::NotFound(self.name.clone())),
        }
    }
}

impl Probe for Service {
    fn attempt(&mut self, timeout: Duration) -> Boxed<'_, Attempt> {
        Box::pin(async move {
            match tokio::time::timeout(timeout, self.status()).await {
                Ok(Ok(status)) => judge(&status, Timestamp::now()),
                // The manager's silence says nothing about the service.
                Ok(Err(error)) => Attempt::not_made(error.to_string()),
                Err(_) => Attempt::not_made(format!("the manager of {} does not answer within {timeout:?}", self.name)),
            }
        })
    }

    fn changed(&mut self) -> Boxed<'_, ()> {
        Box::pin(async move {
            let Some((_, watch)) = &mut self.found else { return std::future::pending().await };
            if watch.changed().await.is_err() {
                // The manager is gone: it is looked for again when the next sample is due.
                self.found = None;
                return std::future::pending().await;
            }
            self.told = Some(watch.borrow_and_update().clone());
        })
    }
}

fn judge(status: &Status, now: Timestamp) -> Attempt {
    #[expect(clippy::cast_precision_loss, reason = "restarts are few")]
    let restarts = status.restarts as f64;
    let mut fields = Fields::from([
        ("state".to_owned(), word(status.state).into()),
        ("restarts".to_owned(), restarts.into()),
        ("stopped_by_person".to_owned(), is_wanted_down(status).into()),
    ]);
    if let Some(since) = status.since {
        fields.insert("since".to_owned(), now.duration_since(since).as_secs_f64().max(0.0).round().into());
    }
    let says = if status.detail.is_empty() { String::new() } else { format!(": {}", status.detail) };
    match status.state {
        State::Active => Attempt::good(fields),
        State::Unknown | State::Missing => {
            Attempt::Unjudged { reason: format!("the service is {}{says}", status.state), fields }
        }
        state if is_wanted_down(status) => {
            Attempt::Unjudged { reason: format!("the service is {state} because a person wants it so{says}"), fields }
        }
        state => Attempt::bad(format!("the service is {state}{says}"), fields),
    }
}

fn is_wanted_down(status: &Status) -> bool {
    status.stopped_by_person || matches!(status.state, State::Masked | State::Disabled)
}

/// The word of the field table.
fn word(state: State) -> &'static str {
    match state {
        State::Active => "active",
        State::Starting => "activating",
        State::Stopping => "deactivating",
        State::Failed => "failed",
        State::Stopped | State::Disabled => "inactive",
        State::Masked => "masked",
        State::Unknown | State::Missing => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: State, stopped_by_person: bool) -> Status {
        Status { state, stopped_by_person, ..Status::default() }
    }

    #[test]
    fn what_a_person_wants_down_is_not_down() {
        let now = Timestamp::UNIX_EPOCH;
        for wanted in [
            status(State::Masked, false),
            status(State::Disabled, false),
            status(State::Stopped, true),
            status(State::Failed, true),
        ] {
            let Attempt::Unjudged { fields, .. } = judge(&wanted, now) else { panic!("{wanted:?} was judged") };
            assert_eq!(fields["stopped_by_person"], true.into());
        }
        for down in [State::Failed, State::Stopped, State::Starting, State::Stopping] {
            assert!(matches!(judge(&status(down, false), now), Attempt::Judged { result: Err(_), .. }), "{down}");
        }
        assert!(matches!(judge(&status(State::Active, false), now), Attempt::Judged { result: Ok(()), .. }));
        assert!(matches!(judge(&status(State::Unknown, false), now), Attempt::Unjudged { .. }));
    }
}
