//! What goes wrong in a job, in the few kinds that lead to different words for a person.

use std::fmt;
use std::io;

use rustic_core::{ErrorKind, RusticError};
use serde::{Deserialize, Serialize};

/// The longest text of a trouble: a server chooses some of the words.
const LONGEST: usize = 1000;

/// Why a job, or a part of it, did not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Its kind.
    pub kind: Kind,
    /// One sentence, or what a neighbour said.
    pub words: String,
}

/// The kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The password opens no key of the repository.
    Password,
    /// There is no repository.
    Missing,
    /// The server showed another host key than the pinned one.
    HostKeyChanged,
    /// The server does not take our key.
    LoginRefused,
    /// The storage could not be reached, or broke off.
    Away,
    /// No room is left.
    Full,
    /// The storage does not let us read or write.
    Denied,
    /// There is no file of this name.
    Gone,
    /// What the repository holds cannot be believed.
    Damaged,
    /// What is to be saved is not there or cannot be read at all.
    Source,
    /// A dump of a database is not whole.
    Dump,
    /// The place for a restore cannot be used.
    Target,
    /// No snapshot, or several, go by this name; or it has no such path.
    Snapshot,
    /// Anything else.
    Internal,
    /// The server's certificate is not one that this host trusts.
    Certificate,
    /// Half of a file stands under its final name, and the server lets nobody replace it.
    Torn,
}

impl Trouble {
    /// A trouble with these words, cut to a bearable length and without control characters.
    pub fn new(kind: Kind, words: impl AsRef<str>) -> Self {
        let visible = |character: char| if character.is_control() { ' ' } else { character };
        let words: String = words.as_ref().chars().map(visible).take(LONGEST).collect();
        Self { kind, words: words.trim().to_owned() }
    }

    /// The trouble that the system has with a path.
    pub fn io(path: impl fmt::Display, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => Kind::Gone,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::Denied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Full,
            _ => Kind::Internal,
        };
        Self::new(kind, format!("{path}: {error}"))
    }

    /// Whether whatever is asked of the storage next would end like this, too.
    pub fn is_of_all(&self) -> bool {
        matches!(self.kind, Kind::Away | Kind::HostKeyChanged | Kind::LoginRefused)
    }

    /// What rustic says, in one line. Its own advice (where to report, what to set) is not for our users.
    pub fn rustic(error: &RusticError) -> Self {
        let kind = if error.is_incorrect_password() { Kind::Password } else { Kind::Damaged };
        // What follows is about rustic: kinds, codes, where it stood in its source.
        let said = error.display_log();
        let said = said.split(" (kind: ").next().unwrap_or_default();
        Self::new(kind, said.strip_prefix("Error: ").unwrap_or(said))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Trouble {}

impl From<Trouble> for Box<RusticError> {
    fn from(trouble: Trouble) -> Self {
        // rustic fills in what stands in braces.
        RusticError::new(ErrorKind::Backend, trouble.words.replace(['{', '}'], ""))
    }
}
