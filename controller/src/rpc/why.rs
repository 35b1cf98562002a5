//! Why: what a policy makes of a target, now or at a time in the past, and the first guard that said no.

mod log;

use jiff::Timestamp;
use quell_engine::{State, input::WhyQuestion, state::VerdictRow};
use quell_model::name::{FullName, Target};
use quell_wire::v1::{PastView, VerdictView, WhyRequest, WhyView};
use tonic::Status;

use self::log::{Found, Key, Log};
use super::{argument, operator::Operators, status, view};

impl Operators {
    /// The verdicts of a policy: on one target, or on all of them, worst first.
    pub(super) async fn explain(&self, request: WhyRequest) -> Result<WhyView, Status> {
        let policy = argument::policy(&self.context.decider.state(), &request.policy)?;
        let target: Option<Target> =
            (!request.target.is_empty()).then(|| argument::parse(&request.target)).transpose()?;
        if request.at.is_empty() {
            return self.explain_now(policy, target).await;
        }
        let at: Timestamp = argument::parse(&request.at)?;
        if at > self.context.decider.now() {
            return Err(Status::invalid_argument(format!("{at} has not come yet: leave out --at for now")));
        }
        self.explain_then(policy, target, at).await
    }

    /// The decider's thread answers, since only it knows the samples.
    async fn explain_now(&self, policy: FullName, target: Option<Target>) -> Result<WhyView, Status> {
        let question = WhyQuestion { policy: policy.clone(), target: target.clone() };
        let ask =
            self.context.decider.ask(move |windows, state, now| quell_engine::explain(windows, state, now, &question));
        let explanations = ask.await.map_err(|error| status::of_decider(&error))?;
        match target {
            Some(target) if explanations.is_empty() => Err(Status::not_found(format!(
                "{policy} does not judge {target}: its hosts or its target say otherwise"
            ))),
            _ => Ok(WhyView { verdicts: explanations.iter().map(view::verdict).collect() }),
        }
    }

    /// The records answer: a verdict that changes is recorded with what it saw.
    async fn explain_then(&self, policy: FullName, target: Option<Target>, at: Timestamp) -> Result<WhyView, Status> {
        let decider = &self.context.decider;
        let state = decider.state();
        let log = Log::open(decider).await.map_err(|error| status::of_store(&error))?;
        let (keys, is_one): (Vec<Key>, bool) = match target {
            Some(target) => (vec![(policy.clone(), target)], true),
            None => (state.verdicts.keys().filter(|key| key.0 == policy).cloned().collect(), false),
        };
        let mut verdicts = Vec::new();
        let mut too_far = None;
        for key in &keys {
            let since = state.verdicts.get(key).map(|row| row.since);
            match log.find(key, since, at).await.map_err(|error| status::of_store(&error))? {
                Found::TooFar(why) => too_far = Some((key.1.clone(), why)),
                found => verdicts.extend(view_of(&state, key, found, at)),
            }
        }
        match too_far {
            Some((target, why)) if verdicts.is_empty() => Err(Status::not_found(if is_one {
                format!("nothing is known of {policy} on {target} at {at}: {why}")
            } else {
                format!("nothing is known of {policy} at {at}; of {target}: {why}")
            })),
            _ => Ok(WhyView { verdicts }),
        }
    }
}

fn view_of(state: &State, key: &Key, found: Found, at: Timestamp) -> Option<VerdictView> {
    match found {
        Found::TooFar(_) => None,
        Found::Standing => {
            let row = state.verdicts.get(key)?;
            let built_from = format!(
                "the verdict has stood since {}, and the record of that change is not kept any more: what was seen then is not known",
                row.since
            );
            Some(past(of_row(key, row), at, PastView { built_from, ..PastView::default() }))
        }
        Found::Change(change) => {
            let recorded = &change.recorded;
            let view = recorded.seen.as_ref().map_or_else(|| of_row(key, &recorded.row), view::verdict);
            let until = change.changed_at.map_or_else(String::new, |at| format!(", and changed again at {at}"));
            let left_out = match recorded.left_out {
                0 => String::new(),
                count => format!("; {count} more values were seen than the record holds"),
            };
            let built_from = format!(
                "record {}: the verdict changed at {} to this one{until}; values and guards are those of that moment{left_out}",
                change.sequence, recorded.row.since
            );
            let made = PastView {
                record: Some(change.sequence),
                changed_at: change.changed_at.map(view::time),
                left_out: u32::try_from(recorded.left_out).unwrap_or(u32::MAX),
                built_from,
                ..PastView::default()
            };
            Some(past(view, at, made))
        }
    }
}

fn past(view: VerdictView, at: Timestamp, made: PastView) -> VerdictView {
    VerdictView { past: Some(PastView { at: view::time(at), ..made }), ..view }
}

/// All that a row alone says.
fn of_row((policy, target): &Key, row: &VerdictRow) -> VerdictView {
    view::verdict_of_row(policy, target, row)
}
