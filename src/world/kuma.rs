//! Tells an Uptime Kuma push monitor how things are. It believes nothing but Kuma's own word that the message was
//! taken, and never shows the push URL, whose last part is a password.

use std::time::Duration;

use reqwest::{Client, Response, StatusCode, Url, redirect};
use serde::Deserialize;

use crate::decide::fault::{Code, Fault, chain};
use crate::decide::push::{Message, Status};
use crate::model::Secret;
use crate::world::tls;

/// How long one message may take, from the connection to the last byte of the answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Kuma answers with 11 bytes, and a wrong path with a page of a few kilobytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Kuma's server reads 16 KiB of request; percent-encoded, a character of four bytes becomes twelve.
const LONGEST_TEXT: usize = 1000;

/// The largest ping, in milliseconds, that every release of Kuma takes: a day.
const LARGEST_PING: u64 = 86_400_000;

/// The words of the query that are ours. A URL copied from Kuma's page carries examples of them.
const OURS: [&str; 3] = ["status", "msg", "ping"];

/// Makes the client for [`send`]; one serves for all messages.
pub fn client() -> Result<Client, Fault> {
    tls::set_up();
    Client::builder()
        .user_agent(concat!("moorline/", env!("CARGO_PKG_VERSION")))
        .timeout(LIMIT)
        .connect_timeout(LIMIT)
        // A redirect would carry the token to a place that nobody named.
        .redirect(redirect::Policy::none())
        .referer(false)
        // No configuration from the environment.
        .no_proxy()
        // Messages are minutes apart, and Kuma closes a connection after seconds.
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| Fault::new(Code::PushFailed, "the HTTP client cannot be made").caused_by(&error.without_url()))
}

/// Sends one message. `Ok` means that Kuma said `ok: true`.
pub async fn send(client: &Client, message: &Message) -> Result<(), Fault> {
    let url = address(message)?;
    let unsent = |error: reqwest::Error| unreachable(message, error);
    let response = client.get(url).send().await.map_err(unsent)?;
    let status = response.status();
    let body = read_bounded(response).await.map_err(unsent)?;
    judge(message, status, body.as_deref())
}

/// Whether a server answers where a push URL leads, without telling it anything: any answer at all is one.
pub async fn answers(monitor: &str, url: &Secret<String>) -> Result<(), Fault> {
    let message = Message {
        id: String::new(),
        monitor: monitor.to_owned(),
        url: url.clone(),
        status: Status::Up,
        text: String::new(),
        ping_ms: None,
    };
    let mut address = address(&message)?;
    // Without the token, which would make it a message.
    address.set_path("/");
    address.set_query(None);
    client()?.head(address).send().await.map(drop).map_err(|error| {
        let mut fault = unreachable(&message, error);
        fault.sentence = format!("the server of monitor `{monitor}` does not answer");
        fault
    })
}

/// What Kuma answers. Other fields do not matter.
#[derive(Deserialize)]
struct Answer {
    ok: bool,
    msg: Option<String>,
}

/// Only one answer counts as success. No body means that there was too much of it.
fn judge(message: &Message, status: StatusCode, body: Option<&[u8]>) -> Result<(), Fault> {
    let answer = body.and_then(|body| serde_json::from_slice::<Answer>(body).ok());
    match (status, answer) {
        (StatusCode::OK, Some(Answer { ok: true, .. })) => Ok(()),
        // With most releases 404, and the same for an unknown token, a paused monitor and a fault of Kuma's own.
        (_, Some(Answer { ok: false, msg })) => {
            let fault = refused(message, "Kuma does not know the monitor, or it is paused");
            Err(match msg {
                Some(msg) => fault.because(format!("it says: {}", printable(&msg, message))),
                None => fault,
            })
        }
        (status, _) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(failed(message).because(format!("the answer was {status}")))
        }
        (status, _) if status.is_redirection() => {
            Err(refused(message, "the push URL leads elsewhere").because(format!("the answer was {status}")))
        }
        (StatusCode::OK, None) => {
            // Kuma answers every path that it does not know with its start page.
            Err(refused(message, "what answers at the push URL is a page, not the push endpoint of Kuma"))
        }
        (status, _) => {
            Err(refused(message, "what answers at the push URL is not Kuma")
                .because(format!("the answer was {status}")))
        }
    }
}

/// The push URL with our words in the place of the examples.
fn address(message: &Message) -> Result<Url, Fault> {
    let url = Url::parse(message.url.expose()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let mut url = url.ok_or_else(|| refused(message, "the push URL is not an http or https address"))?;
    let others: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| !OURS.contains(&&**name))
        .map(|(n, v)| (n.into_owned(), v.into_owned()))
        .collect();
    url.set_fragment(None);
    let mut query = url.query_pairs_mut();
    query.clear().extend_pairs(others);
    query.append_pair("status", message.status.word());
    query.append_pair("msg", &message.text.chars().take(LONGEST_TEXT).collect::<String>());
    if let Some(ping) = message.ping_ms {
        query.append_pair("ping", &ping.min(LARGEST_PING).to_string());
    }
    drop(query);
    Ok(url)
}

/// The body; none when there is more than we read.
async fn read_bounded(mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn refused(message: &Message, why: &str) -> Fault {
    Fault::new(Code::PushRefused, format!("the message for monitor `{}` was not taken", message.monitor))
        .because(why)
        .hint("copy the push URL from the monitor's page in Uptime Kuma into this host's secrets.sops.yaml")
}

fn failed(message: &Message) -> Fault {
    Fault::new(Code::PushFailed, format!("the message for monitor `{}` was not delivered", message.monitor))
}

fn unreachable(message: &Message, error: reqwest::Error) -> Fault {
    let timed_out = error.is_timeout();
    // The errors of reqwest carry the URL, and the URL carries the token.
    let mut fault = failed(message);
    fault.because = chain(&error.without_url()).iter().map(|cause| printable(cause, message)).collect();
    if timed_out {
        fault = fault.because(format!("no answer within {} s", LIMIT.as_secs()));
    }
    fault
}

/// A short piece of what somebody else said, without control characters and without the token, should it be echoed.
fn printable(text: &str, message: &Message) -> String {
    let url = message.url.expose();
    let token = url.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let mut text = text.replace(url.as_str(), "…");
    if token.len() > 3 {
        text = text.replace(token, "…");
    }
    text.chars().take(200).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(url: &str) -> Message {
        Message {
            id: "20260101T000000Z-reconcile".into(),
            monitor: "reconcile".into(),
            url: Secret::new(url.into()),
            status: Status::Down,
            text: "degraded: nextcloud & co".into(),
            ping_ms: Some(97),
        }
    }

    fn answer(status: u16, body: &str) -> Fault {
        let message = message("https://kuma.example.org/api/push/t0kent0ken");
        judge(&message, StatusCode::from_u16(status).unwrap(), Some(body.as_bytes())).unwrap_err()
    }

    #[test]
    fn the_examples_in_a_copied_url_are_replaced_and_everything_else_stays() {
        for (url, expected) in [
            (
                "https://kuma.example.org/api/push/t0ken?status=up&msg=OK&ping=",
                "https://kuma.example.org/api/push/t0ken?status=down&msg=degraded%3A+nextcloud+%26+co&ping=97",
            ),
            (
                "https://host/kuma/api/push/t0ken?via=proxy&msg=#top",
                "https://host/kuma/api/push/t0ken?via=proxy&status=down&msg=degraded%3A+nextcloud+%26+co&ping=97",
            ),
        ] {
            assert_eq!(address(&message(url)).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_being_shown() {
        for url in ["", "t0kent0ken", "ftp://host/t0kent0ken", "file:///etc/t0kent0ken"] {
            let fault = address(&message(url)).unwrap_err();
            assert_eq!(fault.code, Code::PushRefused);
            assert!(!fault.to_string().contains("t0ken"));
        }
    }

    #[test]
    fn long_texts_and_large_pings_are_cut_to_what_kuma_takes() {
        let long = Message { text: "ü".repeat(5000), ping_ms: Some(u64::MAX), ..message("https://host/x") };
        let url = address(&long).unwrap();
        assert!(url.as_str().len() < 16 * 1024 / 2);
        assert!(url.as_str().ends_with("&ping=86400000"));
    }

    #[test]
    fn only_kumas_own_word_is_success() {
        let message = message("https://host/x");
        assert_eq!(judge(&message, StatusCode::OK, Some(br#"{"ok":true}"#)), Ok(()));
        for (status, body, code) in [
            (200, "<!DOCTYPE html>", Code::PushRefused),
            (200, "", Code::PushRefused),
            (200, "true", Code::PushRefused),
            (200, r#"{"ok":"true"}"#, Code::PushRefused),
            (200, r#"{"ok":false}"#, Code::PushRefused),
            (204, "", Code::PushRefused),
            (301, "", Code::PushRefused),
            (401, "", Code::PushRefused),
            (404, r#"{"ok":false,"msg":"Monitor not found or not active."}"#, Code::PushRefused),
            (404, "404 page not found", Code::PushRefused),
            (500, r#"{"ok":false,"msg":"Monitor not found or not active."}"#, Code::PushRefused),
            (429, "", Code::PushFailed),
            (500, "<html>", Code::PushFailed),
            (500, r#"{"ok":true}"#, Code::PushFailed),
            (502, "", Code::PushFailed),
        ] {
            assert_eq!(answer(status, body).code, code, "{status} {body}");
        }
        assert_eq!(judge(&message, StatusCode::OK, None).unwrap_err().code, Code::PushRefused);
    }

    #[test]
    fn a_server_that_echoes_the_token_does_not_get_it_shown() {
        let fault = answer(404, r#"{"ok":false,"msg":"no monitor t0kent0ken\u001b[2J"}"#);
        assert_eq!(fault.because[1], "it says: no monitor … [2J");
    }
}
