//! The stream of messages to the controller, and how much of it waits.
//!
//! The transport takes messages as the controller lets it. What it has not taken yet is counted in bytes, so that a
//! controller that is slow is noticed here, and samples go to the spool instead of into an endless queue.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use prost::Message as _;
use quell_wire::v1::AgentMessage;
use tokio::sync::mpsc;
use tokio_stream::Stream;

/// Messages that may wait, however small they are.
const MESSAGES: usize = 256;

/// The end that messages are put into.
#[derive(Debug)]
pub struct Outgoing {
    queue: mpsc::Sender<AgentMessage>,
    waiting: Arc<AtomicUsize>,
}

/// The end that the transport takes them from.
#[derive(Debug)]
pub struct Messages {
    queue: mpsc::Receiver<AgentMessage>,
    waiting: Arc<AtomicUsize>,
}

/// The stream is full or over: the session cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// Nothing takes messages any more.
    #[error("the stream to the controller has ended")]
    Over,
    /// The controller takes nothing.
    #[error("the controller takes no messages")]
    Stuck,
}

/// Both ends of a new stream.
pub fn outgoing() -> (Outgoing, Messages) {
    let (sender, receiver) = mpsc::channel(MESSAGES);
    let waiting = Arc::new(AtomicUsize::new(0));
    (Outgoing { queue: sender, waiting: Arc::clone(&waiting) }, Messages { queue: receiver, waiting })
}

impl Outgoing {
    /// Puts in a message.
    ///
    /// # Errors
    /// The stream is over, or nobody has taken anything for so long that it is full.
    pub fn push(&self, message: AgentMessage) -> Result<(), Closed> {
        let place = self.queue.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => Closed::Stuck,
            mpsc::error::TrySendError::Closed(()) => Closed::Over,
        })?;
        self.waiting.fetch_add(message.encoded_len(), Ordering::AcqRel);
        place.send(message);
        Ok(())
    }

    /// Bytes that wait for the transport.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Messages that can still be put in.
    pub fn room(&self) -> usize {
        self.queue.capacity()
    }
}

impl Stream for Messages {
    type Item = AgentMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<AgentMessage>> {
        let message = std::task::ready!(self.queue.poll_recv(cx));
        if let Some(message) = &message {
            self.waiting.fetch_sub(message.encoded_len(), Ordering::AcqRel);
        }
        Poll::Ready(message)
    }
}

#[cfg(test)]
mod tests {
    use quell_wire::v1::{Heartbeat, agent_message::Body};
    use tokio_stream::StreamExt as _;

    use super::*;

    fn message() -> AgentMessage {
        AgentMessage {
            sequence: 0,
            body: Some(Body::Heartbeat(Heartbeat { resident_bytes: 7, ..Heartbeat::default() })),
        }
    }

    #[tokio::test]
    async fn what_waits_is_counted_and_bounded() {
        let (outgoing, mut messages) = outgoing();
        outgoing.push(message()).unwrap();
        outgoing.push(message()).unwrap();
        assert_eq!(outgoing.waiting(), 2 * message().encoded_len());
        messages.next().await.unwrap();
        assert_eq!(outgoing.waiting(), message().encoded_len());
        while outgoing.push(message()).is_ok() {}
        assert_eq!(outgoing.push(message()), Err(Closed::Stuck));
        assert_eq!(outgoing.room(), 0);
        drop(messages);
        assert_eq!(outgoing.push(message()), Err(Closed::Over));
    }
}
