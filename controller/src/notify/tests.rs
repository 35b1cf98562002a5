use std::sync::atomic::{AtomicUsize, Ordering};

use quell_engine::state::MessageState;
use quell_model::policy::Severity;

use super::*;

/// Fails so many times, then takes what comes.
#[derive(Clone, Default)]
struct Fake {
    failures: Arc<AtomicUsize>,
    deliveries: Arc<AtomicUsize>,
}

/// A fake for one kind of channel.
struct Serving(bool, Fake);

impl Notifier for Serving {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn serves(&self, channel: &Channel) -> bool {
        matches!(channel, Channel::Log) == self.0
    }

    fn deliver<'a>(&'a self, _channel: &'a Channel, _notice: &'a Notice) -> Delivery<'a> {
        let fails =
            self.1.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        Box::pin(async move {
            if fails {
                return Err(Error::Answer { host: "example.org".to_owned(), status: 503 });
            }
            self.1.deliveries.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    }
}

fn message() -> Message {
    Message {
        id: MessageId(3),
        contact: "plants/developers".parse().unwrap(),
        subject: "orders wait".to_owned(),
        body: String::new(),
        severity: Severity::Page,
        incident: None,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        waits_for_log: None,
        logs_awaited: 0,
        state: MessageState::Waiting,
        attempts: 1,
        next_attempt: None,
    }
}

fn task(channels: Vec<Channel>) -> Task {
    Task { notice: Notice { message: message(), installation: "i".to_owned() }, channels }
}

fn shared(log: &Fake, webhook: &Fake) -> Shared {
    Shared {
        notifiers: vec![Box::new(Serving(true, log.clone())), Box::new(Serving(false, webhook.clone()))],
        metrics: Metrics::new(),
        taken: Mutex::default(),
        places: Arc::new(Semaphore::new(1)),
    }
}

#[tokio::test]
async fn a_channel_that_took_a_message_is_not_given_it_again_because_another_failed() {
    let (log, webhook) = (Fake::default(), Fake::default());
    webhook.failures.store(1, Ordering::SeqCst);
    let shared = shared(&log, &webhook);
    let task = task(vec![Channel::Log, Channel::Webhook { url: "https://example.org/".to_owned() }]);
    let error = shared.deliver(&task).await.unwrap_err();
    assert_eq!(error, "the webhook at example.org answered 503");
    shared.deliver(&task).await.unwrap();
    assert_eq!(log.deliveries.load(Ordering::SeqCst), 1);
    assert_eq!(webhook.deliveries.load(Ordering::SeqCst), 1);
    assert!(shared.taken.lock().unwrap().is_empty(), "it is remembered after it was delivered everywhere");
}

#[tokio::test]
async fn a_contact_without_a_channel_is_an_error_that_says_so() {
    let error = shared(&Fake::default(), &Fake::default()).deliver(&task(Vec::new())).await.unwrap_err();
    assert!(error.contains("plants/developers"), "{error}");
}

#[test]
fn what_is_remembered_of_messages_is_bounded() {
    let shared = shared(&Fake::default(), &Fake::default());
    for message in 0..2 * REMEMBERED as u64 {
        shared.remember(MessageId(message), 0);
    }
    assert_eq!(shared.taken.lock().unwrap().len(), REMEMBERED);
    assert!(shared.remembers(MessageId(2 * REMEMBERED as u64 - 1), 0));
}
