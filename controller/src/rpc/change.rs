//! Run, CancelPlan, Hold, Release, ResetBreaker: what people do, and keep from being done.

use std::time::Duration;

use quell_engine::input::{HoldScope, Reply, Request as Wanted};
use quell_model::{action::Parameters, trust::run::Run};
use quell_wire::v1::{
    CancelPlanRequest, CancelPlanResponse, HoldRequest, HoldResponse, ReleaseRequest, ReleaseResponse,
    ResetBreakerRequest, ResetBreakerResponse, RunRequest, RunResponse,
};
use tonic::Status;

use super::{
    argument,
    operator::{Caller, Operators},
    status,
    trust::signed_set,
    view,
};

/// The longest hold; a longer one is a policy.
const LONGEST_HOLD: Duration = Duration::from_secs(366 * 86_400);
impl Operators {
    /// Runs an action by hand.
    pub(super) async fn run_action(&self, caller: Caller, request: RunRequest) -> Result<RunResponse, Status> {
        let run = Run::parse(&request.run).map_err(|error| status::invalid(&error))?;
        // The hosts would refuse it, one after the other.
        Parameters::parse(&run.action, &run.with).map_err(Status::invalid_argument)?;
        let set = signed_set(request.set.unwrap_or_default());
        let wanted = Wanted::Run { run: Box::new(run), set };
        match self.ask(caller.actor, wanted).await? {
            Reply::Plan { plan, targets, missing, hold } => Ok(RunResponse {
                plan_id: plan.to_string(),
                hold: hold.map(|no| view::hold(&plan, &no)),
                targets,
                missing: missing.iter().map(ToString::to_string).collect(),
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// Calls a plan off.
    pub(super) async fn call_off(
        &self,
        caller: Caller,
        request: CancelPlanRequest,
    ) -> Result<CancelPlanResponse, Status> {
        let plan = argument::plan(&self.context.decider.state(), &request.plan)?.id;
        let reason = argument::reason(&request.reason)?;
        self.ask(caller.actor, Wanted::Cancel { plan, reason }).await?;
        Ok(CancelPlanResponse { plan: self.look(|viewer| viewer.plan_with(plan)) })
    }

    /// Holds a host, a policy or an incident; or freezes hosts.
    pub(super) async fn hold_something(&self, caller: Caller, request: HoldRequest) -> Result<HoldResponse, Status> {
        let scope = match request.kind.as_str() {
            "host" => HoldScope::Host(argument::parse(&request.name)?),
            "policy" => HoldScope::Policy(argument::policy(&self.context.decider.state(), &request.name)?),
            "incident" => HoldScope::Incident(argument::parse(&request.name)?),
            "hosts" => HoldScope::Hosts(argument::selector(&request.name)?),
            other => {
                let message = format!("{other:?} cannot be held; there are host, policy, incident and hosts");
                return Err(Status::invalid_argument(message));
            }
        };
        let span = argument::span("the length of a hold", request.for_ms, LONGEST_HOLD)?;
        let reason = argument::reason(&request.reason)?;
        match self.ask(caller.actor, Wanted::Hold { scope, span, reason }).await? {
            Reply::Window(id) => Ok(HoldResponse { window: self.look(|viewer| viewer.window_with(id)) }),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends holds and freezes.
    pub(super) async fn release_holds(
        &self,
        caller: Caller,
        request: ReleaseRequest,
    ) -> Result<ReleaseResponse, Status> {
        let window = match (request.window.as_str(), request.all) {
            ("", true) => None,
            ("", false) => return Err(Status::invalid_argument("name the hold to end (win-3), or ask for all")),
            (_, true) => return Err(Status::invalid_argument("name one hold or ask for all, not both")),
            (window, false) => Some(argument::parse(window)?),
        };
        let reason = argument::note(&request.reason)?;
        match self.ask(caller.actor, Wanted::Release { window, reason }).await? {
            Reply::Released(windows) => {
                Ok(ReleaseResponse { released: windows.iter().map(ToString::to_string).collect() })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Closes a policy's breaker.
    pub(super) async fn close_breaker(
        &self,
        caller: Caller,
        request: ResetBreakerRequest,
    ) -> Result<ResetBreakerResponse, Status> {
        let policy = argument::policy(&self.context.decider.state(), &request.policy)?;
        let reason = argument::reason(&request.reason)?;
        self.ask(caller.actor, Wanted::ResetBreaker { policy, reason }).await?;
        Ok(ResetBreakerResponse {})
    }
}

/// The engine answered something else than was asked.
pub(super) fn unexpected(reply: &quell_engine::input::Reply) -> Status {
    status::internal(&format!("the engine answered {reply:?}"))
}
