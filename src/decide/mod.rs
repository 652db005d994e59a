//! Everything that is decided: pure functions of values. No clock, no file, no socket, no log, no environment.

pub mod check;
pub mod check_clear;
pub mod check_secrets;
pub mod closure;
pub mod compose;
pub mod copies;
pub mod delivery;
pub mod diff;
pub mod difference;
pub mod digest;
pub mod dotenv;
pub mod downgrade;
pub mod event;
pub mod fault;
pub mod fleet;

pub mod health;
pub mod last_words;
pub mod mistake;
pub mod page;
pub mod plan;
pub mod promotion;
pub mod push;
pub mod remote;
pub mod render;
pub mod report;
pub mod ring;
pub mod schedule;
pub mod settings;
pub mod sops;
pub mod standstill;
pub mod taint;
pub mod traefik;
pub mod trust;
pub mod yaml;
