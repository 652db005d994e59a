//! A checkout that somebody names with `--dir`: what is in it, and for which hosts.

use std::path::Path;

use crate::decide::fault::{Code, Fault};
use crate::decide::fleet;
use crate::model::tree::Tree;
use crate::world::disk;

/// The checkout, and the host that was asked for, or all of them.
///
/// # Errors
/// `usage-invalid` when it cannot be read, or is no fleet repository.
pub fn read(directory: &Path, only: Option<&String>) -> Result<(Tree, Vec<String>), Fault> {
    let tree = disk::read_tree(directory)?;
    let hosts = match only {
        Some(name) => vec![name.clone()],
        None => fleet::hosts(&tree),
    };
    if hosts.is_empty() {
        return Err(Fault::new(Code::UsageInvalid, format!("{} has no hosts/", directory.display()))
            .hint("name the root of the repository"));
    }
    Ok((tree, hosts))
}
