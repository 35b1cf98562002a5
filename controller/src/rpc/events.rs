//! Events: the log as a stream, gap-free by sequence number.

use quell_link::identity::Peer;
use quell_wire::v1::{EventsRequest, RecordView};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;

use super::{gate, operator::Operators, status, view};

/// Records read from the log at one time.
const BATCH: usize = 256;
/// Records that may wait to be read by one follower; a slow one slows its own reading only.
const WAITING: usize = 256;

impl Operators {
    /// Records from a number on; with follow, for ever.
    pub(super) fn follow(
        &self,
        peer: Peer,
        request: &EventsRequest,
    ) -> impl Stream<Item = Result<RecordView, Status>> + use<> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let from = if request.tail { self.context.decider.head().sequence + 1 } else { request.from.max(1) };
        let (this, follow) = (self.clone(), request.follow);
        tokio::spawn(async move {
            let stop = this.context.stop.clone();
            let result = tokio::select! {
                () = stop.cancelled() => Err(Status::unavailable("the controller stops; follow again from the last number")),
                () = sender.closed() => return,
                result = this.send_records(&peer, from, follow, &sender) => result,
            };
            if let Err(status) = result {
                // Whoever follows may have gone.
                let _ = sender.try_send(Err(status));
            }
        });
        ReceiverStream::new(receiver)
    }

    async fn send_records(
        &self,
        peer: &Peer,
        mut next: u64,
        follow: bool,
        sender: &mpsc::Sender<Result<RecordView, Status>>,
    ) -> Result<(), Status> {
        let decider = &self.context.decider;
        let mut heads = decider.watch();
        loop {
            let head = heads.borrow_and_update().sequence;
            while next <= head {
                // Asked for every batch, so that a revoked operator hears nothing more.
                gate::still_welcome(&decider.state(), peer, decider.now()).map_err(Status::permission_denied)?;
                let records = decider.records(next, BATCH).await.map_err(|error| status::of_store(&error))?;
                let Some(last) = records.last().map(|record| record.sequence) else { break };
                for record in records.iter().take_while(|record| record.sequence <= head) {
                    if sender.send(Ok(view::record(record))).await.is_err() {
                        return Ok(());
                    }
                }
                next = last.min(head) + 1;
            }
            if !follow || heads.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}
