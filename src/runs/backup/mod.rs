//! Backups: what a host knows of them, its nights, and the way back.

pub mod account;
pub mod before_deploy;
pub mod database;
pub mod drill;
pub mod in_place;
pub mod known;
pub mod laptop;
pub mod night;
pub mod quiesce;
pub mod restore;
pub mod scratch;
pub mod snapshot;
pub mod sources;
pub mod upkeep;
