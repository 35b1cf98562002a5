//! Plain HTTP for machines that look after the controller: `/metrics`, `/healthz`, `/readyz`.
//!
//! The routes stand in one table, [`ROUTES`]; they answer whoever reaches the address that `http` in controller.toml
//! names, take nothing and change nothing. Everything that tells more than numbers is behind mutual TLS.

mod limited;

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::limited::Limited;
use crate::{
    decider,
    metrics::{Metrics, Moment},
    registry::Registry,
};

/// One route.
pub struct Route {
    /// Where it is.
    pub path: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    answer: fn() -> MethodRouter<Context>,
}

/// Every route: the router is made from this table, so none can be missing here. All of them are GET and open to whoever
/// reaches the address.
pub const ROUTES: &[Route] = &[
    Route { path: "/metrics", purpose: "numbers for Prometheus", answer: || get(metrics) },
    Route {
        path: "/healthz",
        purpose: "200 while the process can answer and its decider runs",
        answer: || get(health),
    },
    Route { path: "/readyz", purpose: "200 while agents and operators are served", answer: || get(ready) },
];

/// What the routes look at.
#[derive(Clone)]
pub struct Context {
    /// Who decides.
    pub decider: decider::Handle,
    /// Who is connected.
    pub registry: Registry,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the controller stops, or must.
    pub stop: CancellationToken,
}

/// Serves until cancelled.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, context: Context) -> io::Result<()> {
    let stop = context.stop.clone();
    axum::serve(Limited::new(listener), router(context)).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(context: Context) -> Router {
    ROUTES.iter().fold(Router::new(), |router, route| router.route(route.path, (route.answer)())).with_state(context)
}

async fn metrics(State(context): State<Context>) -> Response {
    let moment = Moment {
        sessions: context.registry.online(),
        sequence: context.decider.head().sequence,
        waiting: context.decider.waiting(),
        is_full: context.decider.is_full(),
    };
    match context.metrics.render(&context.decider.state(), &moment) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn health(State(context): State<Context>) -> Response {
    match context.decider.ask(|_, _, _| ()).await {
        Ok(()) => "ok\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(context): State<Context>) -> Response {
    if context.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the controller stops\n").into_response();
    }
    if context.decider.is_full() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the disk is full: new plans are held\n").into_response();
    }
    health(State(context)).await
}
