//! Rows and tables: how typed rows become the JSON writes that are recorded and stored, and back.

use std::sync::Arc;

use imbl::OrdMap;
use quell_model::{
    name::{FullName, HostName, Target},
    policy::{Manifest, Policy},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Write,
    id::{CommandId, IncidentId, MessageId, PlanId, TokenId, WindowId},
    state::{
        AlertRow, BreakerRow, CommandRow, CommandState, ExternalRow, HostRow, IncidentRow, LedgerRow, Live, Message,
        MessageState, Meta, OnceRow, OperatorRow, PlanRow, ScheduleRow, SetRow, ShadowRow, State, StoredManifest,
        Table, TokenRow, TrustRow, VerdictRow, WindowRow,
    },
};

/// Why a write could not be applied: the log or the view is damaged, or newer than this program.
#[derive(Debug, thiserror::Error)]
#[error("row {key:?} of table {table:?} cannot be read: {reason}")]
pub struct Unreadable {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// A key of a table, and its text.
pub trait Key: Ord + Clone {
    /// The key as it is stored.
    fn text(&self) -> String;
    /// Reads a stored key.
    ///
    /// # Errors
    /// What is wrong with the text.
    fn parse(text: &str) -> Result<Self, String>;
}

macro_rules! plain_key {
    ($($type:ty),*) => {
        $(impl Key for $type {
            fn text(&self) -> String {
                self.to_string()
            }

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error| format!("{error}"))
            }
        })*
    };
}
plain_key!(u64, HostName, FullName, String, TokenId, IncidentId, PlanId, CommandId, WindowId, MessageId);

/// Splits at the first separator.
fn halves(text: &str, separator: char) -> Result<(&str, &str), String> {
    text.split_once(separator).ok_or_else(|| format!("{text:?} has no {separator:?}"))
}

/// A policy and its target: `plants/orders planthost1`.
impl Key for (FullName, Target) {
    fn text(&self) -> String {
        format!("{} {}", self.0, self.1)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (policy, target) = halves(text, ' ')?;
        Ok((FullName::parse(policy)?, target.parse().map_err(|error| format!("{error}"))?))
    }
}

/// A policy and what it may do only once.
impl Key for (FullName, String) {
    fn text(&self) -> String {
        format!("{} {}", self.0, self.1)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (policy, key) = halves(text, ' ')?;
        Ok((FullName::parse(policy)?, key.to_owned()))
    }
}

/// A manifest's kind and name: `Policy/plants/orders`.
impl Key for (String, FullName) {
    fn text(&self) -> String {
        format!("{}/{}", self.0, self.1)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = halves(text, '/')?;
        Ok((kind.to_owned(), FullName::parse(name)?))
    }
}

/// A row of one table.
pub trait Row: Serialize + DeserializeOwned + PartialEq {
    /// Its table.
    const TABLE: Table;
    /// Its key.
    type Key: Key;
    /// The table in a state.
    fn rows(state: &State) -> &OrdMap<Self::Key, Arc<Self>>;
    /// The table in a state, to be changed.
    fn rows_mut(state: &mut State) -> &mut OrdMap<Self::Key, Arc<Self>>;
    /// Keeps what follows from the rows.
    fn follow(_live: &mut Live, _key: &Self::Key, _old: Option<&Self>, _new: Option<&Self>) {}
}

macro_rules! row {
    ($type:ty, $table:ident, $field:ident, $key:ty $(, $follow:expr)?) => {
        impl Row for $type {
            const TABLE: Table = Table::$table;
            type Key = $key;

            fn rows(state: &State) -> &OrdMap<$key, Arc<Self>> {
                &state.$field
            }

            fn rows_mut(state: &mut State) -> &mut OrdMap<$key, Arc<Self>> {
                &mut state.$field
            }

            $(fn follow(live: &mut Live, key: &$key, old: Option<&Self>, new: Option<&Self>) {
                let follow: fn(&mut Live, &$key, Option<&Self>, Option<&Self>) = $follow;
                follow(live, key, old, new);
            })?
        }
    };
}

row!(StoredManifest, Manifests, manifests, (String, FullName));
row!(HostRow, Hosts, hosts, HostName);
row!(OperatorRow, Operators, operators, String);
row!(TokenRow, Tokens, tokens, TokenId);
row!(AlertRow, Alerts, alerts, (FullName, Target));
row!(IncidentRow, Incidents, incidents, IncidentId, |live, id, old, new| {
    mark(&mut live.incidents, *id, new.is_some_and(IncidentRow::is_open));
    match new {
        Some(row) if old.is_none() => {
            let newest = live.latest.entry((row.problem.clone(), row.target.clone())).or_insert(*id);
            *newest = (*newest).max(*id);
        }
        Some(_) => {}
        None => {
            if let Some(row) = old {
                let key = (row.problem.clone(), row.target.clone());
                if live.latest.get(&key) == Some(id) {
                    live.latest.remove(&key);
                }
            }
        }
    }
});
row!(PlanRow, Plans, plans, PlanId, |live, id, _, new| {
    mark(&mut live.plans, *id, new.is_some_and(|row| !row.state.has_ended()));
});
row!(CommandRow, Commands, commands, CommandId, |live, id, _, new| {
    mark(&mut live.commands, *id, new.is_some_and(|row| matches!(row.state, CommandState::Sent | CommandState::Begun)));
});
row!(WindowRow, Windows, windows, WindowId);
row!(Message, Messages, messages, MessageId, |live, id, _, new| {
    mark(&mut live.messages, *id, new.is_some_and(|row| row.state == MessageState::Waiting));
});
row!(LedgerRow, Ledger, ledger, CommandId);
row!(BreakerRow, Breakers, breakers, FullName);
row!(VerdictRow, Verdicts, verdicts, (FullName, Target));
row!(OnceRow, Onces, onces, (FullName, String));
row!(ScheduleRow, Schedules, schedules, (FullName, Target));
row!(TrustRow, Trust, trust, u64);
row!(SetRow, Sets, sets, String);
row!(ShadowRow, Shadows, shadows, (FullName, String));
row!(ExternalRow, Externals, externals, (FullName, Target));

/// Puts a member in or takes it out.
fn mark<T: Ord + Clone>(set: &mut imbl::OrdSet<T>, member: T, is_in: bool) {
    if is_in {
        set.insert(member);
    } else {
        set.remove(&member);
    }
}

/// Hands every table but that of the counters to a macro: row, name, field.
macro_rules! tables {
    ($with:ident) => {
        $with! {
            StoredManifest Manifests manifests
            HostRow Hosts hosts
            OperatorRow Operators operators
            TokenRow Tokens tokens
            AlertRow Alerts alerts
            IncidentRow Incidents incidents
            PlanRow Plans plans
            CommandRow Commands commands
            WindowRow Windows windows
            Message Messages messages
            LedgerRow Ledger ledger
            BreakerRow Breakers breakers
            VerdictRow Verdicts verdicts
            OnceRow Onces onces
            ScheduleRow Schedules schedules
            TrustRow Trust trust
            SetRow Sets sets
            ShadowRow Shadows shadows
            ExternalRow Externals externals
        }
    };
}

/// The key of the one row of the table of counters.
const META: &str = "meta";

impl State {
    /// Puts a row, or removes it.
    pub fn put<R: Row>(&mut self, key: R::Key, row: Option<Arc<R>>) {
        let old = R::rows(self).get(&key).cloned();
        R::follow(&mut self.live, &key, old.as_deref(), row.as_deref());
        match row {
            Some(row) => R::rows_mut(self).insert(key, row),
            None => R::rows_mut(self).remove(&key),
        };
    }

    fn apply_row<R: Row>(&mut self, write: &Write) -> Result<(), Unreadable> {
        let key = R::Key::parse(&write.key).map_err(|reason| unreadable(write, &reason))?;
        let row = match &write.row {
            Some(json) => Some(Arc::new(R::deserialize(json).map_err(|error| unreadable(write, &error.to_string()))?)),
            None => None,
        };
        self.put(key, row);
        Ok(())
    }

    fn write_rows<R: Row>(&self, writes: &mut Vec<Write>) {
        writes.extend(R::rows(self).iter().map(|(key, row)| row_write::<R>(key, Some(row))));
    }

    /// Whether this is the very same state: a copy in which nothing was put.
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_same_copy(other) || self.shares_tables(other)
    }

    /// A policy that is in force.
    pub fn policy(&self, name: &FullName) -> Option<&Policy> {
        match &self.manifests.get(&("Policy".to_owned(), name.clone()))?.manifest {
            Manifest::Policy(policy) => Some(policy),
            _ => None,
        }
    }

    /// The canonical JSON of a policy that is in force: what agents read.
    pub fn policy_canonical(&self, name: &FullName) -> Option<&str> {
        self.manifests.get(&("Policy".to_owned(), name.clone())).map(|stored| stored.canonical.as_str())
    }
}

/// What is done to every table alike.
macro_rules! over_tables {
    ($($row:ident $table:ident $field:ident)*) => {
        impl State {
            /// Applies one write of a committed change.
            ///
            /// # Errors
            /// The row is not one that this version knows.
            pub fn apply(&mut self, write: &Write) -> Result<(), Unreadable> {
                match write.table {
                    Table::Meta => {
                        let row = write.row.clone().unwrap_or_default();
                        let meta = serde_json::from_value(row).map_err(|error| unreadable(write, &error.to_string()))?;
                        self.meta = Arc::new(meta);
                        Ok(())
                    }
                    $(Table::$table => self.apply_row::<$row>(write),)*
                }
            }

            /// Every row as a write: what a checkpoint holds.
            pub fn rows(&self) -> Vec<Write> {
                let mut writes = vec![meta_write(&self.meta)];
                $(self.write_rows::<$row>(&mut writes);)*
                writes
            }

            fn shares_tables(&self, other: &Self) -> bool {
                self.meta == other.meta $(&& self.$field.ptr_eq(&other.$field))*
            }

            /// Whether every row says the same.
            pub fn says_the_same(&self, other: &Self) -> bool {
                self.meta == other.meta $(&& same_rows::<$row>(self, other))*
            }
        }
    };
}
tables!(over_tables);

/// Whether two states say the same in one table; rows that they share are not looked into.
fn same_rows<R: Row>(one: &State, other: &State) -> bool {
    let (one, other) = (R::rows(one), R::rows(other));
    one.ptr_eq(other) || one.diff(other).next().is_none()
}

fn unreadable(write: &Write, reason: &str) -> Unreadable {
    Unreadable { table: write.table, key: write.key.clone(), reason: reason.to_owned() }
}

/// The write that makes a row so.
pub(crate) fn row_write<R: Row>(key: &R::Key, row: Option<&R>) -> Write {
    // Rows are plain data with text keys: serialising them cannot fail, and a null would be refused when it is read.
    let json = row.map(|row| serde_json::to_value(row).unwrap_or_default());
    Write { table: R::TABLE, key: key.text(), row: json }
}

/// The write that makes the counters so.
pub(crate) fn meta_write(meta: &Meta) -> Write {
    Write { table: Table::Meta, key: META.to_owned(), row: Some(serde_json::to_value(meta).unwrap_or_default()) }
}
