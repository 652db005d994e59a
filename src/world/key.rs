//! This host's age key: a file that only root can read, made here, and never replaced.
//!
//! Shows recipients only. Which key a file is sealed for is decided by whoever seals it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use age::secrecy::ExposeSecret;
use jiff::Timestamp;

use crate::decide::fault::{Code, Fault};
use crate::decide::sops::Identities;
use crate::model::Secret;
use crate::world::disk;

/// An identity file has a few lines.
const LARGEST: u64 = 16 * 1024;

/// Reads the identities of this host.
pub fn read(path: &Path) -> Result<Identities, Fault> {
    parse(path, &read_text(path)?)
}

/// Makes the first identity of this host and returns its recipient. A file that is there stays as it is.
pub fn generate(path: &Path, now: Timestamp) -> Result<String, Fault> {
    let _lock = lock(path)?;
    let (recipient, lines) = identity(now);
    disk::create(path, lines.expose().as_bytes(), 0o600).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Fault::new(Code::UsageInvalid, format!("{} is there already, and its key may be in use", path.display()))
                .at("nothing was changed")
                .hint("`moorline key show` prints its recipient; `moorline key generate --add` adds a second identity")
        }
        _ => disk::unwritable(path, &error),
    })?;
    Ok(recipient)
}

/// Makes one more identity, beside those that are there, and returns its recipient.
pub fn add(path: &Path, now: Timestamp) -> Result<String, Fault> {
    let _lock = lock(path)?;
    let before = read_text(path)?;
    parse(path, &before)?;
    let refused = |why: &str| {
        Fault::new(Code::UsageInvalid, format!("{} cannot take a second identity", path.display()))
            .because(why)
            .at("nothing was changed")
    };
    if before.expose().trim_start().starts_with("-----BEGIN ") {
        return Err(refused("it is an ssh key, and an identity of age cannot stand in the same file")
            .hint("name a new file as `paths.age_key` in agent.toml, then `moorline key generate`"));
    }
    let (recipient, lines) = identity(now);
    let separator = if before.expose().ends_with('\n') { "" } else { "\n" };
    // Room for the whole, so that no copy of a key is left behind by growing.
    let mut after = String::with_capacity(before.expose().len() + separator.len() + lines.expose().len());
    for part in [before.expose(), separator, lines.expose()] {
        after.push_str(part);
    }
    let after = Secret::new(after);
    if after.expose().len() as u64 > LARGEST {
        return Err(refused("it would be larger than what is read").hint("take old identities out of it"));
    }
    disk::write(path, after.expose().as_bytes(), 0o600).map_err(|error| disk::unwritable(path, &error))?;
    Ok(recipient)
}

/// A new identity: its recipient, and the lines that `age-keygen` would write.
fn identity(now: Timestamp) -> (String, Secret<String>) {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let key = identity.to_string();
    let lines = format!("# created: {now:.0}\n# public key: {recipient}\n{}\n", key.expose_secret());
    (recipient, Secret::new(lines))
}

fn read_text(path: &Path) -> Result<Secret<String>, Fault> {
    let bytes = disk::read_private(path, LARGEST).map_err(|error| unusable(path, &error).hint(fix(path, &error)))?;
    let text = Secret::new(String::from_utf8_lossy(&bytes).into_owned());
    drop(Secret::new(bytes));
    Ok(text)
}

fn parse(path: &Path, text: &Secret<String>) -> Result<Identities, Fault> {
    Identities::parse(text.expose())
        .map_err(|error| unusable(path, &error).hint("`moorline key generate` writes a file of the right form"))
}

fn unusable(path: &Path, error: &dyn std::error::Error) -> Fault {
    Fault::new(Code::KeyMissing, format!("the age key {} cannot be used", path.display()))
        .caused_by(error)
        .at("nothing was changed")
}

/// What to type. Owner and mode are mended alike; a link or a directory is not.
fn fix(path: &Path, error: &io::Error) -> String {
    let shown = path.display();
    // What the kernel says of a link that must not be followed; the standard library has no stable name for it.
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return format!("`paths.age_key` in agent.toml must name the file itself: readlink -f {shown}");
    }
    match error.kind() {
        ErrorKind::NotFound => "moorline key generate".into(),
        ErrorKind::PermissionDenied => "run it as root".into(),
        ErrorKind::IsADirectory | ErrorKind::InvalidInput | ErrorKind::FileTooLarge => {
            format!("ls -ld {shown}; `paths.age_key` in agent.toml names the file with the identity")
        }
        _ => format!("chown root {shown} && chmod 0600 {shown}"),
    }
}

/// Keeps a second `key generate` off until this one is done: of two that read the same file, one would be lost after
/// its recipient was printed.
fn lock(path: &Path) -> Result<File, Fault> {
    let directory = path.parent().unwrap_or(path);
    let locked = File::open(directory).and_then(|file| {
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(file)
    });
    locked.map_err(|error| match error.kind() {
        ErrorKind::NotFound => disk::unwritable(path, &error).hint(format!("mkdir -p {}", directory.display())),
        _ => disk::unwritable(path, &error),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[test]
    fn a_key_is_made_once_is_closed_to_others_and_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("age.key");
        let recipient = generate(&path, now()).unwrap();
        assert_eq!(read(&path).unwrap().recipients(), [recipient]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let before = fs::read(&path).unwrap();
        let fault = generate(&path, now()).unwrap_err();
        assert_eq!(fault.code, Code::UsageInvalid);
        assert!(fault.hint.unwrap().contains("moorline key generate --add"));
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn not_even_a_dangling_link_is_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("age.key");
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &path).unwrap();
        assert_eq!(generate(&path, now()).unwrap_err().code, Code::UsageInvalid);
        assert!(!directory.path().join("elsewhere").exists());
    }

    #[test]
    fn a_second_identity_stands_behind_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("age.key");
        assert_eq!(add(&path, now()).unwrap_err().code, Code::KeyMissing);
        let first = generate(&path, now()).unwrap();
        // A person may have cut the last line end off.
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.trim_end()).unwrap();
        let second = add(&path, now()).unwrap();
        assert_eq!(read(&path).unwrap().recipients(), [first, second]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn of_many_that_add_at_once_none_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("age.key");
        let mut made = vec![generate(&path, now()).unwrap()];
        let threads: Vec<_> = (0..6)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || add(&path, now()).unwrap())
            })
            .collect();
        made.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
        let mut kept = read(&path).unwrap().recipients();
        made.sort();
        kept.sort();
        assert_eq!(kept, made);
    }

    #[test]
    fn a_file_that_is_full_takes_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("age.key");
        generate(&path, now()).unwrap();
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str(&"#".repeat(16 * 1024 - text.len()));
        fs::write(&path, &text).unwrap();
        assert!(add(&path, now()).unwrap_err().because[0].contains("larger"));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn each_unsafe_file_is_refused_with_the_fix() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let good = place("good");
        generate(&good, now()).unwrap();
        let bytes = fs::read(&good).unwrap();
        let refused = |name: &str, because: &str, hint: &str| {
            let fault = read(&place(name)).unwrap_err();
            assert_eq!(fault.code, Code::KeyMissing, "{name}");
            assert!(fault.because.concat().contains(because), "{name}: {fault}");
            assert!(fault.hint.clone().unwrap().contains(hint), "{name}: {fault}");
            assert!(!fault.to_string().contains("AGE-SECRET-KEY"), "{name}");
        };
        refused("missing", "No such file", "moorline key generate");
        std::os::unix::fs::symlink(&good, place("link")).unwrap();
        refused("link", "symbolic link", "name the file itself");
        fs::create_dir(place("directory")).unwrap();
        refused("directory", "not a regular file", "ls -ld");
        // Nobody writes into this pipe: whoever opened it as a file would wait forever.
        rustix::fs::mknodat(
            rustix::fs::CWD,
            place("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        refused("pipe", "not a regular file", "ls -ld");
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601] {
            fs::write(place("open"), &bytes).unwrap();
            fs::set_permissions(place("open"), fs::Permissions::from_mode(mode)).unwrap();
            refused("open", &format!("{mode:04o}"), "chmod 0600");
        }
        fs::write(place("large"), "#".repeat(16 * 1024 + 1)).unwrap();
        fs::set_permissions(place("large"), fs::Permissions::from_mode(0o600)).unwrap();
        refused("large", "larger than 16384 bytes", "ls -ld");
        fs::write(place("large"), [&bytes[..], &b"#".repeat(16 * 1024 - bytes.len())].concat()).unwrap();
        read(&place("large")).unwrap();
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("age.key");
        generate(&path, now()).unwrap();
        // Only root can give a file away; any other user has no such file to try.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
            let fault = read(&path).unwrap_err();
            assert!(fault.because[0].contains("belongs to user 12345"), "{fault}");
            assert!(fault.hint.unwrap().contains("chown root"));
        }
    }
}
