//! The agent's session with the controller: one stream, opened by the agent, resumed for as long as the agent lives.
//!
//! What it promises:
//!
//! - while the controller is away, samples wait in the spool and everything else in the outbox; probes and orders go on;
//! - what needs an acknowledgement is numbered and sent again, in order, until it is acknowledged;
//! - a sample that was pushed, asked for, or turned a verdict leaves at once; others travel together;
//! - a controller that is slow costs samples, never memory; one that sends more orders than can be queued is left and
//!   asked again;
//! - attempts to reach it are spread by jitter, and a certificate is renewed without touching the stream.

mod delta;
mod link;
mod online;
pub mod outbox;
mod outgoing;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use quell_link::backoff::{Backoff, jitter};
use quell_wire::v1::{self, AgentMessage, agent_message::Body as Up, controller_message::Body as Down};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use link::{Connect, Grpc, Inbound, Orders};
pub use outgoing::{Messages, Outgoing, outgoing};

use crate::{
    clock::ClockOffset,
    execute::Reports,
    hold::Hold,
    limits::{self, Limits, Usage, Verdict},
    probes::{
        Sample,
        runner::{Runner, Tail},
    },
    spool::{self, Spool},
    wire,
};
use link::{Event, Link, Order};
use online::Online;
use outbox::Outbox;

/// After this long without another message the agent says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// A session that lasted this long was a good one: the next attempt begins with the shortest delay.
const GOOD_SESSION: Duration = Duration::from_secs(10);

/// Requests for the tail of a log that may wait at a time.
const MOST_TAILS: usize = 16;

/// Interval of the host samples until the controller says another.
const HOST_EVERY: Duration = Duration::from_secs(15);

/// What a session works with.
pub struct Parts {
    /// Reaches the controller.
    pub connect: Box<dyn Connect>,
    /// Carries out orders.
    pub orders: Arc<dyn Orders>,
    /// What becomes of orders.
    pub reports: Reports,
    /// Runs the probes.
    pub runner: Runner,
    /// What they see.
    pub samples: mpsc::Receiver<Sample>,
    /// The hold of the host's administrator.
    pub hold: watch::Receiver<Option<Hold>>,
    /// Learns the controller's time.
    pub clock: ClockOffset,
    /// Facts about the host.
    pub facts: BTreeMap<String, String>,
    /// What the agent can do.
    pub capabilities: Vec<String>,
    /// Random at each start of the process.
    pub instance: String,
}

/// Why a session's work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was stopped.
    Stopped,
    /// The agent uses so much that it should be started afresh.
    TooMuch(String),
}

/// The session.
pub struct Session {
    parts: Parts,
    link: Link,
    backoff: Backoff,
    outbox: Outbox,
    spool: Spool,
    reported_drops: u64,
    reported_hold: Option<Option<Hold>>,
    newest_assignment: (u64, u64),
    epoch: u64,
    tails: JoinSet<(String, Tail)>,
    limits: Limits,
    next_look: Instant,
    orders: mpsc::Sender<Order>,
}

impl Session {
    /// A session that has not begun. Must be made within the runtime.
    pub fn new(parts: Parts) -> Self {
        let now = Instant::now();
        Self {
            orders: link::forward(Arc::clone(&parts.orders)),
            parts,
            link: Link::waiting(Duration::ZERO),
            backoff: Backoff::session(),
            outbox: Outbox::default(),
            spool: Spool::new(spool::MOST_BYTES),
            reported_drops: 0,
            reported_hold: None,
            newest_assignment: (0, 0),
            epoch: 0,
            tails: JoinSet::new(),
            limits: Limits::new(Usage::now(), now),
            next_look: now + limits::EVERY,
        }
    }

    /// Works until stopped.
    pub async fn run(mut self, stop: CancellationToken) -> Ended {
        self.parts.runner.watch_host(HOST_EVERY);
        loop {
            let timer = self.next_timer();
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.flush();
                    self.link.close().await;
                    return Ended::Stopped;
                }
                event = self.link.next() => event,
                Ok(()) = self.parts.hold.changed() => Event::Hold,
                Some(report) = self.parts.reports.recv(), if self.outbox.has_room() => Event::Report(report),
                Some(sample) = self.parts.samples.recv() => Event::Sample(sample),
                Some(Ok(tail)) = self.tails.join_next() => Event::Tail(tail),
                () = tokio::time::sleep_until(timer) => Event::Timer,
            };
            if let Err(reason) = self.handle(event) {
                return Ended::TooMuch(reason);
            }
        }
    }

    /// The next moment at which something is due whatever happens.
    fn next_timer(&self) -> Instant {
        let online = self.link.online().map(|online| online.next_timer(!self.spool.is_empty()));
        online.map_or(self.next_look, |due| due.min(self.next_look))
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Wake => self.connect(),
            Event::Connected(Ok((inbound, outgoing, welcome))) => self.begin(inbound, outgoing, &welcome),
            Event::Connected(Err(reason)) | Event::Said(Err(reason)) => self.leave(&reason),
            Event::Said(Ok(message)) => self.obey(*message),
            Event::Hold => self.report_hold(),
            Event::Report(report) => {
                self.put(wire::report(report));
                self.send_numbered();
            }
            Event::Sample(sample) => self.take(sample),
            Event::Tail((request_id, tail)) => {
                self.put(Up::LogTail(wire::log_tail(request_id, tail)));
                self.send_numbered();
            }
            Event::Timer => return self.look(),
        }
        Ok(())
    }

    /// Begins an attempt to reach the controller.
    fn connect(&mut self) {
        let believed = self.parts.orders.beliefs();
        let (journal, at_hand) = wire::at_hand(self.parts.orders.at_hand(), self.parts.orders.journal());
        let set_versions = believed.set_versions.into_iter().map(|(name, version)| (name.to_string(), version));
        let hello = v1::Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: quell_wire::PROTOCOL,
            capabilities: self.parts.capabilities.clone(),
            labels: believed.labels.into_iter().collect(),
            facts: self.parts.facts.clone(),
            fence: self.parts.orders.fence(),
            set_versions: set_versions.collect(),
            trust_version: believed.trust_version,
            label_version: believed.label_version,
            journal,
            at_hand,
            next_sequence: self.outbox.next_sequence(),
            spool_dropped: self.spool.dropped() - self.reported_drops,
            instance: self.parts.instance.clone(),
            host_hold: Some(wire::hold(self.parts.hold.borrow().as_ref())),
        };
        self.link = Link::connecting(&*self.parts.connect, hello);
    }

    /// The controller has welcomed the agent.
    fn begin(&mut self, inbound: Inbound, outgoing: Outgoing, welcome: &v1::Welcome) {
        tracing::info!(
            installation = welcome.installation,
            epoch = welcome.epoch,
            acknowledged = welcome.acknowledged,
            spooled = self.spool.len(),
            "connected to the controller"
        );
        if welcome.unix_ms != 0 {
            self.parts.clock.learn(welcome.unix_ms, std::time::Instant::now());
        }
        self.epoch = welcome.epoch;
        self.reported_drops = self.spool.dropped();
        if welcome.host_every_ms > 0 {
            self.parts.runner.watch_host(Duration::from_millis(welcome.host_every_ms));
        }
        self.link = Link::Online(Box::new(Online::new(inbound, outgoing, welcome.credit_bytes, self.spool.dropped())));
        if self.outbox.next_sequence() == 0 {
            self.report_again();
        }
        let known = self.outbox.begin(welcome.acknowledged);
        self.settle(known);
        self.reported_hold = None;
        self.report_hold();
        self.send_numbered();
        // What was seen while nobody listened is history; what is the case now may be waited for.
        self.parts.runner.look_all();
    }

    /// Outcomes that an earlier process journaled and nobody acknowledged: the hello told of them, and only an
    /// acknowledged message lets the journal forget them.
    fn report_again(&mut self) {
        for outcome in self.parts.orders.journal().into_iter().filter_map(|entry| entry.outcome) {
            if !self.outbox.has_outcome(&outcome.idempotency_key) {
                self.put(Up::Outcome(outcome));
            }
        }
    }

    /// The session is over, or there was none: tries again later.
    fn leave(&mut self, reason: &str) {
        let lasted = self.link.online().map(Online::lasted);
        if lasted.is_some_and(|lasted| lasted >= GOOD_SESSION) {
            self.backoff.reset();
        }
        let delay = self.backoff.next_delay();
        let attempt = self.backoff.attempts();
        tracing::warn!(reason, attempt, ?delay, "not connected to the controller; will try again");
        self.go_offline(delay);
    }

    fn go_offline(&mut self, delay: Duration) {
        if let Some(online) = self.link.online_mut() {
            for sample in online.take_pending() {
                self.spool.push(sample.taken, &delta::whole(&sample));
            }
        }
        // Nobody waits for tails that were asked for in a session that is over.
        self.outbox.retain_unsent(|body| !matches!(body, Up::LogTail(_)));
        self.tails.abort_all();
        self.link = Link::waiting(delay);
    }

    /// Does what the controller says.
    fn obey(&mut self, message: v1::ControllerMessage) {
        match message.body {
            // A message of a later version: it is not for this agent.
            None => tracing::debug!("a message of an unknown kind was left aside"),
            Some(Down::Welcome(_)) => self.leave("the controller welcomed the agent twice"),
            Some(Down::Acknowledge(acknowledge)) => {
                let known = self.outbox.acknowledged(acknowledge.sequence);
                self.settle(known);
            }
            Some(Down::Assign(assign)) => self.assign(&assign),
            Some(Down::Command(command)) => self.order(Order::Submit(self.parts.orders.submit(command))),
            Some(Down::Cancel(cancel)) => self.order(Order::Cancel(cancel)),
            // In order with the commands: one that follows is judged by what came before it.
            Some(Down::Change(change)) => self.order(Order::Believe(change)),
            Some(Down::ProbeNow(now)) => self.parts.runner.look_now(&now.keys),
            Some(Down::LogRequest(request)) => self.tail(request),
            Some(Down::GoAway(away)) => {
                let pause = Duration::from_millis(away.retry_after_ms);
                let delay = pause + jitter(pause);
                tracing::info!(reason = away.reason, ?delay, "the controller asks to come back later");
                self.flush();
                self.go_offline(delay);
            }
        }
    }

    /// What the controller has durably need not be kept in the journal.
    fn settle(&mut self, known: Vec<Up>) {
        for body in known {
            if let Up::Outcome(outcome) = body {
                self.order(Order::Acknowledged(outcome.idempotency_key));
            }
        }
    }

    fn order(&mut self, order: Order) {
        if self.orders.try_send(order).is_err() {
            // Nothing is lost: the controller sends again what it is owed an outcome of.
            self.leave("more orders came than can wait");
        }
    }

    fn assign(&mut self, assign: &v1::AssignProbes) {
        let newest = (self.epoch, assign.generation);
        if newest < self.newest_assignment {
            tracing::warn!(generation = assign.generation, "an older list of probes was refused");
            return;
        }
        self.newest_assignment = newest;
        let vouched = self.parts.orders.vouched(&assign.signed);
        self.parts.runner.assign(assign.probes.iter().map(|probe| wire::assignment(probe, &vouched)).collect());
        if let Some(online) = self.link.online_mut() {
            online.retain(|key| key == "host" || assign.probes.iter().any(|probe| probe.key == key));
        }
        tracing::info!(generation = assign.generation, probes = self.parts.runner.count(), "probes were assigned");
    }

    fn tail(&mut self, request: v1::LogRequest) {
        if self.tails.len() >= MOST_TAILS {
            let refusal = wire::log_tail(request.request_id, Err("too many logs were asked for at once".to_owned()));
            self.put(Up::LogTail(refusal));
            return self.send_numbered();
        }
        let lines = usize::try_from(request.lines).unwrap_or(usize::MAX);
        let answer = self.parts.runner.tail(&request.probe, lines);
        self.tails.spawn(async move {
            let tail = answer.await.unwrap_or_else(|_| Err("the probe was stopped".to_owned()));
            (request.request_id, tail)
        });
    }

    /// Takes a sample and what else has come meanwhile.
    fn take(&mut self, sample: Sample) {
        let now = Instant::now();
        let Some(online) = self.link.online_mut() else {
            return self.spool.push(sample.taken, &delta::whole(&sample));
        };
        online.add(sample, now);
        while let Ok(sample) = self.parts.samples.try_recv() {
            online.add(sample, now);
        }
        if online.is_urgent() {
            self.flush();
        }
    }

    /// Sends the samples that wait.
    fn flush(&mut self) {
        let Some(online) = self.link.online_mut() else { return };
        if let Err(closed) = online.flush(&mut self.spool) {
            self.leave(&closed.to_string());
        }
    }

    /// Puts something in the outbox, to be sent with a number until it is acknowledged.
    fn put(&mut self, body: Up) {
        self.outbox.push(body, std::time::Instant::now());
    }

    /// Sends what is numbered and was not sent in this session.
    fn send_numbered(&mut self) {
        let Some(online) = self.link.online_mut() else { return };
        while online.has_room()
            && let Some(message) = self.outbox.next(std::time::Instant::now())
        {
            if let Err(closed) = online.push(message) {
                return self.leave(&closed.to_string());
            }
        }
    }

    /// Says whether the host is held, when the controller does not know.
    fn report_hold(&mut self) {
        let hold = self.parts.hold.borrow_and_update().clone();
        if self.link.online().is_some() && self.reported_hold.as_ref() != Some(&hold) {
            self.outbox.retain_unsent(|body| !matches!(body, Up::HostHold(_)));
            self.put(Up::HostHold(wire::hold(hold.as_ref())));
            self.reported_hold = Some(hold);
            self.send_numbered();
        }
    }

    /// Does what is due.
    fn look(&mut self) -> Result<(), String> {
        let now = Instant::now();
        if now >= self.next_look {
            self.next_look = now + limits::EVERY;
            self.watch_limits(now)?;
        }
        let Some(online) = self.link.online_mut() else { return Ok(()) };
        let mut done = online.flush_if_due(&mut self.spool, now);
        if done.is_ok() && !self.spool.is_empty() {
            done = online.replay(&mut self.spool, now);
        }
        if done.is_ok() {
            let suspended = self.parts.runner.suspended();
            done = online.beat_if_due(suspended, self.spool.dropped(), now, HEARTBEAT);
        }
        match done {
            Ok(()) => self.send_numbered(),
            Err(closed) => self.leave(&closed.to_string()),
        }
        Ok(())
    }

    fn watch_limits(&mut self, now: Instant) -> Result<(), String> {
        match self.limits.judge(Usage::now(), now) {
            Verdict::Fine => Ok(()),
            Verdict::End(reason) => Err(reason),
            Verdict::Suspend(reason) => {
                let probe = self.parts.runner.suspend_costliest(&reason);
                tracing::error!(reason, probe = probe.as_deref().unwrap_or("none"), "the agent is above its ceiling");
                Ok(())
            }
        }
    }
}

/// A message that needs no acknowledgement.
fn unnumbered(body: Up) -> AgentMessage {
    AgentMessage { sequence: 0, body: Some(body) }
}
