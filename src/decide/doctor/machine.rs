//! Judges the machine itself: clock, disk, swap, ports, tailnet, upgrades.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{Diagnosis, Trouble, broken, weak};

/// With less than this, an image or a database may not fit.
const LEAST_BYTES: u64 = 1 << 30;
/// With less than this share of the whole, and less than [`PLENTY`], somebody should look.
const SCARCE_PERCENT: u64 = 10;
/// However small a share of a large disk it is.
const PLENTY: u64 = 10 << 30;
/// With less than this share of the inodes, the next image may not fit.
const LEAST_INODES_PERCENT: u64 = 2;
/// How far the clock may be behind what was accepted: it was set meanwhile.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(1);
/// How early the end of a tailnet key is said.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
/// What Traefik listens on.
const PUBLIC: [u16; 2] = [80, 443];

/// How much room a file system has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// A directory on it.
    pub path: String,
    /// Bytes that are free, and all.
    pub bytes: (u64, u64),
    /// Inodes that are free, and all; zero where there is no fixed number.
    pub inodes: (u64, u64),
}

/// Whether there is room.
pub fn room(room: &Room) -> Diagnosis {
    let (path, (free, all), (inodes, all_inodes)) = (&room.path, room.bytes, room.inodes);
    let mib = free >> 20;
    let look = format!("`docker system df`; `du -xh --max-depth=2 {path} | sort -h | tail`");
    let share = |part: u64, whole: u64| part.saturating_mul(100) / whole.max(1);
    if free < LEAST_BYTES {
        return broken(format!("only {mib} MiB are free at {path}"), look);
    }
    let has_inodes = all_inodes > 0;
    if has_inodes && share(inodes, all_inodes) < LEAST_INODES_PERCENT {
        let count = format!("`du -x --inodes --max-depth=2 {path} | sort -n | tail`");
        return broken(format!("only {inodes} of {all_inodes} inodes are free at {path}"), count);
    }
    let is_scarce = free < PLENTY && share(free, all) < SCARCE_PERCENT;
    if is_scarce || has_inodes && share(inodes, all_inodes) < SCARCE_PERCENT {
        return weak(format!("less than {SCARCE_PERCENT} % is free at {path}: {mib} MiB, {inodes} inodes"), look);
    }
    Diagnosis::Fine(format!("{path}: {mib} MiB free"))
}

/// Whether something can be swapped to a disk; these are swap areas that are neither memory nor encrypted.
pub fn swap(areas: &[String]) -> Diagnosis {
    if areas.is_empty() {
        return Diagnosis::Fine("off, or in memory, or encrypted".into());
    }
    weak(
        format!("secrets in the memory of containers can be swapped to {}", areas.join(", ")),
        "`swapoff --all`, and take the line out of /etc/fstab; or make it encrypted swap",
    )
}

/// Whether the clock can be believed. `accepted` is when a revision was last accepted.
pub fn clock(now: Timestamp, accepted: Option<Timestamp>, synchronised: Option<bool>) -> Diagnosis {
    let fix = "`timedatectl set-ntp true` (`apt install systemd-timesyncd`), then `timedatectl timesync-status`";
    if let Some(accepted) = accepted.filter(|accepted| now.duration_since(*accepted) < -TOLERANCE) {
        let what = format!("the clock says {now:.0}, and a revision was accepted at {accepted:.0}");
        return Diagnosis::Broken(Trouble { because: vec!["it was set back".into()], ..Trouble::new(what, fix) });
    }
    match synchronised {
        Some(true) => Diagnosis::Fine(format!("{now:.0}, set by the network")),
        Some(false) => weak(format!("{now:.0}, and nothing sets it by the network"), fix),
        None => Diagnosis::Unseen("timedatectl says nothing of it".into()),
    }
}

/// The zone of the host's own clock, by its name.
pub fn zone(name: Option<&str>) -> Diagnosis {
    match name {
        Some(name) => Diagnosis::Fine(name.to_owned()),
        None => weak("it is not known, and UTC is used", "`timedatectl set-timezone Europe/Berlin`"),
    }
}

/// The ports that somebody listens on, from `/proc/net/tcp` and `tcp6`.
pub fn listening(tables: &str) -> BTreeSet<u16> {
    let port = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next()?, words.nth(1)?);
        let (_, port) = local.rsplit_once(':')?;
        // TCP_LISTEN
        u16::from_str_radix(port, 16).ok().filter(|_| state == "0A")
    };
    tables.lines().filter_map(port).collect()
}

/// The swap areas in `/proc/swaps`.
pub fn swap_areas(table: &str) -> Vec<String> {
    table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Whether 80 and 443 are free, or somebody's who may have them. `ours` are published by containers.
pub fn ports(listening: &BTreeSet<u16>, ours: Option<&BTreeSet<u16>>) -> Vec<Diagnosis> {
    let judge = |port: u16| match (listening.contains(&port), ours.map(|ours| ours.contains(&port))) {
        (_, Some(true)) => Diagnosis::Fine(format!("{port}: a container's")),
        (false, _) => Diagnosis::Fine(format!("{port}: free")),
        (true, None) => {
            Diagnosis::Unseen(format!("{port}: in use, and the engine does not say whether by a container"))
        }
        (true, Some(false)) => weak(
            format!("{port}: taken by a program that is no container, so Traefik cannot have it"),
            format!("`ss -ltnp 'sport = :{port}'` names it; `systemctl disable --now` it"),
        ),
    };
    PUBLIC.into_iter().map(judge).collect()
}

/// What `tailscale status --json` says, as far as it matters.
#[derive(Debug, Deserialize)]
struct Tailnet {
    #[serde(rename = "BackendState", default)]
    state: String,
    #[serde(rename = "Self", default)]
    own: Option<Own>,
}

#[derive(Debug, Deserialize)]
struct Own {
    #[serde(rename = "DNSName", default)]
    name: String,
    #[serde(rename = "KeyExpiry", default)]
    key_ends: Option<Timestamp>,
}

/// Whether the tailnet is up. `said` is what `tailscale status --json` prints; none where it is not installed.
pub fn tailnet(said: Option<&[u8]>, now: Timestamp) -> Diagnosis {
    let Some(said) = said else { return Diagnosis::Idle("tailscale is not installed".into()) };
    let fix = "`systemctl enable --now tailscaled`, then `tailscale up --ssh`";
    let Ok(found) = serde_json::from_slice::<Tailnet>(said) else {
        return broken("tailscaled does not answer, so nobody can log in", fix);
    };
    let own = found.own.as_ref();
    let name = own.map_or("this host", |own| own.name.trim_end_matches('.'));
    if found.state != "Running" {
        return broken(format!("it is not up, so nobody can log in: {}", found.state), fix);
    }
    match own.and_then(|own| own.key_ends).filter(|ends| ends.duration_since(now) < SOON) {
        Some(ends) => weak(
            format!("the key of {name} ends at {ends:.0}, and nobody can log in then"),
            "disable the expiry of this machine's key in the tailnet's console, or tag the machine",
        ),
        None => Diagnosis::Fine(format!("up as {name}")),
    }
}

/// What is known of upgrades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgrades {
    /// Whether `unattended-upgrades` is installed.
    pub installed: bool,
    /// Whether apt's settings start it every day.
    pub enabled: bool,
    /// Whether one waits for a reboot.
    pub reboot: bool,
}

/// Whether security upgrades come by themselves; none on a distribution without apt.
pub fn upgrades(found: Option<Upgrades>) -> Diagnosis {
    match found {
        None => Diagnosis::Idle("this is no Debian".into()),
        Some(Upgrades { installed: false, .. }) => {
            weak("security upgrades do not come by themselves", "`apt install unattended-upgrades`")
        }
        Some(Upgrades { enabled: false, .. }) => weak(
            "unattended-upgrades is installed and not turned on",
            "`dpkg-reconfigure --priority=low unattended-upgrades`",
        ),
        Some(Upgrades { reboot: true, .. }) => {
            weak("an upgrade waits for a reboot", "`systemctl reboot`: the stacks come back by themselves")
        }
        Some(_) => Diagnosis::Fine("security upgrades come by themselves".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fix(diagnosis: &Diagnosis) -> &str {
        match diagnosis {
            Diagnosis::Weak(trouble) | Diagnosis::Broken(trouble) => &trouble.fix,
            other => panic!("{other:?}"),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn room_is_bytes_and_inodes() {
        let gib = |free: u64, all: u64| (free << 30, all << 30);
        let of = |bytes, inodes| room(&Room { path: "/var/lib/docker".into(), bytes, inodes });
        assert_eq!(of(gib(20, 40), (900, 1000)), Diagnosis::Fine("/var/lib/docker: 20480 MiB free".into()));
        // btrfs counts no inodes.
        assert!(matches!(of(gib(20, 40), (0, 0)), Diagnosis::Fine(_)));
        assert!(matches!(of(gib(3, 40), (900, 1000)), Diagnosis::Weak(_)));
        assert!(matches!(of(gib(30, 4000), (900, 1000)), Diagnosis::Fine(_)));
        assert!(matches!(of(gib(20, 40), (50, 1000)), Diagnosis::Weak(_)));
        let full = of((900 << 20, 40 << 30), (900, 1000));
        assert!(
            matches!(&full, Diagnosis::Broken(trouble) if trouble.sentence == "only 900 MiB are free at /var/lib/docker")
        );
        let no_inodes = of(gib(20, 40), (10, 1000));
        assert!(matches!(no_inodes, Diagnosis::Broken(_)) && fix(&no_inodes).contains("--inodes"));
    }

    #[test]
    fn swap_on_a_disk_is_named() {
        assert!(matches!(swap(&[]), Diagnosis::Fine(_)));
        let on = swap(&["/swapfile".into()]);
        assert!(matches!(&on, Diagnosis::Weak(trouble) if trouble.sentence.ends_with("swapped to /swapfile")));
    }

    #[test]
    fn a_clock_that_was_set_back_is_broken_and_one_that_nobody_sets_is_weak() {
        let (now, later) = (at("2026-01-11T12:00:00Z"), at("2026-01-11T12:05:00Z"));
        assert_eq!(
            clock(now, Some(now), Some(true)),
            Diagnosis::Fine("2026-01-11T12:00:00Z, set by the network".into())
        );
        assert!(matches!(clock(now, None, Some(false)), Diagnosis::Weak(_)));
        assert!(matches!(clock(now, None, None), Diagnosis::Unseen(_)));
        let back = clock(now, Some(later), Some(true));
        assert!(matches!(back, Diagnosis::Broken(_)) && fix(&back).starts_with("`timedatectl set-ntp true`"));
        assert!(matches!(zone(None), Diagnosis::Weak(_)));
    }

    #[test]
    fn a_port_is_free_or_a_containers_or_somebody_elses() {
        let listening = [22, 80, 443].into();
        let found = ports(&listening, Some(&[443].into()));
        assert_eq!(found[1], Diagnosis::Fine("443: a container's".into()));
        assert_eq!(fix(&found[0]), "`ss -ltnp 'sport = :80'` names it; `systemctl disable --now` it");
        assert!(ports(&[22].into(), None).iter().all(|port| matches!(port, Diagnosis::Fine(_))));
        assert!(matches!(ports(&listening, None)[0], Diagnosis::Unseen(_)));
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let tcp = "  sl  local_address rem_address   st tx_queue\n\
                   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000\n\
                   1: 0100007F:C001 0100007F:01BB 01 00000000:00000000 00:00000000\n\
                   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000\n";
        assert_eq!(listening(tcp), [80, 443].into());
        let swaps = "Filename Type Size Used Priority\n/dev/zram0 partition 1 0 100\n/swapfile file 1048572 0 -2\n";
        assert_eq!(swap_areas(swaps), ["/dev/zram0", "/swapfile"]);
    }

    #[test]
    fn a_tailnet_that_is_down_locks_everybody_out() {
        let now = at("2026-01-11T12:00:00Z");
        let said = |text: &str| tailnet(Some(text.as_bytes()), now);
        assert!(matches!(tailnet(None, now), Diagnosis::Idle(_)));
        assert_eq!(
            said(r#"{"BackendState":"Running","Self":{"DNSName":"gamma.tail1.ts.net."}}"#),
            Diagnosis::Fine("up as gamma.tail1.ts.net".into())
        );
        assert!(matches!(said(r#"{"BackendState":"NeedsLogin"}"#), Diagnosis::Broken(_)));
        assert!(fix(&said("failed to connect to local tailscaled")).contains("tailscale up --ssh"));
        let soon = said(r#"{"BackendState":"Running","Self":{"DNSName":"g.","KeyExpiry":"2026-01-20T00:00:00Z"}}"#);
        assert!(matches!(soon, Diagnosis::Weak(_)));
    }

    #[test]
    fn upgrades_are_installed_and_turned_on_and_do_not_wait() {
        let all = Upgrades { installed: true, enabled: true, reboot: false };
        assert!(matches!(upgrades(None), Diagnosis::Idle(_)) && matches!(upgrades(Some(all)), Diagnosis::Fine(_)));
        let of = |upgrade| fix(&upgrades(Some(upgrade))).to_owned();
        assert!(of(Upgrades { installed: false, ..all }).starts_with("`apt install"));
        assert!(of(Upgrades { enabled: false, ..all }).starts_with("`dpkg-reconfigure"));
        assert!(of(Upgrades { reboot: true, ..all }).starts_with("`systemctl reboot`"));
    }
}
