//! `webhook`: a POST of JSON.
//!
//! The host is resolved once, its addresses are judged, and the connection goes to one of those: a name that answers
//! differently the second time gains nothing. Redirects are not followed, proxies of the environment are not used, and
//! neither errors nor logs hold the URL's path, query or credentials, which are often secrets.
//!
//! A URL that is a secret stands in a file of its own, which is read for each delivery: it can be changed while the
//! controller runs, and is in no manifest, record or view.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use quell_link::files;
use quell_model::{
    name::ObjectName,
    policy::{Channel, Severity},
};
use reqwest::{Client, Url, redirect};
use rustls::RootCertStore;

use super::{Delivery, Error, Notice, Notifier, Rules};

/// Most addresses of one host that are tried.
const ADDRESSES: usize = 8;
/// Where the files with URLs lie, in the data directory.
const DIRECTORY: &str = "webhooks";

/// Posts notices.
#[derive(Debug)]
pub struct Webhook {
    urls: PathBuf,
    rules: Rules,
    tls: rustls::ClientConfig,
    within: Duration,
}

impl Webhook {
    /// With the secret URLs of this data directory, under these rules, to receivers whose certificates these authorities
    /// vouch for; each delivery takes at most this long.
    pub fn new(data_dir: &Path, rules: Rules, authorities: RootCertStore, within: Duration) -> Self {
        Self { urls: data_dir.join(DIRECTORY), rules, tls: tls(authorities), within }
    }

    /// The URL that a file holds.
    async fn secret(&self, file: &ObjectName) -> Result<String, Error> {
        let path = self.urls.join(file.as_str());
        let failed = |reason: String| Error::File { file: path.clone(), reason };
        let read = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || files::read_secret(&path)).await
        };
        let content = read.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
        // Its words must not be in the error.
        let text = String::from_utf8(content).map_err(|_| failed("it is not text".to_owned()))?;
        Ok(text.trim().to_owned())
    }

    async fn post(&self, url: &str, notice: &Notice) -> Result<(), Error> {
        let target = Target::parse(url)?;
        let addresses = self.resolve(&target).await?;
        let failed = |error: reqwest::Error| Error::Request { host: target.host.clone(), reason: reason(error) };
        let client = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(self.within)
            .resolve_to_addrs(&target.host, &addresses)
            .user_agent(concat!("quell-controller/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(failed)?;
        let key = format!("{}/{}", notice.installation, notice.message.id);
        let response = client
            .post(target.url.clone())
            .header("idempotency-key", key)
            .json(&body(notice))
            .send()
            .await
            .map_err(failed)?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(Error::Answer { host: target.host, status: status.as_u16() }) }
    }

    /// The addresses of the host, all of them allowed.
    async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, Error> {
        let failed = |reason: String| Error::Resolve { host: target.host.clone(), reason };
        let lookup = tokio::net::lookup_host((target.host.as_str(), target.port));
        let found = tokio::time::timeout(self.within, lookup)
            .await
            .map_err(|_| failed(format!("no answer within {:?}", self.within)))?
            .map_err(|error| failed(error.to_string()))?;
        let addresses: Vec<SocketAddr> = found.take(ADDRESSES).collect();
        for address in &addresses {
            if let Some(kind) = self.rules.forbids(address.ip()) {
                return Err(Error::Address { host: target.host.clone(), address: address.ip(), kind });
            }
        }
        if addresses.is_empty() { Err(failed("it has no address".to_owned())) } else { Ok(addresses) }
    }
}

impl Notifier for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn serves(&self, channel: &Channel) -> bool {
        matches!(channel, Channel::Webhook { .. } | Channel::SecretWebhook { .. })
    }

    fn deliver<'a>(&'a self, channel: &'a Channel, notice: &'a Notice) -> Delivery<'a> {
        Box::pin(async move {
            match channel {
                Channel::Webhook { url } => self.post(url, notice).await,
                Channel::SecretWebhook { file } => self.post(&self.secret(file).await?, notice).await,
                Channel::Log => Ok(()),
            }
        })
    }
}

/// A URL that can be posted to.
struct Target {
    url: Url,
    /// The host as resolvers take it: an IPv6 address without brackets.
    host: String,
    port: u16,
}

impl Target {
    fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::Url { url: redacted(text), reason: reason.to_owned() };
        let url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("it must begin with http:// or https://"));
        }
        let host = url.host_str().ok_or_else(|| refuse("it names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_or_known_default().ok_or_else(|| refuse("it names no port"))?;
        Ok(Self { url, host, port })
    }
}

/// A URL as far as it may be shown: scheme and host.
fn redacted(text: &str) -> String {
    let host = Url::parse(text).ok().and_then(|url| {
        let host = url.host_str()?;
        Some(format!("{}://{host}/…", url.scheme()))
    });
    host.unwrap_or_else(|| "…".to_owned())
}

/// An error's own words and those of its causes, without the URL.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

/// What is posted.
fn body(notice: &Notice) -> serde_json::Value {
    let message = &notice.message;
    let severity = match message.severity {
        Severity::Info => "info",
        Severity::Ticket => "ticket",
        Severity::Page => "page",
    };
    serde_json::json!({
        "id": format!("{}/{}", notice.installation, message.id),
        "installation": notice.installation,
        "message": message.id,
        "contact": message.contact,
        "incident": message.incident.map(|incident| format!("{}/{incident}", notice.installation)),
        "severity": severity,
        "subject": message.subject,
        "body": message.body,
        "createdAt": message.created_at,
        "attempt": message.attempts,
    })
}

/// TLS as webhooks use it.
fn tls(roots: RootCertStore) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots.clone()).with_no_client_auth())
        .unwrap_or_else(|_| rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests;
