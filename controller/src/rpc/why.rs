//! Why: what a policy makes of a target, and the first guard that said no.

use quell_model::name::Target;
use quell_wire::v1::{WhyRequest, WhyView};
use tonic::Status;

use super::{argument, operator::Operators};

impl Operators {
    /// The verdicts of a policy: on one target, or on all of them, worst first.
    pub(super) async fn explain(&self, request: WhyRequest) -> Result<WhyView, Status> {
        let state = self.context.decider.state();
        let policy = argument::policy(&state, &request.policy)?;
        let target: Option<Target> =
            (!request.target.is_empty()).then(|| argument::parse(&request.target)).transpose()?;
        let verdicts = self.look_at(&state, |viewer| viewer.verdicts(&policy, target.as_ref()));
        match target {
            Some(target) if verdicts.is_empty() => Err(Status::not_found(format!(
                "{policy} does not judge {target}: its hosts or its target say otherwise"
            ))),
            _ => Ok(WhyView { verdicts }),
        }
    }
}
