//! One simulated installation: a controller, its agents, the network, the people, and what happens next.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use fastrand::Rng;
use quell_model::name::HostName;
use quell_wire::v1;

use crate::{
    agent::{Agent, Stage},
    broken::Broken,
    controller::Controller,
    judge::Judge,
    network::{Connection, Network, Packet, Way},
    points::{Died, Points, Side},
    site::{Site, Trouble},
    story::Story,
    time::{MINUTE, Millis, SECOND},
};

/// What happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// A packet arrives.
    Arrives { host: HostName, connection: Connection, way: Way, packet: Packet },
    /// An agent looks at its probes, and whether the controller still answers.
    Look { host: HostName, incarnation: u64 },
    /// An agent tries to reach the controller.
    Connect { host: HostName, incarnation: u64 },
    /// An order goes on.
    Work { host: HostName, incarnation: u64, key: String, stage: Stage },
    /// An agent's process starts.
    StartAgent { host: HostName },
    /// The controller's process starts.
    StartController,
    /// The controller wanted to be woken.
    Wake { incarnation: u64 },
    /// The controller looks whether its agents are still there.
    Listen { incarnation: u64 },
    /// A message to people has reached them, or has not.
    Delivered { incarnation: u64, message: quell_engine::id::MessageId, well: bool },
    /// Something goes wrong by chance.
    Mishap,
    /// A host is cut off for a moment.
    Interrupted { host: HostName },
    /// At peace, people let go of everything that they hold.
    LetAllGo,
    /// Something breaks.
    Trouble(Trouble),
    /// Somebody does something.
    People,
    /// From now on nothing goes wrong any more.
    Peace,
    /// People call off what waits.
    TidyUp,
}

/// How a simulation is run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// All chance follows from it.
    pub seed: u64,
    /// Whether anything goes wrong by chance.
    pub chaos: bool,
    /// A process that is killed at the point of this number of its side.
    pub kill: Option<(Side, u64)>,
    /// Whether every message is sent a second time, to its receiver and to others, once everything is over.
    pub replays: bool,
    /// A rule that is left out on purpose.
    pub broken: Option<Broken>,
    /// Whether the story is told.
    pub traced: bool,
}

impl Plan {
    /// A run in which all goes wrong that can.
    pub fn of(seed: u64) -> Self {
        Self { seed, chaos: true, kill: None, replays: false, broken: None, traced: false }
    }
}

/// The world.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now: Millis,
    /// A moment of the monotonic clock that stands for the beginning.
    pub(crate) epoch: Instant,
    pub(crate) rng: Rng,
    pub(crate) points: Points,
    pub(crate) network: Network,
    pub(crate) site: Site,
    pub(crate) judge: Judge,
    pub(crate) story: Story,
    pub(crate) controller: Controller,
    pub(crate) agents: BTreeMap<HostName, Agent>,
    /// Orders that an attacker has seen on the wire.
    pub(crate) captured: Vec<(HostName, v1::Command)>,
    /// What agents reported with a number, where that is to be repeated.
    pub(crate) reported: Vec<(HostName, v1::AgentMessage)>,
    /// After how many effects everything was sent again.
    pub(crate) replayed_after: Option<usize>,
    pub(crate) at_peace: bool,
    pub(crate) revoked: BTreeSet<&'static str>,
    events: BTreeMap<(Millis, u64), Event>,
    count: u64,
    connections: u64,
    /// Holds the data directories of the agents.
    _directory: tempfile::TempDir,
}

/// The hosts and the roles that their labels name.
pub(crate) const HOSTS: [(&str, &str); 4] = [("ops1", "ops"), ("web1", "web"), ("web2", "web"), ("web3", "web")];

/// How long things go wrong.
const UNREST: Millis = 20 * MINUTE;

/// How long everything may take to end once nothing goes wrong any more.
const REST: Millis = 180 * MINUTE;

impl World {
    /// Everybody is there, and the policies are applied.
    pub(crate) fn new(plan: Plan) -> anyhow::Result<Self> {
        let mut rng = Rng::with_seed(plan.seed);
        let odds = if plan.chaos { [odds(&mut rng), odds(&mut rng)] } else { [0, 0] };
        let points = if plan.chaos { Points::by_chance(rng.u64(..), odds) } else { Points::at(plan.kill) };
        let directory = match std::path::Path::new("/dev/shm") {
            memory if memory.is_dir() => tempfile::tempdir_in(memory)?,
            _ => tempfile::tempdir()?,
        };
        let hosts: Vec<HostName> = HOSTS.iter().filter_map(|(name, _)| name.parse().ok()).collect();
        let agents = hosts.iter().map(|host| Ok((host.clone(), Agent::new(host, directory.path())?)));
        let mut world = Self {
            plan,
            now: 0,
            epoch: Instant::now(),
            network: Network::new(rng.u64(..)),
            rng,
            site: Site::new(&hosts),
            judge: Judge::default(),
            story: Story::new(plan.traced),
            controller: Controller::new(points.clone())?,
            points,
            agents: agents.collect::<anyhow::Result<_>>()?,
            captured: Vec::new(),
            reported: Vec::new(),
            replayed_after: None,
            at_peace: false,
            revoked: BTreeSet::new(),
            events: BTreeMap::new(),
            count: 0,
            connections: 0,
            _directory: directory,
        };
        world.begin();
        Ok(world)
    }

    fn begin(&mut self) {
        self.schedule(0, Event::StartController);
        let hosts: Vec<HostName> = self.agents.keys().cloned().collect();
        for host in hosts {
            let at = SECOND + self.rng.u64(0..SECOND);
            self.schedule(at, Event::StartAgent { host });
        }
        if self.plan.chaos {
            self.schedule(MINUTE, Event::Mishap);
            self.schedule(MINUTE, Event::People);
            self.schedule(UNREST, Event::Peace);
        } else {
            self.schedule_scenario();
        }
    }

    /// Something happens so many milliseconds from now.
    pub(crate) fn schedule(&mut self, after: Millis, event: Event) {
        self.count += 1;
        self.events.insert((self.now + after, self.count), event);
    }

    /// Lives until everything is quiet, or something is wrong.
    pub(crate) fn live(&mut self) {
        let end = UNREST + REST;
        let mut quiet_since = None;
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.controller.clock.set(at);
            self.happen(event);
            if !self.judge.violations().is_empty() {
                return;
            }
            if !self.at_peace || !self.is_quiet() {
                quiet_since = None;
            } else if at >= *quiet_since.get_or_insert(at) + 5 * MINUTE {
                if !self.plan.replays || self.replayed_after.is_some() {
                    break;
                }
                self.replay_all();
                quiet_since = None;
            }
            if at > end {
                break;
            }
        }
        self.conclude();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives { host, connection, way: Way::Up, packet } => {
                let result = self.hear(&host, connection, packet);
                self.survives_controller(result);
            }
            Event::Arrives { host, connection, way: Way::Down, packet } => {
                let result = self.obey(&host, connection, packet);
                self.survives_agent(&host, result);
            }
            Event::Look { host, incarnation } if self.is_living(&host, incarnation) => {
                let result = self.look(&host);
                self.survives_agent(&host, result);
            }
            Event::Connect { host, incarnation } if self.is_living(&host, incarnation) => {
                let result = self.connect(&host);
                self.survives_agent(&host, result);
            }
            Event::Work { host, incarnation, key, stage } if self.is_living(&host, incarnation) => {
                let result = self.work(&host, &key, stage);
                self.survives_agent(&host, result);
            }
            Event::Look { .. } | Event::Connect { .. } | Event::Work { .. } => {}
            Event::StartAgent { host } => self.start_agent(&host),
            Event::StartController => {
                let result = self.start_controller();
                self.survives_controller(result);
            }
            Event::Wake { incarnation } if incarnation == self.controller.incarnation => {
                let result = self.wake();
                self.survives_controller(result);
            }
            Event::Listen { incarnation } if incarnation == self.controller.incarnation => {
                let result = self.listen();
                self.survives_controller(result);
            }
            Event::Delivered { incarnation, message, well } if incarnation == self.controller.incarnation => {
                let result = self.delivered(message, well);
                self.survives_controller(result);
            }
            Event::Wake { .. } | Event::Listen { .. } | Event::Delivered { .. } => {}
            Event::Mishap => self.mishap(),
            Event::Interrupted { host } => self.interrupt(&host),
            Event::LetAllGo => self.let_all_go(),
            Event::Trouble(trouble) => self.breaks(trouble),
            Event::People if self.plan.chaos => self.somebody_acts(),
            Event::People => self.somebody_says_yes(),
            Event::Peace => self.peace(),
            Event::TidyUp => self.tidy_up(),
        }
    }

    /// What died starts again after a while.
    fn survives_controller(&mut self, result: Result<(), Died>) {
        if result == Err(Died) {
            self.kill_controller("in the middle of something");
        }
    }

    fn survives_agent(&mut self, host: &HostName, result: Result<(), Died>) {
        if result == Err(Died) {
            self.kill_agent(host, "in the middle of something");
        }
    }

    /// Sends a packet.
    pub(crate) fn send(&mut self, host: &HostName, connection: Connection, way: Way, packet: &Packet) {
        for at in self.network.arrivals(host, connection, way, self.now) {
            let event = Event::Arrives { host: host.clone(), connection, way, packet: packet.clone() };
            self.schedule(at - self.now, event);
        }
    }

    /// The number of a new connection.
    pub(crate) fn new_connection(&mut self) -> Connection {
        self.connections += 1;
        self.connections
    }

    /// Whether this rule is left out.
    pub(crate) fn lacks(&self, rule: Broken) -> bool {
        self.plan.broken == Some(rule)
    }

    /// The monotonic clock now.
    pub(crate) fn instant(&self) -> Instant {
        self.epoch + Duration::from_millis(self.now)
    }

    /// Tells the story on.
    pub(crate) fn tell(&mut self, what: impl FnOnce() -> String) {
        self.story.tell(self.now, what);
    }

    /// Whether nothing is under way anywhere.
    fn is_quiet(&self) -> bool {
        self.controller.is_quiet() && self.agents.values().all(Agent::is_quiet)
    }
}

/// In some seeds nobody dies by chance.
fn odds(rng: &mut Rng) -> u32 {
    match rng.u32(0..4) {
        0 => 0,
        1 => 200,
        2 => 1_000,
        _ => 4_000,
    }
}
