//! What the tests share: the shop's stand-ins, and a fleet of real processes to run them on.

pub mod bench;
pub mod fleet;
pub mod shop;
pub mod story;
