//! Sockets that have not yet shown who they are: a bounded number, of which the oldest of the greediest gives way.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// The unfinished handshakes of one listener.
#[derive(Debug)]
pub(crate) struct Handshakes {
    most: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    count: usize,
    by_source: HashMap<IpAddr, VecDeque<(u64, CancellationToken)>>,
}

impl Waiting {
    fn evict(&mut self) {
        let Some(source) = self.by_source.iter().max_by_key(|(_, queue)| queue.len()).map(|(source, _)| *source) else {
            return;
        };
        let Some(queue) = self.by_source.get_mut(&source) else { return };
        if let Some((_, evicted)) = queue.pop_front() {
            evicted.cancel();
            self.count -= 1;
        }
        if queue.is_empty() {
            self.by_source.remove(&source);
        }
    }
}

/// One unfinished handshake; dropping it says that it has ended.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    of: &'a Handshakes,
    source: IpAddr,
    number: u64,
    evicted: CancellationToken,
}

impl Ticket<'_> {
    /// Ends when the handshake has to give way to another.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut waiting = self.of.lock();
        let Some(queue) = waiting.by_source.get_mut(&self.source) else { return };
        let before = queue.len();
        queue.retain(|(number, _)| *number != self.number);
        let ended = before - queue.len();
        let is_empty = queue.is_empty();
        waiting.count -= ended;
        if is_empty {
            waiting.by_source.remove(&self.source);
        }
    }
}

impl Handshakes {
    /// At most `most` at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self { most: most.max(1), waiting: Mutex::default() }
    }

    /// Begins a handshake; when there are too many, the oldest of the address with the most of them gives way.
    pub(crate) fn enter(&self, source: IpAddr) -> Ticket<'_> {
        let evicted = CancellationToken::new();
        let mut waiting = self.lock();
        if waiting.count >= self.most {
            waiting.evict();
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.count += 1;
        waiting.by_source.entry(source).or_default().push_back((number, evicted.clone()));
        Ticket { of: self, source, number, evicted }
    }

    /// Ends one, so that its descriptor comes free.
    pub(crate) fn make_room(&self) {
        self.lock().evict();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // Nothing panics while it is held; and if it did, the counts would still be sound.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::Handshakes;

    fn source(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    #[test]
    fn the_oldest_of_the_greediest_address_gives_way() {
        let handshakes = Handshakes::new(4);
        let honest = handshakes.enter(source(1));
        let greedy: Vec<_> = (0..3).map(|_| handshakes.enter(source(2))).collect();
        let _newest = handshakes.enter(source(3));
        assert!(!honest.evicted.is_cancelled());
        assert_eq!(greedy.iter().map(|one| one.evicted.is_cancelled()).collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn what_ended_leaves_room_and_no_trace() {
        let handshakes = Handshakes::new(2);
        for _ in 0..100 {
            let one = handshakes.enter(source(1));
            let two = handshakes.enter(source(1));
            assert!(!one.evicted.is_cancelled() && !two.evicted.is_cancelled());
        }
        let waiting = handshakes.lock();
        assert_eq!((waiting.count, waiting.by_source.len()), (0, 0));
    }

    #[test]
    fn an_evicted_handshake_is_not_counted_twice() {
        let handshakes = Handshakes::new(1);
        let first = handshakes.enter(source(1));
        let second = handshakes.enter(source(1));
        assert!(first.evicted.is_cancelled());
        drop(first);
        drop(second);
        assert_eq!(handshakes.lock().count, 0);
        handshakes.make_room();
    }
}
