//! The status page: kept on disk by the keeper, served by the courier, asked for by whoever promotes.
//!
//! The server answers `GET` on three paths and reads nothing but the head of a request; both are bounded.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::decide::fault::{Code, Fault};
use crate::decide::page;
use crate::model::Page;
use crate::world::{clock, disk, kuma};

/// 50 stacks with ten services each are about 200 KiB.
const LARGEST: usize = 1024 * 1024;
/// How many answers at the same time.
const MOST: usize = 16;
/// How large the head of a request may be.
const LARGEST_HEAD: usize = 8 * 1024;
/// How long one connection may last.
const LIMIT: Duration = Duration::from_secs(10);

fn file(state: &Path) -> PathBuf {
    state.join("status.json")
}

/// The page of the last run. One that cannot be read says nothing: the count of good time begins anew.
pub fn read(state: &Path) -> Option<Page> {
    serde_json::from_slice(&disk::read(&file(state), LARGEST as u64).ok()?).ok()
}

/// Writes the page. Everybody may read it.
pub fn write(state: &Path, page: &Page) -> Result<(), Fault> {
    let path = file(state);
    let bytes = serde_json::to_vec(page).map_err(|error| disk::unwritable(&path, &error.into()))?;
    disk::write(&path, &bytes, 0o644).map_err(|error| disk::unwritable(&path, &error))
}

/// Serves the page of the last run until it is dropped; returns only when the address cannot be had.
pub async fn serve(address: SocketAddr, state: &Path) -> Result<(), Fault> {
    let unserved = |error: std::io::Error| {
        Fault::new(Code::StatusUnserved, format!("the status page cannot be served at {address}"))
            .caused_by(&error)
            .hint("`listen` in section `[status]` of agent.toml is an address of this host")
    };
    let listener = TcpListener::bind(address).await.map_err(unserved)?;
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        // Whoever comes when all places are taken waits in the queue of the system.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, say: that passes.
            clock::wait(Duration::from_secs(1)).await;
            continue;
        };
        let state = state.to_owned();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let answered = answer(&request, &state);
                async move { Ok::<_, Infallible>(answered) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(LIMIT)
                .max_buf_size(LARGEST_HEAD)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // Whoever is too slow or speaks nonsense is hung up on.
            let _ = tokio::time::timeout(LIMIT, connection).await;
            drop(place);
        });
    }
}

fn answer<Body>(request: &Request<Body>, state: &Path) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".into());
    }
    let path = request.uri().path();
    if !["/", "/status.json", "/metrics"].contains(&path) {
        return response(StatusCode::NOT_FOUND, "text/plain", "/status.json   /metrics\n".into());
    }
    let Some(page) = read(state).map(|page| page::served(page, clock::now())) else {
        return response(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "no run has ended here yet\n".into());
    };
    match path {
        "/" => response(StatusCode::OK, "text/plain; charset=utf-8", page::text(&page)),
        "/metrics" => response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page::metrics(&page)),
        _ => {
            let json = serde_json::to_string_pretty(&page).unwrap_or_default();
            response(StatusCode::OK, "application/json", json + "\n")
        }
    }
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Asks a host for its page, or says in one sentence why there is none.
pub async fn ask(url: &str) -> Result<Page, String> {
    let address = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let address = address.ok_or("its URL is not an http or https address")?;
    let client = kuma::client().map_err(|fault| fault.sentence)?;
    let away = |error: reqwest::Error| crate::decide::fault::chain(&error.without_url()).join(": ");
    let mut response = client.get(address).send().await.map_err(away)?;
    if response.status() != StatusCode::OK {
        return Err(format!("it answers {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(away)? {
        if body.len() + chunk.len() > LARGEST {
            return Err(format!("its answer is larger than {} KiB", LARGEST / 1024));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|error| format!("its answer is not a status page: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, path: &str) -> StatusCode {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        answer(&request, Path::new("/nonexistent")).status()
    }

    #[test]
    fn only_get_on_three_paths_is_answered() {
        assert_eq!(asked(Method::POST, "/status.json"), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(asked(Method::GET, "/../etc/passwd"), StatusCode::NOT_FOUND);
        assert_eq!(asked(Method::GET, "/status.json"), StatusCode::SERVICE_UNAVAILABLE);
    }
}
