//! What the shadow ledger of a policy comes to.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use quell_model::name::{FullName, HostName};

use super::{KEPT, of_policy};
use crate::{
    retention::SHADOWS,
    state::{ShadowRow, State},
    windows::before,
};

/// The span of the worst hour.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// What a policy would have done, as far as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary<'a> {
    /// Since when everything is kept.
    pub since: Timestamp,
    /// It would have acted so often,
    pub acted: usize,
    /// so often of these after asking people, by the rungs' own rules.
    pub asked: usize,
    /// So many are held still.
    pub waiting: usize,
    /// So many would have been held until they were not wanted any more.
    pub dropped: usize,
    /// How often on each host.
    pub hosts: BTreeMap<&'a HostName, usize>,
    /// How many decisions each guard would have held for a time.
    pub held_by: BTreeMap<&'a str, usize>,
    /// The first act and the last.
    pub first: Option<Timestamp>,
    /// The last.
    pub last: Option<Timestamp>,
    /// The hour with most acts: when it began, and how many they were.
    pub worst_hour: Option<(Timestamp, usize)>,
    /// So many decisions were made by another version of the policy.
    pub of_other_versions: usize,
    /// The decisions, newest first.
    pub decisions: Vec<&'a ShadowRow>,
}

/// Sums up what a policy would have done; nothing when there is no such policy.
pub fn summary<'a>(state: &'a State, now: Timestamp, policy: &FullName) -> Option<Summary<'a>> {
    let stored = state.manifests.get(&("Policy".to_owned(), policy.clone()))?;
    let digest = state.policy(policy)?.digest;
    let mut decisions: Vec<&ShadowRow> = of_policy(state, policy).map(|(_, row)| row).collect();
    decisions.sort_by_key(|row| std::cmp::Reverse(row.wanted_at));
    let oldest = decisions.last().map(|row| row.wanted_at);
    let since = match oldest {
        // Older ones may have been cut off.
        Some(oldest) if decisions.len() >= KEPT => oldest,
        _ => oldest.map_or(stored.applied_at, |oldest| oldest.min(stored.applied_at)).max(before(now, SHADOWS)),
    };
    let mut times: Vec<Timestamp> = decisions.iter().filter_map(|row| row.acted_at).collect();
    times.sort_unstable();
    Some(Summary {
        since,
        acted: times.len(),
        asked: decisions.iter().filter(|row| row.acted_at.is_some() && row.asks_people).count(),
        waiting: decisions.iter().filter(|row| row.is_waiting()).count(),
        dropped: decisions.iter().filter(|row| row.dropped.is_some()).count(),
        hosts: counted(decisions.iter().filter(|row| row.acted_at.is_some()).flat_map(|row| &row.hosts)),
        held_by: counted(decisions.iter().flat_map(|row| row.held_by.iter().map(String::as_str))),
        first: times.first().copied(),
        last: times.last().copied(),
        worst_hour: worst_hour(&times),
        of_other_versions: decisions.iter().filter(|row| row.digest != digest).count(),
        decisions,
    })
}

fn counted<T: Ord>(things: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for thing in things {
        *counts.entry(thing).or_default() += 1;
    }
    counts
}

/// The hour that begins with an act and has most of them; of several the first.
fn worst_hour(times: &[Timestamp]) -> Option<(Timestamp, usize)> {
    let from = |(index, begin): (usize, &Timestamp)| {
        let count = times[index..].iter().take_while(|time| time.duration_since(*begin) < HOUR).count();
        (*begin, count)
    };
    times.iter().enumerate().map(from).rev().max_by_key(|(_, count)| *count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_hour_is_the_first_with_most_acts() {
        let at = |minute: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute);
        assert_eq!(worst_hour(&[]), None);
        assert_eq!(worst_hour(&[at(5)]), Some((at(5), 1)));
        let times = [at(0), at(50), at(60), at(109), at(110), at(300), at(310), at(320)];
        assert_eq!(worst_hour(&times), Some((at(50), 3)));
    }
}
