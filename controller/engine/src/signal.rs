//! Signals: a condition with three truth values, of the target itself or of a quorum of observers.
//!
//! One observer's own network is not the server being down, so a quorum counts observers that *know*: one that is
//! missing, stale or blind can neither make a signal true nor false.

use quell_model::{
    policy::{Quorum, Signal},
    value::Truth,
};

use crate::scope::Site;

/// Judges a signal where its target is judged.
pub(crate) fn judge(site: &Site<'_>, signal: &Signal) -> Truth {
    match signal.quorum {
        None => site.judge(&signal.that),
        Some(quorum) => {
            let votes = site
                .compiled
                .observers
                .iter()
                .map(|observer| Site { observer: Some(observer), ..*site }.judge(&signal.that));
            count(quorum, votes)
        }
    }
}

/// Counts what observers say. With more observers than the quorum speaks of, the same share of them is needed.
fn count(quorum: Quorum, votes: impl Iterator<Item = Truth>) -> Truth {
    let (mut holds, mut fails, mut all) = (0, 0, 0);
    for vote in votes {
        all += 1;
        match vote {
            Truth::True => holds += 1,
            Truth::False => fails += 1,
            Truth::Unknown => {}
        }
    }
    let all = all.max(u64::from(quorum.among));
    let (of, among) = (u64::from(quorum.of), u64::from(quorum.among.max(1)));
    let needed = of.max((of * all).div_ceil(among));
    if holds >= needed {
        Truth::True
    } else if all - fails < needed {
        Truth::False
    } else {
        Truth::Unknown
    }
}

#[cfg(test)]
mod tests {
    use Truth::{False, True, Unknown};

    use super::*;

    fn two_of_three(votes: &[Truth]) -> Truth {
        count(Quorum { of: 2, among: 3 }, votes.iter().copied())
    }

    #[test]
    fn a_quorum_counts_those_who_know() {
        assert_eq!(two_of_three(&[True, True, False]), True);
        assert_eq!(two_of_three(&[True, False, False]), False);
        assert_eq!(two_of_three(&[True, Unknown, False]), Unknown);
        assert_eq!(two_of_three(&[Unknown, Unknown, Unknown]), Unknown);
        assert_eq!(two_of_three(&[True, Unknown, True]), True);
    }

    #[test]
    fn missing_observers_are_unknown_ones() {
        assert_eq!(two_of_three(&[True]), Unknown);
        assert_eq!(two_of_three(&[]), Unknown);
        assert_eq!(two_of_three(&[False, False]), False);
    }

    #[test]
    fn more_observers_need_the_same_share() {
        assert_eq!(two_of_three(&[True, True, False, False, False, False]), False);
        assert_eq!(two_of_three(&[True, True, True, True, Unknown, False]), True);
        assert_eq!(two_of_three(&[True, True, True, Unknown, Unknown, False]), Unknown);
    }
}
