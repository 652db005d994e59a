//! Decides which hosts of a ring move first.

use sha2::{Digest, Sha256};

use crate::model::Revision;
use crate::model::ring::Ring;
use std::time::Duration;

/// The wave of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which one, from 1.
    pub number: usize,
    /// How long after the host first saw the promotion.
    pub after: Duration,
}

/// The wave in which `host` moves to `target`; none when the ring has no waves.
///
/// The hosts stand in the order of a hash of ring, host and revision: the same on every host and at every look, and
/// another one with each promotion, so that no host is always the first. A wave takes hosts from the front of that
/// row, rounded up: a first wave of ten percent of three hosts is one host, not none.
pub fn of(ring: &Ring, host: &str, hosts: &[String], target: &Revision) -> Option<Place> {
    let own = rank(ring, host, target);
    let before = hosts.iter().filter(|other| *other != host && rank(ring, other, target) < own).count();
    let others = hosts.iter().filter(|other| *other != host).count();
    let takes = |percent: u8| ((others + 1) * usize::from(percent)).div_ceil(100);
    let number = ring.waves.iter().position(|wave| before < takes(wave.percent))?;
    Some(Place { number: number + 1, after: ring.waves.get(number)?.after })
}

fn rank(ring: &Ring, host: &str, target: &Revision) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [ring.name.as_str(), host, target.as_str()] {
        // The length keeps `a` + `bc` and `ab` + `c` apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
