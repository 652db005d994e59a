//! Reads what this host was told before it saw the repository: `agent.toml`.

use std::path::Path;

use crate::decide::fault::{Code, Fault};
use crate::decide::settings;
use crate::model::Settings;
use crate::world::disk;

/// It is a few hundred bytes.
const LARGEST: u64 = 64 * 1024;

/// Reads `agent.toml`.
pub fn read(path: &Path) -> Result<Settings, Fault> {
    let shown = path.display().to_string();
    let bytes = disk::read(path, LARGEST).map_err(|error| {
        Fault::new(Code::SettingsInvalid, format!("{shown} cannot be read"))
            .caused_by(&error)
            .hint("docs/agent.toml.md has an example; `--config FILE` names another file")
    })?;
    settings::read(&String::from_utf8_lossy(&bytes), &shown)
}
