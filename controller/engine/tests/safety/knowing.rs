//! Nothing is done on *resolved*, *no data*, *stale* or *unknown*: only on a symptom that is known at that moment.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use quell_engine::input::{Input, Sample};
use quell_model::{name::HostName, probe::ProbeKey};

use super::{
    farm::{Farm, Rules, Way, over},
    judge,
};

/// Three intervals of ten seconds.
const FRESH: SignedDuration = SignedDuration::from_secs(30);

/// What one moment brings: a sample of one host, perhaps an old one, perhaps none, and how long nothing follows.
#[derive(Debug, Clone)]
struct Moment {
    host: usize,
    length: Option<u32>,
    age: i64,
    pause: u32,
}

fn moment() -> impl Strategy<Value = Moment> {
    let length = prop_oneof![
        1 => Just(None),
        3 => Just(Some(0)),
        1 => Just(Some(8)),
        4 => Just(Some(20)),
    ];
    let age = prop_oneof![5 => Just(0_i64), 1 => 1..29_i64, 1 => 31..90_i64];
    let pause = prop_oneof![4 => 1..5_u32, 2 => 5..25_u32, 1 => 25..60_u32];
    (0..4_usize, length, age, pause).prop_map(|(host, length, age, pause)| Moment { host, length, age, pause })
}

/// Every sample that came in, with the moment at which it did.
type Log = BTreeMap<HostName, Vec<(Timestamp, Timestamp, u32)>>;

/// Sends the samples itself: the farm's own agents say nothing of the probe.
fn feed(farm: &mut Farm, probe: &ProbeKey, name: &str, field_of: &str, moments: &[Moment]) -> Log {
    let mut log = Log::new();
    for host in farm.hosts.clone() {
        farm.world.blind(host.as_str(), field_of);
    }
    farm.wait(120);
    for moment in moments {
        let host = farm.host(moment.host);
        if let Some(length) = moment.length {
            let taken_at = farm.later(-moment.age);
            let fields = [
                ("ok".to_owned(), true.into()),
                (name.to_owned(), f64::from(length).into()),
                ("failures".to_owned(), 0.0.into()),
                ("successes".to_owned(), 1.0.into()),
            ];
            let sample = Sample { probe: probe.clone(), taken_at, fields: Arc::new(fields.into()) };
            log.entry(host.clone()).or_default().push((farm.world.now, taken_at, length));
            farm.world.step(Input::Samples { host, samples: vec![sample] });
        }
        farm.wait(moment.pause);
    }
    farm.wait(200);
    log
}

/// What was known of a host at a moment: absent when nothing fresh was.
fn known(log: &Log, host: &HostName, at: Timestamp) -> Option<u32> {
    let came = log.get(host)?.iter().filter(|(came, _, _)| *came <= at);
    // Of two of the same moment the later word counts.
    let (_, taken_at, length) = came.max_by_key(|(came, taken_at, _)| (*taken_at, *came))?;
    (at.duration_since(*taken_at) <= FRESH).then_some(*length)
}

#[test]
fn a_server_is_restarted_only_while_its_queue_is_known_to_be_long() {
    over(32, &prop::collection::vec(moment(), 5..40), |moments| {
        let mut farm = Farm::of_servers(&Rules::default());
        (0..4).for_each(|host| farm.acts(host, Way::HelpsNothing));
        let probe = farm.probe("queue", "queue");
        let log = feed(&mut farm, &probe, "value", "queue", &moments);
        judge::each_sent(&farm.world, |sent| {
            let length = known(&log, &sent.command.host, sent.at);
            assert!(
                length.is_some_and(|length| length > 10),
                "{} at {} though the queue was {length:?}\n{log:#?}",
                sent.command.id,
                sent.at
            );
        })
    });
}

#[test]
fn the_fleet_is_touched_only_while_a_quorum_knows_the_symptom() {
    over(32, &prop::collection::vec(moment(), 5..40), |moments| {
        // Three observers, one wave: the symptom is judged once.
        let mut farm = Farm::of_fleet(&Rules { hosts: 3, waves: vec![3], ..Rules::default() });
        (0..3).for_each(|host| farm.acts(host, Way::HelpsNothing));
        let probe = farm.probe("stock", "stock");
        let log = feed(&mut farm, &probe, "value", "stock", &moments);
        judge::each_sent(&farm.world, |sent| {
            if sent.plan.started_at != Some(sent.at) {
                return;
            }
            let knowing = farm.hosts.iter().filter(|host| known(&log, host, sent.at).is_some_and(|value| value > 10));
            assert!(knowing.count() >= 2, "{} at {} without a quorum\n{log:#?}", sent.command.id, sent.at);
        })
    });
}
