//! The controller: decides, orders, records; serves agents and operators.
//!
//! One thread decides and writes ([`decider`]); everything else reads the state that it publishes, hands it inputs and
//! carries out the effects that it releases. `main.rs` is the table of contents.

pub mod alerts;
pub mod arguments;
pub mod audit;
pub mod backup;
pub mod config;
pub mod decider;
pub mod effects;
pub mod init;
pub mod logging;
pub mod metrics;
pub(crate) mod notices;
pub mod notify;
pub mod registry;
pub mod rpc;
pub mod serve;
pub mod session;
pub mod store;
pub mod systemd;
pub mod tasks;
pub mod web;
pub mod wire;
