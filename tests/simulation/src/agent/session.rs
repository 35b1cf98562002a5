//! An agent's session: it tries to reach the controller, says what it owes in order, and samples its probes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::LazyLock,
};

use quell_agent::{
    belief::Beliefs,
    clock::ClockOffset,
    execute::{
        UNDO,
        journal::{Journal, Line},
        wire_key,
    },
    session::outbox::Outbox,
};
use quell_model::name::HostName;
use quell_wire::v1::{self, agent_message::Body as Up, controller_message::Body as Down};

use super::{Agent, Link, Process, entry, told};
use crate::{
    broken::Broken,
    network::{Connection, Packet, Way as Direction},
    people,
    points::{Died, Side},
    time::{Millis, SECOND, wall},
    world::{Event, World},
};

/// How often the probes are looked at; every probe of the simulation is sampled at this interval.
const LOOK_EVERY: Millis = 15 * SECOND;

/// How long an attempt may take,
const CONNECT_WITHIN: Millis = 30 * SECOND;

/// and how long the controller may be silent.
const SILENCE: Millis = 32 * SECOND;

impl World {
    /// Whether an agent's process is still the one that wanted something.
    pub(crate) fn is_living(&self, host: &HostName, incarnation: u64) -> bool {
        self.agents.get(host).is_some_and(|agent| agent.incarnation == incarnation && agent.is_alive())
    }

    /// A host's wall clock.
    pub(super) fn wall_of(&self, host: &HostName) -> jiff::Timestamp {
        wall(self.now, self.agents.get(host).map_or(0, |agent| agent.offset))
    }

    /// An agent's process starts, on what its disk holds.
    pub(crate) fn start_agent(&mut self, host: &HostName) {
        let Some(agent) = self.agents.get_mut(host).filter(|agent| !agent.is_alive()) else { return };
        agent.incarnation += 1;
        let incarnation = agent.incarnation;
        let opened = Journal::open(&agent.directory).map_err(|error| error.to_string());
        let beliefs = Beliefs::open(&agent.directory, host.clone()).map_err(|error| error.to_string());
        let (journal, beliefs) = match (opened, beliefs) {
            (Ok(journal), Ok(beliefs)) => (journal, beliefs),
            (Err(why), _) | (_, Err(why)) => {
                return self.judge.wrong(format!("the agent of {host} cannot start: {why}"));
            }
        };
        // The journal is made anew at each start, synced.
        let (_, synced) = agent.files();
        drop(std::fs::remove_file(synced));
        agent.process = Some(Process {
            beliefs,
            fence: journal.fence(),
            journal,
            clock: ClockOffset::default(),
            outbox: Outbox::default(),
            link: Link::Waiting,
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            probes: BTreeMap::new(),
            counts: BTreeMap::new(),
            newest_assignment: 0,
            told_hold: false,
        });
        self.tell(|| format!("the agent of {host} starts for the {incarnation}. time"));
        let wait = self.rng.u64(100..2_000);
        self.schedule(wait, Event::Connect { host: host.clone(), incarnation });
        self.schedule(wait, Event::Look { host: host.clone(), incarnation });
        let recovered = self.recover(host);
        if recovered.is_err() {
            self.kill_agent(host, "while it recovered");
        }
    }

    /// Its process ends without a warning, perhaps with the machine's power.
    pub(crate) fn kill_agent(&mut self, host: &HostName, how: &str) {
        let with_power = self.rng.bool();
        let Some(agent) = self.agents.get_mut(host).filter(|agent| agent.is_alive()) else { return };
        let connection = agent.connection();
        if let Err(error) = agent.die(with_power) {
            self.judge.wrong(format!("the power cut of {host} failed: {error}"));
        }
        let after = if self.rng.u32(0..4) == 0 { self.rng.u64(10..180) } else { self.rng.u64(1..10) };
        let power = if with_power { "by a power cut " } else { "" };
        self.tell(|| format!("the agent of {host} dies {power}{how}, and starts again after {after} s"));
        // A machine without power says nothing any more.
        if let Some(connection) = connection.filter(|_| !with_power) {
            self.send(host, connection, Direction::Up, &Packet::Closed);
        }
        self.schedule(after * SECOND, Event::StartAgent { host: host.clone() });
    }

    /// Tries to reach the controller.
    pub(crate) fn connect(&mut self, host: &HostName) -> Result<(), Died> {
        let connection = self.new_connection();
        let (now, wall, forgets) = (self.now, self.wall_of(host), self.lacks(Broken::LostOutcomes));
        let silent = self.lacks(Broken::WaitingUntold);
        let host_hold = self.agents.get(host).map(|agent| hold(agent.is_held, now));
        let Some(process) = self.agents.get_mut(host).and_then(|agent| agent.process.as_mut()) else { return Ok(()) };
        if !matches!(process.link, Link::Waiting) {
            return Ok(());
        }
        process.link = Link::Connecting { connection, until: now + CONNECT_WITHIN };
        let told = process.beliefs.told();
        let at_hand = process.waiting.iter().map(|order| order.command.command_id.clone());
        let at_hand = if silent { Vec::new() } else { at_hand.collect() };
        let mut open = process.journal.open_records();
        open.retain(|record| !forgets || record.outcome.is_none());
        let hello = v1::Hello {
            agent_version: "0.1.0".to_owned(),
            protocol: quell_wire::PROTOCOL,
            fence: process.journal.fence(),
            trust_version: told.trust_version,
            label_version: told.label_version,
            journal: open.iter().filter_map(|record| entry(record, wall)).collect(),
            at_hand,
            next_sequence: process.outbox.next_sequence(),
            host_hold,
            ..v1::Hello::default()
        };
        self.speak(host, v1::AgentMessage { sequence: 0, body: Some(Up::Hello(hello)) })
    }

    /// Leaves the controller, and tries again later.
    fn leave(&mut self, host: &HostName, why: &str) {
        let wait = if self.at_peace { 2 * SECOND } else { self.rng.u64(500..15_000) };
        let Some(agent) = self.agents.get_mut(host) else { return };
        let incarnation = agent.incarnation;
        let Some(process) = &mut agent.process else { return };
        process.link = Link::Waiting;
        self.tell(|| format!("{host} is not connected: {why}"));
        self.schedule(wait, Event::Connect { host: host.clone(), incarnation });
    }

    /// Something comes from the controller.
    pub(crate) fn obey(&mut self, host: &HostName, connection: Connection, packet: Packet) -> Result<(), Died> {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(host).filter(|agent| agent.connection() == Some(connection)) else {
            return Ok(());
        };
        if let Some(Process { link: Link::Online { heard, .. }, .. }) = &mut agent.process {
            *heard = now;
        }
        let is_online = matches!(agent.process.as_ref().map(|process| &process.link), Some(Link::Online { .. }));
        match packet {
            Packet::Closed => {
                self.leave(host, "the controller has closed it");
                Ok(())
            }
            Packet::Told(message) => {
                self.points.pass(Side::Agent)?;
                match message.body {
                    Some(Down::Welcome(welcome)) if !is_online => self.greeted(host, connection, &welcome),
                    Some(Down::Welcome(_)) => {
                        self.leave(host, "the controller welcomed it twice");
                        Ok(())
                    }
                    Some(_) if !is_online => {
                        self.leave(host, "the controller did not begin with a welcome");
                        Ok(())
                    }
                    Some(body) => self.carry_out(host, body),
                    None => Ok(()),
                }
            }
            Packet::Alive | Packet::Said(_) => Ok(()),
        }
    }

    fn greeted(&mut self, host: &HostName, connection: Connection, welcome: &v1::Welcome) -> Result<(), Died> {
        let (now, instant, wall) = (self.now, self.instant(), self.wall_of(host));
        let forgets = self.lacks(Broken::LostOutcomes);
        let Some(process) = self.agents.get_mut(host).and_then(|agent| agent.process.as_mut()) else { return Ok(()) };
        process.clock.learn(welcome.unix_ms, instant);
        process.link = Link::Online { connection, heard: now };
        process.told_hold = false;
        if process.outbox.next_sequence() == 0 && !forgets {
            for outcome in process.journal.open_records().into_iter().filter_map(|record| record.outcome) {
                if !process.outbox.has_outcome(wire_key(&outcome.key)) {
                    process.outbox.push(Up::Outcome(told(&outcome, wall)), instant);
                }
            }
        }
        let known = process.outbox.begin(welcome.acknowledged);
        self.settle(host, known)?;
        self.send_numbered(host)?;
        self.tell_hold(host)?;
        self.sample(host)
    }

    fn carry_out(&mut self, host: &HostName, body: Down) -> Result<(), Died> {
        match body {
            Down::Acknowledge(acknowledge) => {
                let process = self.agents.get_mut(host).and_then(|agent| agent.process.as_mut());
                let known =
                    process.map(|process| process.outbox.acknowledged(acknowledge.sequence)).unwrap_or_default();
                self.settle(host, known)
            }
            Down::Assign(assign) => {
                self.assign(host, &assign);
                self.sample(host)
            }
            Down::Command(command) => self.submit(host, command),
            Down::Cancel(cancel) => self.cancel(host, &cancel),
            Down::ProbeNow(_) => self.sample(host),
            Down::LogRequest(request) => {
                let lines = vec!["Error #7".to_owned()];
                self.report(
                    host,
                    Up::LogTail(v1::LogTail { request_id: request.request_id, lines, ..Default::default() }),
                )
            }
            Down::Change(change) => {
                let wall = self.wall_of(host);
                let process = self.agents.get(host).and_then(|agent| agent.process.as_ref());
                // Why it is not taken is the agent's to log; the next one says again what it is owed.
                process.map(|process| process.beliefs.take(&change.document, &change.signatures, wall));
                Ok(())
            }
            Down::Welcome(_) | Down::GoAway(_) => Ok(()),
        }
    }

    fn assign(&mut self, host: &HostName, assign: &v1::AssignProbes) {
        let Some(process) = self.agents.get_mut(host).and_then(|agent| agent.process.as_mut()) else { return };
        if assign.generation < process.newest_assignment {
            return;
        }
        process.newest_assignment = assign.generation;
        let names = &*NAMES;
        let name = |probe: &v1::ProbeAssignment| Some((probe.key.clone(), names.get(&probe.key)?.clone()));
        process.probes = assign.probes.iter().filter_map(name).collect();
    }

    /// What the controller has durably need not be kept.
    fn settle(&mut self, host: &HostName, known: Vec<Up>) -> Result<(), Died> {
        for body in known {
            let Up::Outcome(outcome) = body else { continue };
            for key in [format!("{UNDO}{}", outcome.idempotency_key), outcome.idempotency_key] {
                let process = self.agents.get(host).and_then(|agent| agent.process.as_ref());
                let record = process.and_then(|process| process.journal.find(&key));
                if record.is_some_and(|record| record.outcome.is_some() && !record.acknowledged) {
                    self.journal(host, Line::Acknowledged(key), false)?;
                }
            }
        }
        Ok(())
    }

    /// Looks at the probes and at the controller.
    pub(crate) fn look(&mut self, host: &HostName) -> Result<(), Died> {
        let now = self.now;
        let wait = LOOK_EVERY - 200 + self.rng.u64(0..400);
        let Some(agent) = self.agents.get(host) else { return Ok(()) };
        self.schedule(wait, Event::Look { host: host.clone(), incarnation: agent.incarnation });
        let connection =
            match self.agents.get(host).and_then(|agent| agent.process.as_ref()).map(|process| &process.link) {
                Some(Link::Connecting { until, .. }) if now >= *until => {
                    self.leave(host, "the controller did not answer in time");
                    None
                }
                Some(Link::Online { heard, .. }) if heard + SILENCE < now => {
                    self.leave(host, "the controller is silent");
                    None
                }
                Some(Link::Online { connection, .. }) => Some(*connection),
                _ => None,
            };
        if let Some(connection) = connection {
            self.send(host, connection, Direction::Up, &Packet::Alive);
        }
        self.begin_what_may(host)?;
        self.tell_hold(host)?;
        self.sample(host)
    }

    /// Says whether the host is held, when the controller does not know.
    fn tell_hold(&mut self, host: &HostName) -> Result<(), Died> {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(host) else { return Ok(()) };
        let held = agent.is_held;
        let Some(process) = agent.process.as_mut().filter(|process| process.told_hold != held) else { return Ok(()) };
        if !matches!(process.link, Link::Online { .. }) {
            return Ok(());
        }
        process.told_hold = held;
        self.report(host, Up::HostHold(hold(held, now)))
    }

    /// Sends what all probes see now.
    fn sample(&mut self, host: &HostName) -> Result<(), Died> {
        let Some(process) = self.agents.get_mut(host).and_then(|agent| agent.process.as_mut()) else { return Ok(()) };
        if !matches!(process.link, Link::Online { .. }) {
            return Ok(());
        }
        let own = ("host".to_owned(), "host".to_owned());
        let probes: Vec<(String, String)> = process.probes.clone().into_iter().chain([own]).collect();
        let mut samples = Vec::with_capacity(probes.len());
        for (key, name) in probes {
            let mut fields = self.site.see(host, &name);
            if name != "host" {
                let ok = fields.iter().any(|(name, value)| *name == "ok" && value.flag() == Some(true));
                let (failures, successes) = process.counts.entry(key.clone()).or_default();
                (*failures, *successes) = if ok { (0, *successes + 1) } else { (*failures + 1, 0) };
                fields.push(("failures", f64::from(*failures).into()));
                fields.push(("successes", f64::from(*successes).into()));
            }
            let fields = fields.into_iter().map(|(name, value)| field(name, value)).collect();
            samples.push(v1::Sample { probe: key, fields, full: true, ..v1::Sample::default() });
        }
        self.speak(host, v1::AgentMessage { sequence: 0, body: Some(Up::Samples(v1::SampleBatch { samples })) })
    }

    /// Says something that is kept until it is acknowledged.
    pub(super) fn report(&mut self, host: &HostName, body: Up) -> Result<(), Died> {
        let instant = self.instant();
        let Some(process) = self.agents.get_mut(host).and_then(|agent| agent.process.as_mut()) else { return Ok(()) };
        process.outbox.push(body, instant);
        self.send_numbered(host)
    }

    fn send_numbered(&mut self, host: &HostName) -> Result<(), Died> {
        let instant = self.instant();
        loop {
            let Some(process) = self.agents.get_mut(host).and_then(|agent| agent.process.as_mut()) else {
                return Ok(());
            };
            if !matches!(process.link, Link::Online { .. }) {
                return Ok(());
            }
            let Some(message) = process.outbox.next(instant) else { return Ok(()) };
            self.speak(host, message)?;
        }
    }

    /// Sends a message.
    fn speak(&mut self, host: &HostName, message: v1::AgentMessage) -> Result<(), Died> {
        let Some(connection) = self.agents.get(host).and_then(Agent::connection) else { return Ok(()) };
        let packet = Packet::Said(Box::new(message.clone()));
        // A death before or after samples is a death between two other points.
        if matches!(message.body, Some(Up::Samples(_))) {
            self.send(host, connection, Direction::Up, &packet);
            return Ok(());
        }
        self.points.pass(Side::Agent)?;
        if self.plan.replays && message.sequence > 0 {
            self.reported.push((host.clone(), message));
        }
        self.send(host, connection, Direction::Up, &packet);
        self.points.pass(Side::Agent)
    }
}

fn field(name: &str, value: quell_model::value::Value) -> v1::Field {
    use quell_model::value::Value;
    let value = match value {
        Value::Flag(flag) => v1::field::Value::Flag(flag),
        Value::Number(number) => v1::field::Value::Number(number),
        Value::Text(text) => v1::field::Value::Text(text),
    };
    v1::Field { name: name.to_owned(), value: Some(value) }
}

/// What the policies call the probes, by their keys.
static NAMES: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let mut names = BTreeMap::new();
    for canonical in people::manifests("") {
        if let Ok(quell_model::policy::Manifest::Policy(policy)) = quell_model::manifest::from_canonical(&canonical) {
            names.extend(policy.probes.iter().map(|(name, probe)| (probe.key().to_string(), name.clone())));
        }
    }
    names
});

/// What an agent says of its administrator's hold.
fn hold(held: bool, now: Millis) -> v1::HostHold {
    let until_unix_ms = wall(now + 3_600 * SECOND, 0).as_millisecond();
    v1::HostHold { held, reason: "the administrator works on it".to_owned(), until_unix_ms }
}
