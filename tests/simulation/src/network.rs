//! The network between the controller and its agents: packets are delayed, and lost, repeated or turned round when that is
//! wished. A connection that is cut in one direction goes on in the other.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use quell_model::name::HostName;
use quell_wire::v1::{AgentMessage, ControllerMessage};

use crate::time::{Millis, SECOND};

/// A connection, by its number; each attempt of an agent makes a new one.
pub(crate) type Connection = u64;

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// From an agent to the controller.
    Up,
    /// From the controller to an agent.
    Down,
}

/// What travels.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    /// A message of an agent.
    Said(Box<AgentMessage>),
    /// A message of the controller.
    Told(Box<ControllerMessage>),
    /// Whoever sends this lives: HTTP/2's ping and its answer.
    Alive,
    /// The other end has closed the connection.
    Closed,
}

/// How bad the network is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Milliseconds that a packet takes at most, beyond the first.
    pub(crate) delay: Millis,
    /// How many packets in a thousand are lost,
    pub(crate) lost: u32,
    /// come twice,
    pub(crate) twice: u32,
    /// or are overtaken.
    pub(crate) overtaken: u32,
}

impl Weather {
    /// All that is sent arrives soon, once and in order.
    pub(crate) const FAIR: Self = Self { delay: 20, lost: 0, twice: 0, overtaken: 0 };

    /// Some weather.
    pub(crate) fn any(rng: &mut Rng) -> Self {
        let mut some = |most: u32| if rng.bool() { 0 } else { rng.u32(0..=most) };
        Self { delay: 20 + u64::from(some(3_000)), lost: some(40), twice: some(60), overtaken: some(40) }
    }
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    weather: Weather,
    /// Until when nothing gets through.
    cuts: BTreeMap<(HostName, Way), Millis>,
    /// When the last packet of each stream arrives: the next one comes after it.
    last: BTreeMap<(Connection, Way), Millis>,
    /// Streams of which something was lost for good: nothing after it arrives, as with TCP.
    broken: BTreeSet<(Connection, Way)>,
    rng: Rng,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            weather: Weather::FAIR,
            cuts: BTreeMap::new(),
            last: BTreeMap::new(),
            broken: BTreeSet::new(),
            rng: Rng::with_seed(seed),
        }
    }

    pub(crate) fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Nothing of this host gets through this way until then.
    pub(crate) fn cut(&mut self, host: &HostName, way: Way, until: Millis) {
        self.cuts.insert((host.clone(), way), until);
    }

    /// All is well from now on.
    pub(crate) fn heal(&mut self) {
        self.weather = Weather::FAIR;
        self.cuts.clear();
    }

    /// When a packet arrives that is sent now: never, once or twice.
    pub(crate) fn arrivals(&mut self, host: &HostName, connection: Connection, way: Way, now: Millis) -> Vec<Millis> {
        let Weather { delay, lost, twice, overtaken } = self.weather;
        let mut arrives = now + 1 + self.rng.u64(0..=delay);
        if let Some(until) = self.cuts.get(&(host.clone(), way)).filter(|until| **until > now) {
            // What is sent into a cut is lost, or sent again by TCP once it is over.
            if self.rng.u32(0..3) > 0 {
                self.broken.insert((connection, way));
            }
            arrives = until + 1 + self.rng.u64(0..=delay + SECOND);
        }
        if self.chance(lost) {
            self.broken.insert((connection, way));
        }
        if self.broken.contains(&(connection, way)) {
            return Vec::new();
        }
        let after = self.last.entry((connection, way)).or_default();
        if self.rng.u32(0..1_000) >= overtaken {
            arrives = arrives.max(*after);
        }
        *after = (*after).max(arrives);
        let mut all = vec![arrives];
        if self.chance(twice) {
            all.push(arrives + self.rng.u64(0..=delay * 2));
        }
        all
    }

    fn chance(&mut self, in_a_thousand: u32) -> bool {
        self.rng.u32(0..1_000) < in_a_thousand
    }
}
