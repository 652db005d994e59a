//! What a host is left with, as text: without ids and times, which differ between two ways to the same state.

use std::fmt::Write as _;

use crate::sim::Sim;

/// Containers, files on disk, files in memory, and what is remembered; the anchor last.
pub fn left(sim: &Sim) -> String {
    let ledger = sim.remembered();
    let host = sim.host();
    let mut text = String::new();
    for container in host.engine.observe(host.time().as_second() + 60).containers {
        let _ = writeln!(
            text,
            "{} {} {} {:?} {:?} {:?} {:?}",
            container.name,
            container.image,
            container.config_hash,
            container.state,
            container.health,
            container.networks,
            container.labels
        );
    }
    for (stack, files) in &host.directories {
        for (path, file) in files {
            let _ = writeln!(text, "disk {stack}/{path}\n{}", String::from_utf8_lossy(&file.bytes));
        }
    }
    for (stack, environment) in &host.environments {
        let _ = writeln!(text, "memory {stack}/.env\n{environment}");
    }
    for (path, content) in &host.secrets {
        let _ = writeln!(text, "memory {path} {}", String::from_utf8_lossy(content));
    }
    for (path, content) in &host.routes {
        let _ = writeln!(text, "route {path}\n{}", String::from_utf8_lossy(content));
    }
    let _ = writeln!(text, "routes {:?}", ledger.routes);
    let _ = writeln!(text, "networks {:?}\nvolumes {:?}", host.engine.networks, host.engine.volumes);
    for (stack, applied) in &ledger.applied {
        let snapshot: Vec<_> =
            applied.snapshot.iter().map(|container| (&container.name, &container.config_hash)).collect();
        let _ = writeln!(text, "applied {stack} {} {:?} {snapshot:?}", applied.digest, applied.content);
    }
    let settled = ledger.settled.as_ref().map(|settled| (&settled.stacks, &settled.ring));
    let _ = writeln!(text, "settled {settled:?}");
    let _ = writeln!(text, "anchor {:?}", ledger.anchor.map(|anchor| anchor.revision));
    text
}

/// Fails with the lines that differ.
#[track_caller]
pub fn assert_same(goal: &str, found: &str, how: &str) {
    let missing: Vec<&str> = goal.lines().filter(|line| !found.contains(*line)).collect();
    let extra: Vec<&str> = found.lines().filter(|line| !goal.contains(*line)).collect();
    assert!(goal == found, "{how}:\n- {}\n+ {}", missing.join("\n- "), extra.join("\n+ "));
}
