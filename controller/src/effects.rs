//! What the decider releases, carried out: orders and questions to agents, messages to contacts.
//!
//! Nothing is kept here: an effect that finds nobody follows from the state again when the agent connects or the message is
//! due again. Nothing is dropped either: an agent that is connected and is not told that its session is open, or of its
//! probes, would hear of it no earlier than it connects again. So when more is decided than can be carried out, deciding
//! waits; carrying out waits for nothing, least of all for a decision.

use jiff::Timestamp;
use quell_engine::{Effect, State};
use quell_wire::v1::{CancelCommand, LogRequest, ProbeNow, controller_message::Body};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;

use crate::{decider, notify, registry::Registry, wire};

/// Effects that wait to be carried out. One decision can release more: when everybody's probes change, one for each host
/// and namespace.
const QUEUE: usize = 16_384;

/// Where the decider puts effects; it waits for a place there.
#[derive(Debug)]
pub struct Sender {
    queue: mpsc::Sender<Effect>,
    is_behind: bool,
}

impl decider::Effects for Sender {
    fn release(&mut self, effect: Effect) {
        let effect = match self.queue.try_send(effect) {
            Err(TrySendError::Full(effect)) => effect,
            // Closed: the controller stops, and nobody carries anything out any more.
            Ok(()) | Err(TrySendError::Closed(_)) => {
                self.is_behind = false;
                return;
            }
        };
        if !std::mem::replace(&mut self.is_behind, true) {
            tracing::warn!(waiting = QUEUE, "more is decided than can be carried out, deciding waits");
        }
        // As above: it fails when nobody is there any more.
        let _ = self.queue.blocking_send(effect);
    }
}

/// Carries effects out.
#[derive(Debug)]
pub struct Service {
    queue: mpsc::Receiver<Effect>,
    registry: Registry,
    notifier: notify::Handle,
}

/// What the decider is given, and the service that carries out what comes through it: to these sessions, and through
/// this notifier.
pub fn service(registry: Registry, notifier: notify::Handle) -> (Sender, Service) {
    let (sender, queue) = mpsc::channel(QUEUE);
    (Sender { queue: sender, is_behind: false }, Service { queue, registry, notifier })
}

impl Service {
    /// Runs until cancelled, or until the decider has ended.
    pub async fn run(mut self, decider: decider::Handle, stop: CancellationToken) {
        loop {
            let effect = tokio::select! {
                () = stop.cancelled() => return,
                effect = self.queue.recv() => effect,
            };
            let Some(effect) = effect else { return };
            self.carry_out(effect, &decider.state(), decider.head().sequence, decider.now());
        }
    }

    /// Carries out an effect whose cause is committed and in `state`. `sequence` is the number of the newest record:
    /// lists of probes are numbered by it, since it only goes up, restarts included.
    fn carry_out(&self, effect: Effect, state: &State, sequence: u64, now: Timestamp) {
        match effect {
            Effect::Open { host, connection } => self.registry.open(&host, connection),
            Effect::Command { host, command, plan } => {
                let order = wire::command(state, now, &command, &plan);
                let sent = self.registry.send(&host, wire::message(Body::Command(order)));
                tracing::info!(%host, command = %command.id, plan = %plan.id, sent, "command released");
            }
            Effect::Preview { host, command, plan } => {
                let question = wire::question(state, now, &command, &plan);
                let sent = self.registry.send(&host, wire::message(Body::Command(question)));
                tracing::info!(%host, command = %command.id, plan = %plan.id, sent, "preview asked for");
            }
            Effect::Cancel { host, command, reason } => {
                tracing::info!(%host, %command, reason, "command cancelled");
                let cancel = CancelCommand { command_id: command.to_string(), reason };
                self.registry.send(&host, wire::message(Body::Cancel(cancel)));
            }
            Effect::Assign { host, assignments } => {
                self.registry.live(&host).assigned(assignments.len());
                let assign = wire::assign(state, sequence, &assignments);
                self.registry.send(&host, wire::message(Body::Assign(assign)));
            }
            Effect::ProbeNow { host, keys } => {
                let keys = keys.iter().map(ToString::to_string).collect();
                self.registry.send(&host, wire::message(Body::ProbeNow(ProbeNow { keys })));
            }
            Effect::FetchLog { host, probe, lines, message } => {
                let request =
                    LogRequest { request_id: message.to_string(), probe: probe.to_string(), lines: lines.min(1_000) };
                self.registry.send(&host, wire::message(Body::LogRequest(request)));
            }
            Effect::Believe { host, changes } => {
                for change in changes {
                    self.registry.send(&host, wire::message(Body::Change(wire::change(change))));
                }
            }
            Effect::Notify { message } => self.notifier.tell(*message, state),
            Effect::Disconnect { host, reason } => self.registry.disconnect(&host, &reason),
            // The decider keeps its own time.
            Effect::WakeAt(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quell_model::name::HostName;

    use super::*;
    use crate::{
        decider::Effects as _,
        metrics::Metrics,
        registry::Session,
        session::{Ending, outbox::outbox},
    };

    /// Many hosts connect at once while carrying out stands still: each session is opened all the same.
    #[test]
    fn what_finds_the_queue_full_waits_and_is_not_dropped() {
        let (registry, stop) = (Registry::default(), CancellationToken::new());
        let (notifier, _messages) = notify::service("installation", Vec::new(), Metrics::new());
        let (mut sender, mut service) = service(registry.clone(), notifier);
        let host = |number: usize| format!("host{number}").parse::<HostName>().unwrap();
        let sessions: Vec<Arc<Session>> = (0..QUEUE + 100)
            .map(|number| {
                let end = Ending::new(stop.clone());
                let (outbox, _) = outbox(&end);
                let (is_open, replaced) = (false.into(), false.into());
                let gone = CancellationToken::new();
                let session = Arc::new(Session { connection: 1, is_open, outbox, end, replaced, gone });
                registry.install(&host(number), session.clone()).unwrap();
                session
            })
            .collect();
        let decider = std::thread::spawn(move || {
            (0..QUEUE + 100).for_each(|number| sender.release(Effect::Open { host: host(number), connection: 1 }));
        });
        while service.queue.len() < QUEUE {
            std::thread::yield_now();
        }
        assert!(!decider.is_finished(), "it dropped what did not fit");
        let now = Timestamp::UNIX_EPOCH;
        while let Some(effect) = service.queue.blocking_recv() {
            service.carry_out(effect, &State::default(), 1, now);
        }
        decider.join().unwrap();
        let open = sessions.iter().filter(|session| session.is_open.load(std::sync::atomic::Ordering::SeqCst));
        assert_eq!(open.count(), QUEUE + 100);
    }

    #[test]
    fn a_decider_that_waits_goes_on_when_nobody_carries_out_any_more() {
        let (notifier, _messages) = notify::service("installation", Vec::new(), Metrics::new());
        let (mut sender, service) = service(Registry::default(), notifier);
        let decider = std::thread::spawn(move || {
            let effect = || Effect::Disconnect { host: "host1".parse().unwrap(), reason: String::new() };
            (0..=QUEUE).for_each(|_| sender.release(effect()));
        });
        while service.queue.len() < QUEUE {
            std::thread::yield_now();
        }
        drop(service);
        decider.join().unwrap();
    }
}
