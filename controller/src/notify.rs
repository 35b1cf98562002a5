//! Tells contacts: takes messages that are due, hands each to the contact's channels, and reports what came of it.
//!
//! When a message is tried again, and how often, is the engine's decision, and stands in the message's row; here is one
//! attempt. A channel that took a message is not given it a second time because another channel of the contact failed;
//! after a restart of the controller it may be, with the same identifier, by which the receiver can tell.

mod address;
mod authorities;
mod log;
mod webhook;

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use quell_engine::{Input, State, id::MessageId, state::Message};
use quell_model::policy::{Channel, Manifest};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    address::Rules,
    authorities::{Error as AuthoritiesError, authorities},
    log::Log,
    webhook::Webhook,
};
use crate::{decider, metrics::Metrics};

/// Messages that wait to be delivered. What does not fit is reported as not delivered, and comes again.
const QUEUE: usize = 512;
/// Deliveries at one time.
const AT_ONCE: usize = 8;
/// Messages of which it is remembered which channels took them.
const REMEMBERED: usize = 1_024;

/// A message on its way, and what its receivers should know of where it comes from.
#[derive(Debug, Clone)]
pub struct Notice {
    /// The message.
    pub message: Message,
    /// The installation: outside systems know incidents as installation/inc-42.
    pub installation: String,
}

/// Why a channel did not take a message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL cannot be used.
    #[error("the webhook's URL {url:?} cannot be used: {reason}")]
    Url {
        /// The URL, without what may be secret in it.
        url: String,
        /// Why.
        reason: String,
    },
    /// The file with the URL cannot be used.
    #[error(
        "the webhook's URL cannot be read from {file}: {reason}; write the URL into that file, for the controller's user alone", file = .file.display()
    )]
    File {
        /// The file.
        file: std::path::PathBuf,
        /// Why.
        reason: String,
    },
    /// The address is one that webhooks must not reach.
    #[error(
        "the webhook's host {host} is {address}, which is {kind}; if that is meant, add it to notify.allow_addresses in controller.toml"
    )]
    Address {
        /// The host.
        host: String,
        /// What it resolved to.
        address: std::net::IpAddr,
        /// What kind of address that is.
        kind: &'static str,
    },
    /// The host has no address.
    #[error("the webhook's host {host} cannot be resolved: {reason}")]
    Resolve {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// The request failed.
    #[error("the webhook at {host} did not answer: {reason}")]
    Request {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// The answer was no.
    #[error("the webhook at {host} answered {status}")]
    Answer {
        /// The host.
        host: String,
        /// HTTP status.
        status: u16,
    },
}

/// The result of a delivery, to be awaited.
pub type Delivery<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// A way to tell: one file each, all of them in [`notifiers`].
pub trait Notifier: Send + Sync {
    /// Its name, for metrics: the key of the channel in manifests.
    fn name(&self) -> &'static str;

    /// Whether a channel is one of its kind.
    fn serves(&self, channel: &Channel) -> bool;

    /// Delivers a notice, once, within the configured time.
    fn deliver<'a>(&'a self, channel: &'a Channel, notice: &'a Notice) -> Delivery<'a>;
}

/// Every way to tell.
pub fn notifiers(webhook: Webhook) -> Vec<Box<dyn Notifier>> {
    vec![Box::new(Log), Box::new(webhook)]
}

/// Where messages are handed in. Cheap to clone; never waits.
#[derive(Debug, Clone)]
pub struct Handle {
    installation: String,
    queue: mpsc::Sender<Task>,
    refused: mpsc::Sender<MessageId>,
}

struct Task {
    notice: Notice,
    channels: Vec<Channel>,
}

impl Handle {
    /// Hands in a message whose contact stands in this state.
    pub fn tell(&self, message: Message, state: &State) {
        let contact = ("Contact".to_owned(), message.contact.clone());
        let channels = match state.manifests.get(&contact).map(|stored| &stored.manifest) {
            Some(Manifest::Contact(contact)) => contact.via.clone(),
            _ => Vec::new(),
        };
        let id = message.id;
        let notice = Notice { message, installation: self.installation.clone() };
        if self.queue.try_send(Task { notice, channels }).is_err() {
            tracing::error!(notice = %id, "too many messages wait to be delivered, this one comes again");
            // Where even this is full, the engine's own patience with the message ends.
            let _ = self.refused.try_send(id);
        }
    }
}

/// Delivers messages until it is told to stop.
pub struct Service {
    queue: mpsc::Receiver<Task>,
    refused: mpsc::Receiver<MessageId>,
    shared: Arc<Shared>,
}

struct Shared {
    notifiers: Vec<Box<dyn Notifier>>,
    metrics: Arc<Metrics>,
    taken: Mutex<BTreeMap<MessageId, BTreeSet<usize>>>,
    places: Arc<Semaphore>,
}

/// A handle, and the service behind it; messages say that they come from this installation.
pub fn service(installation: &str, notifiers: Vec<Box<dyn Notifier>>, metrics: Arc<Metrics>) -> (Handle, Service) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let (refuse, refused) = mpsc::channel(QUEUE);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let shared = Arc::new(Shared { notifiers, metrics, taken: Mutex::default(), places });
    let installation = installation.to_owned();
    (Handle { installation, queue: sender, refused: refuse }, Service { queue, refused, shared })
}

impl Service {
    /// Runs until cancelled; deliveries that are under way then are given up, and come again after the next start.
    pub async fn run(mut self, decider: decider::Handle, stop: CancellationToken) {
        let deliveries = TaskTracker::new();
        loop {
            let task = tokio::select! {
                () = stop.cancelled() => return,
                Some(message) = self.refused.recv() => {
                    let result = Err("too many messages wait to be delivered".to_owned());
                    report(&decider, message, result).await;
                    continue;
                }
                task = self.queue.recv() => match task {
                    Some(task) => task,
                    None => return,
                },
            };
            let Ok(place) = self.shared.places.clone().acquire_owned().await else { return };
            let (shared, decider, stop) = (self.shared.clone(), decider.clone(), stop.clone());
            deliveries.spawn(async move {
                let message = task.notice.message.id;
                let deliver = async {
                    let result = shared.deliver(&task).await;
                    report(&decider, message, result).await;
                };
                tokio::select! { () = stop.cancelled() => {}, () = deliver => {} }
                drop(place);
            });
        }
    }
}

/// Tells the engine what came of a message.
async fn report(decider: &decider::Handle, message: MessageId, result: Result<(), String>) {
    if let Err(error) = decider.input(Input::Delivered { message, result }).await {
        tracing::warn!(notice = %message, %error, "the result of a delivery could not be recorded");
    }
}

impl Shared {
    /// Delivers to every channel that has not taken the message yet.
    async fn deliver(&self, task: &Task) -> Result<(), String> {
        let Message { id, contact, .. } = &task.notice.message;
        if task.channels.is_empty() {
            return Err(format!("there is no contact {contact}, or it has no channel: apply one"));
        }
        let mut failures = Vec::new();
        for (index, channel) in task.channels.iter().enumerate() {
            if self.remembers(*id, index) {
                continue;
            }
            let Some(notifier) = self.notifiers.iter().find(|notifier| notifier.serves(channel)) else {
                failures.push(format!("this controller cannot deliver through channel {} of {contact}", index + 1));
                continue;
            };
            let result = notifier.deliver(channel, &task.notice).await;
            self.metrics.notified(notifier.name(), result.is_ok());
            match result {
                Ok(()) => self.remember(*id, index),
                Err(error) => failures.push(error.to_string()),
            }
        }
        if failures.is_empty() {
            self.forget(*id);
            Ok(())
        } else {
            let reason = failures.join("; ");
            tracing::warn!(notice = %id, %contact, reason, "a message was not delivered");
            Err(reason)
        }
    }

    fn remembers(&self, message: MessageId, channel: usize) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(&message).is_some_and(|channels| channels.contains(&channel))
    }

    fn remember(&self, message: MessageId, channel: usize) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.entry(message).or_default().insert(channel);
        while taken.len() > REMEMBERED {
            taken.pop_first();
        }
    }

    fn forget(&self, message: MessageId) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&message);
    }
}

#[cfg(test)]
mod tests;
