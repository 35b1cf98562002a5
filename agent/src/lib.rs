//! The agent: it watches its host, and carries out what it is ordered when the host's own rules allow it.

pub mod actions;
pub mod agent;
pub mod belief;
pub mod clock;
pub mod config;
pub mod data_dir;
mod dns;
pub mod execute;
pub mod facts;
pub mod files;
pub mod guard;
pub mod hold;
pub mod legal_hold;
pub mod limits;
pub mod log;
pub mod managers;
pub mod notify;
pub mod own_file;
pub mod probes;
pub mod process;
pub mod session;
pub mod spool;
pub mod units;
pub mod watch;
pub mod wire;
