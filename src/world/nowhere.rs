//! A world for a host that is not here: to plan for a directory. It has no places of its own, so it leaves none behind.

use std::path::PathBuf;
use std::rc::Rc;

use crate::decide::fault::Fault;
use crate::decide::settings;
use crate::world::Real;
use crate::world::journal::Journal;

/// The world of a host that is only known by name.
pub fn world(host: &str, journal: Journal) -> Result<Rc<Real>, Fault> {
    Real::new(settings::of_nowhere(host, own_plugin()), journal)
}

/// The plugin that a person installed for themselves. Docker looks there first; a host has none.
fn own_plugin() -> Option<PathBuf> {
    let path = std::env::home_dir()?.join(".docker/cli-plugins/docker-compose");
    path.is_file().then_some(path)
}
