//! What the controller shows of what is signed, checked against the profile and what it has seen before.

use jiff::Timestamp;
use quell_link::profile::Profile;
use quell_model::trust::{Believed, PolicySet};
use quell_wire::v1::{GetSetsRequest, GetSetsResponse, SignedSet};

use crate::{
    connect::{Client, Context},
    error::Error,
    memory::Memory,
    output,
    sets::Current,
    signing,
};

/// What the controller shows.
#[derive(Debug)]
pub struct Shown {
    /// The operator's profile.
    pub profile: Profile,
    /// What it has seen, this time included.
    pub memory: Memory,
    /// Whom the operator believes.
    pub believed: Believed,
    answer: GetSetsResponse,
}

impl Shown {
    /// Asks the controller, and remembers the newest trust root.
    ///
    /// # Errors
    /// The controller's refusal, or the connection's; or it shows another root than the profile believes, or an older one
    /// than it has seen.
    pub async fn ask(client: &mut Client, context: &Context, now: Timestamp) -> Result<Self, Error> {
        let (profile, mut memory) = context.profile_and_memory()?;
        let answer = client.get_sets(GetSetsRequest {}).await?.into_inner();
        let (believed, roots) = signing::believed(&profile, &memory, &answer.trust, now)?;
        kept(memory.remember_roots(roots));
        Ok(Self { profile, memory, believed, answer })
    }

    /// What is in force; the signed sets of it are remembered.
    ///
    /// # Errors
    /// The answer is not what this version understands.
    pub fn current(&mut self, now: Timestamp) -> Result<Current, Error> {
        let current = Current::read(&self.answer, &self.believed, &self.memory, now)?;
        kept(self.memory.remember_sets(current.signed(), now));
        Ok(current)
    }

    /// Remembers sets that the controller has put in force.
    pub fn taken(&mut self, sets: &[SignedSet], now: Timestamp) {
        let sets: Vec<_> = sets.iter().filter_map(|set| PolicySet::parse(&set.policy_set).ok()).collect();
        kept(self.memory.remember_sets(&sets, now));
    }
}

/// A profile in a place that cannot be written to is still good for signing, but forgets.
fn kept(remembered: Result<(), Error>) {
    if let Err(error) = remembered {
        output::warning(&format!("{error}; an older state that the controller may show is not noticed then"));
    }
}
