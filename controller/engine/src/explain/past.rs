//! What the record of a changed verdict holds: the answer that `why` gave at that moment, bounded, and the way to the
//! change before.

use jiff::Timestamp;
use quell_model::{name::Target, value::Value};
use serde::{Deserialize, Serialize};

use super::{Explanation, explain_as};
use crate::{input::Saw, scope::View, state::VerdictRow, windows::Compiled};

/// So many values of the trigger, and of each signal, are kept;
const VALUES: usize = 12;
/// and so many characters of a value that is text.
const TEXT: usize = 200;

/// The data of a record `verdictChanged`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// The verdict, as the state has it.
    #[serde(flatten)]
    pub row: VerdictRow,
    /// Since when the verdict before had stood: the record of that time tells of it. Absent: this is the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Timestamp>,
    /// The whole answer; absent in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Explanation>,
    /// So many of the values seen were left out of it.
    #[serde(default)]
    pub left_out: usize,
}

impl Recorded {
    /// What is recorded of a verdict that was judged just now.
    pub(crate) fn of(
        view: View<'_>,
        compiled: &Compiled,
        target: &Target,
        row: VerdictRow,
        previous: Option<Timestamp>,
    ) -> Self {
        let judged = (row.verdict, row.first_no.clone());
        let mut seen = explain_as(view, compiled, target, Some(judged));
        let left_out = bound(&mut seen);
        Self { row, previous, seen: Some(seen), left_out }
    }
}

/// Keeps an explanation small; says how many values were left out.
fn bound(seen: &mut Explanation) -> usize {
    let lists = seen.signals.iter_mut().map(|signal| &mut signal.saw).chain([&mut seen.saw]);
    lists.map(bound_values).sum()
}

/// What is missing is kept before what was seen: it is what people look for.
fn bound_values(saw: &mut Vec<Saw>) -> usize {
    let left_out = saw.len().saturating_sub(VALUES);
    if left_out > 0 {
        saw.sort_by_key(|saw| saw.value.is_some());
        saw.truncate(VALUES);
    }
    for saw in saw {
        if let Some(Value::Text(text)) = &mut saw.value
            && let Some((end, _)) = text.char_indices().nth(TEXT)
        {
            text.truncate(end);
            text.push('…');
        }
    }
    left_out
}
