//! This host's random key for digests, in a file that only root can read.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::decide::digest::DigestKey;
use crate::decide::fault::{Code, Fault};
use crate::world::disk;

/// As long as the digest it keys.
const LENGTH: usize = 32;

/// Reads the key; none when there is no file.
pub fn read(state: &Path) -> Result<Option<DigestKey>, Fault> {
    let path = file(state);
    match disk::read_private(&path, LENGTH as u64) {
        Ok(bytes) if bytes.len() == LENGTH => Ok(Some(DigestKey::new(bytes))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        // A new key only makes every digest look changed; but who altered this file?
        Ok(_) | Err(_) => Err(Fault::new(Code::LedgerDamaged, format!("{} is damaged", path.display()))
            .at("nothing was changed")
            .hint(format!("`rm {}` makes a new one; the next run then looks at every stack", path.display()))),
    }
}

/// Makes a key and writes it.
pub fn make(state: &Path) -> Result<DigestKey, Fault> {
    let mut bytes = vec![0; LENGTH];
    if getrandom(&mut bytes, GetRandomFlags::empty()) != Ok(LENGTH) {
        return Err(Fault::new(Code::StateUnwritable, "the kernel gives no random bytes").at("nothing was changed"));
    }
    let path = file(state);
    disk::write(&path, &bytes, 0o600).map_err(|error| disk::unwritable(&path, &error))?;
    Ok(DigestKey::new(bytes))
}

fn file(state: &Path) -> PathBuf {
    state.join("digest.key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_a_damaged_one_is_a_fault() {
        let state = tempfile::tempdir().unwrap();
        assert!(read(state.path()).unwrap().is_none());
        let made = make(state.path()).unwrap();
        let kept = read(state.path()).unwrap().unwrap();
        assert_eq!(made.of([&b"x"[..]]), kept.of([&b"x"[..]]));
        std::fs::write(file(state.path()), b"short").unwrap();
        assert_eq!(read(state.path()).unwrap_err().code, Code::LedgerDamaged);
    }
}
