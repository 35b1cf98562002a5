//! `log`: a line in the controller's own log.

use quell_model::policy::Channel;

use super::{Delivery, Notice, Notifier};

/// Writes notices to the log.
#[derive(Debug, Clone, Copy)]
pub struct Log;

impl Notifier for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn serves(&self, channel: &Channel) -> bool {
        matches!(channel, Channel::Log)
    }

    fn deliver<'a>(&'a self, _channel: &'a Channel, notice: &'a Notice) -> Delivery<'a> {
        let message = &notice.message;
        let incident = message.incident.map(|incident| incident.to_string());
        tracing::warn!(
            notice = %message.id,
            contact = %message.contact,
            severity = ?message.severity,
            incident,
            subject = message.subject,
            body = message.body,
            "a contact is told"
        );
        Box::pin(std::future::ready(Ok(())))
    }
}
