//! The queue: which order may begin.
//!
//! Orders that share a resource are carried out one after the other, in the order in which they came; others run side
//! by side. One task owns all of this and never waits for an order.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, OnceLock},
    time::Duration,
};

use quell_wire::v1;
use tokio::{
    sync::{mpsc, oneshot},
    task::{Id, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Report, Shared,
    at_hand::Held,
    carry_out::{self, Finish},
    journal_key,
    outcome::{End, Kind},
    recover,
};
use crate::{
    actions::{Action, Refusal},
    guard::{self, Admitted, Signed},
};

/// Orders that wait or run at the same time.
const ORDER_LIMIT: usize = 64;

/// How often it is looked again whether an order must still give way.
const GIVE_WAY_EVERY: Duration = Duration::from_secs(1);

/// What the queue is told.
pub(super) enum Message {
    Submit { command: Box<v1::Command>, held: Option<Held>, received: Instant, admitted: Result<Admitted, Refusal> },
    Cancel { command_id: String, reason: String },
    Acknowledged(String),
    Stop(oneshot::Sender<()>),
}

/// Calls an order off, with a reason.
#[derive(Clone, Default)]
pub(super) struct Cancel {
    pub(super) token: CancellationToken,
    reason: Arc<OnceLock<String>>,
}

impl Cancel {
    fn cancel(&self, reason: String) {
        // The first reason counts.
        let _again = self.reason.set(reason);
        self.token.cancel();
    }

    /// Why it was called off, if it was.
    pub(super) fn reason(&self) -> Option<&str> {
        self.token.is_cancelled().then(|| self.reason.get().map_or("called off", String::as_str))
    }
}

/// An order that was admitted.
pub(super) struct Order {
    pub(super) command: Box<v1::Command>,
    pub(super) key: String,
    pub(super) action: Box<dyn Action>,
    pub(super) resources: BTreeSet<String>,
    /// In whose name it is done.
    pub(super) signed: Signed,
    /// It is at hand for as long as it is here.
    _held: Option<Held>,
    /// It is not begun after this.
    pub(super) not_after: Instant,
    pub(super) cancel: Cancel,
    /// It gives way until then.
    pub(super) not_before: Option<Instant>,
    /// To whom it gives way.
    pub(super) gave_way: String,
}

struct Running {
    key: String,
    command_id: String,
    resources: BTreeSet<String>,
    cancel: Cancel,
}

/// The queue.
pub(super) struct Queue {
    shared: Arc<Shared>,
    messages: mpsc::Receiver<Message>,
    fence: u64,
    waiting: VecDeque<Box<Order>>,
    running: HashMap<Id, Running>,
    tasks: JoinSet<Finish>,
    stopping: Option<oneshot::Sender<()>>,
    stopped: bool,
}

impl Queue {
    pub(super) fn new(shared: Arc<Shared>, messages: mpsc::Receiver<Message>) -> Self {
        let fence = shared.journal.fence();
        Self {
            shared,
            messages,
            fence,
            waiting: VecDeque::new(),
            running: HashMap::new(),
            tasks: JoinSet::new(),
            stopping: None,
            stopped: false,
        }
    }

    pub(super) async fn run(mut self) {
        self.recover();
        loop {
            let wake = self.waiting.iter().map(|order| order.wakes_at(Instant::now())).min();
            let sleep = async {
                match wake {
                    Some(wake) => tokio::time::sleep_until(wake).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                () = sleep => {}
            }
            self.begin_what_may();
            if self.stopped
                && self.running.is_empty()
                && self.tasks.is_empty()
                && let Some(done) = self.stopping.take()
            {
                let _gave_up = done.send(());
            }
        }
    }

    /// What a crash has interrupted is taken up before anything new.
    fn recover(&mut self) {
        for record in self.shared.journal.open_records() {
            if let (Some(intent), None) = (record.intent, record.outcome) {
                let running = Running {
                    key: intent.key.clone(),
                    command_id: intent.command_id.clone(),
                    resources: intent.resources.iter().cloned().collect(),
                    cancel: Cancel::default(),
                };
                let task = recover::recover(Arc::clone(&self.shared), intent, running.cancel.clone());
                let id = self.tasks.spawn(task).id();
                self.running.insert(id, running);
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Submit { command, held, received, admitted } => self.submit(command, held, received, admitted),
            Message::Cancel { command_id, reason } => self.cancel(&command_id, &reason),
            Message::Acknowledged(key) => {
                self.tasks.spawn(carry_out::acknowledge(Arc::clone(&self.shared), key));
            }
            Message::Stop(done) => {
                self.stopped = true;
                self.stopping = Some(done);
            }
        }
    }

    fn submit(
        &mut self,
        command: Box<v1::Command>,
        held: Option<Held>,
        received: Instant,
        admitted: Result<Admitted, Refusal>,
    ) {
        let key = journal_key(&command);
        if !command.preview_only && self.is_known(&key) {
            return;
        }
        if self.stopped {
            tracing::info!(
                command = command.command_id,
                "an order came while the agent stops; it is left for the next"
            );
            return;
        }
        if self.shared.journal.is_full() {
            tracing::error!(
                command = command.command_id,
                "too many outcomes wait to be acknowledged; an order is left"
            );
            return;
        }
        let checked = guard::check_order(&command, self.fence);
        self.fence = self.fence.max(command.fence);
        let span = tracing::info_span!(
            "order",
            command = command.command_id,
            plan = command.plan_id,
            incident = command.incident_id,
            action = command.action
        );
        let not_after = received + Duration::from_millis(command.start_within_ms);
        if checked.is_ok() && Instant::now() >= not_after {
            let end = End::new(Kind::NotStarted, "the time in which it might begin was over when it came");
            return self.answer(command, key, held, end);
        }
        let admitted = match checked.and(admitted) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                span.in_scope(|| tracing::warn!(reason = refusal.reason, "an order is refused"));
                return self.answer(command, key, held, End::refused(refusal));
            }
        };
        if self.waiting.len() + self.running.len() >= ORDER_LIMIT {
            let text = format!("{ORDER_LIMIT} orders wait or run on this host already");
            return self.answer(command, key, held, End::new(Kind::NotStarted, text));
        }
        let order = Box::new(Order {
            key,
            action: admitted.action,
            resources: admitted.resources,
            signed: admitted.signed,
            _held: held,
            not_after,
            cancel: Cancel::default(),
            not_before: None,
            gave_way: String::new(),
            command,
        });
        if order.command.preview_only || order.command.dry_run {
            self.tasks.spawn(carry_out::look(Arc::clone(&self.shared), order));
        } else {
            self.waiting.push_back(order);
        }
    }

    /// Answers an order that is not carried out. Until the journal knows that, it counts as running and touches nothing:
    /// the same order, come again meanwhile, might be admitted.
    fn answer(&mut self, command: Box<v1::Command>, key: String, held: Option<Held>, end: End) {
        let running = (!command.preview_only).then(|| Running {
            key: key.clone(),
            command_id: command.command_id.clone(),
            resources: BTreeSet::new(),
            cancel: Cancel::default(),
        });
        let shared = Arc::clone(&self.shared);
        let answer = async move {
            let finish = carry_out::answer(shared, command, key, end).await;
            drop(held);
            finish
        };
        let id = self.tasks.spawn(answer).id();
        self.running.extend(running.map(|running| (id, running)));
    }

    /// An order that was seen before is answered and not done.
    fn is_known(&self, key: &str) -> bool {
        let at_hand = self.waiting.iter().any(|order| order.key == key)
            || self.running.values().any(|running| running.key == key);
        if at_hand {
            return true;
        }
        let Some(record) = self.shared.journal.find(key) else { return false };
        if let Some(stored) = record.outcome {
            let report = Report::Outcome(self.shared.ends.wire(&stored));
            // When nobody takes reports now, the journal tells it again with the next session.
            if self.shared.reports.try_send(report).is_err() {
                tracing::debug!(key, "a repeated order could not be answered now");
            }
        }
        true
    }

    fn cancel(&mut self, command_id: &str, reason: &str) {
        for running in self.running.values().filter(|running| running.command_id == command_id) {
            running.cancel.cancel(reason.to_owned());
        }
        // Begun only to be answered as not started.
        for order in self.waiting.iter_mut().filter(|order| order.command.command_id == command_id) {
            order.cancel.cancel(reason.to_owned());
        }
    }

    /// Begins every waiting order whose resources are free, in the order in which they came; those that are over or
    /// called off are begun as well, to be answered.
    fn begin_what_may(&mut self) {
        let now = Instant::now();
        let mut busy: BTreeSet<String> =
            self.running.values().flat_map(|running| running.resources.iter().cloned()).collect();
        let mut still = VecDeque::new();
        for order in std::mem::take(&mut self.waiting) {
            let over = order.cancel.reason().is_some() || now >= order.not_after;
            let later = order.not_before.is_some_and(|not_before| now < not_before);
            let free = order.resources.is_disjoint(&busy);
            if over || (free && !later && !self.stopped) {
                if free {
                    busy.extend(order.resources.iter().cloned());
                }
                self.begin(order, over);
            } else {
                busy.extend(order.resources.iter().cloned());
                still.push_back(order);
            }
        }
        self.waiting = still;
    }

    fn begin(&mut self, order: Box<Order>, over: bool) {
        let running = Running {
            key: order.key.clone(),
            command_id: order.command.command_id.clone(),
            // One that is over touches nothing.
            resources: if over { BTreeSet::new() } else { order.resources.clone() },
            cancel: order.cancel.clone(),
        };
        let id = self.tasks.spawn(carry_out::carry_out(Arc::clone(&self.shared), order)).id();
        self.running.insert(id, running);
    }

    fn ended(&mut self, ended: Result<(Id, Finish), tokio::task::JoinError>) {
        match ended {
            Ok((id, finish)) => {
                self.running.remove(&id);
                if let Finish::GaveWay(mut order) = finish {
                    order.not_before = Some(Instant::now() + GIVE_WAY_EVERY);
                    self.waiting.push_front(order);
                }
            }
            Err(error) => {
                // Its outcome is missing in the journal, so the next start of the agent looks what became of it.
                if let Some(running) = self.running.remove(&error.id()) {
                    tracing::error!(command = running.command_id, %error, "an order's task ended without an outcome");
                }
            }
        }
    }
}

impl Order {
    /// When something about it changes by itself. One that no longer gives way waits for its resources, and those
    /// announce themselves.
    fn wakes_at(&self, now: Instant) -> Instant {
        self.not_before.filter(|not_before| *not_before > now).map_or(self.not_after, |at| at.min(self.not_after))
    }
}
