//! Random lives: what happens to a farm, deed by deed.

use std::time::Duration;

use proptest::prelude::*;
use quell_engine::input::{HoldScope, Input, Reply, Request};
use quell_model::selector::Selector;

use super::farm::{Farm, Rules, Way};

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// Time passes, in seconds.
    Wait(u32),
    /// A queue has this length.
    Queue(usize, u32),
    /// Whether the farm's stock is wrong.
    Stock(bool),
    /// The queue's probe gives no more samples.
    Blind(usize),
    /// How acts on a host end from now on.
    Acts(usize, Way),
    /// A session is cut,
    Cut(usize),
    /// and comes back.
    Back(usize),
    /// A person restarts one server.
    Run(usize),
    /// A person freezes the farm for some seconds,
    Freeze(u32),
    /// holds a host,
    Hold(usize, u32),
    /// holds a policy,
    HoldPolicy(u32),
    /// or ends all that.
    Thaw,
    /// A host's own administrator holds it.
    HoldLocally(usize, u32),
    /// The controller dies and is started again.
    Restart,
}

impl Deed {
    /// Does it.
    pub(crate) fn happen(&self, farm: &mut Farm) {
        match self {
            Self::Wait(seconds) => farm.wait(*seconds),
            Self::Queue(host, length) => farm.queue(*host, *length),
            Self::Stock(is_wrong) => farm.stock(*is_wrong),
            Self::Blind(host) => {
                let host = farm.host(*host);
                farm.world.blind(host.as_str(), "queue");
            }
            Self::Acts(host, way) => farm.acts(*host, *way),
            Self::Cut(host) => {
                let host = farm.host(*host);
                farm.world.disconnect(host.as_str());
            }
            Self::Back(host) => {
                let host = farm.host(*host);
                if !farm.world.agents[&host].connected {
                    farm.world.connect(host.as_str());
                }
            }
            Self::Run(host) => run(farm, *host),
            Self::Freeze(seconds) => hold(farm, HoldScope::Hosts(Selector::All), *seconds),
            Self::Hold(host, seconds) => {
                let scope = HoldScope::Host(farm.host(*host));
                hold(farm, scope, *seconds);
            }
            Self::HoldPolicy(seconds) => hold(farm, HoldScope::Policy("plants/queue".parse().unwrap()), *seconds),
            Self::Thaw => {
                // Refused when nothing is held, which is as good.
                let _ = farm.world.ask("ann", Request::Release { window: None, reason: "over".to_owned() });
            }
            Self::HoldLocally(host, seconds) => {
                let hold = Some(("look at it".to_owned(), farm.later(i64::from(*seconds))));
                let host = farm.host(*host);
                farm.world.step(Input::HostHeld { host, hold });
            }
            Self::Restart => farm.world.restart(),
        }
    }
}

fn run(farm: &mut Farm, host: usize) {
    restart(farm, host, "web");
}

/// A person restarts a unit of one server.
pub(crate) fn restart(farm: &mut Farm, host: usize, unit: &str) -> Reply {
    let number = (host % farm.hosts.len()).to_string();
    let hosts = Selector::labels([("number".to_owned(), number)].into());
    let run = farm.world.a_run("service.restart", hosts, serde_json::json!({ "service": unit }));
    farm.world.run_by("ann", run).unwrap()
}

fn hold(farm: &mut Farm, scope: HoldScope, seconds: u32) {
    let span = Duration::from_secs(u64::from(seconds));
    farm.world.ask("ann", Request::Hold { scope, span, reason: "we are looking".to_owned() }).unwrap();
}

/// What makes the engine act.
fn symptom() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..6_usize, prop_oneof![Just(0_u32), Just(8), 11..40_u32]).prop_map(|(host, length)| Deed::Queue(host, length)),
        1 => any::<bool>().prop_map(Deed::Stock),
    ]
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        2 => Just(Way::Heals),
        3 => Just(Way::HelpsNothing),
        1 => Just(Way::Fails),
        1 => Just(Way::Refuses),
        1 => Just(Way::NeverEnds),
    ]
}

/// A quiet deed or two between those that matter.
pub(crate) fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (1..90_u32).prop_map(Deed::Wait),
        7 => symptom(),
        3 => (0..6_usize, way()).prop_map(|(host, way)| Deed::Acts(host, way)),
        2 => (0..6_usize).prop_map(Deed::Run),
        1 => (0..6_usize).prop_map(Deed::Blind),
        1 => (0..6_usize).prop_map(Deed::Cut),
        1 => (0..6_usize).prop_map(Deed::Back),
    ]
}

/// Deeds among which people hold things.
pub(crate) fn held_deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => deed(),
        1 => (1..200_u32).prop_map(Deed::Freeze),
        1 => (0..6_usize, 1..200_u32).prop_map(|(host, span)| Deed::Hold(host, span)),
        1 => (1..200_u32).prop_map(Deed::HoldPolicy),
        1 => (0..6_usize, 1..200_u32).prop_map(|(host, span)| Deed::HoldLocally(host, span)),
        1 => Just(Deed::Thaw),
    ]
}

/// Rules with small numbers, so that they are often reached.
pub(crate) fn rules() -> impl Strategy<Value = Rules> {
    let guards = (1..4_u32, 1..6_u32, 100..600_u32, 10..300_u32);
    let farm = (3..6_usize, 0..3_u32, 1..4_u32, 60..400_u32);
    let rollout = (prop::collection::vec(1..4_u32, 1..3), 0..3_u32, 1..40_u32, any::<bool>());
    (guards, farm, rollout).prop_map(|(guards, farm, rollout)| Rules {
        per_target: guards.0,
        per_policy: guards.1,
        within: guards.2,
        cooldown: guards.3,
        hosts: farm.0,
        keep_healthy: farm.1,
        disturb: farm.2,
        over: farm.3,
        waves: rollout.0,
        max_errors: rollout.1,
        settle: rollout.2,
        undo: rollout.3,
        calendar: false,
    })
}

/// Lives a life.
pub(crate) fn live(farm: &mut Farm, deeds: &[Deed]) {
    for deed in deeds {
        deed.happen(farm);
    }
    farm.wait(1);
}
