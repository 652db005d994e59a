//! Whole runs on a host in memory: scenarios with their transcripts, and what must hold however a run ends.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

#[path = "../sim/mod.rs"]
mod sim;

mod backups;
mod before_deploy;
mod boot;
mod clocks;
mod cuts;
mod deploys;
mod drift;
mod fleet;
mod leaks;
mod needs_and_images;
mod nights;
mod properties;
mod releases;
mod rings;
mod scenarios;
mod start_first;
mod traefik;
mod trust;
mod world_after;
