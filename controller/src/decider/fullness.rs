//! A full disk is a freeze: no new plan starts, and everything that stops or undoes something still works.
//!
//! The freeze is an ordinary one over all hosts, made and renewed by the controller while the store says that it is full,
//! so that `quell why` names it, and released when there is room again.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use quell_engine::{
    Actor, Input,
    id::WindowId,
    input::{HoldScope, Reply, Request},
};
use quell_model::selector::Selector;

use super::Core;
use crate::store;

/// How long one freeze lasts; it is renewed at half of it.
const FREEZE: Duration = Duration::from_secs(20 * 60);

/// What is known about the room on disk.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// The freeze that holds, and when it was made.
    freeze: Option<(Option<WindowId>, Instant)>,
}

impl Core {
    /// Freezes when the store is full, and thaws when it is no longer.
    pub(super) fn look_after_space(&mut self) -> Result<(), store::Error> {
        if self.store.is_full() {
            self.store.recover_space();
        }
        let is_full = self.store.is_full();
        self.shared.is_full.store(is_full, Ordering::Relaxed);
        let now = Instant::now();
        match (is_full, self.space.freeze) {
            (true, None) => self.freeze(now),
            (true, Some((_, made))) if now.duration_since(made) > FREEZE / 2 => self.freeze(now),
            (false, Some((window, _))) => self.thaw(window),
            _ => Ok(()),
        }
    }

    fn freeze(&mut self, now: Instant) -> Result<(), store::Error> {
        tracing::error!("the disk of the data directory is full: no new plan starts until there is room");
        let reason = "the disk of the controller's data directory is full".to_owned();
        let request = Request::Hold { scope: HoldScope::Hosts(Selector::All), span: FREEZE, reason };
        let window = match self.own_request(request)? {
            Some(Reply::Window(window)) => Some(window),
            _ => None,
        };
        self.space.freeze = Some((window, now));
        Ok(())
    }

    fn thaw(&mut self, window: Option<WindowId>) -> Result<(), store::Error> {
        tracing::warn!("there is room in the data directory again");
        self.space.freeze = None;
        if window.is_some() {
            self.own_request(Request::Release { window, reason: "there is room on the disk again".to_owned() })?;
        }
        Ok(())
    }

    /// A request of the controller itself; `None`: it was refused or could not be recorded.
    fn own_request(&mut self, request: Request) -> Result<Option<Reply>, store::Error> {
        let (answer, mut answered) = tokio::sync::oneshot::channel();
        let input = Input::Request { actor: Actor::Controller, request: Box::new(request) };
        self.turn_with(input, super::handle::Answer::Request(answer))?;
        Ok(answered.try_recv().ok().and_then(Result::ok))
    }
}
