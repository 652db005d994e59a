//! Everything about Traefik that can be decided without asking it: labels into files, files that would break it, and
//! what its answers mean.

pub mod definition;
pub mod label;
pub mod scalar;
pub mod schema;
pub mod service;
pub mod translate;
