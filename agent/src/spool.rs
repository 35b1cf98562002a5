//! Samples that wait for the controller.
//!
//! In memory, at most [`MOST_BYTES`]: about six hours of an agent's default samples. What waits here goes to history
//! and is never judged, so it is not worth a disk's wear, nor a file that fails to be written just when the host's
//! disk is what is in trouble. What must survive the agent (outcomes of orders) is in the journal. The oldest samples
//! are dropped first, and counted.

use std::collections::VecDeque;

use prost::Message as _;
use quell_wire::v1;
use tokio::time::Instant;

/// Most bytes of samples, encoded.
pub const MOST_BYTES: usize = 2 * 1024 * 1024;

/// What an entry costs beside its bytes.
const OVERHEAD: usize = 48;

/// The samples that wait.
#[derive(Debug)]
pub struct Spool {
    entries: VecDeque<Entry>,
    bytes: usize,
    most_bytes: usize,
    dropped: u64,
}

#[derive(Debug)]
struct Entry {
    taken: Instant,
    /// The sample whole, encoded: a fifth of what its fields take as values.
    encoded: Box<[u8]>,
}

impl Spool {
    /// An empty spool for so many bytes.
    pub fn new(most_bytes: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, most_bytes, dropped: 0 }
    }

    /// Keeps a whole sample, at the cost of the oldest when there is no room.
    pub fn push(&mut self, taken: Instant, sample: &v1::Sample) {
        let encoded = sample.encode_to_vec().into_boxed_slice();
        self.bytes += encoded.len() + OVERHEAD;
        self.entries.push_back(Entry { taken, encoded });
        while self.bytes > self.most_bytes {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.encoded.len() + OVERHEAD;
            self.dropped += 1;
        }
    }

    /// Takes the oldest samples, about so many bytes of them, with their ages.
    pub fn take(&mut self, bytes: usize, now: Instant) -> Vec<v1::Sample> {
        let mut samples = Vec::new();
        let mut taken = 0;
        while taken < bytes
            && let Some(entry) = self.entries.pop_front()
        {
            taken += entry.encoded.len();
            self.bytes -= entry.encoded.len() + OVERHEAD;
            if let Ok(mut sample) = v1::Sample::decode(&*entry.encoded) {
                let age = now.saturating_duration_since(entry.taken).as_millis();
                sample.age_ms = u64::try_from(age).unwrap_or(u64::MAX);
                samples.push(sample);
            }
        }
        if self.entries.is_empty() {
            self.entries.shrink_to_fit();
        }
        samples
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many samples wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Samples dropped since the start of the process.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(number: u64) -> v1::Sample {
        v1::Sample { probe: format!("probe-{number:04}"), full: true, spooled: true, ..v1::Sample::default() }
    }

    #[tokio::test]
    async fn the_oldest_go_first_and_are_counted() {
        let each = sample(0).encode_to_vec().len() + OVERHEAD;
        let mut spool = Spool::new(3 * each);
        let start = Instant::now();
        for number in 0..5 {
            spool.push(start + Duration::from_secs(number), &sample(number));
        }
        assert_eq!((spool.len(), spool.dropped()), (3, 2));
        let taken = spool.take(usize::MAX, start + Duration::from_secs(10));
        let seen: Vec<_> = taken.iter().map(|sample| (sample.probe.as_str(), sample.age_ms)).collect();
        assert_eq!(seen, [("probe-0002", 8000), ("probe-0003", 7000), ("probe-0004", 6000)]);
        assert!(spool.is_empty());
        assert_eq!(spool.bytes, 0);
    }

    #[tokio::test]
    async fn it_is_given_back_in_portions() {
        let mut spool = Spool::new(MOST_BYTES);
        (0..10).for_each(|number| spool.push(Instant::now(), &sample(number)));
        assert_eq!(spool.take(1, Instant::now()).len(), 1);
        assert_eq!(spool.len(), 9);
    }

    #[tokio::test]
    async fn a_sample_larger_than_the_spool_is_dropped() {
        let mut spool = Spool::new(10);
        spool.push(Instant::now(), &sample(1));
        assert_eq!((spool.len(), spool.dropped()), (0, 1));
    }
}
