//! The points at which a process can die: before and after all that it makes durable, sends and receives.

use std::sync::{Arc, Mutex, PoisonError};

use fastrand::Rng;

/// Whose process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The controller's.
    Controller,
    /// An agent's.
    Agent,
}

/// A process that died in the middle of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Died;

/// Counts the points and says at which of them a process dies; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Points(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    rng: Rng,
    /// How many points a death takes on average; 0: nobody dies by chance.
    odds: [u32; 2],
    passed: [u64; 2],
    kill: Option<(Side, u64)>,
}

impl Points {
    /// Deaths by chance, one in so many points of the controller and of agents.
    pub(crate) fn by_chance(seed: u64, odds: [u32; 2]) -> Self {
        Self(Arc::new(Mutex::new(Inner { rng: Rng::with_seed(seed), odds, passed: [0; 2], kill: None })))
    }

    /// One death, at the point of this number of its side; none: the points are only counted.
    pub(crate) fn at(kill: Option<(Side, u64)>) -> Self {
        Self(Arc::new(Mutex::new(Inner { rng: Rng::with_seed(0), odds: [0; 2], passed: [0; 2], kill })))
    }

    /// Passes a point, or does not.
    pub(crate) fn pass(&self, side: Side) -> Result<(), Died> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = side as usize;
        inner.passed[place] += 1;
        let passed = inner.passed[place];
        let dies = match inner.odds[place] {
            0 => inner.kill == Some((side, passed)),
            odds => inner.rng.u32(0..odds) == 0,
        };
        if dies { Err(Died) } else { Ok(()) }
    }

    /// Nobody dies by chance any more.
    pub(crate) fn calm(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).odds = [0; 2];
    }

    /// How many points each side has passed.
    pub(crate) fn passed(&self, side: Side) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).passed[side as usize]
    }
}
