//! Drills need containers that run for a while, which this engine does not have: real ones are drilled elsewhere.

use std::path::{Path, PathBuf};

use moorline::decide::backup::load::{Load, Roles, Server};
use moorline::decide::fault::Fault;
use moorline::model::Secret;
use moorline::model::host::Logins;
use moorline::world::drill::{Once, Space, Throwaway};

use super::Sim;

const NEVER: &str = "no run of the scenarios drills";

impl Throwaway for Sim {
    fn open_scratch(&self, _stack: &str) -> Result<PathBuf, Fault> {
        panic!("{NEVER}")
    }

    async fn space(&self) -> Result<Space, Fault> {
        panic!("{NEVER}")
    }

    fn files(&self, _directory: &Path) -> Result<Vec<String>, Fault> {
        panic!("{NEVER}")
    }

    async fn running(&self, _stack: &str, _service: &str) -> Result<String, Fault> {
        panic!("{NEVER}")
    }

    async fn start_like(
        &self,
        _stack: &str,
        _service: &str,
        _server: &Server,
        _secrets: &[&str],
    ) -> Result<String, Fault> {
        panic!("{NEVER}")
    }

    async fn load(
        &self,
        _container: &str,
        _load: &Load,
        _from: (&Path, Roles),
        _password: Option<&Secret<String>>,
        _secrets: &[&str],
    ) -> Result<(), Fault> {
        panic!("{NEVER}")
    }

    async fn run_once(&self, _stack: &str, _once: &Once, _secrets: &[&str]) -> Result<(), Fault> {
        panic!("{NEVER}")
    }

    async fn end_container(&self, _stack: &str, _container: &str) -> Result<(), Fault> {
        panic!("{NEVER}")
    }

    async fn fetch_image(&self, _stack: &str, _image: &str, _logins: &Logins) -> Result<(), Fault> {
        panic!("{NEVER}")
    }
}
