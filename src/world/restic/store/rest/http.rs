//! Asks a REST server over HTTP or HTTPS, with the roots that this host trusts. The login goes into one header and
//! nowhere else.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Url, redirect};
use zeroize::Zeroizing;

use super::super::super::trouble::{Kind, Trouble};
use super::super::pace::Pace;
use super::content::{Content, Moved};
use super::wire::{Answer, Arriving, Question, patient};
use crate::decide::fault::chain;
use crate::world::tls;

/// How long the server may take to take a connection.
const CONNECTING: Duration = Duration::from_secs(20);

/// A server.
#[derive(Debug)]
pub struct Http {
    client: Client,
    url: Url,
    /// Marked as a secret, so it prints as one.
    login: Option<HeaderValue>,
}

impl Http {
    /// The repository at a URL, for a login of the form `USER:PASSWORD`. Nothing is connected yet.
    pub fn new(url: &str, login: Option<&str>) -> Result<Self, Trouble> {
        let wrong = |what: &str| Trouble::new(Kind::Internal, what);
        let slash = if url.ends_with('/') { "" } else { "/" };
        let url = Url::parse(&format!("{url}{slash}")).map_err(|_| wrong("the address of the REST server is none"))?;
        let header = |login: &str| {
            let header = Zeroizing::new(format!("Basic {}", STANDARD.encode(login)));
            let mut header = HeaderValue::from_str(&header).map_err(|_| wrong("the login cannot be sent"))?;
            header.set_sensitive(true);
            Ok(header)
        };
        tls::set_up();
        let client = Client::builder()
            .user_agent(concat!("moorline/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECTING)
            // A redirect would carry the login to a place that nobody named.
            .redirect(redirect::Policy::none())
            .referer(false)
            // No configuration from the environment.
            .no_proxy()
            .build()
            .map_err(|error| wrong(&format!("the HTTP client cannot be made: {}", words(error))))?;
        Ok(Self { client, url, login: login.map(header).transpose()? })
    }

    /// Asks once.
    pub async fn ask(&self, question: &Question<'_>, pace: &Arc<Pace>) -> Result<Answer, Trouble> {
        let moved = Moved::default();
        let url = self.url.join(question.path).map_err(|error| Trouble::new(Kind::Internal, error.to_string()))?;
        let mut request = self.client.request(question.method.clone(), url).headers(question.headers.clone());
        if let Some(login) = &self.login {
            request = request.header(AUTHORIZATION, login);
        }
        if question.method == hyper::Method::POST {
            let content = Content::new(question.content, pace.clone(), moved.clone());
            request = request.body(reqwest::Body::wrap(content));
        }
        let mut response = patient(&moved, request.send()).await?.map_err(trouble)?;
        let (status, headers) = (response.status(), response.headers().clone());
        if !status.is_success() {
            return Ok(Answer { status, headers, body: Bytes::new() });
        }
        let mut arriving = Arriving::new(question, &headers)?;
        while let Some(piece) = patient(&moved, response.chunk()).await?.map_err(trouble)? {
            moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
            arriving.take(&piece, question, pace).await?;
        }
        Ok(Answer { status, headers, body: arriving.whole()? })
    }
}

/// The URL is known, and stays out of it.
fn words(error: reqwest::Error) -> String {
    chain(&error.without_url()).join(": ")
}

fn trouble(error: reqwest::Error) -> Trouble {
    let kind = if is_certificate(&error) { Kind::Certificate } else { Kind::Away };
    Trouble::new(kind, words(error))
}

/// Whether the server could not show that it is the one we want. The reason lies deep, in errors of input and output.
fn is_certificate(error: &(dyn Error + 'static)) -> bool {
    let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
        || within.is_some_and(|within| is_certificate(within))
        || error.source().is_some_and(is_certificate)
}
