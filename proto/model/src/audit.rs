//! The audit log as an outsider sees it: records hashed into a chain, and signed heads of that chain.
//!
//! A record is a line of JSON that names the SHA-256 of the line before. So every line fixes all lines before it, and a
//! [`Head`] that the installation signed fixes a whole log up to one record: whoever keeps one elsewhere can prove later
//! that nothing before it was edited, removed or reordered. [`Verifier`] walks a log and says where it is not whole.

mod head;
mod verify;

pub use head::{Head, ParseError, SignedHead};
pub use verify::{Fault, Summary, Taken, Verifier};
