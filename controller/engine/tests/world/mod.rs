//! A world in virtual time: a controller that is nothing but the engine, a fake fleet that samples, obeys and forgets,
//! and the people around them. After every step it asserts the invariants, and that applying the recorded writes gives
//! the very state that the step returned.
//!
//! ```ignore
//! let mut world = World::begin("2026-11-23T10:00:00+01:00");
//! world.join("planthost1", &[("role", "orders")]);
//! world.apply_shop(&[("ordersThreshold", "12")]);
//! world.set("planthost1", "outstanding", &[("value", 15.0.into())]);
//! world.on("service.restart", |order, facts| { facts.set(&order.host, "outstanding", &[("value", 0.0.into())]); Done::ok() });
//! world.run("10m");
//! insta::assert_snapshot!(world.story());
//! ```
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of the harness")]

mod everything;
mod fleet;
mod people;
mod shop;
pub mod signing;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use quell_engine::{
    Actor, Change, Effect, Input, State, Step, Windows, check,
    id::{CommandId, PlanId},
    input::{Hello, Refusal, Reply, Request, Sample, WhyQuestion},
    state::{CommandRow, Message, Outcome, OutcomeKind, PlanRow, Preview, SignedDocument, TrustRow},
};
use quell_model::{
    digest::Digest,
    name::HostName,
    plan::ExactPlan,
    probe::ProbeKey,
    value::{Fields, Truth, Value},
};

pub use fleet::{Agent, Done, Facts, Look, Reaction, Seen};
pub use shop::SHOP_ZONE;

/// The canonical manifests of a text.
pub fn canonical(yaml: &str) -> Vec<String> {
    shop::canonical("test.yaml", yaml, &BTreeMap::new())
}

/// What happens next, and when.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Sample(HostName, ProbeKey),
    Begin(HostName, CommandId),
    Look(HostName, CommandId),
    End(HostName, CommandId),
    Reconnect(HostName),
}

/// Everything.
pub struct World {
    begun: Timestamp,
    pub now: Timestamp,
    pub state: State,
    pub windows: Windows,
    pub agents: BTreeMap<HostName, Agent>,
    pub facts: Facts,
    pub records: Vec<Change>,
    pub messages: Vec<Message>,
    /// What hosts were told to believe.
    pub believed: Vec<(HostName, SignedDocument)>,
    /// Whether the fleet's answers and samples reach the controller.
    pub controller_is_up: bool,
    /// Whether every step is compared with a replay of its records (slow for long runs).
    pub compares: bool,
    /// Whether agents send in one batch what they see at one moment, as real ones do; otherwise samples come one by one,
    /// and each is decided on without those that follow.
    pub batches: bool,
    /// Whether the records are kept (much memory for long runs).
    pub keeps_records: bool,
    reactions: BTreeMap<String, Reaction>,
    looks: BTreeMap<String, Look>,
    /// The digests that orders have to find again.
    approved: BTreeMap<CommandId, Digest>,
    /// The orders that agents were asked to leave, whether or not they heard it.
    pub cancelled: BTreeSet<(HostName, CommandId)>,
    events: BTreeMap<(Timestamp, u64), Event>,
    count: u64,
    wake: Option<Timestamp>,
    pub steps: u64,
    pub samples: u64,
    /// Looks at the time around steps, in a measurement.
    pub watch: Option<Watch>,
}

/// Measures how long the engine takes, by every so manieth step: looking at a clock around each would cost as much as the
/// step.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// A clock.
    pub clock: fn() -> Duration,
    /// So many steps are measured by one.
    pub every: u64,
    /// What the measured steps took, times that.
    pub took: Duration,
}

impl World {
    /// A controller that has just started, alone, at this moment.
    pub fn begin(at: &str) -> Self {
        let mut world = Self {
            begun: Timestamp::UNIX_EPOCH,
            now: at.parse().expect("a time with its offset"),
            state: State::default(),
            windows: Windows::default(),
            agents: BTreeMap::new(),
            facts: Facts::default(),
            records: Vec::new(),
            messages: Vec::new(),
            believed: Vec::new(),
            controller_is_up: true,
            compares: true,
            batches: false,
            keeps_records: true,
            reactions: BTreeMap::new(),
            looks: BTreeMap::new(),
            approved: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            events: BTreeMap::new(),
            count: 0,
            wake: None,
            steps: 0,
            samples: 0,
            watch: None,
        };
        world.begun = world.now;
        found(&mut world.state, world.begun);
        world.step(Input::Started { restored: false });
        world
    }

    /// Takes one step, asserts what always holds, and carries the effects out.
    pub fn step(&mut self, input: Input) -> Option<Result<Reply, Refusal>> {
        self.steps += 1;
        let step = self.take_step(input);
        if step.changes.is_empty() {
            assert!(self.state.is_same(&step.state), "what is not recorded does not change");
        } else if self.compares {
            self.compare(&step);
        }
        self.state = step.state;
        if self.keeps_records {
            self.records.extend(step.changes);
        }
        self.wake = None;
        for effect in step.effects {
            self.carry_out(effect);
        }
        step.reply
    }

    fn take_step(&mut self, input: Input) -> Step {
        let steps = self.steps;
        let watch = self.watch.as_mut().filter(|watch| steps.is_multiple_of(watch.every));
        let began = watch.as_ref().map(|watch| (watch.clock)());
        let step = quell_engine::step(&mut self.windows, &self.state, self.now, input);
        if let (Some(watch), Some(began)) = (watch, began) {
            watch.took += ((watch.clock)() - began) * watch.every as u32;
        }
        step
    }

    /// Replays the records of a step and holds its state to the invariants.
    fn compare(&self, step: &Step) {
        let mut replayed = self.state.clone();
        for write in step.changes.iter().flat_map(|change| &change.writes) {
            replayed.apply(write).expect("a write that was just made can be read");
        }
        assert!(replayed.says_the_same(&step.state), "replaying the records gives the state of the step");
        self.never_acts_on_what_it_does_not_know(step);
        let violations = check(&step.state);
        assert!(violations.is_empty(), "at {}: {violations:#?}\n{}", self.now, self.story());
    }

    /// A plan about an incident starts only while its policy's trigger is known to hold.
    fn never_acts_on_what_it_does_not_know(&self, step: &Step) {
        for started in step.changes.iter().filter(|change| change.kind == "planStarted") {
            let plan = &step.state.plans[&started.ids["plan"].parse::<PlanId>().unwrap()];
            let (Some(policy), Some(_)) = (plan.policy.clone(), plan.incident) else { continue };
            let question = WhyQuestion { policy, target: Some(plan.target.clone()) };
            let why = quell_engine::explain(&self.windows, &step.state, self.now, &question);
            assert_eq!(why[0].truth, Truth::True, "{} started: {:#?}\n{}", plan.id, why[0], self.story());
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Command { host, command, plan } => self.order(&host, &command, &plan),
            Effect::Preview { host, command, .. } => self.asked(&host, &command),
            Effect::Cancel { host, command, .. } => self.cancel(&host, command),
            Effect::Assign { host, assignments } => self.assign(&host, assignments),
            Effect::ProbeNow { host, keys } => {
                for key in keys {
                    self.schedule(self.now + Duration::from_millis(50), Event::Sample(host.clone(), key));
                }
            }
            Effect::FetchLog { host, message, lines, .. } => {
                let log = self.facts.log(&host, lines);
                self.step(Input::LogTail { message, host, lines: Ok(log) });
            }
            Effect::Notify { message } => {
                let id = message.id;
                self.messages.push(*message);
                self.step(Input::Delivered { message: id, result: Ok(()) });
            }
            Effect::Disconnect { host, .. } => {
                if let Some(agent) = self.agents.get_mut(&host) {
                    agent.connected = false;
                    agent.banned = true;
                }
            }
            Effect::Believe { host, changes } => {
                self.believed.extend(changes.into_iter().map(|change| (host.clone(), change)));
            }
            Effect::Open { host, .. } => {
                if let Some(agent) = self.agents.get_mut(&host) {
                    agent.connected = true;
                }
            }
            Effect::WakeAt(at) => self.wake = Some(at),
        }
    }

    fn schedule(&mut self, at: Timestamp, event: Event) {
        self.count += 1;
        self.events.insert((at.max(self.now), self.count), event);
    }

    /// A host joins and connects.
    pub fn join(&mut self, name: &str, labels: &[(&str, &str)]) {
        let host: HostName = name.parse().unwrap();
        let secret = Digest::of(format!("{name} {}", self.count).as_bytes());
        self.count += 1;
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let expires = self.now + Duration::from_secs(600);
        self.ask("admin", Request::CreateToken { hash: secret, expires, uses: 1, labels, name: None }).unwrap();
        let certificate_expires = self.now + Duration::from_secs(86_400);
        let request = Request::Enrol {
            token: secret,
            name: host.clone(),
            host_id: format!("id-{name}"),
            key: Digest::of(name.as_bytes()),
            certificate_expires,
            agent_version: "0.1.0".to_owned(),
        };
        let actor = Actor::Agent(host.clone());
        self.step(Input::Request { actor, request: Box::new(request) }).unwrap().unwrap();
        self.agents.insert(host.clone(), Agent::default());
        self.facts.set(&host, "host", &[("uptime", 1_000.0.into())]);
        self.connect(name);
    }

    /// An agent connects, or connects again.
    pub fn connect(&mut self, name: &str) {
        let host: HostName = name.parse().unwrap();
        let Some(agent) = self.agents.get_mut(&host).filter(|agent| !agent.banned) else { return };
        let hello = Hello {
            agent_version: "0.1.0".to_owned(),
            instance: "1".to_owned(),
            fence: agent.fence,
            journal: agent.unacknowledged(),
            ..Hello::default()
        };
        agent.generation += 1;
        let is_new = agent.sampling.insert(ProbeKey::host());
        self.step(Input::Connected { host: host.clone(), hello: Box::new(hello) });
        if is_new {
            self.schedule(self.now + Duration::from_millis(200), Event::Sample(host, ProbeKey::host()));
        }
    }

    /// An agent's session is cut; it comes back when told to.
    pub fn disconnect(&mut self, name: &str) {
        let host: HostName = name.parse().unwrap();
        if let Some(agent) = self.agents.get_mut(&host) {
            agent.connected = false;
        }
        self.step(Input::Disconnected { host });
    }

    /// A host's machine loses its network for good, with no word to the controller.
    pub fn isolate(&mut self, name: &str) {
        let host: HostName = name.parse().unwrap();
        self.agents.get_mut(&host).unwrap().connected = false;
    }

    fn assign(&mut self, host: &HostName, assignments: Vec<quell_engine::state::Assignment>) {
        let Some(agent) = self.agents.get_mut(host).filter(|agent| agent.connected) else { return };
        agent.probes = assignments
            .into_iter()
            .map(|assignment| {
                let probe = quell_model::manifest::probe_from_canonical(&assignment.spec)
                    .expect("the probe's own canonical form");
                (assignment.key, probe.every)
            })
            .collect();
        let fresh: Vec<ProbeKey> = agent.probes.keys().filter(|key| !agent.sampling.contains(*key)).cloned().collect();
        agent.sampling.extend(fresh.iter().cloned());
        for key in fresh {
            self.schedule(self.now + Duration::from_millis(100), Event::Sample(host.clone(), key));
        }
    }

    /// Says what a probe of a host sees from now on; probes are named as in their policy, `host` is the host samples.
    /// A name of two policies is written `policy/probe`.
    pub fn set(&mut self, host: &str, probe: &str, fields: &[(&str, Value)]) {
        self.facts.set(&host.parse().unwrap(), probe, fields);
    }

    /// Says it for all hosts.
    pub fn set_all(&mut self, probe: &str, fields: &[(&str, Value)]) {
        let hosts: Vec<HostName> = self.agents.keys().cloned().collect();
        for host in hosts {
            self.facts.set(&host, probe, fields);
        }
    }

    /// A probe of a host gives no samples from now on.
    pub fn blind(&mut self, host: &str, probe: &str) {
        self.facts.blind(&host.parse().unwrap(), probe);
    }

    /// What an action does; without a reaction it succeeds after a second and changes nothing.
    pub fn on(&mut self, action: &str, reaction: impl FnMut(&CommandRow, &mut Facts) -> Done + 'static) {
        self.reactions.insert(action.to_owned(), Box::new(reaction));
    }

    /// What hosts say that an action would touch, and touch; without this it is the action's parameters.
    pub fn previews(&mut self, action: &str, look: impl FnMut(&HostName, &mut Facts) -> Seen + 'static) {
        self.looks.insert(action.to_owned(), Box::new(look));
    }

    /// What a host would touch at this moment.
    fn seen(&mut self, host: &HostName, command: &CommandRow) -> Seen {
        match self.looks.get_mut(&command.action) {
            Some(look) => look(host, &mut self.facts),
            None => Seen::list(&[("run", &serde_json::json!(command.parameters).to_string(), 0)]),
        }
    }

    /// A question reaches an agent.
    fn asked(&mut self, host: &HostName, command: &CommandRow) {
        let now = self.now;
        let fence = command.look.as_ref().unwrap().fence;
        let Some(agent) = self.agents.get_mut(host).filter(|agent| agent.connected) else { return };
        assert!(fence > agent.fence, "a question has a fence of its own: {fence}");
        agent.fence = fence;
        self.schedule(now + Duration::from_millis(20), Event::Look(host.clone(), command.id));
    }

    /// An agent answers what it would touch.
    fn look(&mut self, host: &HostName, id: CommandId) {
        let Some(command) = self.state.commands.get(&id).cloned() else { return };
        let (items, refusal) = match self.seen(host, &command) {
            Seen::List(items) => (items, None),
            Seen::Refusal(why) => (Vec::new(), Some(why)),
            Seen::Silence => return,
        };
        if self.is_heard(host) {
            let digest = quell_model::preview::digest(&items);
            let preview = Preview { items, digest, refusal, note: String::new() };
            self.step(Input::Previewed { host: host.clone(), command: id, preview });
        }
    }

    /// Lets time pass: `90s`, `5m`, `2h`, `3d`.
    pub fn run(&mut self, span: &str) {
        let until = self.now + parse_span(span);
        self.run_until(until);
    }

    /// Lets time pass until a moment, written with its offset.
    pub fn run_to(&mut self, at: &str) {
        self.run_until(at.parse().unwrap());
    }

    /// Lets time pass until a moment.
    pub fn run_until(&mut self, until: Timestamp) {
        loop {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let wake = self.wake.filter(|_| self.controller_is_up);
            let Some(next) = event.into_iter().chain(wake).min().filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            if wake.is_some_and(|wake| wake <= self.now) {
                self.step(Input::Tick);
            } else if let Some((_, event)) = self.events.pop_first() {
                self.happen(event);
            }
        }
        self.now = until;
        if self.controller_is_up {
            self.step(Input::Tick);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Sample(host, key) => self.sample(&host, key),
            Event::Begin(host, command) => self.begin_order(&host, command),
            Event::Look(host, command) => self.look(&host, command),
            Event::End(host, command) => self.end_order(&host, command),
            Event::Reconnect(host) => self.connect(host.as_str()),
        }
    }

    fn is_heard(&self, host: &HostName) -> bool {
        self.controller_is_up && self.agents.get(host).is_some_and(|agent| agent.connected)
    }

    /// A probe is run, with all others of the host that are due at the same moment when they are sent together.
    fn sample(&mut self, host: &HostName, key: ProbeKey) {
        let mut keys = vec![key];
        while self.batches
            && let Some(next) = self.events.first_entry()
            && next.key().0 <= self.now
            && matches!(next.get(), Event::Sample(of, _) if of == host)
        {
            if let Event::Sample(_, key) = next.remove() {
                keys.push(key);
            }
        }
        let is_heard = self.is_heard(host);
        let mut samples = Vec::with_capacity(keys.len());
        for key in keys {
            if self.is_run(host, &key)
                && is_heard
                && let Some(fields) = self.facts.fields(host, &key, &self.state.manifests)
            {
                samples.push(Sample { probe: key, taken_at: self.now, fields });
            }
        }
        if !samples.is_empty() {
            self.samples += samples.len() as u64;
            self.step(Input::Samples { host: host.clone(), samples });
        }
    }

    /// Whether a probe is still assigned; says when it is run next.
    fn is_run(&mut self, host: &HostName, key: &ProbeKey) -> bool {
        let Some(agent) = self.agents.get_mut(host) else { return false };
        let every =
            if key.is_host() { Some(quell_engine::windows::HOST_EVERY) } else { agent.probes.get(key).copied() };
        let Some(every) = every else {
            agent.sampling.remove(key);
            return false;
        };
        // A probe that was run once, now, must not start a second series.
        let next = agent.next_sample.get_mut(key);
        if next.as_ref().is_none_or(|next| **next <= self.now) {
            let at = self.now + every;
            match next {
                Some(next) => *next = at,
                None => drop(agent.next_sample.insert(key.clone(), at)),
            }
            self.schedule(at, Event::Sample(host.clone(), key.clone()));
        }
        true
    }

    /// An order reaches an agent: it is journaled by its key, and carried out once.
    fn order(&mut self, host: &HostName, command: &CommandRow, plan: &PlanRow) {
        let now = self.now;
        let exact = ExactPlan::parse(plan.canonical.as_bytes()).expect("a plan's own bytes");
        if let Some(approved) = exact.preview(host, command.step).filter(|_| command.is_previewed()) {
            self.approved.insert(command.id, approved);
        }
        let Some(agent) = self.agents.get_mut(host).filter(|agent| agent.connected) else { return };
        if agent.take_order(command, now) {
            self.schedule(now + Duration::from_millis(10), Event::Begin(host.clone(), command.id));
        } else if agent.outcome(command.id).is_some() {
            self.schedule(now + Duration::from_millis(10), Event::End(host.clone(), command.id));
        }
    }

    fn cancel(&mut self, host: &HostName, command: CommandId) {
        self.cancelled.insert((host.clone(), command));
        let Some(agent) = self.agents.get_mut(host).filter(|agent| agent.connected) else { return };
        if agent.cancel(command) {
            self.schedule(self.now + Duration::from_millis(10), Event::End(host.clone(), command));
        }
    }

    fn begin_order(&mut self, host: &HostName, id: CommandId) {
        let Some(agent) = self.agents.get_mut(host) else { return };
        let Some(command) = agent.begin(id) else { return };
        if self.is_heard(host) {
            self.step(Input::Begun { host: host.clone(), command: id });
        }
        let done = match (self.moved(host, &command), self.reactions.get_mut(&command.action)) {
            (Some(refused), _) => refused,
            (None, Some(reaction)) => reaction(&command, &mut self.facts),
            (None, None) => Done::ok(),
        };
        let Some(after) = done.after else { return };
        if let Some(agent) = self.agents.get_mut(host) {
            agent.finish(id, done);
        }
        self.schedule(self.now + after, Event::End(host.clone(), id));
    }

    /// Before it acts an agent looks again, as the real one does.
    fn moved(&mut self, host: &HostName, command: &CommandRow) -> Option<Done> {
        let approved = *self.approved.get(&command.id)?;
        match self.seen(host, command) {
            Seen::List(items) if quell_model::preview::digest(&items) != approved => {
                Some(Done { moved: true, ..Done::refused("what it would touch is not what was approved") })
            }
            Seen::Refusal(why) => Some(Done::refused(&why)),
            _ => None,
        }
    }

    fn end_order(&mut self, host: &HostName, id: CommandId) {
        let Some(outcome) = self.agents.get_mut(host).and_then(|agent| agent.end(id)) else { return };
        if self.is_heard(host) {
            self.acknowledge(host, id);
            let ended_at = self.now;
            self.step(Input::Ended { host: host.clone(), command: id, outcome, ended_at, sequence: id.0 });
        }
    }

    fn acknowledge(&mut self, host: &HostName, id: CommandId) {
        if let Some(agent) = self.agents.get_mut(host) {
            agent.acknowledge(id);
        }
    }

    /// The controller dies and is started again: windows are gone, the state comes from the records, agents come back
    /// after a second.
    pub fn restart(&mut self) {
        let mut state = State::default();
        found(&mut state, self.begun);
        for write in self.records.iter().flat_map(|change| &change.writes) {
            state.apply(write).expect("what was recorded can be read");
        }
        assert_eq!(state.rows(), self.state.rows(), "the records hold the whole state");
        self.state = state;
        self.windows = Windows::default();
        self.wake = None;
        let hosts: Vec<HostName> =
            self.agents.iter().filter(|(_, agent)| agent.connected).map(|(host, _)| host.clone()).collect();
        for host in &hosts {
            self.agents.get_mut(host).unwrap().connected = false;
            self.schedule(self.now + Duration::from_secs(1), Event::Reconnect(host.clone()));
        }
        self.step(Input::Started { restored: false });
    }
}

/// What `init` leaves: which installation this is, and whom its hosts believe first.
fn found(state: &mut State, at: Timestamp) {
    std::sync::Arc::make_mut(&mut state.meta).installation = "test".to_owned();
    let canonical = signing::root("test").canonical();
    let root = TrustRow { canonical, signatures: Vec::new(), at, by: "init".to_owned() };
    state.put(1, Some(std::sync::Arc::new(root)));
}

/// `90s`, `5m`, `2h`, `3d` as a span.
pub fn parse_span(span: &str) -> Duration {
    let (number, unit) = span.split_at(span.len() - 1);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        other => panic!("{other} is no unit"),
    };
    Duration::from_secs(number.parse::<u64>().unwrap() * unit)
}

/// An outcome of a kind.
pub fn outcome(kind: OutcomeKind, summary: &str) -> Outcome {
    Outcome {
        kind,
        summary: summary.to_owned(),
        duration: Duration::from_secs(1),
        values: Fields::new(),
        output: String::new(),
        remedy: String::new(),
        moved: false,
    }
}
