//! `tcp`: a connection opens.

use std::{sync::Arc, time::Duration};

use quell_model::{
    probe::{ProbeKind, ProbeSpec},
    value::Fields,
};

use super::{
    Attempt, Boxed, Built, Context, Kind, Probe,
    address::{self, Endpoint},
};
use crate::config::Config;

/// This kind in the list.
pub const KIND: Kind = Kind { kind: ProbeKind::Tcp, build };

fn build(spec: &ProbeSpec, context: &Context) -> Built {
    let ProbeSpec::Tcp { address } = spec else { return None };
    let config = Arc::clone(&context.config);
    Some(address.parse().map(|endpoint| Box::new(Tcp { endpoint, config }) as Box<dyn Probe>))
}

struct Tcp {
    endpoint: Endpoint,
    config: Arc<Config>,
}

impl Probe for Tcp {
    fn attempt(&mut self, timeout: Duration) -> Boxed<'_, Attempt> {
        Box::pin(async move {
            let seen = |reachable: bool| Fields::from([("reachable".to_owned(), reachable.into())]);
            let attempt = async {
                let addresses = self.endpoint.resolve(&self.config.allow).await?;
                Ok(match address::connect(&addresses).await {
                    Ok(_stream) => Attempt::good(seen(true)),
                    Err(error) => Attempt::bad(error, seen(false)),
                })
            };
            match tokio::time::timeout(timeout, attempt).await {
                Ok(result) => Attempt::either(result),
                Err(_) => Attempt::bad(
                    format!("{}:{} does not answer within {timeout:?}", self.endpoint.host, self.endpoint.port),
                    seen(false),
                ),
            }
        })
    }
}
