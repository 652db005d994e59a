//! Reads what the machine says of itself: `/proc`, systemd, apt.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::QUESTION;
use crate::decide::doctor::machine::{self, Room, Upgrades};
use crate::decide::doctor::units::{UNITS, Unit, parse};
use crate::world::child::Child;
use crate::world::disk;

/// Is there where systemd is the init.
const SYSTEMD: &str = "/run/systemd/system";
/// What we ask of each unit.
const PROPERTIES: &str = "--property=Id,LoadState,UnitFileState,ActiveState,Result,DropInPaths";
/// A drop-in is a few lines.
const LARGEST_DROP_IN: u64 = 64 * 1024;
/// What the name of an encrypted volume begins with.
const ENCRYPTED: &str = "CRYPT-";

/// The ports that anybody listens on.
pub fn listening_ports() -> BTreeSet<u16> {
    let table = |name: &str| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    machine::listening(&(table("tcp") + &table("tcp6")))
}

/// Swap areas that are neither memory nor encrypted.
pub fn swap_on_disk() -> Vec<String> {
    let areas = machine::swap_areas(&fs::read_to_string("/proc/swaps").unwrap_or_default());
    areas.into_iter().filter(|area| !is_safe(Path::new(area))).collect()
}

fn is_safe(area: &Path) -> bool {
    let device = fs::canonicalize(area).unwrap_or_else(|_| area.to_owned());
    let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // Compressed memory.
    let is_memory = device.starts_with("/dev") && name.starts_with("zram");
    let volume = fs::read_to_string(format!("/sys/block/{name}/dm/uuid")).unwrap_or_default();
    is_memory || volume.starts_with(ENCRYPTED)
}

/// How much room there is on the file system of a directory; none if it is not here.
pub fn room(directory: &Path) -> Option<Room> {
    let found = rustix::fs::statvfs(directory).ok()?;
    Some(Room {
        path: directory.display().to_string(),
        bytes: (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize),
        inodes: (found.f_favail, found.f_files),
    })
}

/// Whether the clock is set by the network, as the kernel knows it.
pub async fn clock_is_set() -> Option<bool> {
    let ask = Child::new("timedatectl", QUESTION).args(["show", "--property=NTPSynchronized", "--value"]);
    match String::from_utf8_lossy(&ask.run().await.ok()?.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// Our units, with their drop-ins.
pub async fn units() -> Option<Vec<Unit>> {
    if !Path::new(SYSTEMD).exists() {
        return None;
    }
    let names = UNITS.map(|(name, _)| name);
    let asked = Child::new("systemctl", QUESTION).args(["show", PROPERTIES]).args(names).run().await.ok()?;
    let shown = parse(&String::from_utf8_lossy(&asked.stdout));
    let with_drop_ins = shown.into_iter().map(|properties| {
        let paths = properties.get("DropInPaths").map_or("", String::as_str).split_whitespace();
        let text = |path: &str| disk::read(Path::new(path), LARGEST_DROP_IN).ok();
        let text = |path: &str| text(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let drop_ins = paths.filter_map(|path| Some((path.to_owned(), text(path)?))).collect();
        Unit { properties, drop_ins }
    });
    Some(with_drop_ins.collect())
}

/// What apt and its settings say.
pub async fn upgrades() -> Option<Upgrades> {
    if !Path::new("/etc/debian_version").exists() {
        return None;
    }
    let ask = Child::new("apt-config", QUESTION).args(["dump", "APT::Periodic::Unattended-Upgrade"]);
    let said = ask.run().await.map(|ended| String::from_utf8_lossy(&ended.stdout).into_owned()).unwrap_or_default();
    Some(Upgrades {
        installed: Path::new("/usr/bin/unattended-upgrade").exists(),
        enabled: said.contains('"') && !said.contains("\"0\""),
        reboot: Path::new("/run/reboot-required").exists(),
    })
}
