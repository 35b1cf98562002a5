//! Audit: the log as it is hashed, and its signed heads, for others to judge.

use quell_link::identity::Peer;
use quell_wire::v1::{AuditPart, AuditRequest};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;

use super::{gate, operator::Operators, status};

/// Records read from the log at one time.
const BATCH: usize = 128;
/// Signed heads in one part.
const HEADS: usize = 1_024;
/// A part has about this many bytes, unless one record is longer.
const PART_BYTES: usize = 1 << 20;
/// Parts that may wait to be read by one caller.
const WAITING: usize = 2;

type Sender = mpsc::Sender<Result<AuditPart, Status>>;

/// Whoever asked has gone.
struct Gone;

impl Operators {
    /// The signed heads, and then the records that were asked for.
    pub(super) fn prove(
        &self,
        peer: Peer,
        request: AuditRequest,
    ) -> impl Stream<Item = Result<AuditPart, Status>> + use<> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let this = self.clone();
        tokio::spawn(async move {
            let stop = this.context.stop.clone();
            let result = tokio::select! {
                () = stop.cancelled() => Err(Status::unavailable("the controller stops; ask again when it is back")),
                () = sender.closed() => return,
                result = this.send_log(&peer, &request, &sender) => result,
            };
            if let Err(status) = result {
                // Whoever asked may have gone.
                let _ = sender.send(Err(status)).await;
            }
        });
        ReceiverStream::new(receiver)
    }

    async fn send_log(&self, peer: &Peer, request: &AuditRequest, sender: &Sender) -> Result<(), Status> {
        let decider = &self.context.decider;
        // Before the newest record is looked up: no head is of a later one then.
        let heads = decider.heads().await.map_err(|error| status::of_store(&error))?;
        let newest = decider.head().sequence;
        let last = if request.to == 0 { newest } else { request.to.min(newest) };
        // Even without any head there is a first part, which says what the newest record is.
        let mut parts = heads.chunks(HEADS).map(<[String]>::to_vec).collect::<Vec<_>>();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        for heads in parts {
            if send(sender, AuditPart { heads, newest, records: Vec::new() }).await.is_err() {
                return Ok(());
            }
        }
        let mut next = request.from.max(1);
        while !request.heads_only && next <= last {
            // Asked for every batch, so that a revoked operator gets nothing more.
            gate::still_welcome(&decider.state(), peer, decider.now()).map_err(Status::permission_denied)?;
            let lines = decider.lines(next, BATCH).await.map_err(|error| status::of_store(&error))?;
            // What retention has removed meanwhile is skipped; the first record that is left says its own number.
            let Some(found) = lines.first().and_then(|line| sequence(line)) else {
                return Err(Status::data_loss(format!("what stands where record {next} is expected is not a record")));
            };
            next = found.max(next);
            let wanted = usize::try_from(last + 1 - next.min(last + 1)).unwrap_or(usize::MAX);
            let lines: Vec<Vec<u8>> = lines.into_iter().take(wanted).collect();
            next += lines.len() as u64;
            if send_records(sender, newest, lines).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Sends records in parts that are not too large.
async fn send_records(sender: &Sender, newest: u64, lines: Vec<Vec<u8>>) -> Result<(), Gone> {
    let mut part = AuditPart { newest, ..AuditPart::default() };
    let mut bytes = 0;
    for line in lines {
        if bytes > 0 && bytes + line.len() > PART_BYTES {
            send(sender, std::mem::replace(&mut part, AuditPart { newest, ..AuditPart::default() })).await?;
            bytes = 0;
        }
        bytes += line.len();
        part.records.push(line);
    }
    send(sender, part).await
}

async fn send(sender: &Sender, part: AuditPart) -> Result<(), Gone> {
    sender.send(Ok(part)).await.map_err(|_| Gone)
}

/// The number that a record says that it has.
fn sequence(line: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Numbered {
        sequence: u64,
    }
    serde_json::from_slice::<Numbered>(line).ok().map(|record| record.sequence)
}
