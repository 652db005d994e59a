//! Asks Traefik's API on loopback what it knows. Changes nothing there.

use serde_json::Value as Json;

use crate::decide::fault::{Code, Fault};
use crate::world::kuma;

/// More than any answer: a thousand routers are one megabyte.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;

/// `/api/rawdata` of the Traefik at this address.
pub async fn rawdata(address: &str) -> Result<Json, Fault> {
    let silent = || Fault::new(Code::TraefikSilent, format!("Traefik's API does not answer at {address}"));
    let client = kuma::client()?;
    let failed = |error: reqwest::Error| silent().caused_by(&error.without_url());
    let mut response = client.get(format!("{address}/api/rawdata")).send().await.map_err(failed)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(silent().because(format!("the answer was {}", response.status())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_ANSWER {
            return Err(silent().because("the answer is too long"));
        }
    }
    serde_json::from_slice(&body).map_err(|_| silent().because("what answers there is not Traefik's API"))
}
