//! The agent: it watches its host, and carries out what it is ordered when the host's own rules allow it.

pub mod config;
pub mod execute;
pub mod files;
pub mod managers;
pub mod process;
pub mod units;
