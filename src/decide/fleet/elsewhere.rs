//! Reads where a backup repository is for somebody who reaches it another way than its host does.

use super::place::{Opened, place};
use crate::model::backup::{HostKey, Place, Repository};

/// The place behind this URL. The names of the key and of the server's key stay as `host.yaml` has them.
///
/// # Errors
/// One sentence about what is wrong with the URL.
pub fn elsewhere(repository: &Repository, url: &str) -> Result<Place, String> {
    let is_ssh = url.starts_with("sftp://");
    if !is_ssh && !url.starts_with('/') {
        return Err("needs `sftp://USER@HOST:PORT/PATH`".into());
    }
    let ssh = match &repository.place {
        Place::Sftp(ssh) | Place::RestOverSsh(ssh) if is_ssh => Some(ssh),
        _ => None,
    };
    let host_key = match ssh.map(|ssh| &ssh.host_key) {
        Some(HostKey::Pinned(key) | HostKey::Named(key)) => Some(key.clone()),
        Some(HostKey::StorageBox) | None => None,
    };
    place(url, Opened { key: ssh.map(|ssh| ssh.key.clone()), host_key, login: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::backup::Deletes;

    #[test]
    fn another_login_keeps_the_key_of_the_server() {
        let (name, password) = ("box".to_owned(), "P".to_owned());
        let opened = Opened { key: None, host_key: None, login: None };
        let place = place("sftp://u1-sub1@u1-sub1.your-storagebox.de:23/alpha", opened).unwrap();
        let repository = Repository { name, place, password, deletes: Deletes::Elsewhere };
        let found = elsewhere(&repository, "sftp://u1@u1.your-storagebox.de:23/alpha-box/alpha").unwrap();
        let Place::Sftp(found) = found else { panic!("{found:?}") };
        assert_eq!((found.user.as_str(), found.path.as_str()), ("u1", "alpha-box/alpha"));
        assert_eq!(found.host_key, HostKey::StorageBox);
        assert!(elsewhere(&repository, "sftp://backup.example.org/alpha").unwrap_err().contains("host_key"));
        assert!(elsewhere(&repository, "rest:https://backup.example.org").is_err());
    }
}
