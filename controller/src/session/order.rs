//! The order of an agent's numbered messages: what is new, what came before, and what is missing.

use crate::wire::Invalid;

/// What a message is, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It needs no acknowledgement.
    Unnumbered,
    /// It is the next one: to be taken in, then acknowledged.
    Next,
    /// It was taken in before: to be acknowledged again, and otherwise to change nothing.
    Duplicate,
}

/// Where a session stands. The agent keeps what is not acknowledged, so a message that overtook another is refused and
/// comes again in its turn: acknowledging it would lose the other.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    acknowledged: u64,
    begun: bool,
}

impl Order {
    /// A session that begins with everything up to this number durably taken in. Its first new message may have any
    /// higher number: what lies between was acknowledged to an earlier session, without leaving a trace in the state.
    pub fn after(acknowledged: u64) -> Self {
        Self { acknowledged, begun: false }
    }

    /// Up to where everything is durably taken in.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// What a message with this number is.
    ///
    /// # Errors
    /// A message before it is missing.
    pub fn place(&self, number: u64) -> Result<Place, Invalid> {
        let next = self.acknowledged.saturating_add(1);
        match number {
            0 => Ok(Place::Unnumbered),
            number if number <= self.acknowledged => Ok(Place::Duplicate),
            number if number == next || !self.begun => Ok(Place::Next),
            number => Err(Invalid::malformed("sequence", format!("message {number} came where {next} is next"))),
        }
    }

    /// The message with this number is durably taken in.
    pub fn taken(&mut self, number: u64) {
        self.acknowledged = self.acknowledged.max(number);
        self.begun = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_once_and_in_order() {
        let mut order = Order::after(7);
        assert_eq!(order.place(0), Ok(Place::Unnumbered));
        assert_eq!(order.place(7), Ok(Place::Duplicate));
        assert_eq!(order.place(8), Ok(Place::Next));
        order.taken(8);
        assert_eq!(order.place(8), Ok(Place::Duplicate));
        assert_eq!(order.place(9), Ok(Place::Next));
        let error = order.place(10).unwrap_err().to_string();
        assert!(error.contains("message 10 came where 9 is next"), "{error}");
    }

    #[test]
    fn the_first_message_may_leave_out_what_an_earlier_session_took() {
        let mut order = Order::after(7);
        assert_eq!(order.place(12), Ok(Place::Next));
        order.taken(12);
        assert!(order.place(14).is_err());
        assert_eq!(order.place(13), Ok(Place::Next));
        assert_eq!(order.acknowledged(), 12);
    }

    #[test]
    fn the_greatest_number_does_not_overflow() {
        let mut order = Order::after(u64::MAX - 1);
        assert_eq!(order.place(u64::MAX), Ok(Place::Next));
        order.taken(u64::MAX);
        assert_eq!(order.place(u64::MAX), Ok(Place::Duplicate));
    }
}
