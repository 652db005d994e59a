//! One file per run, each read from top to bottom. Runs call decisions and the world; they hold no rules of their own.

pub mod accept;
pub mod agent;
pub mod backup;
pub mod boot;
pub mod courier;
pub mod deploy;
pub mod doctor;
pub mod gate;
pub mod generation;
pub mod good;
pub mod handover;
pub mod images;
pub mod networks;
pub mod prepare;
pub mod preview;
pub mod promote;
pub mod publish;
pub mod put_off;
pub mod reconcile;
pub mod ring;
pub mod rollback;
pub mod routes;
pub mod succession;
