//! What the decider releases, carried out: orders and questions to agents, messages to contacts.
//!
//! Nothing here waits, and nothing is kept: an effect that finds nobody follows from the state again when the agent
//! connects or the message is due again.

use jiff::Timestamp;
use quell_engine::{Effect, State};
use quell_wire::v1::{CancelCommand, LogRequest, ProbeNow, controller_message::Body};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{decider, notify, registry::Registry, wire};

/// Effects that wait to be carried out: each takes microseconds, so that only a standstill fills this.
const QUEUE: usize = 16_384;

/// Where the decider puts effects; it never waits.
#[derive(Debug)]
pub struct Sender {
    queue: mpsc::Sender<Effect>,
}

impl decider::Effects for Sender {
    fn release(&mut self, effect: Effect) {
        if let Err(error) = self.queue.try_send(effect) {
            tracing::error!(%error, "an effect is dropped, it follows from the state again later");
        }
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
    (Sender { queue: sender }, Service { queue, registry, notifier })
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
