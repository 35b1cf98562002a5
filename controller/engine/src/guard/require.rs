//! What a rung requires, asked when it is planned and again when it is carried out; unknown is no. Its `if` likewise.

use quell_model::value::Truth;

use super::Context;
use crate::{scope::Notes, state::Hold};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let (compiled, rung) = (context.compiled?, context.rung?);
    let notes = Notes::default();
    let site = context.site(compiled, &notes);
    if let Some(condition) = &rung.only_if
        && site.judge(condition) != Truth::True
    {
        return Some(context.no("if", format!("`{}` is not known to hold", condition.text()), None));
    }
    rung.require.iter().find_map(|requirement| {
        let truth = site.judge(&requirement.that);
        (truth != Truth::True).then(|| {
            context.no("require", format!("{} (`{}` is {truth})", requirement.because, requirement.that.text()), None)
        })
    })
}
