//! Makes the directories that a service needs before it begins: root's by root, the courier's by the courier.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::geteuid;

use crate::decide::fault::Fault;
use crate::world::lock::{self, Lock};
use crate::world::{Real, World, disk, fetch, memory, reserve};

impl Real {
    /// Makes the directories of this host: state on disk, secrets in memory.
    pub fn set_up(&self) -> Result<(), Fault> {
        for directory in [self.settings.state.clone(), self.settings.state.join("runs")] {
            fs::create_dir_all(&directory).map_err(|error| disk::unwritable(&directory, &error))?;
        }
        reserve::refill(&self.settings.state);
        memory::ensure(&self.settings.run, self.settings.memory).map(|()| reserve::refill(&self.settings.run))
    }

    /// Makes what the courier needs, and keeps every other courier off. One of its own user makes nothing outside of its own
    /// directory: the rest is root's, and made by root.
    pub fn set_up_courier(&self) -> Result<Lock, Fault> {
        let (state, own) = (&self.settings.state, self.settings.courier());
        if fs::metadata(state).map_or(true, |found| found.uid() == geteuid().as_raw()) {
            self.set_up()?;
        }
        fs::create_dir_all(&own).map_err(|error| disk::unwritable(&own, &error))?;
        fetch::check_owner(&self.settings.repository())?;
        Lock::take(&own.join(lock::COURIER), "courier", self.now())
    }
}
