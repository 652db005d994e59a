//! Judges the units: which a host needs, how each should be, and what drop-ins make of them.

use std::collections::BTreeMap;

use super::{Diagnosis, Trouble, broken, weak};

/// How a unit should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Enabled, and active.
    Runs,
    /// Active; something else starts it.
    Needed,
    /// Started by something else, and idle most of the time; it must only not have failed.
    Idles,
}

/// The units that we ship, and how each should be.
pub const UNITS: [(&str, Role); 7] = [
    ("run-moorline.mount", Role::Needed),
    ("moorline-secrets.service", Role::Runs),
    ("moorline-job.socket", Role::Needed),
    ("moorline-courier.service", Role::Runs),
    ("moorline.service", Role::Runs),
    ("moorline-backup.timer", Role::Runs),
    ("moorline-backup.service", Role::Idles),
];

/// Settings that a drop-in can only make weaker than what we ship.
const PROTECTION: [&str; 40] = [
    "AmbientCapabilities",
    "CapabilityBoundingSet",
    "DeviceAllow",
    "DevicePolicy",
    "DynamicUser",
    "Group",
    "IPAddressAllow",
    "IPAddressDeny",
    "KeyringMode",
    "LimitCORE",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoNewPrivileges",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadWritePaths",
    "RemoveIPC",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "RuntimeDirectoryPreserve",
    "SystemCallArchitectures",
    "SystemCallFilter",
    "SupplementaryGroups",
    "User",
];

/// A unit as `systemctl show` tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// `Id`, `LoadState`, `UnitFileState`, `ActiveState`, `Result`.
    pub properties: BTreeMap<String, String>,
    /// Its drop-ins: path and text.
    pub drop_ins: Vec<(String, String)>,
}

/// The units in what `systemctl show` prints: a block of `KEY=VALUE` for each.
pub fn parse(shown: &str) -> Vec<BTreeMap<String, String>> {
    let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let blocks = shown.split("\n\n").map(|block| block.lines().filter_map(pair).collect());
    blocks.filter(|block: &BTreeMap<_, _>| !block.is_empty()).collect()
}

/// Whether each unit is as it should be; one diagnosis for all that are, and one for each trouble.
pub fn units(found: &[Unit]) -> Vec<Diagnosis> {
    let mut diagnoses: Vec<Diagnosis> = found.iter().flat_map(judge).collect();
    if diagnoses.is_empty() {
        diagnoses.push(Diagnosis::Fine(format!("{} units are as they should be", found.len())));
    }
    diagnoses
}

fn judge(unit: &Unit) -> Vec<Diagnosis> {
    let property = |name: &str| unit.properties.get(name).map_or("", String::as_str);
    let name = property("Id");
    let role = UNITS.iter().find(|(known, _)| *known == name).map_or(Role::Idles, |(_, role)| *role);
    match property("LoadState") {
        "loaded" => {}
        "masked" => return vec![broken(format!("{name} is masked"), format!("`systemctl unmask {name}`"))],
        _ => {
            let fix = "install the package again, then `systemctl daemon-reload`";
            return vec![broken(format!("{name} is not installed"), fix)];
        }
    }
    let (active, enabled) = (property("ActiveState"), property("UnitFileState"));
    let mut diagnoses = Vec::new();
    if active == "failed" {
        let fix = format!("`journalctl -u {name} -n 50` says why; then `systemctl restart {name}`");
        let because = vec![format!("systemd says: {}", property("Result"))];
        diagnoses.push(Diagnosis::Broken(Trouble { because, ..Trouble::new(format!("{name} has failed"), fix) }));
    } else if role == Role::Runs && !["enabled", "enabled-runtime"].contains(&enabled) {
        let what = format!("{name} is {enabled}, so it does not come back after a reboot");
        diagnoses.push(broken(what, format!("`systemctl enable --now {name}`")));
    } else if role != Role::Idles && !["active", "activating", "reloading"].contains(&active) {
        diagnoses.push(broken(format!("{name} is {active}"), format!("`systemctl start {name}`")));
    }
    diagnoses.extend(unit.drop_ins.iter().filter_map(|(path, text)| weakened(name, path, text)));
    diagnoses
}

/// What a drop-in says about what protects a unit.
fn weakened(name: &str, path: &str, text: &str) -> Option<Diagnosis> {
    let key = |line: &str| line.split_once('=').map(|(key, _)| key.trim().to_owned());
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let mut keys: Vec<String> = lines.filter_map(key).filter(|key| PROTECTION.contains(&key.as_str())).collect();
    keys.dedup();
    (!keys.is_empty()).then(|| {
        weak(
            format!("{path} changes what protects {name}: {}", keys.join(", ")),
            format!("`systemctl cat {name}` shows it; if it is not on purpose, `systemctl revert {name}`"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(id: &str, load: &str, enabled: &str, active: &str) -> Unit {
        let shown =
            format!("Id={id}\nLoadState={load}\nUnitFileState={enabled}\nActiveState={active}\nResult=exit-code\n");
        Unit { properties: parse(&shown).remove(0), drop_ins: Vec::new() }
    }

    #[track_caller]
    fn trouble(diagnoses: &[Diagnosis]) -> (&str, &str) {
        let [Diagnosis::Broken(trouble) | Diagnosis::Weak(trouble)] = diagnoses else { panic!("{diagnoses:?}") };
        (&trouble.sentence, &trouble.fix)
    }

    #[test]
    fn every_unit_that_we_ship_has_a_role() {
        let shipped = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd")).unwrap();
        for unit in shipped {
            let name = unit.unwrap().file_name().to_string_lossy().into_owned();
            // Instances come and go.
            let is_unit = [".service", ".timer", ".mount", ".socket"].iter().any(|kind| name.ends_with(kind));
            let is_known = UNITS.iter().any(|(known, _)| *known == name);
            assert!(!is_unit || name.contains('@') || is_known, "{name}");
        }
    }

    #[test]
    fn a_host_as_it_should_be() {
        let all = [
            unit("run-moorline.mount", "loaded", "static", "active"),
            unit("moorline.service", "loaded", "enabled", "active"),
            unit("moorline-backup.service", "loaded", "static", "inactive"),
        ];
        assert_eq!(units(&all), [Diagnosis::Fine("3 units are as they should be".into())]);
    }

    #[test]
    fn each_trouble_has_its_command() {
        let of = |name, load, enabled, active| units(&[unit(name, load, enabled, active)]);
        let missing = of("moorline.service", "not-found", "", "inactive");
        assert_eq!(trouble(&missing).0, "moorline.service is not installed");
        let masked = of("moorline.service", "masked", "masked", "inactive");
        assert_eq!(trouble(&masked).1, "`systemctl unmask moorline.service`");
        let disabled = of("moorline-backup.timer", "loaded", "disabled", "active");
        assert_eq!(trouble(&disabled).1, "`systemctl enable --now moorline-backup.timer`");
        let stopped = of("moorline-courier.service", "loaded", "enabled", "inactive");
        assert_eq!(trouble(&stopped).1, "`systemctl start moorline-courier.service`");
        let failed = of("moorline-backup.service", "loaded", "static", "failed");
        assert!(trouble(&failed).1.starts_with("`journalctl -u moorline-backup.service -n 50`"));
    }

    #[test]
    fn a_drop_in_that_protects_less_is_named_and_others_are_not() {
        let mut unit = unit("moorline.service", "loaded", "enabled", "active");
        unit.drop_ins = vec![("/etc/a.conf".into(), "[Service]\n# IPAddressDeny=\nMemoryMax=2G\n".into())];
        assert!(matches!(units(&[unit.clone()])[0], Diagnosis::Fine(_)));
        unit.drop_ins = vec![("/etc/b.conf".into(), "[Service]\nIPAddressDeny=\nProtectSystem=no\n".into())];
        let weak = units(&[unit]);
        let (sentence, fix) = trouble(&weak);
        assert_eq!(sentence, "/etc/b.conf changes what protects moorline.service: IPAddressDeny, ProtectSystem");
        assert!(fix.ends_with("`systemctl revert moorline.service`"), "{fix}");
    }
}
