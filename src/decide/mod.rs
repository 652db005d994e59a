//! Everything that is decided: pure functions of values. No clock, no file, no socket, no log, no environment.

pub mod check;
pub mod check_clear;
pub mod check_secrets;
pub mod compose;
pub mod copies;
pub mod delivery;
pub mod difference;
pub mod digest;
pub mod dotenv;
pub mod event;
pub mod fault;
pub mod fleet;
pub mod health;
pub mod last_words;
pub mod mistake;
pub mod plan;
pub mod push;
pub mod remote;
pub mod render;
pub mod report;
pub mod schedule;
pub mod settings;
pub mod sops;
pub mod taint;
pub mod trust;
