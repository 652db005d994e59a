use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::arrive::install;
use super::*;

const CONTENT: &[u8] = b"a program\n";

fn offer() -> Offer {
    let sha256 = hex::encode(Sha256::digest(CONTENT));
    Offer { release: Release { version: "0.2.0".into(), sha256 }, url: "https://example.org/moorline".into() }
}

/// A state into which the courier has put this.
fn arrived(content: &[u8]) -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    fs::create_dir_all(arrive::downloads(state.path())).unwrap();
    fs::write(arrive::downloads(state.path()).join(offer().release.sha256), content).unwrap();
    state
}

fn installed(state: &Path) -> PathBuf {
    program(state, &offer().release)
}

fn downloads(state: &Path) -> usize {
    fs::read_dir(arrive::downloads(state)).unwrap().count()
}

#[test]
fn what_is_as_the_repository_says_stands_beside_the_others_and_can_be_run() {
    let state = arrived(CONTENT);
    assert_eq!(install(state.path(), &offer()), Ok(Arrival::Installed));
    assert_eq!(fs::read(installed(state.path())).unwrap(), CONTENT);
    assert_eq!(fs::metadata(installed(state.path())).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(downloads(state.path()), 0, "it has served");
    assert_eq!(install(state.path(), &offer()), Ok(Arrival::Installed), "again it is there already");
}

#[test]
fn what_has_not_come_is_missing() {
    let state = tempfile::tempdir().unwrap();
    assert_eq!(install(state.path(), &offer()), Ok(Arrival::Missing));
    fs::create_dir_all(arrive::downloads(state.path())).unwrap();
    assert_eq!(install(state.path(), &offer()), Ok(Arrival::Missing));
}

#[test]
fn other_content_is_removed_and_leaves_nothing() {
    for content in [&b"another program\n"[..], &CONTENT[..4], b""] {
        let state = arrived(content);
        let arrival = install(state.path(), &offer()).unwrap();
        assert!(matches!(&arrival, Arrival::Wrong(because) if because.contains("its SHA-256 is ")), "{arrival:?}");
        assert_eq!((downloads(state.path()), agents(state.path()).read_dir().unwrap().count()), (0, 0));
    }
}

#[test]
fn what_is_too_large_is_not_even_read() {
    let state = arrived(b"");
    let path = arrive::downloads(state.path()).join(offer().release.sha256);
    // It takes no space: it is one hole.
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(LARGEST + 1).unwrap();
    let arrival = install(state.path(), &offer()).unwrap();
    assert_eq!(arrival, Arrival::Wrong("it is larger than 512 MiB".into()));
}

#[test]
fn no_link_of_the_couriers_is_followed() {
    let secret = tempfile::tempdir().unwrap();
    fs::write(secret.path().join("program"), CONTENT).unwrap();
    let name = offer().release.sha256;

    let file = arrived(CONTENT);
    let link = arrive::downloads(file.path()).join(&name);
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(secret.path().join("program"), &link).unwrap();
    assert!(matches!(install(file.path(), &offer()).unwrap(), Arrival::Wrong(_)));
    assert!(secret.path().join("program").exists(), "the link went, and not what it leads to");

    let directory = tempfile::tempdir().unwrap();
    fs::rename(secret.path().join("program"), secret.path().join(&name)).unwrap();
    std::os::unix::fs::symlink(secret.path(), arrive::downloads(directory.path())).unwrap();
    install(directory.path(), &offer()).unwrap_err();
    assert!(secret.path().join(&name).exists() && !installed(directory.path()).exists());
}

#[test]
fn a_program_that_was_changed_goes_so_that_it_is_fetched_again() {
    let state = arrived(CONTENT);
    install(state.path(), &offer()).unwrap();
    fs::write(installed(state.path()), b"changed").unwrap();
    assert_eq!(install(state.path(), &offer()), Ok(Arrival::Missing));
    assert!(!installed(state.path()).exists());
}

#[test]
fn what_a_killed_installation_left_is_in_nobodys_way() {
    let state = arrived(CONTENT);
    fs::create_dir_all(installed(state.path()).parent().unwrap()).unwrap();
    fs::write(installed(state.path()).with_extension("moorline-new"), b"half").unwrap();
    assert_eq!(install(state.path(), &offer()), Ok(Arrival::Installed));
    assert_eq!(installed(state.path()).parent().unwrap().read_dir().unwrap().count(), 1);
}
