//! Approvals: what people sign to let one exact plan be carried out.
//!
//! What is signed, in namespace `quell-approval.ROLE`, is the canonical JSON `{"choice":…,"expires":…,"plan":…}`: one of
//! the choices of the policy's rule, until when it is good, and the plan's hash in hexadecimal. So a vote is for that
//! plan, those hosts and those values, and for no other; and whoever keeps it back cannot use it later.

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    Believed, Denied, Lacking, approval_namespace, document,
    signers::{self, Signer},
};
use crate::digest::Digest;

/// The role that approves what a policy proposes without a rule of its own: any operator.
pub const ANY_OPERATOR: &str = "operator";
/// The choice that denies.
pub const REJECT: &str = "reject";
/// Votes that are looked at under one plan.
const MOST: usize = 128;

/// What an approver signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ballot {
    /// One of the choices of the rule.
    pub choice: String,
    /// From when on no host begins anything by it.
    pub expires: Timestamp,
    /// The hash of the plan.
    pub plan: Digest,
}

impl Ballot {
    /// Its canonical bytes: what is signed.
    pub fn canonical(&self) -> String {
        document::write(self)
    }
}

/// A signature over a [`Ballot`], with what of it is not known otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Until when the ballot is good; absent: it was made before ballots had an end, and counts for nobody.
    pub expires: Option<Timestamp>,
    /// The armoured signature.
    pub signature: String,
}

/// A signed vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// What was chosen.
    pub choice: String,
    /// The signature for it.
    pub signed: Signed,
}

/// Who is asked about a plan.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The role that answers.
    pub role: &'a str,
    /// The plan.
    pub plan: Digest,
    /// Who asked for the plan, and may therefore not answer.
    pub requester: Option<&'a str>,
}

/// The distinct people who validly made a choice, and why other votes for it do not count. The requester is nobody,
/// under any name and pattern that `allowed_signers` gives to the key.
///
/// # Errors
/// There are more votes than are looked at.
pub fn count(
    root: &Believed,
    question: &Question<'_>,
    choice: &str,
    votes: &[Vote],
    now: Timestamp,
    zone: &TimeZone,
) -> Result<Counted, Denied> {
    if votes.len() > MOST {
        return Err(Denied::TooMany { what: "votes", found: votes.len(), most: MOST });
    }
    let namespace = approval_namespace(question.role);
    let verify = |signed: &Signed| {
        let expires = signed.expires.ok_or(signers::Refused::Endless)?;
        let ballot = Ballot { choice: choice.to_owned(), expires, plan: question.plan }.canonical();
        let signer = root.signers().verify(&namespace, ballot.as_bytes(), &signed.signature, now, zone)?;
        if now < expires { Ok(signer) } else { Err(signers::Refused::Over { expires, now }) }
    };
    let (mut people, mut refused) = (Vec::new(), Vec::new());
    for vote in votes.iter().filter(|vote| vote.choice == choice) {
        match verify(&vote.signed) {
            Ok(signer) => people.push(signer),
            Err(why) => refused.push(why),
        }
    }
    let asked = |signer: &Signer| {
        question.requester.is_some_and(|name| signer.principal == name || root.signers().is_key_of(&signer.key, name))
    };
    people.retain(|signer| !asked(signer));
    Ok(Counted { people: signers::distinct(people), refused })
}

/// Who counts, and what does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Distinct people.
    pub people: Vec<Signer>,
    /// Why other votes count for nobody.
    pub refused: Vec<signers::Refused>,
}

/// The first of some choices for which enough people voted; a rejection is none.
///
/// # Errors
/// There is none.
pub(super) fn decided<'c>(
    root: &Believed,
    question: &Question<'_>,
    choices: &'c [String],
    needed: u32,
    votes: &[Vote],
    now: Timestamp,
    zone: &TimeZone,
) -> Result<&'c str, Denied> {
    let mut best = Counted { people: Vec::new(), refused: Vec::new() };
    for choice in choices.iter().filter(|choice| *choice != REJECT) {
        let counted = count(root, question, choice, votes, now, zone)?;
        if counted.people.len() >= needed as usize {
            return Ok(choice);
        }
        best.refused.extend(counted.refused);
        if counted.people.len() > best.people.len() {
            best.people = counted.people;
        }
    }
    let lacking = Lacking {
        namespace: approval_namespace(question.role),
        needed,
        found: best.people.into_iter().map(|signer| signer.principal).collect(),
        refused: best.refused,
    };
    Err(Denied::NotApproved { plan: question.plan, lacking })
}
