//! A session that stands: what waits to be sent, and when it is sent.

use std::time::Duration;

use quell_wire::v1::{AgentMessage, Heartbeat, SampleBatch, agent_message::Body as Up};
use tokio::time::Instant;

use super::{
    Inbound, Outgoing,
    delta::{self, Encoder},
    outgoing::Closed,
    unnumbered,
};
use crate::{limits::Usage, probes::Sample, spool::Spool, wire};

/// How long a sample that nobody waits for is held back for company.
const COMPANY: Duration = Duration::from_millis(50);

/// How often a portion of the spool is sent, and how much at a time.
const REPLAY_EVERY: Duration = Duration::from_millis(100);
const REPLAY_BYTES: usize = 32 * 1024;

/// Most samples in one message.
const MOST_IN_BATCH: usize = 500;

/// Credit when the controller says none, in bytes.
const DEFAULT_CREDIT: usize = 1024 * 1024;

/// Places in the queue that stay free for what is numbered and for heartbeats.
const RESERVED: usize = 32;

/// However much else is sent, a heartbeat follows after this many times its interval: it says what no other message
/// does.
const BEAT_ANYWAY: u32 = 6;

/// A session that stands.
pub(super) struct Online {
    pub(super) inbound: Inbound,
    outgoing: Outgoing,
    credit: usize,
    encoder: Encoder,
    pending: Vec<Sample>,
    flush_at: Option<Instant>,
    began: Instant,
    last_sent: Instant,
    last_beat: Instant,
    next_replay: Instant,
    told_suspended: Vec<String>,
    dropped_before: u64,
}

impl Online {
    pub(super) fn new(inbound: Inbound, outgoing: Outgoing, credit: u64, dropped_before: u64) -> Self {
        let now = Instant::now();
        let mut encoder = Encoder::default();
        encoder.begin();
        Self {
            inbound,
            outgoing,
            credit: usize::try_from(credit).ok().filter(|credit| *credit > 0).unwrap_or(DEFAULT_CREDIT),
            encoder,
            pending: Vec::new(),
            flush_at: None,
            began: now,
            last_sent: now,
            last_beat: now,
            next_replay: now,
            told_suspended: Vec::new(),
            dropped_before,
        }
    }

    /// How long it has stood.
    pub(super) fn lasted(&self) -> Duration {
        self.began.elapsed()
    }

    /// When something is due next.
    pub(super) fn next_timer(&self, something_spooled: bool) -> Instant {
        let beat = (self.last_sent + super::HEARTBEAT).min(self.last_beat + super::HEARTBEAT * BEAT_ANYWAY);
        let replay = something_spooled.then_some(self.next_replay);
        [self.flush_at, replay].into_iter().flatten().fold(beat, Instant::min)
    }

    /// Holds a sample for the next batch.
    pub(super) fn add(&mut self, sample: Sample, now: Instant) {
        self.pending.push(sample);
        self.flush_at.get_or_insert(now + COMPANY);
    }

    /// Whether somebody waits for what is held.
    pub(super) fn is_urgent(&self) -> bool {
        self.pending.len() >= MOST_IN_BATCH || self.pending.iter().any(|sample| sample.pushed || sample.urgent)
    }

    /// What is held and was not sent.
    pub(super) fn take_pending(&mut self) -> Vec<Sample> {
        self.flush_at = None;
        std::mem::take(&mut self.pending)
    }

    /// Sends what is held, or spools it when too much waits already.
    pub(super) fn flush(&mut self, spool: &mut Spool) -> Result<(), Closed> {
        let pending = self.take_pending();
        if pending.is_empty() {
            return Ok(());
        }
        if !self.has_credit() {
            pending.iter().for_each(|sample| spool.push(sample.taken, &delta::whole(sample)));
            return Ok(());
        }
        let now = Instant::now();
        let samples = pending.iter().map(|sample| self.encoder.encode(sample, now)).collect();
        self.push(unnumbered(Up::Samples(SampleBatch { samples })))
    }

    pub(super) fn flush_if_due(&mut self, spool: &mut Spool, now: Instant) -> Result<(), Closed> {
        if self.flush_at.is_some_and(|due| now >= due) { self.flush(spool) } else { Ok(()) }
    }

    /// Sends a portion of what was spooled, when it is time and the controller keeps up.
    pub(super) fn replay(&mut self, spool: &mut Spool, now: Instant) -> Result<(), Closed> {
        if now < self.next_replay {
            return Ok(());
        }
        self.next_replay = now + REPLAY_EVERY;
        if !self.has_credit() || self.outgoing.waiting() > self.credit / 2 {
            return Ok(());
        }
        let samples = spool.take(REPLAY_BYTES, now);
        samples.iter().for_each(|sample| self.encoder.forget(&sample.probe));
        if samples.is_empty() { Ok(()) } else { self.push(unnumbered(Up::Samples(SampleBatch { samples }))) }
    }

    /// Says that the agent lives, when nothing else has said so, or when what only this message says has changed.
    pub(super) fn beat_if_due(
        &mut self,
        suspended: Vec<String>,
        dropped: u64,
        now: Instant,
        every: Duration,
    ) -> Result<(), Closed> {
        let quiet = now.duration_since(self.last_sent) >= every;
        let long_ago = now.duration_since(self.last_beat) >= every * BEAT_ANYWAY;
        if !(quiet || long_ago || suspended != self.told_suspended) {
            return Ok(());
        }
        let usage = Usage::now();
        self.told_suspended.clone_from(&suspended);
        self.last_beat = now;
        self.push(unnumbered(Up::Heartbeat(Heartbeat {
            resident_bytes: usage.resident_bytes,
            cpu_ms: wire::milliseconds(usage.cpu),
            dropped: dropped.saturating_sub(self.dropped_before),
            suspended,
        })))
    }

    /// Whether something numbered can be put in the queue.
    pub(super) fn has_room(&self) -> bool {
        self.outgoing.room() > 1
    }

    fn has_credit(&self) -> bool {
        self.outgoing.waiting() < self.credit && self.outgoing.room() > RESERVED
    }

    pub(super) fn push(&mut self, message: AgentMessage) -> Result<(), Closed> {
        self.last_sent = Instant::now();
        self.outgoing.push(message)
    }

    /// Keeps the differences of these probes only.
    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.encoder.retain(wanted);
    }

    /// Returns when the transport has taken everything.
    pub(super) async fn drained(&mut self) {
        while self.outgoing.waiting() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::{super::outgoing, *};

    const BEAT: Duration = super::super::HEARTBEAT;

    fn online(credit: u64) -> (Online, outgoing::Messages) {
        let (outgoing, messages) = outgoing();
        (Online::new(Box::pin(tokio_stream::empty()), outgoing, credit, 3), messages)
    }

    fn sample(number: f64) -> Sample {
        let fields = [("a".to_owned(), number.into())].into();
        Sample { key: "p".into(), taken: Instant::now(), fields, pushed: false, urgent: false }
    }

    #[tokio::test]
    async fn a_heartbeat_follows_silence_and_tells_of_suspensions_at_once() {
        let (mut online, mut messages) = online(0);
        let start = Instant::now();
        online.beat_if_due(Vec::new(), 3, start + BEAT / 2, BEAT).unwrap();
        assert_eq!(online.outgoing.waiting(), 0);
        online.beat_if_due(Vec::new(), 5, start + BEAT * 2, BEAT).unwrap();
        let Some(Up::Heartbeat(beat)) = messages.next().await.unwrap().body else { panic!("no heartbeat") };
        assert_eq!((beat.dropped, beat.suspended.len()), (2, 0));
        assert!(beat.resident_bytes > 0 && beat.cpu_ms > 0);
        online.beat_if_due(vec!["p".to_owned()], 5, Instant::now(), BEAT).unwrap();
        let Some(Up::Heartbeat(beat)) = messages.next().await.unwrap().body else { panic!("no heartbeat") };
        assert_eq!(beat.suspended, ["p"]);
    }

    #[tokio::test]
    async fn samples_wait_for_company_and_no_longer() {
        let (mut online, mut messages) = online(0);
        let mut spool = Spool::new(1000);
        let now = Instant::now();
        online.add(sample(1.0), now);
        online.add(sample(2.0), now);
        assert!(!online.is_urgent());
        assert!(online.next_timer(false) <= now + COMPANY);
        online.flush_if_due(&mut spool, now).unwrap();
        assert_eq!(online.outgoing.waiting(), 0);
        online.flush_if_due(&mut spool, now + COMPANY).unwrap();
        let Some(Up::Samples(batch)) = messages.next().await.unwrap().body else { panic!("no samples") };
        assert_eq!(batch.samples.iter().map(|sample| sample.full).collect::<Vec<_>>(), [true, false]);
        online.add(Sample { urgent: true, ..sample(3.0) }, now);
        assert!(online.is_urgent());
    }

    #[tokio::test]
    async fn a_slow_controller_costs_samples_not_memory() {
        let (mut online, mut messages) = online(1);
        let mut spool = Spool::new(10_000);
        for number in 0..5 {
            online.add(sample(f64::from(number)), Instant::now());
            online.flush(&mut spool).unwrap();
        }
        assert_eq!(spool.len(), 4);
        assert!(online.outgoing.waiting() > 0);
        messages.next().await.unwrap();
        online.replay(&mut spool, Instant::now()).unwrap();
        let Some(Up::Samples(batch)) = messages.next().await.unwrap().body else { panic!("no samples") };
        assert!(batch.samples.len() == 4 && batch.samples.iter().all(|sample| sample.spooled && sample.full));
        // After whole ones the next difference would have another base: it is whole, too.
        online.add(sample(9.0), Instant::now());
        online.flush(&mut spool).unwrap();
        let Some(Up::Samples(batch)) = messages.next().await.unwrap().body else { panic!("no samples") };
        assert!(batch.samples[0].full && !batch.samples[0].spooled);
    }
}
