//! What can be broken on purpose: a simulation that does not find these proves nothing.

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Agents carry out an order whenever it comes, and keep no ledger.
    Idempotency,
    /// Effects are released before their records are durable.
    EffectsBeforeCommit,
    /// An agent that starts again does not tell how orders ended.
    LostOutcomes,
    /// The controller acknowledges what it has not made durable.
    EarlyAcknowledgement,
    /// An agent that connects again does not tell of orders that it has and has not begun.
    WaitingUntold,
    /// Agents do not look at the fence of an order.
    Fences,
    /// The controller starts what needs an approval with a vote that nobody gave: a good signature, and no person.
    Approvals,
    /// Effects do not follow from the state again, after a start and when an agent connects.
    EffectsNotDerivedAgain,
}

impl Broken {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Idempotency,
        Self::EffectsBeforeCommit,
        Self::LostOutcomes,
        Self::EarlyAcknowledgement,
        Self::EffectsNotDerivedAgain,
        Self::WaitingUntold,
        Self::Fences,
        Self::Approvals,
    ];
}
