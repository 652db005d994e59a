//! Everything about Traefik that can be decided without asking it: labels into files, files that would break it, and
//! what its answers mean.

pub mod definition;
pub mod due;
pub mod file;
pub mod host;
pub mod inspect;
pub mod interpolate;
pub mod label;
pub mod publish;
pub mod rough;
pub mod routes;
pub mod rule;
pub mod scalar;
pub mod schema;
pub mod service;
pub mod statics;
pub mod translate;
pub mod watched;
pub mod yaml;

pub use host::{Told, tell, tell_roughly};
pub use publish::{judge, publish};
