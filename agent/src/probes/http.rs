//! `http`: a GET is answered with the expected status, and a body that matches.
//!
//! Redirects are not followed and at most 64 KiB of the body are read. The client is hyper's plain HTTP/1.1 connection
//! over the address that was resolved and checked; nothing of it exists until the first such probe runs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Uri, header};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use quell_model::{
    probe::{ProbeKind, ProbeSpec},
    value::Fields,
};
use regex::bytes::Regex;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Attempt, Boxed, Built, Context, Kind, Probe,
    address::{self, Endpoint},
    pattern, tls,
};
use crate::config::Config;

/// This kind in the list.
pub const KIND: Kind = Kind { kind: ProbeKind::Http, build };

/// How much of a body is read, in bytes.
const BODY_BYTES: usize = 64 * 1024;

/// Largest head of an answer, in bytes.
const HEAD_BYTES: usize = 32 * 1024;

/// What the server is told of who asks.
const USER_AGENT: &str = concat!("quell-agent/", env!("CARGO_PKG_VERSION"));

fn build(spec: &ProbeSpec, context: &Context) -> Built {
    let ProbeSpec::Http { url, status, body } = spec else { return None };
    let probe = Http::new(url, *status, body.as_deref(), &context.config);
    Some(probe.map(|probe| Box::new(probe) as Box<dyn Probe>))
}

struct Http {
    endpoint: Endpoint,
    encrypted: bool,
    /// Path and query, as the request line has them.
    path: String,
    /// Host and port, as the URL has them.
    authority: String,
    status: u16,
    body: Option<Regex>,
    config: Arc<Config>,
}

impl Http {
    fn new(url: &str, status: Option<u16>, body: Option<&str>, config: &Arc<Config>) -> Result<Self, String> {
        let wrong = || format!("{url:?} is not an absolute http or https URL");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let encrypted = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        // What stands before an @ would be a password in a log.
        let shown = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, rest)| rest);
        Ok(Self {
            endpoint: Endpoint { host, port },
            encrypted,
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            authority: shown.to_owned(),
            status: status.unwrap_or(200),
            body: body.map(pattern::compile).transpose()?,
            config: Arc::clone(config),
        })
    }

    async fn look(&self) -> Result<Attempt, Attempt> {
        let addresses = self.endpoint.resolve(&self.config.allow).await?;
        let failed = |error: String| Attempt::bad(error, Fields::new());
        let start = Instant::now();
        let stream = address::connect(&addresses).await.map_err(failed)?;
        let (status, body) = if self.encrypted {
            let name = tls::server_name(&self.endpoint.host).map_err(failed)?;
            let stream = tls::handshake(stream, name, &mut None).await.map_err(failed)?;
            self.get(TokioIo::new(stream)).await
        } else {
            self.get(TokioIo::new(stream)).await
        }
        .map_err(failed)?;
        Ok(self.judge(status, &body, start.elapsed()))
    }

    fn judge(&self, status: u16, body: &[u8], latency: Duration) -> Attempt {
        let matches = self.body.as_ref().is_none_or(|pattern| pattern.is_match(body));
        let fields = Fields::from([
            ("status".to_owned(), f64::from(status).into()),
            ("latency".to_owned(), ((latency.as_secs_f64() * 1e4).round() / 1e4).into()),
            ("body_matches".to_owned(), matches.into()),
        ]);
        if status != self.status {
            Attempt::bad(format!("status {status} instead of {}", self.status), fields)
        } else if !matches {
            Attempt::bad("the body does not match", fields)
        } else {
            Attempt::good(fields)
        }
    }

    /// Sends the request; gives the status and what was read of the body.
    async fn get<T: Read + Write + Unpin + Send + 'static>(&self, io: T) -> Result<(u16, Vec<u8>), String> {
        let broken = |error: hyper::Error| format!("no HTTP answer: {error}");
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(io).await.map_err(broken)?;
        let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
        let request = Request::get(self.path.as_str())
            .header(header::HOST, self.authority.as_str())
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::CONNECTION, "close")
            .body(String::new())
            .map_err(|error| format!("the request cannot be made: {error}"))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        Ok((status, read(response.into_body()).await.map_err(broken)?))
    }
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut bytes = Vec::new();
    while bytes.len() < BODY_BYTES {
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
        let Some(frame) = frame.transpose()? else { break };
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data[..data.len().min(BODY_BYTES - bytes.len())]);
        }
    }
    Ok(bytes)
}

impl Probe for Http {
    fn attempt(&mut self, timeout: Duration) -> Boxed<'_, Attempt> {
        Box::pin(async move {
            match tokio::time::timeout(timeout, self.look()).await {
                Ok(result) => Attempt::either(result),
                Err(_) => Attempt::bad(format!("no complete answer within {timeout:?}"), Fields::new()),
            }
        })
    }
}
