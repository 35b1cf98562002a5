//! What people see, made from values: no command asks anything here, and nothing here asks anybody.
//!
//! Every text that came over the wire goes through [`escape`]: hosts, logs and DNS servers choose some of it.

pub use quell_model::escape;

pub mod describe;
pub mod diff;
pub mod page;
pub mod rows;
pub mod shadow;
pub mod status;
pub mod table;
pub mod time;
pub mod why;
pub mod yaml;
