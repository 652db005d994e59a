//! `Sim`: a whole host in memory, the second implementation of `World`, which can be cut at any effect.
//!
//! Nothing of it is a decision of moorline: git objects, the engine and Compose behave as docs/facts.md says
//! the real ones do. What the real ones do is proven elsewhere, against the real ones.
#![allow(dead_code, unused_imports, reason = "every test binary uses its own part")]

mod chain;
mod compose;
mod drill;
mod engine;
mod golden;
mod logbook;
mod quiesce;
mod release;
mod repository;
mod restic;
mod sealed;
mod traefik;
mod transcript;
mod world;

pub use chain::Key;
pub use engine::{Behaviour, Engine, Instance};
pub use golden::same_as_golden;
pub use release::Manners;
pub use repository::{Repository, Signer, allowed_signers};
pub use restic::Vault;
pub use sealed::{ALPHA_KEY, BETA_KEY, Sealing, Sections, seal, seal_as};
pub use traefik::Traefik;
pub use transcript::Transcript;
pub use world::{Host, Sim};
