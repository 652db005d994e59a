//! Decides which files of an operator's checkout come, change or go when a host comes, is let in, or leaves, and what is
//! left for a person to do.

use crate::decide::fault::{Code, Fault};
use crate::decide::fleet;
use crate::decide::mistake::meant;
use crate::model::tree::Tree;

mod enroll;
mod kept;
mod leave;
mod new;
mod rules;

pub use enroll::{Enrolled, enroll};
pub use kept::{Kept, Last, Seen, confirm};
pub use leave::{FinalBackup, Word, leave, unconfirmed};
pub use new::{Wish, new};

/// What becomes of the checkout: all of it, or nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Files that are written, whole, in the place of older ones.
    pub write: Vec<(String, Vec<u8>)>,
    /// A directory that comes or goes as a whole.
    pub directory: Option<Directory>,
}

/// A directory of the repository.
#[derive(Debug, PartialEq, Eq)]
pub enum Directory {
    /// It comes.
    Comes {
        /// Seen from the root.
        path: String,
        /// What is in it, by name.
        files: Vec<(String, Vec<u8>)>,
    },
    /// It goes, with all that is in it.
    Goes {
        /// Seen from the root.
        path: String,
    },
}

/// An edit, and what a person has to do then: a sentence for each, and below it what to type.
#[derive(Debug, PartialEq, Eq)]
pub struct Decided {
    /// What is done to the files.
    pub edit: Edit,
    /// What was done, in one sentence.
    pub done: String,
    /// What is left.
    pub left: Vec<Item>,
}

/// One line of a checklist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What is to be done.
    pub what: String,
    /// What to type, a line each.
    pub commands: Vec<String>,
}

impl Item {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), commands: Vec::new() }
    }

    fn command(mut self, line: impl Into<String>) -> Self {
        self.commands.push(line.into());
        self
    }
}

/// The fault of a request that cannot be carried out, with everything that is wrong with it.
fn refused(sentence: String, problems: Vec<String>) -> Fault {
    let fault = Fault::new(Code::UsageInvalid, sentence);
    problems.into_iter().fold(fault, Fault::at).at("nothing was written")
}

/// What is wrong with the name of a host that must be there.
fn unknown(tree: &Tree, host: &str) -> Option<String> {
    let hosts = fleet::hosts(tree);
    if hosts.iter().any(|known| known == host) {
        return None;
    }
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    Some(format!("there is no hosts/{}/{}", host.escape_debug(), meant(host, &names)))
}

/// The text of `.sops.yaml`, empty when there is none.
fn rules_text(tree: &Tree) -> Result<&str, String> {
    match tree.get(rules::PATH) {
        None => Ok(""),
        Some(file) => file.text().map_err(|_| ".sops.yaml is not UTF-8 text".to_owned()),
    }
}

/// The recipient that the repository names for a host.
pub fn recipient<'t>(tree: &'t Tree, host: &str) -> Option<&'t str> {
    tree.get(&format!("hosts/{host}/recipient")).and_then(|file| file.text().ok()).map(str::trim)
}
