//! Reads where a backup repository stands: one URL, and the keys beside it that say what opens it.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::decide::dotenv;
use crate::model::backup::{HostKey, Place, Ssh};

/// Where the private key is looked for when `host.yaml` gives it no name.
const KEY: &str = "BACKUP_SSH_KEY";
/// The domain of Hetzner's Storage Boxes, which all show the same key.
const STORAGE_BOXES: &str = ".your-storagebox.de";

/// The keys beside a URL.
pub(super) struct Opened {
    /// The name of the private key.
    pub key: Option<String>,
    /// The server's key, or the name of a secret that holds it.
    pub host_key: Option<String>,
    /// The name of `USER:PASSWORD`.
    pub login: Option<String>,
}

/// The place, or what is wrong with it.
pub(super) fn place(url: &str, with: Opened) -> Result<Place, String> {
    let Opened { key, host_key, login } = with;
    let no_key = || only_for("`sftp:` and `rest+ssh:`", &[("key", &key), ("host_key", &host_key)]);
    let no_login = || only_for("`rest:`", &[("login", &login)]);
    if url.starts_with('/') {
        no_key().and_then(|()| no_login())?;
        return directory(url);
    }
    if let Some(server) = url.strip_prefix("sftp://") {
        no_login()?;
        return ssh("sftp", server, key, host_key).map(Place::Sftp);
    }
    if let Some(server) = url.strip_prefix("rest+ssh://") {
        no_login()?;
        return ssh("rest+ssh", server, key, host_key).map(Place::RestOverSsh);
    }
    if let Some(server) = url.strip_prefix("rest:") {
        no_key()?;
        return rest(server, login);
    }
    let shown: String = url.chars().take(40).collect();
    Err(format!(
        "`{shown}` is neither `sftp://USER@HOST:PORT/PATH`, `rest:https://...`, `rest+ssh://USER@HOST:PORT/` nor `/PATH`"
    ))
}

fn only_for(kind: &str, given: &[(&str, &Option<String>)]) -> Result<(), String> {
    match given.iter().find(|(_, value)| value.is_some()) {
        Some((key, _)) => Err(format!("`{key}` is for {kind} only")),
        None => Ok(()),
    }
}

fn directory(url: &str) -> Result<Place, String> {
    let path = PathBuf::from(url);
    let is_plain = path.components().count() > 1 && !url.split('/').any(|part| part == ".." || part == ".");
    if !is_plain || url.contains(char::is_control) {
        return Err(format!("`{url}` is not the plain path of a directory"));
    }
    Ok(Place::Directory(path))
}

/// `USER@HOST[:PORT]/PATH`. All of it ends in arguments of `ssh`, so nothing may look like an option.
fn ssh(scheme: &str, rest: &str, key: Option<String>, host_key: Option<String>) -> Result<Ssh, String> {
    let form = || format!("needs the form `{scheme}://USER@HOST:PORT/PATH`");
    let (server, path) = rest.split_once('/').ok_or_else(form)?;
    let (user, address) = server.rsplit_once('@').ok_or_else(form)?;
    if user.contains(':') {
        return Err("a password does not belong into a URL; the login is by key".into());
    }
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(form)?)),
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None => 22,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(format!("`{port}` is not a port"))?,
    };
    let is_word = |text: &str, more: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.chars().all(|character| character.is_ascii_alphanumeric() || more.contains(character))
    };
    if !is_word(user, "._-+") || !is_word(host, ".-:") {
        return Err(form());
    }
    match scheme {
        "sftp" => is_directory(path)?,
        _ => is_below(path)?,
    }
    let is_box = host.ends_with(STORAGE_BOXES);
    if is_box && port != 23 {
        return Err(format!("a Storage Box knows keys in OpenSSH's format on port 23 only: write `{host}:23`"));
    }
    let host_key = match host_key {
        Some(text) => pin(text)?,
        None if is_box => HostKey::StorageBox,
        None => {
            return Err(format!(
                "`host_key` is missing: what `ssh-keyscan -p {port} -t ed25519 {host}` prints behind the name, compared \
                 with what the server's owner says"
            ));
        }
    };
    Ok(Ssh {
        user: user.to_owned(),
        host: host.to_owned(),
        port,
        path: path.to_owned(),
        key: key.unwrap_or_else(|| KEY.into()),
        host_key,
    })
}

fn is_directory(path: &str) -> Result<(), String> {
    let parts = path.strip_prefix('/').unwrap_or(path);
    if path.contains(char::is_control) || parts.split('/').any(|part| [".", "..", ""].contains(&part)) {
        return Err("needs a directory of its own on the server, such as `/alpha`".into());
    }
    Ok(())
}

/// What the server's command serves is chosen there; a directory below it may be named, in words that a URL can hold.
fn is_below(path: &str) -> Result<(), String> {
    let is_word = |part: &str| {
        let is_plain = part.chars().all(|character| character.is_ascii_alphanumeric() || "._-".contains(character));
        is_plain && ![".", "..", ""].contains(&part)
    };
    let path = path.strip_suffix('/').unwrap_or(path);
    if !path.is_empty() && !path.split('/').all(is_word) {
        return Err("the path below what the server serves has letters, digits, `.`, `_` and `-` only".into());
    }
    Ok(())
}

/// `ssh-ed25519 AAAA...`, or the name of a secret that holds it.
fn pin(text: String) -> Result<HostKey, String> {
    let Some((kind, rest)) = text.split_once(' ') else {
        return match dotenv::is_name(&text) {
            true => Ok(HostKey::Named(text)),
            false => Err("`host_key` is neither a key such as `ssh-ed25519 AAAA...` nor the name of a secret".into()),
        };
    };
    let body = rest.split(' ').next().unwrap_or_default();
    // A key repeats its kind inside: a length of four bytes, then the word.
    let is_key =
        STANDARD.decode(body).is_ok_and(|bytes| bytes.get(4..).is_some_and(|at| at.starts_with(kind.as_bytes())));
    match is_key {
        true => Ok(HostKey::Pinned(format!("{kind} {body}"))),
        false => Err("`host_key` is not a key in OpenSSH's format: `ssh-ed25519 AAAA...`".into()),
    }
}

fn rest(server: &str, login: Option<String>) -> Result<Place, String> {
    let after = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://"));
    let host = after.and_then(|after| after.split('/').next()).unwrap_or_default();
    if host.is_empty() || server.contains(char::is_whitespace) || server.contains(['?', '#']) {
        return Err("needs the form `rest:https://HOST:PORT/PATH`".into());
    }
    if host.contains('@') {
        return Err(
            "a login does not belong into a URL: put `USER:PASSWORD` into the SOPS file and its name at `login`".into(),
        );
    }
    let is_here = ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|here| host.strip_prefix(here).is_some_and(|port| port.is_empty() || port.starts_with(':')));
    if login.is_some() && server.starts_with("http://") && !is_here {
        return Err("the login would cross the network in clear: use `https://`".into());
    }
    Ok(Place::Rest { url: server.to_owned(), login })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIICf9svRenC/PLKIL9nk6K/pxQgoiFC41wTNvoIncOxs";

    fn read(url: &str, login: Option<&str>, host_key: Option<&str>) -> Result<Place, String> {
        place(url, Opened { key: None, host_key: host_key.map(str::to_owned), login: login.map(str::to_owned) })
    }

    #[test]
    fn each_place_is_told_by_its_url() {
        let ssh = |path: &str, host_key: HostKey| Ssh {
            user: "u1".into(),
            host: "u1.your-storagebox.de".into(),
            port: 23,
            path: path.into(),
            key: KEY.into(),
            host_key,
        };
        let a_box = "u1@u1.your-storagebox.de:23";
        assert_eq!(read("/srv/backup", None, None), Ok(Place::Directory("/srv/backup".into())));
        let sftp = Place::Sftp(ssh("alpha", HostKey::StorageBox));
        assert_eq!(read(&format!("sftp://{a_box}/alpha"), None, None), Ok(sftp));
        let pinned = Place::RestOverSsh(ssh("", HostKey::Pinned(PIN.into())));
        assert_eq!(read(&format!("rest+ssh://{a_box}/"), None, Some(PIN)), Ok(pinned));
        let below = Place::RestOverSsh(ssh("alpha/", HostKey::StorageBox));
        assert_eq!(read(&format!("rest+ssh://{a_box}/alpha/"), None, None), Ok(below));
        let rest = Place::Rest { url: "https://backup.example.org/alpha".into(), login: Some("LOGIN".into()) };
        assert_eq!(read("rest:https://backup.example.org/alpha", Some("LOGIN"), None), Ok(rest));
    }

    #[test]
    fn what_could_not_be_reached_or_would_not_be_safe_is_refused() {
        let refused = |url: &str, login, host_key| read(url, login, host_key).unwrap_err();
        assert!(refused("rest:http://backup.example.org/", Some("LOGIN"), None).contains("in clear"));
        assert!(refused("rest+ssh://u@far.example.org:22/", None, None).contains("`host_key` is missing"));
        assert!(refused("rest+ssh://far.example.org/", None, Some(PIN)).contains("rest+ssh://USER@HOST"));
        assert!(refused("rest+ssh://u@far.example.org/a b", None, Some(PIN)).contains("letters, digits"));
        assert!(refused("rest+ssh://u@far.example.org/../a", None, Some(PIN)).contains("letters, digits"));
        assert!(refused("rest+ssh://u@far.example.org/", Some("LOGIN"), Some(PIN)).contains("`rest:` only"));
        assert!(refused("rest:https://far.example.org/", None, Some(PIN)).contains("`sftp:` and `rest+ssh:` only"));
        assert!(refused("sftp://u@far.example.org/", None, Some(PIN)).contains("directory of its own"));
    }
}
