//! The controller: the real decider and the real commit path over the real memory store, stepped by hand, and the agents'
//! sessions in front of it.
//!
//! A session is a model of `quell_controller::session` without gRPC. The order of messages, and every conversion between the
//! wire and the engine, are the real ones.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use quell_controller::{
    decider::{Engine, Failed, Options, Stepper},
    init,
    session::order::{Order, Place},
    store::{Reader, Store as _},
    wire::{self, Invalid},
};
use quell_engine::{
    Actor, Effect, Input, State, check,
    id::{CommandId, MessageId},
    input::{Reply, Request, Sample},
    state::{CommandRow, Table},
};
use quell_model::{digest::Digest, name::HostName, selector::Labels};
use quell_wire::v1::{self, agent_message::Body as Said, controller_message::Body as Told};

use crate::{
    broken::Broken,
    judge::Stored,
    network::{Connection, Packet, Way},
    people,
    points::{Died, Points, Side},
    store::Disk,
    time::{ControllerClock, MINUTE, Millis, SECOND, span, wall},
    world::{Event, HOSTS, World},
};

/// After this long without a word an agent is gone.
const SILENCE: Millis = 45 * SECOND;

/// How often it is looked.
const LISTEN_EVERY: Millis = 10 * SECOND;

/// The controller, dead or alive.
pub(crate) struct Controller {
    pub(crate) clock: ControllerClock,
    pub(crate) disk: Disk,
    pub(crate) incarnation: u64,
    stepper: Option<Stepper>,
    sessions: BTreeMap<HostName, Session>,
    /// The newest connection on which each host said hello.
    newest: BTreeMap<HostName, Connection>,
    effects: Arc<Mutex<Vec<Effect>>>,
    /// The newest record that the invariants were checked at.
    checked: u64,
    set_up: bool,
    /// When it is to be woken next.
    wakes_at: Option<jiff::Timestamp>,
}

struct Session {
    connection: Connection,
    order: Order,
    heard: Millis,
}

impl Controller {
    /// A data directory that was just made.
    pub(crate) fn new(points: Points) -> anyhow::Result<Self> {
        let mut disk = Disk::new(Points::at(None));
        init::found(&mut disk, &people::root(), wall(0, 0))?;
        Ok(Self {
            clock: ControllerClock::default(),
            disk: disk.with(points),
            incarnation: 0,
            stepper: None,
            sessions: BTreeMap::new(),
            newest: BTreeMap::new(),
            effects: Arc::default(),
            checked: 0,
            set_up: false,
            wakes_at: None,
        })
    }

    /// Whether its process runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.stepper.is_some()
    }

    /// What it has durably, by its own account; nothing while it is dead.
    pub(crate) fn state(&self) -> Option<Arc<State>> {
        self.stepper.as_ref().map(Stepper::state)
    }

    /// Its time.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.stepper.as_ref().map_or(jiff::Timestamp::UNIX_EPOCH, Stepper::now)
    }

    /// An order and its plan, as they are on the disk.
    pub(crate) fn stored(&self, id: CommandId) -> Stored {
        let command: Option<CommandRow> = self.row(Table::Commands, &id.to_string());
        let plan = command.as_ref().and_then(|command| self.row(Table::Plans, &command.plan.to_string()));
        Stored { command, plan }
    }

    fn row<T: serde::de::DeserializeOwned>(&self, table: Table, key: &str) -> Option<T> {
        serde_json::from_value(self.disk.get(table, key).ok()??.value).ok()
    }

    /// The log.
    pub(crate) fn log(&self) -> Arc<dyn Reader> {
        self.disk.reader()
    }

    /// Whether nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.state().is_some_and(|state| {
            state.live.plans.is_empty() && state.live.commands.is_empty() && state.live.messages.is_empty()
        }) && self.sessions.len() == HOSTS.len()
    }
}

impl World {
    /// The controller's process starts, on what its disk holds.
    pub(crate) fn start_controller(&mut self) -> Result<(), Died> {
        self.controller.incarnation += 1;
        self.controller.wakes_at = None;
        let incarnation = self.controller.incarnation;
        self.tell(|| format!("the controller starts for the {incarnation}. time"));
        let effects = Arc::clone(&self.controller.effects);
        effects.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let release = move |effect| effects.lock().unwrap_or_else(PoisonError::into_inner).push(effect);
        let options = Options {
            store: Box::new(self.controller.disk.clone()),
            clock: Box::new(self.controller.clock.clone()),
            effects: Box::new(release),
            engine: self.engine(),
            holder: format!("controller, process {incarnation}"),
        };
        let stepper = Stepper::start(options).map_err(|_| Died)?;
        self.controller.stepper = Some(stepper);
        self.schedule(LISTEN_EVERY, Event::Listen { incarnation });
        self.after_turn()?;
        if !self.controller.set_up {
            self.set_up()?;
            self.controller.set_up = true;
        }
        Ok(())
    }

    /// The engine, or what is left of it.
    fn engine(&self) -> Engine {
        let early = self.lacks(Broken::EffectsBeforeCommit).then(|| Arc::clone(&self.controller.effects));
        let forgets = self.lacks(Broken::EffectsNotDerivedAgain);
        Box::new(move |windows, state, now, input| {
            let is_start = matches!(input, Input::Started { .. } | Input::Connected { .. });
            let mut step = quell_engine::step(windows, state, now, input);
            if is_start && forgets {
                step.effects.retain(|effect| matches!(effect, Effect::WakeAt(_) | Effect::Assign { .. }));
            }
            if let Some(early) = &early {
                early.lock().unwrap_or_else(PoisonError::into_inner).append(&mut step.effects);
            }
            step
        })
    }

    /// The first things that people do: they admit operators and hosts, and apply their policies.
    fn set_up(&mut self) -> Result<(), Died> {
        let now = self.controller.now();
        let mut requests = vec![(Actor::Controller, people::admit(people::ADMIN, now))];
        let others = people::APPROVERS.into_iter().chain([people::STRANGER]);
        let mira = || Actor::Person(people::ADMIN.to_owned());
        requests.extend(others.map(|person| (mira(), people::admit(person, now))));
        for (name, role) in HOSTS {
            let token = Digest::of(name.as_bytes());
            let expires = now.checked_add(span(10 * MINUTE)).unwrap_or(now);
            let labels = labels(role);
            requests.push((mira(), Request::CreateToken { hash: token, expires, uses: 1, labels, name: None }));
            let Ok(host) = name.parse::<HostName>() else { continue };
            requests.push((
                Actor::Agent(host.clone()),
                Request::Enrol {
                    token,
                    host_id: format!("id-{host}"),
                    key: Digest::of(format!("key of {host}").as_bytes()),
                    name: host,
                    certificate_expires: now.checked_add(span(30 * 24 * 60 * MINUTE)).unwrap_or(now),
                    agent_version: "0.1.0".to_owned(),
                },
            ));
        }
        for (actor, request) in requests {
            if let Err(why) = self.ask(actor, request)? {
                self.judge.wrong(format!("the installation cannot be set up: {why}"));
            }
        }
        let state = self.controller.state().unwrap_or_default();
        let apply = people::apply(&state, now, people::manifests(""));
        let applied = self.ask(mira(), apply)?;
        if let Err(why) = applied {
            self.judge.wrong(format!("the policies cannot be applied: {why}"));
        }
        Ok(())
    }

    /// Its process ends without a warning.
    pub(crate) fn kill_controller(&mut self, how: &str) {
        if self.controller.stepper.take().is_none() && self.controller.incarnation > 1 && !how.contains("middle") {
            return;
        }
        self.controller.sessions.clear();
        self.controller.newest.clear();
        let after = if self.rng.u32(0..4) == 0 { self.rng.u64(10..180) } else { self.rng.u64(1..10) };
        self.tell(|| format!("the controller is killed {how}, and starts again after {after} s"));
        // The kernel closes what the process had open.
        let online: Vec<(HostName, Connection)> =
            self.agents.iter().filter_map(|(host, agent)| Some((host.clone(), agent.connection()?))).collect();
        for (host, connection) in online {
            self.send(&host, connection, Way::Down, &Packet::Closed);
        }
        self.schedule(after * SECOND, Event::StartController);
    }

    /// Somebody asks for something.
    pub(crate) fn ask(&mut self, actor: Actor, request: Request) -> Result<Result<Reply, Failed>, Died> {
        let input = Input::Request { actor, request: Box::new(request) };
        let answer = self.turn(vec![input])?.pop();
        Ok(answer.unwrap_or(Ok(Reply::Done)))
    }

    /// The decider takes a turn, and what it releases is carried out.
    fn turn(&mut self, inputs: Vec<Input>) -> Result<Vec<Result<Reply, Failed>>, Died> {
        let Some(stepper) = &mut self.controller.stepper else { return Ok(Vec::new()) };
        let state = stepper.state();
        let answers = match stepper.turn(inputs) {
            Ok(answers) => answers,
            Err(_) => {
                self.release_all(&state)?;
                return Err(Died);
            }
        };
        self.after_turn()?;
        Ok(answers)
    }

    fn after_turn(&mut self) -> Result<(), Died> {
        let Some(stepper) = &self.controller.stepper else { return Ok(()) };
        let (state, wake) = (stepper.state(), stepper.wake());
        let incarnation = self.controller.incarnation;
        if let Some(wake) = wake.filter(|_| wake != self.controller.wakes_at) {
            self.controller.wakes_at = Some(wake);
            let wait = wake.duration_since(self.controller.now()).as_millis();
            self.schedule(Millis::try_from(wait).unwrap_or(0).max(1), Event::Wake { incarnation });
        }
        self.check(&state);
        self.release_all(&state)
    }

    /// Carries out what was released, also what a turn released that failed in the end.
    fn release_all(&mut self, state: &State) -> Result<(), Died> {
        let released = std::mem::take(&mut *self.controller.effects.lock().unwrap_or_else(PoisonError::into_inner));
        released.into_iter().try_for_each(|effect| self.release(state, effect))
    }

    /// Holds the state to the invariants, once for each that was recorded, and tells what was.
    fn check(&mut self, state: &State) {
        let reader = self.controller.log();
        let newest = reader.head().sequence;
        if newest == self.controller.checked {
            return;
        }
        if self.plan.traced {
            for record in reader.records(self.controller.checked + 1, usize::MAX).unwrap_or_default() {
                self.tell(|| format!("  log {} {}: {}", record.sequence, record.kind, record.text));
            }
        }
        self.controller.checked = newest;
        for violation in check(state) {
            self.judge.wrong(format!("an invariant of the state: {violation:?}"));
        }
    }

    /// Carries out what the decider released.
    fn release(&mut self, state: &State, effect: Effect) -> Result<(), Died> {
        let incarnation = self.controller.incarnation;
        match effect {
            Effect::Command { host, command, plan } => {
                let now = self.controller.now();
                // What is on the disk counts, not what the controller believes to be there.
                self.judge.released(now, &self.controller.stored(command.id), &command, &plan);
                let order = wire::command(state, now, &command, &plan);
                self.say(&host, Told::Command(order))
            }
            Effect::Preview { host, command, plan } => {
                let question = wire::question(state, self.controller.now(), &command, &plan);
                self.say(&host, Told::Command(question))
            }
            Effect::Cancel { host, command, reason } => {
                self.say(&host, Told::Cancel(v1::CancelCommand { command_id: command.to_string(), reason }))
            }
            Effect::Assign { host, assignments } => {
                let generation = self.controller.log().head().sequence;
                self.say(&host, Told::Assign(wire::assign(state, generation, &assignments)))
            }
            Effect::ProbeNow { host, keys } => {
                let keys = keys.iter().map(ToString::to_string).collect();
                self.say(&host, Told::ProbeNow(v1::ProbeNow { keys }))
            }
            Effect::FetchLog { host, probe, lines, message } => {
                let (request_id, probe) = (message.to_string(), probe.to_string());
                self.say(&host, Told::LogRequest(v1::LogRequest { request_id, probe, lines }))
            }
            Effect::Believe { host, changes } => {
                changes.into_iter().try_for_each(|change| self.say(&host, Told::Change(wire::change(change))))
            }
            Effect::Notify { message } => {
                self.points.pass(Side::Controller)?;
                let well = self.at_peace || self.rng.u32(0..10) > 0;
                let wait = self.rng.u64(100..3_000);
                self.schedule(wait, Event::Delivered { incarnation, message: message.id, well });
                Ok(())
            }
            Effect::Disconnect { host, reason } => self.close(&host, &reason),
            // Here what is released is carried out before anything else is decided.
            Effect::Open { .. } | Effect::WakeAt(_) => Ok(()),
        }
    }

    /// A message to an agent, if it is in session.
    fn say(&mut self, host: &HostName, body: Told) -> Result<(), Died> {
        self.points.pass(Side::Controller)?;
        let Some(connection) = self.controller.sessions.get(host).map(|session| session.connection) else {
            return Ok(());
        };
        if let Told::Command(command) = &body {
            self.captured.push((host.clone(), command.clone()));
            self.tell(|| format!("→ {host}: {} {} fence {}", command.command_id, command.action, command.fence));
        }
        let message = wire::message(body);
        self.send(host, connection, Way::Down, &Packet::Told(Box::new(message)));
        self.points.pass(Side::Controller)
    }

    /// Ends a session, with a reason.
    fn close(&mut self, host: &HostName, reason: &str) -> Result<(), Died> {
        let Some(session) = self.controller.sessions.remove(host) else { return Ok(()) };
        self.tell(|| format!("the session of {host} ends: {reason}"));
        self.send(host, session.connection, Way::Down, &Packet::Closed);
        self.turn(vec![Input::Disconnected { host: host.clone() }]).map(drop)
    }

    /// The time for which the decider wanted to be woken.
    pub(crate) fn wake(&mut self) -> Result<(), Died> {
        let now = self.controller.now();
        self.controller.wakes_at = None;
        let due = self.controller.stepper.as_ref().and_then(Stepper::wake).is_some_and(|wake| wake <= now);
        if due { self.turn(Vec::new()).map(drop) } else { Ok(()) }
    }

    /// Looks whether agents are still heard of; the decider is told the time as well.
    pub(crate) fn listen(&mut self) -> Result<(), Died> {
        let incarnation = self.controller.incarnation;
        self.schedule(LISTEN_EVERY, Event::Listen { incarnation });
        let now = self.now;
        let silent = self.controller.sessions.iter().filter(|(_, session)| session.heard + SILENCE < now);
        let silent: Vec<HostName> = silent.map(|(host, _)| host.clone()).collect();
        silent.iter().try_for_each(|host| self.close(host, "nothing was heard"))?;
        if self.lacks(Broken::Approvals) {
            self.forge_votes()?;
        }
        self.turn(Vec::new()).map(drop)
    }

    /// What became of a message to people.
    pub(crate) fn delivered(&mut self, message: MessageId, well: bool) -> Result<(), Died> {
        let result = if well { Ok(()) } else { Err("the simulation says so".to_owned()) };
        self.turn(vec![Input::Delivered { message, result }]).map(drop)
    }

    /// Something comes from an agent.
    pub(crate) fn hear(&mut self, host: &HostName, connection: Connection, packet: Packet) -> Result<(), Died> {
        if !self.controller.is_alive() {
            self.send(host, connection, Way::Down, &Packet::Closed);
            return Ok(());
        }
        self.points.pass(Side::Controller)?;
        let (now, place) = (self.now, self.controller.sessions.get_mut(host));
        let session = place.filter(|session| session.connection == connection);
        match (packet, session) {
            (Packet::Said(message), Some(session)) => {
                session.heard = now;
                let order = session.order;
                if let Err(invalid) = self.take(host, order, *message)? {
                    return self.close(host, &invalid.to_string());
                }
                Ok(())
            }
            (Packet::Said(message), None) => match message.body {
                Some(Said::Hello(hello)) => self.welcome(host, connection, hello),
                // What is left of a session that is over.
                _ => Ok(()),
            },
            (Packet::Alive, Some(session)) => {
                session.heard = now;
                self.send(host, connection, Way::Down, &Packet::Alive);
                Ok(())
            }
            (Packet::Closed, Some(_)) => self.close(host, "the agent has closed it"),
            _ => Ok(()),
        }
    }

    /// A message that was taken in before comes once more, in the session that stands.
    pub(crate) fn repeat(&mut self, host: &HostName, message: v1::AgentMessage) -> Result<(), Died> {
        let session = self.controller.sessions.get(host);
        let Some(session) = session.filter(|session| message.sequence <= session.order.acknowledged()) else {
            return Ok(());
        };
        self.hear(host, session.connection, Packet::Said(Box::new(message)))
    }

    /// An agent's session begins.
    fn welcome(&mut self, host: &HostName, connection: Connection, hello: v1::Hello) -> Result<(), Died> {
        let Some(state) = self.controller.state() else { return Ok(()) };
        let Some(row) = state.hosts.get(host) else { return Ok(()) };
        let newest = self.controller.newest.entry(host.clone()).or_default();
        if connection < *newest {
            self.send(host, connection, Way::Down, &Packet::Closed);
            return Ok(());
        }
        *newest = connection;
        let welcome = v1::Welcome {
            epoch: state.meta.epoch,
            acknowledged: row.acknowledged,
            installation: people::INSTALLATION.to_owned(),
            unix_ms: self.controller.now().as_millisecond(),
            ..v1::Welcome::default()
        };
        self.tell(|| {
            format!(
                "{host} is in session {connection}, acknowledged {}, journal {:?}",
                row.acknowledged,
                names(&hello.journal)
            )
        });
        let session = Session { connection, order: Order::after(row.acknowledged), heard: self.now };
        if let Some(earlier) = self.controller.sessions.insert(host.clone(), session) {
            self.send(host, earlier.connection, Way::Down, &Packet::Closed);
        }
        self.say(host, Told::Welcome(welcome))?;
        match wire::hello(hello, connection) {
            Ok(hello) => {
                match self.turn(vec![Input::Connected { host: host.clone(), hello: Box::new(hello) }])?.pop() {
                    Some(Err(Failed::Unavailable(why))) => self.close(host, &why.to_string()),
                    _ => Ok(()),
                }
            }
            Err(invalid) => self.close(host, &invalid.to_string()),
        }
    }

    /// Takes in one message of a session, then acknowledges it.
    fn take(&mut self, host: &HostName, order: Order, message: v1::AgentMessage) -> Result<Result<(), Invalid>, Died> {
        let place = match order.place(message.sequence) {
            Ok(place) => place,
            Err(invalid) => return Ok(Err(invalid)),
        };
        if place != Place::Duplicate {
            let Some(body) = message.body else { return Ok(Err(Invalid::Missing("the body of a message"))) };
            if self.lacks(Broken::EarlyAcknowledgement) && place == Place::Next {
                self.say(host, Told::Acknowledge(v1::Acknowledge { sequence: message.sequence }))?;
            }
            match self.digest(host, body, message.sequence) {
                Ok(Some(input)) => {
                    // What was not recorded is not acknowledged: the session ends, and it comes again.
                    if let Some(Err(Failed::Unavailable(why))) = self.turn(vec![input])?.pop() {
                        return Ok(Err(Invalid::malformed("report", why.to_string())));
                    }
                }
                Ok(None) => {}
                Err(invalid) => return Ok(Err(invalid)),
            }
        }
        // The session may have ended in that turn.
        let Some(session) = self.controller.sessions.get_mut(host).filter(|_| place != Place::Unnumbered) else {
            return Ok(Ok(()));
        };
        session.order.taken(message.sequence);
        let sequence = session.order.acknowledged();
        self.say(host, Told::Acknowledge(v1::Acknowledge { sequence }))?;
        Ok(Ok(()))
    }

    /// What a message is to the engine.
    fn digest(&self, host: &HostName, body: Said, sequence: u64) -> Result<Option<Input>, Invalid> {
        let (now, host) = (self.controller.now(), host.clone());
        Ok(Some(match body {
            Said::Hello(_) => return Err(Invalid::malformed("hello", "it came twice in one session")),
            Said::Heartbeat(_) => return Ok(None),
            Said::Samples(batch) => {
                let sample = |sample: v1::Sample| {
                    let taken_at = wire::time_of(now, sample.age_ms);
                    let fields = Arc::new(wire::fields(sample.fields)?);
                    Ok(Sample { probe: wire::probe_key(sample.probe)?, taken_at, fields })
                };
                let samples = batch.samples.into_iter().filter(|sample| !sample.spooled).map(sample);
                Input::Samples { host, samples: samples.collect::<Result<_, Invalid>>()? }
            }
            Said::Preview(preview) => {
                let (command, preview) = wire::preview(preview)?;
                Input::Previewed { host, command, preview }
            }
            Said::Outcome(outcome) => {
                let command = wire::command_id(&outcome.command_id)?;
                let ended_at = wire::time_of(now, outcome.age_ms);
                Input::Ended { host, command, outcome: wire::outcome(outcome)?, ended_at, sequence }
            }
            Said::LogTail(tail) => {
                let (message, lines) = wire::log_tail(tail)?;
                Input::LogTail { message, host, lines }
            }
            Said::Started(started) => Input::Begun { host, command: wire::command_id(&started.command_id)? },
            Said::HostHold(hold) => Input::HostHeld { host, hold: wire::host_hold(hold)? },
        }))
    }
}

fn names(journal: &[v1::JournalEntry]) -> Vec<String> {
    let name = |entry: &v1::JournalEntry| {
        let ended = if entry.outcome.is_some() { "ended" } else { "begun" };
        format!("{} {ended}", entry.command_id)
    };
    journal.iter().map(name).collect()
}

/// The labels of a host with this role: every host observes the DNS servers.
pub(crate) fn labels(role: &str) -> Labels {
    [("role", role), ("observer", "dns")].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}
