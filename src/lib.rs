//! moorline keeps a VPS moored to a signed git repository.
//!
//! Five layers; dependencies point down, and `tests/architecture.rs` holds them to it:
//!
//! ```text
//! cli      one file per verb: parse, call, print
//! runs     one run each, from top to bottom
//! world    every effect, one file per neighbour, behind the trait `World`; no decisions
//! decide   pure: no clock, no file, no socket, no log, no environment
//! model    the nouns
//! ```
//!
//! A run, and the types that only the step before can make:
//!
//! ```text
//! Tip --trust::verify--> VerifiedTree --fleet::read--> HostSpec --+
//!                              SOPS file --sops::decrypt--> Secrets --+--render--> Desired --+
//!                                                                      world.observe --> Observed --+--plan--> Plan
//! Report <--report::judge-- (Plan, [Outcome], Observed) <--world.act(step)-- for each step <----------------+
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod cli;
pub mod decide;
pub mod model;
pub mod runs;
pub mod world;
