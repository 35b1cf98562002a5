//! What waits for the decider: two bounded lanes, of which the urgent one is always served first.
//!
//! People's requests (cancel, freeze, approve) go into the urgent lane, so that no flood of samples delays them. Within a
//! lane order is kept. A full lane makes its senders wait; nothing is dropped.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Semaphore;

/// How many requests of people may wait.
pub(crate) const URGENT_CAPACITY: usize = 256;

/// How many reports of agents may wait.
pub(crate) const ORDINARY_CAPACITY: usize = 4_096;

/// Which lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Requests and questions of people.
    Urgent,
    /// Everything else.
    Ordinary,
}

/// The reader is gone.
#[derive(Debug)]
pub(crate) struct Closed;

/// The two lanes.
pub(crate) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    arrived: Condvar,
    urgent_places: Semaphore,
    ordinary_places: Semaphore,
}

struct Waiting<T> {
    urgent: VecDeque<T>,
    ordinary: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting { urgent: VecDeque::new(), ordinary: VecDeque::new(), closed: false }),
            arrived: Condvar::new(),
            urgent_places: Semaphore::new(URGENT_CAPACITY),
            ordinary_places: Semaphore::new(ORDINARY_CAPACITY),
        }
    }

    /// Adds something, waiting for a place.
    pub(crate) async fn push(&self, lane: Lane, item: T) -> Result<(), Closed> {
        self.places(lane).acquire().await.map_err(|_| Closed)?.forget();
        self.put(lane, item)
    }

    /// Adds something if there is a place now.
    pub(crate) fn try_push(&self, lane: Lane, item: T) -> Result<(), Closed> {
        self.places(lane).try_acquire().map_err(|_| Closed)?.forget();
        self.put(lane, item)
    }

    fn put(&self, lane: Lane, item: T) -> Result<(), Closed> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Closed);
        }
        match lane {
            Lane::Urgent => waiting.urgent.push_back(item),
            Lane::Ordinary => waiting.ordinary.push_back(item),
        }
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes the next thing, urgent ones first.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut waiting = self.lock();
        let (lane, item) = match waiting.urgent.pop_front() {
            Some(item) => (Lane::Urgent, item),
            None => (Lane::Ordinary, waiting.ordinary.pop_front()?),
        };
        drop(waiting);
        self.places(lane).add_permits(1);
        Some(item)
    }

    /// Blocks this thread until something waits or the time is over.
    pub(crate) fn wait(&self, at_most: Duration) {
        let is_idle = |waiting: &mut Waiting<T>| waiting.urgent.is_empty() && waiting.ordinary.is_empty();
        // Whichever way the wait ends, the caller looks at the queue and the clock again.
        drop(self.arrived.wait_timeout_while(self.lock(), at_most, is_idle));
    }

    /// Takes nothing more, and drops what waits: whoever waits for an answer learns that none comes.
    pub(crate) fn close(&self) {
        self.urgent_places.close();
        self.ordinary_places.close();
        let mut waiting = self.lock();
        waiting.closed = true;
        let left = (std::mem::take(&mut waiting.urgent), std::mem::take(&mut waiting.ordinary));
        drop(waiting);
        drop(left);
    }

    /// How many wait in each lane: urgent, ordinary.
    pub(crate) fn lengths(&self) -> (usize, usize) {
        let waiting = self.lock();
        (waiting.urgent.len(), waiting.ordinary.len())
    }

    fn places(&self, lane: Lane) -> &Semaphore {
        match lane {
            Lane::Urgent => &self.urgent_places,
            Lane::Ordinary => &self.ordinary_places,
        }
    }

    /// Nothing between lock and unlock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn urgent_things_overtake_and_lanes_keep_their_order() {
        let queue = Queue::new();
        for (lane, item) in
            [(Lane::Ordinary, 1), (Lane::Ordinary, 2), (Lane::Urgent, 3), (Lane::Urgent, 4), (Lane::Ordinary, 5)]
        {
            queue.push(lane, item).await.unwrap();
        }
        let taken: Vec<i32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(taken, [3, 4, 1, 2, 5]);
    }

    #[tokio::test]
    async fn a_full_lane_makes_senders_wait_and_leaves_the_other_one_open() {
        let queue = Arc::new(Queue::new());
        for item in 0..ORDINARY_CAPACITY {
            queue.push(Lane::Ordinary, item).await.unwrap();
        }
        let one_more = tokio::spawn({
            let queue = queue.clone();
            async move { queue.push(Lane::Ordinary, usize::MAX).await }
        });
        queue.push(Lane::Urgent, 0).await.unwrap();
        assert_eq!(queue.lengths(), (1, ORDINARY_CAPACITY));
        assert!(!one_more.is_finished());
        assert_eq!((queue.pop(), queue.pop()), (Some(0), Some(0)));
        one_more.await.unwrap().unwrap();
        assert_eq!(queue.lengths(), (0, ORDINARY_CAPACITY));
    }

    #[tokio::test]
    async fn closing_ends_senders_that_wait() {
        let queue = Queue::new();
        queue.push(Lane::Urgent, 1).await.unwrap();
        queue.close();
        assert!(queue.push(Lane::Urgent, 2).await.is_err());
        assert_eq!(queue.pop(), None);
    }
}
