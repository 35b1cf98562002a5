//! Agents' sessions: `AgentService.Session`.
//!
//! What a session promises:
//!
//! - a message that needs an acknowledgement is acknowledged after what it says is durable, and not before;
//! - one that came already changes nothing, one that overtook another is refused, and the agent sends it again;
//! - at the start of a session the agent is sent everything that it is owed: probes, orders without an outcome;
//! - a second session of the same host replaces the first, and the host is not reported as gone in between; a hello that
//!   comes late, on an older connection than another one, is refused;
//! - an order that was decided upon before the hello does not get into the session that begins with it;
//! - one message at a time is taken in, so an agent that sends faster than the controller decides is slowed by flow
//!   control and drops samples at its own end; one that does not read is ended (see [`outbox`]);
//! - whatever an agent sends, it is told in one sentence what was wrong, and the controller goes on.

mod delta;
pub mod order;
pub mod outbox;

use std::{
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;
use quell_engine::{Input, input::Sample, state::HostState};
use quell_link::{
    access::{self, AgentCaller},
    rpc::agent_service_server::AgentService,
};
use quell_model::name::HostName;
use quell_wire::v1::{
    Acknowledge, AgentMessage, ControllerMessage, GoAway, Heartbeat, Hello, Outcome, Preview, SampleBatch, Welcome,
    agent_message, controller_message::Body,
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

pub use self::outbox::{Ending, Outbound, Outbox};
use self::{
    delta::Bases,
    order::{Order, Place},
};
use crate::{
    config,
    decider::Handle,
    metrics::Metrics,
    registry::{Live, Older, Registry, Session},
    rpc::status,
    wire::{self, Invalid},
};

/// How long an agent may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How long a new session waits for the one that it replaces to end.
const REPLACE_WITHIN: Duration = Duration::from_secs(10);
/// When an agent comes back after the controller stopped; it adds jitter of up to as much again.
const RETRY_AFTER_STOP: Duration = Duration::from_secs(1);

/// What all sessions share.
#[derive(Clone)]
pub struct Context {
    /// Who decides.
    pub decider: Handle,
    /// Who is connected.
    pub registry: Registry,
    /// What agents are told.
    pub agents: config::Agents,
    /// The installation's identifier.
    pub installation: String,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the controller stops.
    pub stop: CancellationToken,
    /// The sessions' tasks: the stopping controller waits for them.
    pub tasks: TaskTracker,
}

/// The service that agents call.
#[derive(Clone)]
pub struct Sessions {
    context: Arc<Context>,
}

impl Sessions {
    /// A service over what sessions share.
    pub fn new(context: Context) -> Self {
        Self { context: Arc::new(context) }
    }
}

#[tonic::async_trait]
impl AgentService for Sessions {
    type SessionStream = Outbound;

    async fn session(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Outbound>, Status> {
        let caller = access::require_agent(&request)?;
        let ending = Ending::new(caller.peer.cut.clone());
        let (outbox, outbound) = outbox::outbox(&ending);
        let span = tracing::info_span!("session", host = %caller.name, peer = %caller.peer.address);
        let worker = Worker {
            live: self.context.registry.live(&caller.name),
            context: self.context.clone(),
            caller,
            outbox,
            ending,
            bases: Bases::default(),
            order: Order::after(0),
            dropped: 0,
        };
        self.context.tasks.spawn(worker.run(request.into_inner()).instrument(span));
        Ok(Response::new(outbound))
    }
}

/// One session.
struct Worker {
    context: Arc<Context>,
    caller: AgentCaller,
    outbox: Outbox,
    ending: Ending,
    live: Arc<Live>,
    bases: Bases,
    order: Order,
    /// Dropped samples that the agent has reported in this session.
    dropped: u64,
}

impl Worker {
    /// The whole session; dropping `self` at its end lets the stream to the agent end.
    async fn run(mut self, mut inbound: Streaming<AgentMessage>) {
        match self.serve(&mut inbound).await {
            Ok(()) => tracing::info!("session ended"),
            Err(status) => {
                tracing::warn!(code = ?status.code(), reason = status.message(), "session ended with an error");
                self.ending.because(status);
            }
        }
    }

    async fn serve(&mut self, inbound: &mut Streaming<AgentMessage>) -> Result<(), Status> {
        let hello = self.greeting(inbound).await?;
        let session = self.take_over(&hello).await?;
        let result = self.converse(inbound, hello).await;
        self.leave(&session).await;
        result
    }

    /// The first message, which must be Hello.
    async fn greeting(&self, inbound: &mut Streaming<AgentMessage>) -> Result<Hello, Status> {
        let first = tokio::select! {
            () = self.ending.wait() => return Err(self.ending.status().unwrap_or_else(|| Status::cancelled("session over"))),
            () = self.context.stop.cancelled() => return Err(Status::unavailable("the controller stops")),
            first = timeout(HELLO_WITHIN, inbound.message()) => first,
        };
        let message = first.map_err(|_| Status::deadline_exceeded(format!("no Hello within {HELLO_WITHIN:?}")))??;
        let Some(agent_message::Body::Hello(hello)) = message.and_then(|message| message.body) else {
            return Err(Status::invalid_argument("the first message of a session must be Hello"));
        };
        if hello.protocol == 0 {
            return Err(Status::failed_precondition("Hello says no protocol version: update the agent"));
        }
        Ok(hello)
    }

    /// Ends an earlier session of the host, welcomes the agent, and makes this the host's session.
    async fn take_over(&mut self, hello: &Hello) -> Result<Arc<Session>, Status> {
        let host = &self.caller.name;
        let connection = self.caller.peer.connection;
        let older = |older: Older| Status::aborted(format!("{older}: what is said on an older one is out of date"));
        if let Some(gone) = self.context.registry.replace(host, connection).map_err(older)? {
            timeout(REPLACE_WITHIN, gone.cancelled())
                .await
                .map_err(|_| Status::unavailable("an earlier session of this host has not ended yet; try again"))?;
        }
        let state = self.context.decider.state();
        let row = state.hosts.get(host).ok_or_else(|| Status::permission_denied(format!("{host} is not enrolled")))?;
        self.order = Order::after(row.acknowledged);
        let welcome = Welcome {
            epoch: state.meta.epoch,
            acknowledged: row.acknowledged,
            host_every_ms: wire::millis(self.context.agents.host_every),
            credit_bytes: self.context.agents.credit_bytes,
            protocol: hello.protocol.min(quell_wire::PROTOCOL),
            installation: self.context.installation.clone(),
            unix_ms: self.context.decider.now().as_millisecond(),
        };
        self.say(Body::Welcome(welcome))?;
        let session = Arc::new(Session {
            connection,
            is_open: AtomicBool::new(false),
            outbox: self.outbox.clone(),
            end: self.ending.clone(),
            replaced: AtomicBool::new(false),
            gone: CancellationToken::new(),
        });
        if let Some(other) = self.context.registry.install(host, session.clone()).map_err(older)? {
            other.replaced.store(true, Ordering::SeqCst);
            other.end.because(Status::aborted("another session of this host took over"));
            let _ = timeout(REPLACE_WITHIN, other.gone.cancelled()).await;
        }
        Ok(session)
    }

    /// From the hello to the end.
    async fn converse(&mut self, inbound: &mut Streaming<AgentMessage>, hello: Hello) -> Result<(), Status> {
        self.connect(hello).await?;
        tracing::info!("session began");
        loop {
            let message = tokio::select! {
                biased;
                () = self.ending.wait() => return self.ending.status().map_or(Ok(()), Err),
                () = self.context.stop.cancelled() => return self.go_away(),
                message = timeout(self.context.agents.silence, inbound.message()) => message,
            };
            match message {
                Err(_) => {
                    let silence = self.context.agents.silence;
                    return Err(Status::deadline_exceeded(format!("nothing was heard for {silence:?}")));
                }
                Ok(Err(status)) => return Err(status),
                Ok(Ok(None)) => return Ok(()),
                Ok(Ok(Some(message))) => self.take(message).await?,
            }
        }
    }

    /// Tells the decider that the host is here; what the host is owed comes back as effects.
    async fn connect(&mut self, hello: Hello) -> Result<(), Status> {
        let host = self.caller.name.clone();
        self.live.heard(self.context.decider.now());
        self.live.lost(hello.spool_dropped);
        self.context.metrics.samples_dropped.inc_by(hello.spool_dropped);
        let hello = wire::hello(hello, self.caller.peer.connection)?;
        self.submit(Input::Connected { host: host.clone(), hello: Box::new(hello) }).await?;
        // A revocation between the check of the certificate and the installation of the session found nobody to end.
        let state = self.context.decider.state();
        let admitted = state.hosts.get(&host).is_some_and(|row| {
            row.host_id == self.caller.host_id && !matches!(row.state, HostState::Revoked | HostState::Retired)
        });
        if admitted { Ok(()) } else { Err(Status::permission_denied(format!("the certificate of {host} was revoked"))) }
    }

    /// Takes in one message, then acknowledges it.
    async fn take(&mut self, message: AgentMessage) -> Result<(), Status> {
        let now = self.context.decider.now();
        self.live.heard(now);
        let place = self.order.place(message.sequence)?;
        let body = message.body.ok_or(Invalid::Missing("the body of a message"))?;
        self.digest(body, message.sequence, place, now).await?;
        if place == Place::Unnumbered {
            return Ok(());
        }
        self.order.taken(message.sequence);
        self.say(Body::Acknowledge(Acknowledge { sequence: self.order.acknowledged() }))
    }

    async fn digest(
        &mut self,
        body: agent_message::Body,
        sequence: u64,
        place: Place,
        now: Timestamp,
    ) -> Result<(), Status> {
        use agent_message::Body as Said;

        let host = self.caller.name.clone();
        // Samples are differences to the ones before, so those of a duplicate are still needed.
        if let Said::Samples(batch) = body {
            return self.take_samples(batch, place, now).await;
        }
        if place == Place::Duplicate {
            return Ok(());
        }
        let input = match body {
            Said::Hello(_) => return Err(Status::invalid_argument("Hello came twice in one session")),
            Said::Heartbeat(beat) => {
                self.beat(beat);
                return Ok(());
            }
            Said::Samples(_) => return Ok(()),
            Said::Preview(preview) => previewed(host, preview)?,
            Said::Outcome(outcome) => self.ended(host, outcome, sequence, now)?,
            Said::LogTail(tail) => {
                let (message, lines) = wire::log_tail(tail)?;
                Input::LogTail { message, host, lines }
            }
            Said::Started(started) => Input::Begun { host, command: wire::command_id(&started.command_id)? },
            Said::HostHold(hold) => Input::HostHeld { host, hold: wire::host_hold(hold)? },
        };
        self.submit(input).await
    }

    async fn take_samples(&mut self, batch: SampleBatch, place: Place, now: Timestamp) -> Result<(), Status> {
        let count = batch.samples.len();
        let mut spooled = 0;
        let mut samples = Vec::with_capacity(count);
        for sample in batch.samples {
            let (taken_at, waited) = (wire::time_of(now, sample.age_ms), sample.spooled);
            let (probe, fields) = self.bases.undo(sample)?;
            if waited {
                spooled += 1;
            } else {
                samples.push(Sample { probe, taken_at, fields });
            }
        }
        if place == Place::Duplicate {
            return Ok(());
        }
        self.live.took(count, spooled);
        self.context.metrics.samples.inc_by(count as u64);
        self.context.metrics.samples_spooled.inc_by(spooled as u64);
        if samples.is_empty() {
            return Ok(());
        }
        let input = Input::Samples { host: self.caller.name.clone(), samples };
        match place {
            Place::Unnumbered => self.context.decider.input(input).await.map_err(|error| status::of_decider(&error)),
            Place::Next | Place::Duplicate => self.submit(input).await,
        }
    }

    fn beat(&mut self, beat: Heartbeat) {
        let dropped = beat.dropped.saturating_sub(self.dropped);
        self.dropped = beat.dropped;
        self.live.lost(dropped);
        self.context.metrics.samples_dropped.inc_by(dropped);
        let suspended = beat.suspended.into_iter().take(100).filter_map(|name| wire::field_name(name).ok()).collect();
        self.live.beat(beat.resident_bytes, beat.cpu_ms, suspended);
    }

    fn ended(&self, host: HostName, outcome: Outcome, sequence: u64, now: Timestamp) -> Result<Input, Invalid> {
        let command = wire::command_id(&outcome.command_id)?;
        let ended_at = wire::time_of(now, outcome.age_ms);
        let outcome = wire::outcome(outcome)?;
        self.context.metrics.command_ended(outcome.kind);
        Ok(Input::Ended { host, command, outcome, ended_at, sequence })
    }

    /// Hands an input to the decider and waits until what it changed is durable.
    async fn submit(&self, input: Input) -> Result<(), Status> {
        self.context.decider.input_durable(input).await.map_err(|error| status::of_decider(&error))
    }

    /// Queues a message for the agent.
    fn say(&self, body: Body) -> Result<(), Status> {
        let message: ControllerMessage = wire::message(body);
        self.outbox.push(message).map_err(|overflow| Status::resource_exhausted(overflow.to_string()))
    }

    fn go_away(&self) -> Result<(), Status> {
        let reason = "the controller stops".to_owned();
        self.say(Body::GoAway(GoAway { reason, retry_after_ms: wire::millis(RETRY_AFTER_STOP) }))
    }

    /// Says that the host is gone, unless it is here in another session or the controller stops: then its coming back
    /// is news, and its going is not.
    async fn leave(&self, session: &Arc<Session>) {
        let host = &self.caller.name;
        let stays = session.replaced.load(Ordering::SeqCst) || self.context.stop.is_cancelled();
        if !stays && let Err(error) = self.submit(Input::Disconnected { host: host.clone() }).await {
            tracing::warn!(reason = error.message(), "the end of a session could not be recorded");
        }
        self.context.registry.remove(host, session);
        session.gone.cancel();
    }
}

fn previewed(host: HostName, preview: Preview) -> Result<Input, Invalid> {
    let (command, preview) = wire::preview(preview)?;
    Ok(Input::Previewed { host, command, preview })
}
