//! Approve, Deny, Annotate: what people say about plans and incidents.

use quell_engine::{id::IncidentId, input::Request as Wanted};
use quell_model::{digest::Digest, trust::approvals::Signed};
use quell_wire::v1::{AnnotateRequest, AnnotateResponse, DecideRequest, DecideResponse};
use tonic::Status;

use super::{
    argument,
    operator::{Caller, Operators},
};

/// The signature over a ballot; a client of an older version names no end.
fn signed(signature: String, expires: &str) -> Result<Option<Signed>, Status> {
    if signature.is_empty() {
        return Ok(None);
    }
    let expires = if expires.is_empty() { None } else { Some(argument::parse(expires)?) };
    Ok(Some(Signed { expires, signature }))
}

impl Operators {
    /// Approves or denies the exact plan that the person saw.
    pub(super) async fn decide(
        &self,
        caller: Caller,
        request: DecideRequest,
        approve: bool,
    ) -> Result<DecideResponse, Status> {
        let state = self.context.decider.state();
        let plan = argument::plan(&state, &request.plan)?.id;
        if request.plan_hash.is_empty() {
            return Err(Status::invalid_argument(
                "the hash of the plan as you saw it is missing: look at the plan first",
            ));
        }
        let hash: Digest = argument::parse(&request.plan_hash)?;
        let roles = state.operators.get(&caller.operator.name).map(|row| row.roles.clone()).unwrap_or_default();
        let choice = (!request.choice.is_empty()).then_some(request.choice);
        let reason = argument::note(&request.reason)?;
        let signature = signed(request.signature, &request.expires)?;
        let wanted = Wanted::Decide { plan, hash, choice, reason, approve, roles, signature };
        self.ask(caller.actor, wanted).await?;
        Ok(DecideResponse { plan: self.look(|viewer| viewer.plan_with(plan)) })
    }

    /// Acknowledges an incident, or adds a note to it.
    pub(super) async fn annotate_incident(
        &self,
        caller: Caller,
        request: AnnotateRequest,
    ) -> Result<AnnotateResponse, Status> {
        let incident: IncidentId = argument::parse(&request.incident)?;
        let note = argument::note(&request.note)?;
        if note.is_empty() && !request.acknowledge {
            return Err(Status::invalid_argument("there is neither a note nor an acknowledgement"));
        }
        self.ask(caller.actor, Wanted::Annotate { incident, acknowledge: request.acknowledge, note }).await?;
        Ok(AnnotateResponse { incident: self.look(|viewer| viewer.incident_with(incident)) })
    }
}
