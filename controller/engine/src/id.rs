//! Numbers given out by counters in the state, and shown as `inc-42`.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $type:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(pub u64);

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&format!(concat!($prefix, "-{}"), self.0))
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{self}")
            }
        }

        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                text.strip_prefix(concat!($prefix, "-"))
                    .and_then(|number| number.parse().ok())
                    .map(Self)
                    .ok_or_else(|| format!(concat!("{:?} is not of the form ", $prefix, "-1"), text))
            }
        }

        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> Self {
                id.to_string()
            }
        }
    };
}

id!(
    /// An incident.
    IncidentId,
    "inc"
);
id!(
    /// A plan.
    PlanId,
    "plan"
);
id!(
    /// A command.
    CommandId,
    "cmd"
);
id!(
    /// A silence, freeze, maintenance window or hold that a person made.
    WindowId,
    "win"
);
id!(
    /// A message to a contact.
    MessageId,
    "msg"
);
id!(
    /// A join token.
    TokenId,
    "tok"
);
