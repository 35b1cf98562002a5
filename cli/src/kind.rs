//! Kinds of things that can be listed.

use clap::ValueEnum;

/// A kind, as it is typed; singular forms and abbreviations are understood too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Hosts, each with an agent.
    #[value(alias = "host")]
    Hosts,
    /// Policies.
    #[value(alias = "policy")]
    Policies,
    /// Incidents; resolved ones with --all.
    #[value(alias = "incident")]
    Incidents,
    /// Plans; ended ones with --all.
    #[value(alias = "plan")]
    Plans,
    /// Plans that wait for an approval.
    #[value(alias = "approval")]
    Approvals,
    /// What should be done and is not, and why.
    #[value(alias = "hold")]
    Holds,
    /// Silences, freezes, maintenances and holds that people made.
    #[value(alias = "window")]
    Windows,
    /// Alerts: policy and target.
    #[value(alias = "alert")]
    Alerts,
    /// Join tokens that can still be used.
    #[value(alias = "token")]
    Tokens,
    /// Operators.
    #[value(alias = "operator")]
    Operators,
    /// Services.
    #[value(alias = "service")]
    Services,
    /// Calendars.
    #[value(alias = "calendar")]
    Calendars,
    /// Contacts.
    #[value(alias = "contact")]
    Contacts,
    /// Ceilings over namespaces.
    #[value(alias = "limit")]
    Limits,
}

impl Kind {
    /// As the controller is asked.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hosts => "hosts",
            Self::Policies => "policies",
            Self::Incidents => "incidents",
            Self::Plans => "plans",
            Self::Approvals => "approvals",
            Self::Holds => "holds",
            Self::Windows => "windows",
            Self::Alerts => "alerts",
            Self::Tokens => "tokens",
            Self::Operators => "operators",
            Self::Services => "services",
            Self::Calendars => "calendars",
            Self::Contacts => "contacts",
            Self::Limits => "limits",
        }
    }
}
