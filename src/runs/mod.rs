//! One file per run, each read from top to bottom. Runs call decisions and the world; they hold no rules of their own.

pub mod agent;
pub mod boot;
pub mod courier;
pub mod doctor;
pub mod images;
pub mod prepare;
pub mod preview;
pub mod promote;
pub mod reconcile;
pub mod ring;
pub mod routes;
