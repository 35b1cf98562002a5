//! Why: what a policy makes of a target, and the first guard that said no.

use quell_engine::input::WhyQuestion;
use quell_model::name::Target;
use quell_wire::v1::{WhyRequest, WhyView};
use tonic::Status;

use super::{argument, operator::Operators, status, view};

impl Operators {
    /// The verdicts of a policy: on one target, or on all of them, worst first. The decider's thread answers, since only
    /// it knows the samples.
    pub(super) async fn explain(&self, request: WhyRequest) -> Result<WhyView, Status> {
        let decider = &self.context.decider;
        let policy = argument::policy(&decider.state(), &request.policy)?;
        let target: Option<Target> =
            (!request.target.is_empty()).then(|| argument::parse(&request.target)).transpose()?;
        let question = WhyQuestion { policy: policy.clone(), target: target.clone() };
        let explanations = decider
            .ask(move |windows, state, now| quell_engine::explain(windows, state, now, &question))
            .await
            .map_err(|error| status::of_decider(&error))?;
        match target {
            Some(target) if explanations.is_empty() => Err(Status::not_found(format!(
                "{policy} does not judge {target}: its hosts or its target say otherwise"
            ))),
            _ => Ok(WhyView { verdicts: explanations.iter().map(view::verdict).collect() }),
        }
    }
}
