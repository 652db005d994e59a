//! Keeps what each stack that works was made from, one file for each version, below `good/<stack>/`. The SOPS file in it
//! is sealed, as the repository has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::decide::fault::{Code, Fault};
use crate::model::host::Sealed;
use crate::model::{File, Good, HostSpec, Monitors, Revision, StackSource};
use crate::world::{disk, reserve};

/// The version of the form.
const VERSION: u32 = 1;
/// A revision holds no file of more than 1 MiB; a stack has a few of them.
const LARGEST: u64 = 128 * 1024 * 1024;

/// The file as it stands on disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    revision: Revision,
    host: String,
    ring: String,
    vars: BTreeMap<String, String>,
    monitors: Monitors,
    #[serde(default)]
    withheld: BTreeSet<String>,
    files: BTreeMap<String, KeptFile>,
    sealed: Option<KeptSealed>,
}

#[derive(Serialize, Deserialize)]
struct KeptFile {
    executable: bool,
    base64: String,
}

#[derive(Serialize, Deserialize)]
struct KeptSealed {
    path: String,
    base64: String,
}

/// Keeps a version; those that were kept before go once it is on disk, but for the one that the ledger still names: a kill
/// may come before it names another. One that is there already is not written again.
pub fn keep(state: &Path, good: &Good, named: Option<&str>) -> Result<(), Fault> {
    let directory = directory(state, &good.stack);
    let path = file(&directory, &good.digest);
    let unwritable = |error: &io::Error| disk::unwritable(&path, error);
    let bytes = serde_json::to_vec(&kept(good)).map_err(|error| unwritable(&error.into()))?;
    if !disk::read(&path, LARGEST).is_ok_and(|there| there == bytes) {
        let write = || {
            fs::create_dir_all(&directory)?;
            disk::write(&path, &bytes, 0o600)
        };
        reserve::spend(state, write).map_err(|error| unwritable(&error))?;
    }
    let named = named.map(|digest| file(&directory, digest));
    for entry in fs::read_dir(&directory).map_err(|error| unwritable(&error))?.flatten() {
        if entry.path() != path && Some(entry.path()) != named {
            fs::remove_file(entry.path()).map_err(|error| unwritable(&error))?;
        }
    }
    Ok(())
}

/// Reads a version; none when it was not kept.
pub fn read(state: &Path, stack: &str, digest: &str) -> Result<Option<Good>, Fault> {
    let path = file(&directory(state, stack), digest);
    let damaged = |error: &dyn std::error::Error| {
        Fault::new(Code::LedgerDamaged, format!("{} is damaged", path.display()))
            .caused_by(error)
            .at(format!("{stack} cannot go back to its last good version"))
            .hint(format!("remove it (`rm {}`); the next deploy that works writes a new one", path.display()))
    };
    let bytes = match disk::read(&path, LARGEST) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(&error)),
    };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| damaged(&error))?;
    good(stack, digest, kept).map(Some).map_err(|error| damaged(&error))
}

/// Forgets a stack that this host no longer has.
pub fn forget(state: &Path, stack: &str) -> Result<(), Fault> {
    let directory = directory(state, stack);
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk::unwritable(&directory, &error)),
        _ => Ok(()),
    }
}

fn kept(good: &Good) -> Kept {
    let source = good.spec.stacks.iter().flat_map(|stack| &stack.files);
    let file = |(path, file): (&String, &File)| {
        (path.clone(), KeptFile { executable: file.executable, base64: STANDARD.encode(&file.bytes) })
    };
    let sealed = |sealed: &Sealed| KeptSealed { path: sealed.path.clone(), base64: STANDARD.encode(&sealed.bytes) };
    Kept {
        version: VERSION,
        revision: good.revision.clone(),
        host: good.spec.name.clone(),
        ring: good.spec.ring.clone(),
        vars: good.spec.vars.clone(),
        monitors: good.spec.monitors.clone(),
        withheld: good.spec.withheld.clone(),
        files: source.map(file).collect(),
        sealed: good.spec.sealed.as_ref().map(sealed),
    }
}

fn good(stack: &str, digest: &str, kept: Kept) -> Result<Good, base64::DecodeError> {
    let mut files = BTreeMap::new();
    for (path, file) in kept.files {
        files.insert(path, File { executable: file.executable, bytes: STANDARD.decode(file.base64)? });
    }
    let sealed = match kept.sealed {
        Some(sealed) => Some(Sealed { path: sealed.path, bytes: STANDARD.decode(sealed.base64)? }),
        None => None,
    };
    let spec = HostSpec {
        name: kept.host,
        ring: kept.ring,
        vars: kept.vars,
        stacks: vec![StackSource { name: stack.to_owned(), files }],
        monitors: kept.monitors,
        withheld: kept.withheld,
        // When and where is the present revision's business.
        backups: None,
        sealed,
        agent: None,
        notes: Vec::new(),
        // They were asked when this version was first deployed.
        allowances: BTreeMap::new(),
        needs: BTreeMap::new(),
    };
    Ok(Good { stack: stack.to_owned(), digest: digest.to_owned(), revision: kept.revision, spec })
}

fn directory(state: &Path, stack: &str) -> PathBuf {
    state.join("good").join(stack)
}

fn file(directory: &Path, digest: &str) -> PathBuf {
    directory.join(format!("{digest}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(digest: &str) -> Good {
        let files = [("compose.yaml".to_owned(), File::plain("services: {}\n")), ("x".to_owned(), File::plain([255]))];
        let spec = HostSpec {
            name: "alpha".into(),
            ring: "canary".into(),
            vars: [("DOMAIN".to_owned(), "example.org".to_owned())].into(),
            stacks: vec![StackSource { name: "web".into(), files: files.into() }],
            monitors: Monitors { reconcile: Some("KUMA".into()), ..Monitors::default() },
            backups: None,
            withheld: ["BACKUP_PASSWORD".to_owned()].into(),
            sealed: Some(Sealed { path: "hosts/alpha/secrets.sops.yaml".into(), bytes: b"sealed".to_vec() }),
            agent: None,
            notes: Vec::new(),
            allowances: BTreeMap::new(),
            needs: BTreeMap::new(),
        };
        let revision = "0123456789012345678901234567890123456789".parse().unwrap();
        Good { stack: "web".into(), digest: digest.into(), revision, spec }
    }

    #[test]
    fn the_last_version_is_kept_whole_and_the_one_before_goes() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        keep(state, &good("one"), None).unwrap();
        assert_eq!(read(state, "web", "one").unwrap(), Some(good("one")));
        keep(state, &good("two"), Some("one")).unwrap();
        assert_eq!(read(state, "web", "one").unwrap(), Some(good("one")), "the ledger names it");
        keep(state, &good("two"), Some("two")).unwrap();
        assert_eq!(read(state, "web", "one").unwrap(), None);
        assert_eq!(read(state, "web", "two").unwrap(), Some(good("two")));
        fs::write(state.join("good/web/two.json"), b"{").unwrap();
        assert_eq!(read(state, "web", "two").unwrap_err().code, Code::LedgerDamaged);
        forget(state, "web").unwrap();
        forget(state, "web").unwrap();
        assert_eq!(read(state, "web", "two").unwrap(), None);
    }
}
