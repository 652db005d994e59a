//! A night, or what a person asks for at noon: snapshots of the stacks, one after the other.

use crate::decide::fault::Fault;
use crate::runs::backup::known::known;
use crate::runs::backup::quiesce::{self, RunLock};
use crate::runs::backup::snapshot::{Occasion, Outcome, snapshot};
use crate::world::World;
use crate::world::restic::Restic;
use crate::world::restic::order::{First, Progress};

/// Makes the snapshots. What is in the way of one stack or repository does not keep the others from theirs.
pub async fn backup(
    world: &(impl World + Restic),
    only: Option<&str>,
    first: First,
    hear: &mut dyn FnMut(&str, Progress),
) -> Result<Vec<Outcome>, Fault> {
    let known = known(world)?;
    let _lock = world.lock_backup()?;
    quiesce::recover(world).await?;
    let occasion = Occasion { tags: Vec::new(), first, run_lock: RunLock::Free };
    let mut outcomes = Vec::new();
    for (stack, applied) in known.stacks(only)? {
        outcomes.extend(snapshot(world, &known, (stack, applied), &occasion, hear).await);
    }
    Ok(outcomes)
}
