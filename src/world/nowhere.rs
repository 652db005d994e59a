//! A world for a host that is not here: to plan for a directory, with a scratch place that goes with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::decide::fault::Fault;
use crate::decide::settings;
use crate::world::Real;
use crate::world::journal::Journal;

/// The world, and the scratch place below the system's directory for temporary files.
pub struct Nowhere {
    world: Rc<Real>,
    scratch: PathBuf,
}

impl Nowhere {
    /// Nothing is touched yet.
    #[allow(clippy::disallowed_methods, reason = "a host that is not here has no agent.toml that names a place")]
    pub fn new(host: &str, journal: Journal) -> Result<Self, Fault> {
        let scratch = std::env::temp_dir().join(format!("moorline-plan-{}", std::process::id()));
        let world = Real::new(settings::of_nowhere(host, &scratch, own_plugin()), journal)?;
        Ok(Self { world, scratch })
    }

    /// The world.
    pub fn world(&self) -> &Real {
        &self.world
    }

    /// The scratch place.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }
}

impl Drop for Nowhere {
    fn drop(&mut self) {
        // Ours, and empty by now.
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// The plugin that a person installed for themselves. Docker looks there first; a host has none.
fn own_plugin() -> Option<PathBuf> {
    let path = std::env::home_dir()?.join(".docker/cli-plugins/docker-compose");
    path.is_file().then_some(path)
}
