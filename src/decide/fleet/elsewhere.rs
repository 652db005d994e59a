//! Reads where a backup repository is for somebody who reaches it another way than its host does.

use super::place::{Opened, place};
use crate::model::backup::{HostKey, Place, Repository};

/// The place behind this URL. What opens it keeps the names that `host.yaml` has.
///
/// # Errors
/// One sentence about what is wrong with the URL.
pub fn elsewhere(repository: &Repository, url: &str) -> Result<Place, String> {
    let is_ssh = url.starts_with("sftp://") || url.starts_with("rest+ssh://");
    let ssh = match &repository.place {
        Place::Sftp(ssh) | Place::RestOverSsh(ssh) => Some(ssh).filter(|_| is_ssh),
        Place::Directory(_) | Place::Rest { .. } => None,
    };
    let host_key = ssh.and_then(|ssh| match &ssh.host_key {
        HostKey::Pinned(key) | HostKey::Named(key) => Some(key.clone()),
        HostKey::StorageBox => None,
    });
    let login = match &repository.place {
        Place::Rest { login, .. } if url.starts_with("rest:") => login.clone(),
        _ => None,
    };
    place(url, Opened { key: ssh.map(|ssh| ssh.key.clone()), host_key, login })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::backup::Deletes;

    #[test]
    fn another_login_keeps_the_key_of_the_server() {
        let (name, password) = ("box".to_owned(), "P".to_owned());
        let nothing = Opened { key: Some("BOX_KEY".into()), host_key: None, login: None };
        let place = place("rest+ssh://u1-sub1@u1-sub1.your-storagebox.de:23/", nothing).unwrap();
        let repository = Repository { name, place, password, deletes: Deletes::Elsewhere };
        let found = elsewhere(&repository, "sftp://u1@u1.your-storagebox.de:23/alpha-box/alpha").unwrap();
        let Place::Sftp(found) = found else { panic!("{found:?}") };
        assert_eq!((found.user.as_str(), found.path.as_str()), ("u1", "alpha-box/alpha"));
        assert_eq!((found.host_key, found.key.as_str()), (HostKey::StorageBox, "BOX_KEY"));
        assert!(elsewhere(&repository, "sftp://u@backup.example.org/alpha").unwrap_err().contains("host_key"));
        assert_eq!(elsewhere(&repository, "/mnt/box").unwrap(), Place::Directory("/mnt/box".into()));
    }
}
