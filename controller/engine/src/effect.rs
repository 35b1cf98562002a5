//! What is to be done outside once the changes that ask for it are durable.
//!
//! Effects are never stored: what they should be follows from the state, so that after a restart
//! [`crate::Input::Started`] and the agents' connections bring them about again. Every one of them may happen twice.

use std::sync::Arc;

use jiff::Timestamp;
use quell_model::{name::HostName, probe::ProbeKey};

use crate::{
    id::{CommandId, MessageId},
    state::{Assignment, CommandRow, Message, PlanRow, SignedDocument},
};

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// From here on, what is for this agent goes to the session that began with the [`crate::input::Hello`] of this
    /// connection. What was released before is not for it: what the hello tells of the agent's orders was said before
    /// they could reach it, and is what is decided by.
    Open {
        /// The agent.
        host: HostName,
        /// The connection.
        connection: u64,
    },
    /// Send an order to an agent; it is sent again when the agent reconnects while the order has no outcome.
    Command {
        /// The agent.
        host: HostName,
        /// The order.
        command: Arc<CommandRow>,
        /// The plan it belongs to.
        plan: Arc<PlanRow>,
    },
    /// Ask an agent what an order would touch; the answer comes back as [`crate::Input::Previewed`]. It is asked again when
    /// the agent reconnects before it has answered.
    Preview {
        /// The agent.
        host: HostName,
        /// The order.
        command: Arc<CommandRow>,
        /// The draft of the plan that it belongs to.
        plan: Arc<PlanRow>,
    },
    /// Tell an agent not to begin, or to stop.
    Cancel {
        /// The agent.
        host: HostName,
        /// The order.
        command: CommandId,
        /// Why.
        reason: String,
    },
    /// Give an agent its whole list of probes.
    Assign {
        /// The agent.
        host: HostName,
        /// The list.
        assignments: Vec<Assignment>,
    },
    /// Ask an agent for a fresh sample, now.
    ProbeNow {
        /// The agent.
        host: HostName,
        /// Which probes.
        keys: Vec<ProbeKey>,
    },
    /// Ask an agent for the end of a log; the answer comes back as [`crate::Input::LogTail`].
    FetchLog {
        /// The agent.
        host: HostName,
        /// The `logMatch` probe that watches the log.
        probe: ProbeKey,
        /// How many lines.
        lines: u32,
        /// The message that the tail belongs to.
        message: MessageId,
    },
    /// Tell a contact; the result comes back as [`crate::Input::Delivered`].
    Notify {
        /// The message.
        message: Box<Message>,
    },
    /// End an agent's session: its certificate was revoked.
    Disconnect {
        /// The agent.
        host: HostName,
        /// Why.
        reason: String,
    },
    /// Tell an agent what changed in what it may believe: it takes in what was signed, in this order.
    Believe {
        /// The agent.
        host: HostName,
        /// The changes.
        changes: Vec<SignedDocument>,
    },
    /// Call the engine with [`crate::Input::Tick`] at this time at the latest. The last one of a step counts.
    WakeAt(Timestamp),
}
