//! Judges how the Docker Engine is set up.

use super::{Diagnosis, weak};

/// What `docker info` says, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineSettings {
    /// How it stores layers: `overlay2`.
    pub storage: String,
    /// The version of control groups, and who makes them.
    pub cgroups: (String, String),
    /// Whether containers run on while it is away.
    pub live_restore: bool,
    /// Where it keeps everything.
    pub root: String,
}

/// Whether it stores layers well, and lets containers run on while it is updated.
pub fn settings(found: &EngineSettings) -> Vec<Diagnosis> {
    let (version, driver) = &found.cgroups;
    let mut diagnoses = Vec::new();
    if found.storage == "vfs" {
        diagnoses.push(weak(
            "it copies every layer of every image (`vfs`), which fills the disk",
            "put `\"storage-driver\": \"overlay2\"` into /etc/docker/daemon.json, on a file system that can be laid upon, \
             then `systemctl restart docker`; images are pulled again",
        ));
    }
    if !found.live_restore {
        diagnoses.push(weak(
            "every container stops while the engine is updated or restarted",
            "put `\"live-restore\": true` into /etc/docker/daemon.json, then `systemctl reload docker`",
        ));
    }
    if diagnoses.is_empty() {
        let storage = &found.storage;
        diagnoses.push(Diagnosis::Fine(format!("{storage}, cgroups v{version} by {driver}, live-restore")));
    }
    diagnoses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_set_up_well_and_one_that_is_not() {
        let good = EngineSettings {
            storage: "overlay2".into(),
            cgroups: ("2".into(), "systemd".into()),
            live_restore: true,
            root: "/var/lib/docker".into(),
        };
        assert_eq!(settings(&good), [Diagnosis::Fine("overlay2, cgroups v2 by systemd, live-restore".into())]);
        let bad = settings(&EngineSettings { storage: "vfs".into(), live_restore: false, ..good });
        let fixes = bad.iter().map(|diagnosis| match diagnosis {
            Diagnosis::Weak(trouble) => trouble.fix.clone(),
            other => panic!("{other:?}"),
        });
        let fixes: Vec<String> = fixes.collect();
        assert!(fixes[0].contains("overlay2") && fixes[1].contains("live-restore"), "{fixes:?}");
    }
}
