//! Where everything lies that goes into a snapshot of a stack, and where in the snapshot it goes.

use std::path::{Path, PathBuf};

use crate::decide::fault::{Code, Fault};
use crate::decide::{backup, compose};
use crate::model::Applied;
use crate::model::backup::{Origin, StackBackup};
use crate::world::World;
use crate::world::restic::order::Source;

/// What of a stack goes into its snapshots, as it was deployed.
pub fn plan(world: &impl World, stack: &str, applied: &Applied) -> StackBackup {
    let extension = compose::Extension::read(&applied.model.extension).unwrap_or_default();
    backup::choose(stack, &applied.model, &extension.backup, &world.settings().stack_directory(stack))
}

/// Where everything lies that goes into a snapshot of this stack, and where it goes.
pub async fn sources(world: &impl World, plan: &StackBackup, applied: &Applied) -> Result<Vec<Source>, Fault> {
    let missing = |what: String| {
        Fault::new(Code::BackupSource, what)
            .at(format!("no snapshot of {} was written", plan.stack))
            .hint(format!("`moorline reconcile` brings {} up as it should be", plan.stack))
    };
    let good = world.good(&plan.stack, &applied.digest)?;
    let good = good.ok_or_else(|| missing(format!("what {} was made from is not kept on this host", plan.stack)))?;
    let mut sources = vec![Source { to: "/fleet".into(), from: world.lay_out(&good)?, below: PathBuf::new() }];
    let directory = world.settings().stack_directory(&plan.stack);
    for source in &plan.sources {
        sources.push(match &source.origin {
            Origin::Volume { key, name } => {
                let place = world.volume(name).await?;
                let from = place.ok_or_else(|| missing(format!("volume `{name}` of {} is not there", plan.stack)))?;
                Source { to: Path::new("/volumes").join(key), from, below: PathBuf::new() }
            }
            Origin::Path(path) => match path.strip_prefix(&directory) {
                // Containers may own parts of it, so nothing on the way below it is believed to be what it was.
                Ok(below) => {
                    Source { to: Path::new("/directory").join(below), from: directory.clone(), below: below.to_owned() }
                }
                Err(_) => Source {
                    to: Path::new("/paths").join(path.strip_prefix("/").unwrap_or(path)),
                    from: path.clone(),
                    below: PathBuf::new(),
                },
            },
        });
    }
    Ok(sources)
}
