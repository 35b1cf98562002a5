//! The safety ledger: one row for every command that was sent, by whomever; budgets, cool-downs and limits draw on it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    State,
    id::{CommandId, PlanId},
    state::LedgerRow,
    turn::Turn,
};

/// Rows that count, chosen by a question.
pub(crate) fn rows<'a>(
    state: &'a State,
    mut wanted: impl FnMut(&LedgerRow) -> bool + 'a,
) -> impl Iterator<Item = &'a LedgerRow> {
    state.ledger.values().map(AsRef::as_ref).filter(move |row| !row.void && wanted(row))
}

/// How many acts (plans, of however many commands) have rows that answer a question.
pub(crate) fn plans(state: &State, wanted: impl FnMut(&LedgerRow) -> bool) -> u32 {
    let plans: BTreeSet<PlanId> = rows(state, wanted).map(|row| row.plan).collect();
    u32::try_from(plans.len()).unwrap_or(u32::MAX)
}

/// The times of acts that answer a question, one an act, oldest first.
pub(crate) fn times(state: &State, wanted: impl FnMut(&LedgerRow) -> bool) -> Vec<Timestamp> {
    let mut seen = BTreeSet::new();
    let mut times: Vec<Timestamp> = rows(state, wanted).filter(|row| seen.insert(row.plan)).map(|row| row.at).collect();
    times.sort_unstable();
    times
}

/// Makes a command's row not count: it was refused, or never started.
pub(crate) fn void(turn: &mut Turn<'_>, command: CommandId) {
    turn.draft.change::<LedgerRow>(&command, |row| row.void = true);
}

/// Makes a command's row count again: it was started after all.
pub(crate) fn count_again(turn: &mut Turn<'_>, command: CommandId) {
    turn.draft.change::<LedgerRow>(&command, |row| row.void = false);
}
