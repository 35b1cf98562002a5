//! Who may call what: one table, asked before any handler runs; what is not in it is refused.

use jiff::Timestamp;
use quell_model::name::HostName;
use tonic::{Request, Status};

use crate::{
    identity::{Peer, Role},
    server::Gatekeeper,
};

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Anybody who reaches the port, without a certificate too.
    Anyone,
    /// An enrolled agent, also with a certificate that has ended within [`crate::RENEWAL_GRACE`].
    LateAgent,
    /// An enrolled agent with a current certificate.
    Agent,
    /// An operator with a current certificate, one of whose roles gives this right.
    Operator(Right),
    /// A program with an operator's current certificate and the role [`ALERT_SOURCE`].
    AlertSource,
}

/// The role of a program that tells of alerts, and the only one that may. By itself it gives no [`Right`].
pub const ALERT_SOURCE: &str = "alert-source";

/// Where Alertmanager posts its alerts, over HTTP: a call like the others, to whoever asks this table.
pub const ALERTMANAGER: &str = "/alerts/alertmanager";

/// What an operator's roles permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// See.
    Read,
    /// Approve and deny plans; which plans, the plan says.
    Decide,
    /// Apply manifests, run actions and call them off, hold and release.
    Act,
    /// Admit and remove hosts and operators.
    Administer,
}

impl Right {
    /// The highest right that a role gives; every right includes the ones before it. A role that Quell does not know is
    /// one that approvals ask for ("compliance"): it may see and decide.
    fn of_role(role: &str) -> Option<Self> {
        match role {
            "viewer" => Some(Self::Read),
            "operator" => Some(Self::Act),
            "admin" => Some(Self::Administer),
            ALERT_SOURCE => None,
            _ => Some(Self::Decide),
        }
    }

    /// Whether these roles give this right. No role gives none.
    pub fn is_given_by(self, roles: &[String]) -> bool {
        roles.iter().any(|role| Self::of_role(role) >= Some(self))
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The call, as it stands in the request's path: `/package.Service/Method`.
    pub path: &'static str,
    /// Who may make it.
    pub caller: Caller,
}

const fn rule(path: &'static str, caller: Caller) -> Rule {
    Rule { path, caller }
}

/// Every call that can be made, and by whom.
pub const TABLE: &[Rule] = &[
    rule("/quell.v1.EnrolmentService/Join", Caller::Anyone),
    rule("/quell.v1.EnrolmentService/Renew", Caller::LateAgent),
    rule("/quell.v1.AgentService/Session", Caller::Agent),
    rule("/quell.v1.OperatorService/Get", Caller::Operator(Right::Read)),
    rule("/quell.v1.OperatorService/Status", Caller::Operator(Right::Read)),
    rule("/quell.v1.OperatorService/Why", Caller::Operator(Right::Read)),
    rule("/quell.v1.OperatorService/Events", Caller::Operator(Right::Read)),
    rule("/quell.v1.OperatorService/Audit", Caller::Operator(Right::Read)),
    rule("/quell.v1.OperatorService/Watch", Caller::Operator(Right::Read)),
    rule("/quell.v1.OperatorService/GetSets", Caller::Operator(Right::Read)),
    rule("/quell.v1.OperatorService/Approve", Caller::Operator(Right::Decide)),
    rule("/quell.v1.OperatorService/Deny", Caller::Operator(Right::Decide)),
    rule("/quell.v1.OperatorService/Apply", Caller::Operator(Right::Act)),
    rule("/quell.v1.OperatorService/Run", Caller::Operator(Right::Act)),
    rule("/quell.v1.OperatorService/CancelPlan", Caller::Operator(Right::Act)),
    rule("/quell.v1.OperatorService/Annotate", Caller::Operator(Right::Act)),
    rule("/quell.v1.OperatorService/Hold", Caller::Operator(Right::Act)),
    rule("/quell.v1.OperatorService/Release", Caller::Operator(Right::Act)),
    rule("/quell.v1.OperatorService/ResetBreaker", Caller::Operator(Right::Act)),
    rule("/quell.v1.OperatorService/ChangeTrust", Caller::Operator(Right::Administer)),
    rule("/quell.v1.OperatorService/CreateToken", Caller::Operator(Right::Administer)),
    rule("/quell.v1.OperatorService/ChangeHost", Caller::Operator(Right::Administer)),
    rule("/quell.v1.OperatorService/CreateOperator", Caller::Operator(Right::Administer)),
    rule("/quell.v1.OperatorService/RevokeOperator", Caller::Operator(Right::Administer)),
    rule(ALERTMANAGER, Caller::AlertSource),
    rule("/grpc.health.v1.Health/Check", Caller::Anyone),
    rule("/grpc.health.v1.Health/Watch", Caller::Operator(Right::Read)),
    rule("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Caller::Operator(Right::Read)),
    rule("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Caller::Operator(Right::Read)),
];

/// Decides whether a peer may make a call.
///
/// # Errors
/// What the caller is told: `unauthenticated` when it should show another certificate, `permission denied` when a
/// better one would not help.
pub fn check(path: &str, peer: &Peer, gatekeeper: &dyn Gatekeeper, now: Timestamp) -> Result<(), Status> {
    let Some(rule) = TABLE.iter().find(|rule| rule.path == path) else {
        return Err(Status::permission_denied(format!("{path} is not a call that anybody may make")));
    };
    let late_is_fine = match (rule.caller, &peer.role) {
        (Caller::Anyone, _) => return Ok(()),
        (Caller::LateAgent, Some(Role::Agent { .. })) => true,
        (Caller::Agent, Some(Role::Agent { .. }))
        | (Caller::Operator(_) | Caller::AlertSource, Some(Role::Operator { .. })) => false,
        (wanted, shown) => return Err(wrong_kind(path, wanted, shown.as_ref())),
    };
    if peer.is_expired(now) && !late_is_fine {
        return Err(expired(peer));
    }
    gatekeeper.admit(peer).map_err(Status::permission_denied)?;
    let Some(Role::Operator { name }) = &peer.role else { return Ok(()) };
    let roles = gatekeeper.roles(name);
    let is_given = match rule.caller {
        Caller::Operator(right) => right.is_given_by(&roles),
        Caller::AlertSource => roles.iter().any(|role| role == ALERT_SOURCE),
        Caller::Anyone | Caller::LateAgent | Caller::Agent => true,
    };
    if is_given { Ok(()) } else { Err(lacks(path, rule.caller, name, &roles)) }
}

fn wrong_kind(path: &str, wanted: Caller, shown: Option<&Role>) -> Status {
    let method = method(path);
    let is_operator = matches!(wanted, Caller::Operator(_) | Caller::AlertSource);
    let wanted = if is_operator { "an operator's" } else { "an agent's" };
    match shown {
        None => Status::unauthenticated(format!("{method} takes {wanted} certificate, and the caller showed none")),
        Some(role) => Status::permission_denied(format!(
            "{method} takes {wanted} certificate, and the caller's is that of {role}"
        )),
    }
}

fn expired(peer: &Peer) -> Status {
    let (who, remedy) = match &peer.role {
        Some(role @ Role::Agent { .. }) => (role.to_string(), "the agent renews it by itself within 30 days"),
        Some(role) => (role.to_string(), "an administrator issues a new one"),
        None => ("the caller".to_owned(), "show another"),
    };
    let end = peer.not_after.map_or_else(String::new, |end| format!(" on {end:.0}"));
    Status::unauthenticated(format!("the certificate of {who} ended{end}: {remedy}"))
}

fn lacks(path: &str, wanted: Caller, name: &str, roles: &[String]) -> Status {
    let needed = match wanted {
        Caller::Operator(Right::Read) => "viewer, operator or admin",
        Caller::Operator(Right::Decide) => "operator, admin or one that approvals ask for",
        Caller::Operator(Right::Act) => "operator or admin",
        Caller::Operator(Right::Administer) => "admin",
        Caller::AlertSource => ALERT_SOURCE,
        Caller::Anyone | Caller::LateAgent | Caller::Agent => "of another kind of caller",
    };
    let has = if roles.is_empty() { "none".to_owned() } else { roles.join(", ") };
    Status::permission_denied(format!("{} needs the role {needed}; operator {name} has {has}", method(path)))
}

fn method(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// An agent that made a call.
#[derive(Debug, Clone)]
pub struct AgentCaller {
    /// The host's name.
    pub name: HostName,
    /// The host's identifier.
    pub host_id: String,
    /// The connection.
    pub peer: Peer,
}

/// The agent behind a request.
///
/// # Errors
/// `unauthenticated`: the request did not come from an agent over [`crate::server::serve`].
pub fn require_agent<T>(request: &Request<T>) -> Result<AgentCaller, Status> {
    match request.extensions().get::<Peer>() {
        Some(peer) => match &peer.role {
            Some(Role::Agent { name, host_id }) => {
                Ok(AgentCaller { name: name.clone(), host_id: host_id.clone(), peer: peer.clone() })
            }
            shown => Err(wrong_kind("this call", Caller::Agent, shown.as_ref())),
        },
        None => Err(wrong_kind("this call", Caller::Agent, None)),
    }
}

/// An operator who made a call.
#[derive(Debug, Clone)]
pub struct OperatorCaller {
    /// The person's name.
    pub name: String,
    /// The connection.
    pub peer: Peer,
}

/// The operator behind a request.
///
/// # Errors
/// `unauthenticated`: the request did not come from an operator over [`crate::server::serve`].
pub fn require_operator<T>(request: &Request<T>) -> Result<OperatorCaller, Status> {
    let wanted = Caller::Operator(Right::Read);
    match request.extensions().get::<Peer>() {
        Some(peer) => match &peer.role {
            Some(Role::Operator { name }) => Ok(OperatorCaller { name: name.clone(), peer: peer.clone() }),
            shown => Err(wrong_kind("this call", wanted, shown.as_ref())),
        },
        None => Err(wrong_kind("this call", wanted, None)),
    }
}
