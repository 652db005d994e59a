//! The lab: starts the real neighbours that tests run against, and leaves nothing of them behind.
//!
//! Everything here is a guard: dropping it, also in a panic, stops what it started. What a killed test run left is
//! cleared by the next one (see [`scratch`]). Programs come from the directory that `scripts/install-tools` fills.
//! A missing one is a failed test that names the package, never a test that passes without having run.
#![allow(dead_code, unused_imports, reason = "every test binary uses its own part of the lab")]

pub mod canary;
pub mod engine;
pub mod fleet;
pub mod git_server;
pub mod host;
pub mod hostile;
pub mod http;
pub mod image;
pub mod internet;
pub mod lab;
pub mod lane;
pub mod load;
pub mod misbehaving;
pub mod mooring;
pub mod plain;
pub mod proxy;
pub mod push_server;
pub mod random;
pub mod registry;
pub mod rest_server;
pub mod run;
pub mod scratch;
pub mod service;
pub mod sftp_server;
pub mod strace;
pub mod tools;
pub mod vault;
pub mod vps;
pub mod wait;
pub mod wire;

pub use canary::{Hit, search_for_canary};
pub use engine::Engine;
pub use fleet::{Fleet, Signer, Signing};
pub use git_server::GitServer;
pub use host::{Host, seal};
pub use image::Image;
pub use internet::Internet;
pub use lab::Lab;
pub use lane::{Before, Change, Lane, Lanes};
pub use load::{Habit, Load, Tally};
pub use misbehaving::Misbehaving;
pub use mooring::moor;
pub use plain::{Facts, Plain};
pub use proxy::{Proxy, Question, Side};
pub use push_server::{Beat, Mood, PushServer, Status};
pub use random::Random;
pub use registry::Registry;
pub use rest_server::RestServer;
pub use run::{Ran, Run};
pub use scratch::Scratch;
pub use service::Service;
pub use sftp_server::SftpServer;
pub use vault::Vault;
pub use vps::Vps;
pub use wait::until;
pub use wire::Wire;
