//! Safety: what must never happen, over random lives of a small fleet in virtual time.
//!
//! Every life goes through the same steps as the live controller. The harness asserts after each of them that no
//! invariant is broken and that the recorded writes give the state; the judges in `safety/judge.rs` then walk
//! through the records and look at every single command with the state of that moment, by rules of their own: they
//! share no code with the guards that they judge.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

mod safety {
    pub(crate) mod farm;
    pub(crate) mod judge;
    pub(crate) mod life;

    mod anew;
    mod cancel;
    mod disturbance;
    mod failover;
    mod flapping;
    mod healthy;
    mod held;
    mod holds;
    mod knowing;
    mod ledger;
    mod limits;
    mod lingering;
    mod people;
    mod restart;
    mod rollout;
    mod scope;
    mod shadow;
    mod waves;
}
