//! The courier's part: gets a program from where the repository says it lies. It verifies nothing; the keeper does.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Response, Url, redirect};

use super::LARGEST;
use crate::decide::fault::{Code, Fault, chain};
use crate::model::release::Offer;
use crate::world::{disk, tls};

/// How long the server may take to take a connection.
const CONNECTING: Duration = Duration::from_secs(20);
/// How long it may say nothing.
const SILENCE: Duration = Duration::from_mins(1);
/// How long all of it may take.
const WHOLE: Duration = Duration::from_hours(1);
/// How often the server may send us on.
const REDIRECTS: usize = 5;
/// What is not finished has this at the end of its name.
const UNFINISHED: &str = ".part";

/// Fetches a program into a directory, where it appears when it has come whole. What was begun before begins anew.
pub(super) async fn fetch(directory: &Path, offer: &Offer) -> Result<(), Fault> {
    let unwritable = |error: &io::Error| disk::unwritable(directory, error).at("nothing was fetched");
    make_room(directory).map_err(|error| unwritable(&error))?;
    let unfinished = directory.join(format!("{}{UNFINISHED}", offer.release.sha256));
    let arrived = directory.join(&offer.release.sha256);
    let mut response = ask(offer).await?;
    let mut file = create(&unfinished).map_err(|error| unwritable(&error))?;
    let fetched = receive(&mut response, &mut file, offer, &unwritable).await;
    let kept = fetched.and_then(|()| {
        let keep = || {
            file.sync_all()?;
            fs::rename(&unfinished, &arrived)?;
            disk::sync_directory(&arrived)
        };
        keep().map_err(|error| unwritable(&error))
    });
    if kept.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    kept
}

async fn ask(offer: &Offer) -> Result<Response, Fault> {
    let url = Url::parse(&offer.url).map_err(|error| failed(offer).because(error.to_string()))?;
    let response = client().map_err(|error| away(offer, error))?.get(url).send().await;
    let response = response.map_err(|error| away(offer, error))?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(failed(offer).because(format!("the answer was {}", response.status())));
    }
    match response.content_length() {
        Some(length) if length > LARGEST => Err(too_large(offer)),
        _ => Ok(response),
    }
}

fn client() -> reqwest::Result<Client> {
    tls::set_up();
    // Wherever it is sent on to, and never in clear: what comes counts by its digest. Forges keep releases on other servers.
    let sent_on = redirect::Policy::limited(REDIRECTS);
    Client::builder()
        .user_agent(concat!("moorline/", env!("CARGO_PKG_VERSION")))
        .https_only(true)
        .connect_timeout(CONNECTING)
        .read_timeout(SILENCE)
        .timeout(WHOLE)
        .redirect(sent_on)
        .referer(false)
        // No configuration from the environment.
        .no_proxy()
        .build()
}

async fn receive(
    response: &mut Response,
    file: &mut File,
    offer: &Offer,
    unwritable: &impl Fn(&io::Error) -> Fault,
) -> Result<(), Fault> {
    let mut size = 0;
    while let Some(piece) = response.chunk().await.map_err(|error| away(offer, error))? {
        size += piece.len() as u64;
        if size > LARGEST {
            return Err(too_large(offer));
        }
        file.write_all(&piece).map_err(|error| unwritable(&error))?;
    }
    Ok(())
}

/// Makes the directory, and empties it: only one program is ever fetched at a time.
fn make_room(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o755).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for entry in fs::read_dir(directory)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}

fn failed(offer: &Offer) -> Fault {
    Fault::new(Code::ReleaseUnfetched, format!("moorline {} could not be fetched from {}", offer.release, offer.url))
        .hint(format!("curl -LO {}", offer.url))
}

fn too_large(offer: &Offer) -> Fault {
    failed(offer).because(format!("it is larger than {} MiB", LARGEST >> 20))
}

/// The URL stands in the sentence already.
fn away(offer: &Offer, error: reqwest::Error) -> Fault {
    let mut fault = failed(offer);
    fault.because.extend(chain(&error.without_url()));
    fault
}
