//! What waits to be sent to one agent: bounded in messages and in bytes.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use prost::Message as _;
use quell_wire::v1::ControllerMessage;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

/// Most messages that wait for one agent.
pub const MESSAGES: usize = 256;
/// Most bytes that wait for one agent.
pub const BYTES: usize = 8 << 20;

/// The sending end. Cheap to clone; never waits.
#[derive(Debug, Clone)]
pub struct Outbox {
    sender: mpsc::Sender<Envelope>,
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Envelope {
    message: ControllerMessage,
    bytes: usize,
}

/// The agent does not read fast enough, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overflow {
    /// Too many messages wait.
    #[error("{MESSAGES} messages wait to be read; connect again for what is still owed")]
    Messages,
    /// Too many bytes wait.
    #[error("more than {BYTES} bytes wait to be read; connect again for what is still owed")]
    Bytes,
    /// The session is over.
    #[error("the session is over")]
    Closed,
}

impl Outbox {
    /// Queues a message.
    ///
    /// # Errors
    /// Too much waits already, or the session is over; the message is dropped.
    pub fn push(&self, message: ControllerMessage) -> Result<(), Overflow> {
        let bytes = message.encoded_len();
        let before = self.waiting.fetch_add(bytes, Ordering::SeqCst);
        let result = if before > 0 && before.saturating_add(bytes) > BYTES {
            Err(Overflow::Bytes)
        } else {
            self.sender.try_send(Envelope { message, bytes }).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Overflow::Messages,
                mpsc::error::TrySendError::Closed(_) => Overflow::Closed,
            })
        };
        if result.is_err() {
            self.waiting.fetch_sub(bytes, Ordering::SeqCst);
        }
        result
    }
}

/// How a session is ended, by whoever has a reason first. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ending {
    ended: CancellationToken,
    status: Arc<OnceLock<Status>>,
    connection: CancellationToken,
}

impl Ending {
    /// For a session on this connection.
    pub fn new(connection: CancellationToken) -> Self {
        Self { ended: CancellationToken::new(), status: Arc::default(), connection }
    }

    /// Ends the session; the agent is told the first reason that was given.
    pub fn because(&self, status: Status) {
        let _ = self.status.set(status);
        self.ended.cancel();
    }

    /// Ends the session without an error.
    pub fn quietly(&self) {
        self.ended.cancel();
    }

    /// Closes the connection under the session, at once.
    pub fn cut(&self) {
        self.connection.cancel();
    }

    /// Waits until the session is to end.
    pub async fn wait(&self) {
        self.ended.cancelled().await;
    }

    /// Whether the session is to end.
    pub fn is_over(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Why it ends, when there is more to say than that it does.
    pub fn status(&self) -> Option<Status> {
        self.status.get().cloned()
    }
}

/// The receiving end: what the agent reads. Dropping it, as tonic does when the agent is gone, ends the session.
#[derive(Debug)]
pub struct Outbound {
    receiver: mpsc::Receiver<Envelope>,
    waiting: Arc<AtomicUsize>,
    ending: Ending,
    last_word_said: bool,
    _over: DropGuard,
}

/// A new pair of ends.
pub(crate) fn outbox(ending: &Ending) -> (Outbox, Outbound) {
    let (sender, receiver) = mpsc::channel(MESSAGES);
    let waiting = Arc::new(AtomicUsize::new(0));
    let outbound = Outbound {
        receiver,
        waiting: waiting.clone(),
        ending: ending.clone(),
        last_word_said: false,
        _over: ending.ended.clone().drop_guard(),
    };
    (Outbox { sender, waiting }, outbound)
}

impl Stream for Outbound {
    type Item = Result<ControllerMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.receiver.poll_recv(context) {
            Poll::Ready(Some(envelope)) => {
                self.waiting.fetch_sub(envelope.bytes, Ordering::SeqCst);
                Poll::Ready(Some(Ok(envelope.message)))
            }
            Poll::Ready(None) => {
                let status = if self.last_word_said { None } else { self.ending.status() };
                self.last_word_said = true;
                Poll::Ready(status.map(Err))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use quell_wire::v1::{Acknowledge, GoAway, controller_message::Body};
    use tokio_stream::StreamExt as _;

    use super::*;

    fn message(body: Body) -> ControllerMessage {
        ControllerMessage { body: Some(body) }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_messages_and_room_comes_back() {
        let ending = Ending::new(CancellationToken::new());
        let (outbox, mut outbound) = outbox(&ending);
        let acknowledge = |sequence| message(Body::Acknowledge(Acknowledge { sequence }));
        for sequence in 0..MESSAGES {
            outbox.push(acknowledge(sequence as u64)).unwrap();
        }
        assert_eq!(outbox.push(acknowledge(0)), Err(Overflow::Messages));
        assert!(outbound.next().await.is_some());
        outbox.push(acknowledge(1)).unwrap();
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes_and_room_comes_back() {
        let ending = Ending::new(CancellationToken::new());
        let (outbox, mut outbound) = outbox(&ending);
        let large = || message(Body::GoAway(GoAway { reason: "x".repeat(BYTES / 2 - 100), retry_after_ms: 0 }));
        outbox.push(large()).unwrap();
        outbox.push(large()).unwrap();
        assert_eq!(outbox.push(large()), Err(Overflow::Bytes));
        assert!(outbound.next().await.is_some());
        outbox.push(large()).unwrap();
    }

    #[tokio::test]
    async fn the_first_reason_is_the_last_word() {
        let ending = Ending::new(CancellationToken::new());
        let (outbox, mut outbound) = outbox(&ending);
        outbox.push(message(Body::Acknowledge(Acknowledge { sequence: 1 }))).unwrap();
        ending.because(Status::aborted("first"));
        ending.because(Status::internal("second"));
        drop(outbox);
        assert!(outbound.next().await.unwrap().is_ok());
        assert_eq!(outbound.next().await.unwrap().unwrap_err().message(), "first");
        assert!(outbound.next().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_ends_the_session() {
        let ending = Ending::new(CancellationToken::new());
        let (outbox, outbound) = outbox(&ending);
        drop(outbound);
        ending.wait().await;
        assert_eq!(outbox.push(message(Body::Acknowledge(Acknowledge { sequence: 1 }))), Err(Overflow::Closed));
        assert!(ending.status().is_none());
    }
}
