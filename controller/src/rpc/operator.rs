//! The service itself: who called, and which file answers.

use std::{pin::Pin, sync::Arc};

use quell_engine::{
    Actor, State,
    input::{Reply, Request as Wanted},
};
use quell_link::{
    access::{self, OperatorCaller},
    authority::Authority,
    rpc::operator_service_server::OperatorService,
};
use quell_model::name::HostName;
use quell_wire::v1::{
    AnnotateRequest, AnnotateResponse, ApplyRequest, ApplyResponse, AuditPart, AuditRequest, CancelPlanRequest,
    CancelPlanResponse, ChangeHostRequest, ChangeHostResponse, ChangeTrustRequest, ChangeTrustResponse,
    CreateOperatorRequest, CreateOperatorResponse, CreateTokenRequest, CreateTokenResponse, DecideRequest,
    DecideResponse, EventsRequest, GetRequest, GetResponse, GetSetsRequest, GetSetsResponse, HoldRequest, HoldResponse,
    RecordView, ReleaseRequest, ReleaseResponse, ResetBreakerRequest, ResetBreakerResponse, RevokeOperatorRequest,
    RevokeOperatorResponse, RunRequest, RunResponse, StatusRequest, StatusView, WhyRequest, WhyView,
};
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{status, view::Viewer};
use crate::{
    decider::Handle,
    registry::{LiveFacts, Registry},
};

/// What all calls share.
#[derive(Clone)]
pub struct Context {
    /// Who decides.
    pub decider: Handle,
    /// Who is connected.
    pub registry: Registry,
    /// Who issues certificates.
    pub authority: Arc<Authority>,
    /// `host:port` under which agents reach this controller.
    pub addresses: Vec<String>,
    /// Cancelled when the controller stops: streams end then.
    pub stop: CancellationToken,
}

/// The service that operators call.
#[derive(Clone)]
pub struct Operators {
    pub(super) context: Context,
    /// One set of manifests is compared and applied at a time, so that none is judged against another's half.
    pub(super) applying: Arc<Semaphore>,
}

/// A person who called, as the engine knows people.
pub(super) struct Caller {
    pub(super) actor: Actor,
    pub(super) operator: OperatorCaller,
}

impl Operators {
    /// A service over what calls share.
    pub fn new(context: Context) -> Self {
        Self { context, applying: Arc::new(Semaphore::new(1)) }
    }

    /// Asks the decider for something on behalf of a person; durable when it answers.
    pub(super) async fn ask(&self, actor: Actor, wanted: Wanted) -> Result<Reply, Status> {
        self.context.decider.request(actor, wanted).await.map_err(|failed| status::of_failure(&failed))
    }

    /// Looks at the newest state.
    pub(super) fn look<T>(&self, at: impl FnOnce(&Viewer<'_>) -> T) -> T {
        self.look_at(&self.context.decider.state(), at)
    }

    /// Looks at a state.
    pub(super) fn look_at<T>(&self, state: &State, at: impl FnOnce(&Viewer<'_>) -> T) -> T {
        let live = |host: &HostName| -> LiveFacts { self.context.registry.facts(host) };
        at(&Viewer { state, live: &live, now: self.context.decider.now() })
    }
}

/// Who called.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let operator = access::require_operator(request)?;
    Ok(Caller { actor: Actor::Person(operator.name.clone()), operator })
}

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl OperatorService for Operators {
    type AuditStream = Answers<AuditPart>;
    type EventsStream = Answers<RecordView>;
    type WatchStream = Answers<GetResponse>;

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        caller(&request)?;
        self.read_page(&request.into_inner()).map(Response::new)
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusView>, Status> {
        caller(&request)?;
        Ok(Response::new(self.overview()))
    }

    async fn why(&self, request: Request<WhyRequest>) -> Result<Response<WhyView>, Status> {
        caller(&request)?;
        self.explain(request.into_inner()).await.map(Response::new)
    }

    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let caller = caller(&request)?;
        self.apply_manifests(caller, request.into_inner()).await.map(Response::new)
    }

    async fn get_sets(&self, request: Request<GetSetsRequest>) -> Result<Response<GetSetsResponse>, Status> {
        caller(&request)?;
        Ok(Response::new(self.signed_sets()))
    }

    async fn change_trust(
        &self,
        request: Request<ChangeTrustRequest>,
    ) -> Result<Response<ChangeTrustResponse>, Status> {
        let caller = caller(&request)?;
        self.change_root(caller, request.into_inner()).await.map(Response::new)
    }

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(Box::pin(self.follow(caller.operator.peer, &request.into_inner()))))
    }

    async fn audit(&self, request: Request<AuditRequest>) -> Result<Response<Self::AuditStream>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(Box::pin(self.prove(caller.operator.peer, request.into_inner()))))
    }

    async fn watch(&self, request: Request<GetRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = caller(&request)?;
        let wanted = request.into_inner();
        // What makes no sense is said at once, not in the stream.
        self.read(&wanted)?;
        Ok(Response::new(Box::pin(self.follow_list(caller.operator.peer, wanted))))
    }

    async fn run(&self, request: Request<RunRequest>) -> Result<Response<RunResponse>, Status> {
        let caller = caller(&request)?;
        self.run_action(caller, request.into_inner()).await.map(Response::new)
    }

    async fn approve(&self, request: Request<DecideRequest>) -> Result<Response<DecideResponse>, Status> {
        let caller = caller(&request)?;
        self.decide(caller, request.into_inner(), true).await.map(Response::new)
    }

    async fn deny(&self, request: Request<DecideRequest>) -> Result<Response<DecideResponse>, Status> {
        let caller = caller(&request)?;
        self.decide(caller, request.into_inner(), false).await.map(Response::new)
    }

    async fn cancel_plan(&self, request: Request<CancelPlanRequest>) -> Result<Response<CancelPlanResponse>, Status> {
        let caller = caller(&request)?;
        self.call_off(caller, request.into_inner()).await.map(Response::new)
    }

    async fn annotate(&self, request: Request<AnnotateRequest>) -> Result<Response<AnnotateResponse>, Status> {
        let caller = caller(&request)?;
        self.annotate_incident(caller, request.into_inner()).await.map(Response::new)
    }

    async fn hold(&self, request: Request<HoldRequest>) -> Result<Response<HoldResponse>, Status> {
        let caller = caller(&request)?;
        self.hold_something(caller, request.into_inner()).await.map(Response::new)
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let caller = caller(&request)?;
        self.release_holds(caller, request.into_inner()).await.map(Response::new)
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let caller = caller(&request)?;
        self.make_token(caller, request.into_inner()).await.map(Response::new)
    }

    async fn change_host(&self, request: Request<ChangeHostRequest>) -> Result<Response<ChangeHostResponse>, Status> {
        let caller = caller(&request)?;
        self.change_one_host(caller, request.into_inner()).await.map(Response::new)
    }

    async fn create_operator(
        &self,
        request: Request<CreateOperatorRequest>,
    ) -> Result<Response<CreateOperatorResponse>, Status> {
        let caller = caller(&request)?;
        self.admit_operator(caller, request.into_inner()).await.map(Response::new)
    }

    async fn revoke_operator(
        &self,
        request: Request<RevokeOperatorRequest>,
    ) -> Result<Response<RevokeOperatorResponse>, Status> {
        let caller = caller(&request)?;
        self.dismiss_operator(caller, request.into_inner()).await.map(Response::new)
    }

    async fn reset_breaker(
        &self,
        request: Request<ResetBreakerRequest>,
    ) -> Result<Response<ResetBreakerResponse>, Status> {
        let caller = caller(&request)?;
        self.close_breaker(caller, request.into_inner()).await.map(Response::new)
    }
}
