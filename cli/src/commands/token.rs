//! `quell token`: join strings. They are composed here, at the operator's end.

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use quell_link::join::JoinString;
use quell_model::digest::Digest;
use quell_wire::v1::{CreateTokenRequest, CreateTokenResponse};

use crate::{connect::Context, error::Error, exit::Exit, output, settings, shown::Shown};

/// Keys of an allow-list that a join string may carry.
const ALLOWED: [&str; 7] = ["actions", "services", "paths", "reclaim", "programs", "addresses", "environment"];

/// What is done with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Make a join string: the one argument of `quell-agent join`. It is shown once.
    Create(Create),
}

/// What a token grants.
#[derive(Debug, Clone, Args)]
pub struct Create {
    /// How long it can be used; at most 7d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = settings::span)]
    pub ttl: Duration,
    /// How often it can be used.
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub uses: u32,
    /// A label of the hosts that join with it; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = settings::pair)]
    pub label: Vec<(String, String)>,
    /// The only name that may join.
    #[arg(long, value_name = "HOST", default_value = "")]
    pub name: String,
    /// An entry of the first allow-list, by the keys of agent.toml: actions=service.restart; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = allowed)]
    pub allow: Vec<(String, String)>,
}

fn allowed(text: &str) -> Result<(String, String), String> {
    let (key, value) = settings::pair(text)?;
    if ALLOWED.contains(&key.as_str()) {
        return Ok((key, value));
    }
    Err(format!("{key} is no key of the allow-list: write one of {}", ALLOWED.join(", ")))
}

/// Makes a token and prints the join string alone.
///
/// # Errors
/// The controller's refusal, or the connection's.
pub async fn run(command: &Command, context: &Context) -> Result<Exit, Error> {
    let Command::Create(arguments) = command;
    let labels = settings::map(&arguments.label)?;
    let request = CreateTokenRequest {
        ttl_ms: settings::milliseconds(arguments.ttl),
        uses: arguments.uses,
        labels: labels.clone(),
        name: arguments.name.clone(),
    };
    let mut client = context.client().await?;
    // Whom the host will believe is what this profile believes, not what the controller says.
    let trust = Shown::ask(&mut client, context, Timestamp::now()).await?.believed.digest();
    let answer = client.create_token(request).await?.into_inner();
    let id = answer.token_id.clone();
    let text = compose(answer, trust, labels, &arguments.allow)?.to_string();
    if context.format.is_data() {
        output::data(context.format, &serde_json::json!({ "id": id, "join": text }))?;
    } else {
        output::line(&text)?;
    }
    Ok(Exit::Done)
}

fn compose(
    answer: CreateTokenResponse,
    trust: Digest,
    labels: BTreeMap<String, String>,
    allow: &[(String, String)],
) -> Result<JoinString, Error> {
    let ca_fingerprint = answer
        .ca_fingerprint
        .parse()
        .map_err(|error| Error::Failed(format!("the controller's answer holds no fingerprint of its CA: {error}")))?;
    let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in allow {
        lists.entry(key.clone()).or_default().push(value.clone());
    }
    Ok(JoinString { addresses: answer.addresses, ca_fingerprint, trust, secret: answer.secret, labels, allow: lists })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_join_string_says_what_the_operator_said() {
        let answer = CreateTokenResponse {
            secret: "s".repeat(43),
            token_id: "tok-1".to_owned(),
            addresses: vec!["127.0.0.1:7443".to_owned()],
            ca_fingerprint: "ab".repeat(32),
        };
        let labels = BTreeMap::from([("role".to_owned(), "orders".to_owned())]);
        let allow =
            [allowed("actions=exec").unwrap(), allowed("actions=log.rotate").unwrap(), allowed("paths=/a=b").unwrap()];
        let join = compose(answer.clone(), Digest::of(b"root"), labels.clone(), &allow).unwrap();
        assert_eq!(join.labels, labels);
        assert_eq!(join.allow["actions"], ["exec", "log.rotate"]);
        assert_eq!(join.allow["paths"], ["/a=b"]);
        assert_eq!(join.to_string().parse::<JoinString>().unwrap(), join);
        assert!(
            compose(
                CreateTokenResponse { ca_fingerprint: "short".to_owned(), ..answer },
                Digest::of(b"root"),
                labels,
                &[]
            )
            .is_err()
        );
        assert!(allowed("everything=yes").is_err());
    }
}
