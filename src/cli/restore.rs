//! `moorline restore`: a snapshot, or a part of it, into an empty directory.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::progress::Progress;
use super::{Host, block_on_work, restore_database, show};
use crate::decide::fault::{Code, Fault};
use crate::runs::backup::database;
use crate::runs::backup::restore::{self, Wanted};
use crate::world::restic::order::Restored;

/// The exit code when something of the snapshot could not be restored.
const PARTIAL: u8 = 3;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The stack
    stack: String,
    /// The beginning of a snapshot's id, or `latest`
    snapshot: String,
    /// A path in the snapshot, such as /volumes/data; all of it without this
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// A directory that is empty or not there yet
    #[arg(long, value_name = "DIR", required_unless_present = "database")]
    to: Option<PathBuf>,
    /// Load the dump of this service into its running container, in the place of what is there
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["to", "path"])]
    database: Option<String>,
    /// Do not ask
    #[arg(long, requires = "database")]
    yes: bool,
    /// The backup repository, if there are several
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Print what was restored as JSON
    #[arg(long)]
    json: bool,
}

pub fn restore(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    if let Some(service) = &arguments.database {
        let wanted = database::Wanted {
            stack: arguments.stack.clone(),
            snapshot: arguments.snapshot.clone(),
            service: service.clone(),
            repository: arguments.repository.clone(),
        };
        return restore_database::restore(host, &wanted, arguments.yes, arguments.json);
    }
    let world = host.world()?;
    world.set_up()?;
    let to = arguments.to.clone().unwrap_or_default();
    let to = std::path::absolute(&to).map_err(|error| {
        Fault::new(Code::RestoreRefused, format!("{} cannot be used", to.display())).caused_by(&error)
    })?;
    let wanted = Wanted {
        stack: arguments.stack.clone(),
        snapshot: arguments.snapshot.clone(),
        path: arguments.path.clone(),
        to: to.clone(),
        repository: arguments.repository.clone(),
    };
    let mut progress = Progress::new("restored");
    let mut hear = |stack: &str, at| progress.show(stack, at);
    let restored = block_on_work(&world, restore::restore(&*world, wanted, &mut hear));
    progress.end();
    let restored = restored?;
    match arguments.json {
        true => show::json(&json!({ "version": 1, "restored": restored }))?,
        false => show::text(&as_text(&restored, &to))?,
    }
    Ok(if restored.lost.is_empty() { 0 } else { PARTIAL })
}

fn as_text(restored: &Restored, to: &Path) -> String {
    let (id, files, bytes) = (show::short(&restored.id), restored.files, show::size(restored.bytes));
    let mut text = format!("snapshot {id}: {files} files, {bytes}, restored to {} and read back\n", to.display());
    for lost in &restored.lost.first {
        text.push_str(&format!("  LOST {lost}\n"));
    }
    if restored.lost.count > 0 {
        text.push_str(&format!(
            "{} could not be restored; `restic check --read-data` says more\n",
            restored.lost.count
        ));
    }
    text
}
