//! Get, Status, Watch: lists of what is there.

use std::time::Duration;

use prost::Message as _;
use quell_link::identity::Peer;
use quell_wire::v1::{GetRequest, GetResponse, StatusView};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;

use super::{
    argument, gate,
    operator::Operators,
    page,
    view::{Filter, Viewer},
};

/// The least time between two lists of one watch.
const PACE: Duration = Duration::from_millis(200);
/// Pages that may wait to be read: one, since the next list is newer.
const WATCHED: usize = 1;

/// Kinds that can be listed.
const KINDS: &str = "hosts, policies, services, calendars, contacts, limits, incidents, plans, approvals, holds, windows, \
                     alerts, tokens, operators, manifests";

impl Operators {
    /// One page of a list.
    pub(super) fn read_page(&self, request: &GetRequest) -> Result<GetResponse, Status> {
        let whole = match self.read(request) {
            // It was there when the first page was made.
            Err(status) if status.code() == tonic::Code::NotFound && !request.page_token.is_empty() => {
                GetResponse::default()
            }
            whole => whole?,
        };
        page::cut(whole, request.page_size, &request.page_token)
    }

    /// One whole list.
    pub(super) fn read(&self, request: &GetRequest) -> Result<GetResponse, Status> {
        let filter =
            Filter { labels: argument::labels(request.labels.clone())?, name: request.name.clone(), all: request.all };
        let response = self.look(|viewer| list(viewer, &request.kind, &filter))?;
        if !filter.name.is_empty() && is_empty(&response) {
            return Err(Status::not_found(format!(
                "there is nothing called {} among the {}",
                filter.name, request.kind
            )));
        }
        Ok(response)
    }

    /// What needs a person.
    pub(super) fn overview(&self) -> StatusView {
        let mut warnings = Vec::new();
        if self.context.decider.is_full() {
            warnings
                .push("the controller's disk is full: new plans are held; make room in its data directory".to_owned());
        }
        self.look(|viewer| viewer.status(warnings))
    }

    /// A list each time it differs from the last one.
    pub(super) fn follow_list(
        &self,
        peer: Peer,
        request: GetRequest,
    ) -> impl Stream<Item = Result<GetResponse, Status>> + use<> {
        let (sender, receiver) = mpsc::channel(WATCHED);
        let this = self.clone();
        tokio::spawn(async move {
            let stop = this.context.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = sender.closed() => {}
                () = this.send_lists(&peer, &request, &sender) => {}
            }
        });
        ReceiverStream::new(receiver)
    }

    async fn send_lists(&self, peer: &Peer, request: &GetRequest, sender: &mpsc::Sender<Result<GetResponse, Status>>) {
        let mut heads = self.context.decider.watch();
        let mut last: Option<Vec<u8>> = None;
        loop {
            heads.mark_unchanged();
            if let Err(reason) = gate::still_welcome(&self.context.decider.state(), peer, self.context.decider.now()) {
                let _ = sender.send(Err(Status::permission_denied(reason))).await;
                return;
            }
            // A thing that was there and is gone is an empty list here, not an error.
            let list = match self.read(request) {
                Err(status) if status.code() == tonic::Code::NotFound => GetResponse::default(),
                Err(status) => {
                    let _ = sender.send(Err(status)).await;
                    return;
                }
                Ok(list) => list,
            };
            let bytes = list.encode_to_vec();
            if last.as_ref() != Some(&bytes) {
                for page in page::all(list, request.page_size) {
                    if sender.send(Ok(page)).await.is_err() {
                        return;
                    }
                }
                last = Some(bytes);
            }
            tokio::time::sleep(PACE).await;
            if heads.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The list of a kind.
fn list(viewer: &Viewer<'_>, kind: &str, filter: &Filter) -> Result<GetResponse, Status> {
    let mut response = GetResponse::default();
    match kind {
        "hosts" => response.hosts = viewer.hosts(filter),
        "policies" => response.policies = viewer.policies(filter),
        "services" => response.manifests = viewer.manifests("Service", filter),
        "calendars" => response.manifests = viewer.manifests("Calendar", filter),
        "contacts" => response.manifests = viewer.manifests("Contact", filter),
        "limits" => response.manifests = viewer.manifests("Limits", filter),
        "incidents" => response.incidents = viewer.incidents(filter),
        "plans" => response.plans = viewer.plans(filter),
        "approvals" => response.plans = viewer.approvals(filter),
        "alerts" => response.alerts = viewer.alerts(filter),
        "manifests" => response.manifests = viewer.all_manifests(filter),
        "holds" | "windows" | "tokens" | "operators" if !filter.labels.is_empty() => {
            return Err(Status::invalid_argument(format!("{kind} bear no labels: leave out the selector")));
        }
        "holds" => response.holds = viewer.holds(filter),
        "windows" => response.windows = viewer.windows(filter),
        "tokens" => response.tokens = viewer.tokens(filter),
        "operators" => response.operators = viewer.operators(filter),
        other => return Err(Status::invalid_argument(format!("there is no kind {other:?}; there are {KINDS}"))),
    }
    Ok(response)
}

fn is_empty(response: &GetResponse) -> bool {
    *response == GetResponse::default()
}
