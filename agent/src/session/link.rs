//! Reaching the controller, and what can happen meanwhile.

use std::{collections::BTreeSet, pin::Pin, sync::Arc, time::Duration};

use quell_link::{
    MESSAGE_BYTES,
    client::{AgentIdentity, connect_agent, explain},
    rpc::agent_service_client::AgentServiceClient,
};
use quell_wire::v1::{self, ControllerMessage, agent_message::Body as Up, controller_message::Body as Down};
use tokio::{sync::mpsc, time::Sleep};
use tokio_stream::{Stream, StreamExt as _};

use super::{Messages, Online, Outgoing, outbox::MOST_WAITING, outgoing, unnumbered};
use crate::{
    belief::Told,
    execute::{Handle, Report},
    probes::{Boxed, Sample, runner::Tail},
};

/// How long reaching the controller and being welcomed may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// How long what was said last may take to leave when the agent stops.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Messages of the controller, until the stream ends; an error says why it did.
pub type Inbound = Pin<Box<dyn Stream<Item = Result<ControllerMessage, String>> + Send>>;

/// Opens streams to the controller.
pub trait Connect: Send + Sync {
    /// Opens one: `messages` go up, what it returns comes down.
    fn connect(&self, messages: Messages) -> Boxed<'static, Result<Inbound, String>>;
}

/// Opens streams over gRPC and mutual TLS.
pub struct Grpc {
    /// Who the agent is, and where the controller is.
    pub identity: Arc<AgentIdentity>,
}

impl Connect for Grpc {
    fn connect(&self, messages: Messages) -> Boxed<'static, Result<Inbound, String>> {
        let identity = Arc::clone(&self.identity);
        Box::pin(async move {
            let addresses = identity.addresses.clone();
            let channel = connect_agent(&addresses, &identity).await.map_err(|error| error.to_string())?;
            let mut client = AgentServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
            let opened = client.session(messages).await.map_err(|status| words(&status))?;
            let inbound: Inbound =
                Box::pin(opened.into_inner().map(|message| message.map_err(|status| words(&status))));
            Ok(inbound)
        })
    }
}

/// Why a stream ended, in words: the connection's fault, or what the controller itself said.
fn words(status: &tonic::Status) -> String {
    let broke = std::error::Error::source(status).is_some();
    explain(status).unwrap_or_else(|| match broke {
        true => format!("the connection to the controller broke: {}", status.message()),
        false => format!("the controller ended the session: {}", status.message()),
    })
}

/// Carries out orders: the executor, or what stands for it in tests.
pub trait Orders: Send + Sync {
    /// Gives an order. It is at hand as soon as this returns; what it returns carries it on.
    fn submit(&self, command: v1::Command) -> Boxed<'static, ()>;
    /// Calls one off.
    fn cancel(&self, cancel: v1::CancelCommand) -> Boxed<'_, ()>;
    /// The controller has an outcome durably.
    fn acknowledged(&self, key: String) -> Boxed<'_, ()>;
    /// The orders that were given and of which the journal may not tell yet. Asked before [`Orders::journal`], so that
    /// none is missed which goes from here to there meanwhile.
    fn at_hand(&self) -> BTreeSet<String>;
    /// What the journal holds without an acknowledgement.
    fn journal(&self) -> Vec<v1::JournalEntry>;
    /// The highest fence that was seen.
    fn fence(&self) -> u64;
    /// Takes in a signed change of what the host believes, or says why not.
    fn believe(&self, change: v1::SignedChange) -> Boxed<'_, ()>;
    /// What the controller is told of what the host believes.
    fn beliefs(&self) -> Told;
    /// The specifications of all probes that people signed for this host.
    fn vouched(&self, signed: &[v1::SignedPolicies]) -> BTreeSet<String>;
}

impl Orders for Handle {
    fn submit(&self, command: v1::Command) -> Boxed<'static, ()> {
        Box::pin(Self::submit(self, command))
    }

    fn cancel(&self, cancel: v1::CancelCommand) -> Boxed<'_, ()> {
        Box::pin(async move { Self::cancel(self, &cancel.command_id, &cancel.reason).await })
    }

    fn acknowledged(&self, key: String) -> Boxed<'_, ()> {
        Box::pin(async move { Self::acknowledged(self, &key).await })
    }

    fn at_hand(&self) -> BTreeSet<String> {
        Self::at_hand(self)
    }

    fn journal(&self) -> Vec<v1::JournalEntry> {
        Self::journal(self)
    }

    fn fence(&self) -> u64 {
        Self::fence(self)
    }

    fn believe(&self, change: v1::SignedChange) -> Boxed<'_, ()> {
        Box::pin(Self::believe(self, change))
    }

    fn beliefs(&self) -> Told {
        Self::beliefs(self)
    }

    fn vouched(&self, signed: &[v1::SignedPolicies]) -> BTreeSet<String> {
        Self::vouched(self, signed)
    }
}

/// Something for the executor.
pub(super) enum Order {
    Submit(Boxed<'static, ()>),
    Cancel(v1::CancelCommand),
    Acknowledged(String),
    Believe(v1::SignedChange),
}

/// Hands orders on, one after the other, so that the session never waits for the executor.
pub(super) fn forward(orders: Arc<dyn Orders>) -> mpsc::Sender<Order> {
    let (sender, mut receiver) = mpsc::channel(2 * MOST_WAITING);
    tokio::spawn(async move {
        while let Some(order) = receiver.recv().await {
            match order {
                Order::Submit(given) => given.await,
                Order::Cancel(cancel) => orders.cancel(cancel).await,
                Order::Acknowledged(key) => orders.acknowledged(key).await,
                Order::Believe(change) => orders.believe(change).await,
            }
        }
    });
    sender
}

/// An open stream and the controller's welcome.
pub(super) type Opened = (Inbound, Outgoing, v1::Welcome);

/// Something that happened.
pub(super) enum Event {
    /// It is time for an attempt.
    Wake,
    /// An attempt has ended.
    Connected(Result<Opened, String>),
    /// The controller said something, or the stream ended.
    Said(Result<Box<ControllerMessage>, String>),
    /// The administrator's hold changed.
    Hold,
    /// An order went on.
    Report(Report),
    /// A probe looked.
    Sample(Sample),
    /// A log's tail is there.
    Tail((String, Tail)),
    /// Something is due.
    Timer,
}

/// How the agent stands with the controller.
pub(super) enum Link {
    /// Waiting before the next attempt.
    Waiting(Pin<Box<Sleep>>),
    /// Trying.
    Connecting(Boxed<'static, Result<Opened, String>>),
    /// In session.
    Online(Box<Online>),
}

impl Link {
    /// Waits this long, then tries.
    pub(super) fn waiting(delay: Duration) -> Self {
        Self::Waiting(Box::pin(tokio::time::sleep(delay)))
    }

    /// Tries now.
    pub(super) fn connecting(connect: &dyn Connect, hello: v1::Hello) -> Self {
        let (sender, messages) = outgoing();
        let opening = connect.connect(messages);
        Self::Connecting(Box::pin(async move {
            sender.push(unnumbered(Up::Hello(hello))).map_err(|closed| closed.to_string())?;
            let opened = async {
                let mut inbound = opening.await?;
                match inbound.next().await {
                    Some(Ok(ControllerMessage { body: Some(Down::Welcome(welcome)) })) => {
                        Ok((inbound, sender, welcome))
                    }
                    Some(Ok(_)) => Err("the controller did not begin with a welcome".to_owned()),
                    Some(Err(reason)) => Err(reason),
                    None => Err("the controller ended the stream without a welcome".to_owned()),
                }
            };
            match tokio::time::timeout(CONNECT_WITHIN, opened).await {
                Ok(result) => result,
                Err(_) => Err(format!("the controller did not answer within {CONNECT_WITHIN:?}")),
            }
        }))
    }

    /// What happens next on the link. Cancel-safe.
    pub(super) async fn next(&mut self) -> Event {
        match self {
            Self::Waiting(sleep) => {
                sleep.await;
                Event::Wake
            }
            Self::Connecting(opening) => Event::Connected(opening.await),
            Self::Online(online) => {
                let ended = || Err("the controller ended the stream".to_owned());
                Event::Said(online.inbound.next().await.unwrap_or_else(ended).map(Box::new))
            }
        }
    }

    pub(super) fn online(&self) -> Option<&Online> {
        if let Self::Online(online) = self { Some(online) } else { None }
    }

    pub(super) fn online_mut(&mut self) -> Option<&mut Online> {
        if let Self::Online(online) = self { Some(online) } else { None }
    }

    /// Lets what waits leave, for a moment.
    pub(super) async fn close(&mut self) {
        if let Self::Online(online) = self {
            let _ = tokio::time::timeout(CLOSE_WITHIN, online.drained()).await;
        }
    }
}
