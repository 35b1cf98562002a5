//! The way to the controller: which profile, and the client that it gives.

use std::path::{Path, PathBuf};

use quell_link::{MESSAGE_BYTES, files, profile::Profile, rpc::operator_service_client::OperatorServiceClient};
use quell_wire::v1::{GetRequest, GetResponse};
use tonic::transport::Channel;

use crate::{error::Error, kind::Kind, memory::Memory, output::Format};

/// Largest answer that is taken, bytes: lists come in pages, but one thing with a long story is one message.
const ANSWER_BYTES: usize = 16 * MESSAGE_BYTES;

/// The controller's operator service.
pub type Client = OperatorServiceClient<Channel>;

/// What holds for every command.
#[derive(Debug, Clone)]
pub struct Context {
    /// The profile that was named, on the command line or in `QUELL_PROFILE`.
    pub profile: Option<PathBuf>,
    /// How the answer looks.
    pub format: Format,
}

impl Context {
    /// Reads the profile.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn profile(&self) -> Result<Profile, Error> {
        Self::load(&self.place()?)
    }

    /// Reads the profile, and what it has seen.
    ///
    /// # Errors
    /// There is none, or one of the two cannot be used.
    pub fn profile_and_memory(&self) -> Result<(Profile, Memory), Error> {
        let place = self.place()?;
        let profile = Self::load(&place)?;
        let memory = Memory::of(&place, &profile.installation)?;
        Ok((profile, memory))
    }

    fn place(&self) -> Result<PathBuf, Error> {
        match &self.profile {
            Some(path) => Ok(path.clone()),
            None => default_profile(&configuration_directory()?),
        }
    }

    fn load(path: &Path) -> Result<Profile, Error> {
        Profile::load(path).map_err(|error| {
            // Of the other ones nothing but another file helps; this one says itself what does.
            let remedy = match error {
                files::Error::Exposed { .. } => "",
                _ => "; name another with --profile or QUELL_PROFILE, or ask an administrator for a new one",
            };
            Error::Usage(format!("the profile cannot be used: {error}{remedy}"))
        })
    }

    /// Connects with the profile.
    ///
    /// # Errors
    /// There is no usable profile, or the controller cannot be reached or refuses it.
    pub async fn client(&self) -> Result<Client, Error> {
        let channel = self.profile()?.connect().await?;
        Ok(OperatorServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES))
    }
}

/// Asks for the things of a kind that have a name; none is an answer too.
///
/// # Errors
/// The controller's refusal, or the connection's.
pub async fn get(client: &mut Client, kind: Kind, name: &str) -> Result<GetResponse, Error> {
    let request =
        GetRequest { kind: kind.as_str().to_owned(), name: name.to_owned(), all: true, ..GetRequest::default() };
    match pages(client, request).await {
        Err(status) if status.code() == tonic::Code::NotFound => Ok(GetResponse::default()),
        answer => Ok(answer?),
    }
}

/// Asks for a whole list, page after page.
///
/// # Errors
/// The controller's refusal, or the connection's.
pub async fn list(client: &mut Client, request: GetRequest) -> Result<GetResponse, Error> {
    Ok(pages(client, request).await?)
}

async fn pages(client: &mut Client, mut request: GetRequest) -> Result<GetResponse, tonic::Status> {
    let mut whole = GetResponse::default();
    loop {
        let page = client.get(request.clone()).await?.into_inner();
        let token = append(&mut whole, page);
        if token.is_empty() {
            return Ok(whole);
        }
        if token == request.page_token {
            return Err(tonic::Status::internal("the controller answers with the same page again and again"));
        }
        request.page_token = token;
    }
}

/// The next whole list of a watch, whose pages come one after another; absent when the watch has ended.
///
/// # Errors
/// The controller's refusal, or the connection's.
pub async fn next_list(watch: &mut tonic::Streaming<GetResponse>) -> Result<Option<GetResponse>, Error> {
    let mut whole = GetResponse::default();
    while let Some(page) = watch.message().await? {
        if append(&mut whole, page).is_empty() {
            return Ok(Some(whole));
        }
    }
    Ok(None)
}

/// Adds a page to what came before it, and says what asks for the next one.
fn append(whole: &mut GetResponse, page: GetResponse) -> String {
    let GetResponse {
        hosts,
        policies,
        incidents,
        plans,
        holds,
        windows,
        alerts,
        tokens,
        operators,
        manifests,
        next_page_token,
    } = page;
    whole.hosts.extend(hosts);
    whole.policies.extend(policies);
    whole.incidents.extend(incidents);
    whole.plans.extend(plans);
    whole.holds.extend(holds);
    whole.windows.extend(windows);
    whole.alerts.extend(alerts);
    whole.tokens.extend(tokens);
    whole.operators.extend(operators);
    whole.manifests.extend(manifests);
    next_page_token
}

fn configuration_directory() -> Result<PathBuf, Error> {
    let named = std::env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
    named.or_else(home).map(|path| path.join("quell")).ok_or_else(|| {
        Error::Usage("no profile: name one with --profile or QUELL_PROFILE (HOME is not set either)".to_owned())
    })
}

/// The profile in `~/.config/quell`: `profile.toml`, or the only one there; or that path itself when it is a file.
fn default_profile(place: &Path) -> Result<PathBuf, Error> {
    if place.is_file() {
        return Ok(place.to_owned());
    }
    let named = place.join("profile.toml");
    if named.is_file() {
        return Ok(named);
    }
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut profiles: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    profiles.sort();
    match profiles.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Error::Usage(format!(
            "no profile: name one with --profile or QUELL_PROFILE, or put it at {}; `quell-controller init` made the first \
             one and `quell operator create` makes more",
            named.display()
        ))),
        several => Err(Error::Usage(format!(
            "{} profiles are in {}: name one with --profile or QUELL_PROFILE, or call one profile.toml",
            several.len(),
            place.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_is_found() {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path().join("quell");
        assert!(default_profile(&place).unwrap_err().to_string().contains("QUELL_PROFILE"));
        std::fs::create_dir(&place).unwrap();
        assert!(default_profile(&place).is_err());
        std::fs::write(place.join("notes.txt"), "").unwrap();
        std::fs::write(place.join("shop.toml"), "").unwrap();
        assert_eq!(default_profile(&place).unwrap(), place.join("shop.toml"));
        std::fs::write(place.join("other.toml"), "").unwrap();
        assert!(default_profile(&place).unwrap_err().to_string().contains("2 profiles"));
        std::fs::write(place.join("profile.toml"), "").unwrap();
        assert_eq!(default_profile(&place).unwrap(), place.join("profile.toml"));
        let file = scratch.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(default_profile(&file).unwrap(), file);
    }
}
