//! The job that says how much of a snapshot a restore would write: lists only, no content is read.

use std::sync::Arc;

use super::backend::Backend;
use super::job::{self, Voice, explain};
use super::order::{Measured, Restore};
use super::restore::{choose, top};
use super::trouble::Trouble;

/// Adds the files of a snapshot up, or those of a part of it.
pub fn measure(
    backend: &Arc<Backend>,
    password: &str,
    task: &Restore,
    voice: &Arc<Voice>,
) -> Result<Measured, Trouble> {
    let repository = job::open(backend, password, None, voice, &Arc::default())?;
    let snapshot = choose(job::snapshots(backend, &repository)?, task)?;
    let failed = |error: Box<rustic_core::RusticError>| explain(backend, &error);
    let repository = repository.to_indexed().map_err(failed)?;
    let top = top(&repository, backend, &snapshot, task)?;
    let mut measured = Measured { id: snapshot.id.to_hex().as_str().to_owned(), files: 0, bytes: 0 };
    let mut waiting = vec![top];
    while let Some(node) = waiting.pop() {
        if let Some(tree) = node.subtree.as_ref() {
            waiting.extend(repository.get_tree(tree).map_err(failed)?.nodes);
        } else if node.is_file() {
            measured.files += 1;
            measured.bytes += node.meta.size;
        }
    }
    Ok(measured)
}
