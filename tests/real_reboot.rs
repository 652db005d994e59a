//! A host with systemd and its own engine, moored with the units that we ship: it loses its power and its network, and
//! its services come back with their secrets.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::collections::BTreeMap;

use support::mooring::furnish;
use support::{Engine, Lab, Vps, search_for_canary, until};

const UNITS: [&str; 5] = [
    "run-moorline.mount",
    "moorline-secrets.service",
    "moorline-job.socket",
    "moorline-courier.service",
    "moorline.service",
];

const NIGHT: [&str; 2] = ["moorline-backup.service", "moorline-backup.timer"];

const CANARIES: [&str; 3] = ["canary-owned-31c8", "canary-everyones-77aa", "canary-rendered-90be"];
const IN_CLEAR: &str = "stands-in-the-repository-18d2";

const STACK: &str = "\
services:
  app:
    image: lab/db:1
    restart: unless-stopped
    stop_grace_period: 1s
    volumes: ['data:/data']
    secrets: [{ source: owned, target: owned, uid: \"1000\", gid: \"2000\", mode: 0400 }, everyones, plain]
    configs: [{ source: rendered, target: /etc/rendered }]
  worker:
    image: lab/db:1
    restart: always
    stop_grace_period: 1s
    secrets: [everyones]
volumes:
  data: {}
secrets:
  owned: { environment: OWNED }
  everyones: { environment: EVERYONES }
  plain: { file: ./files/plain }
configs:
  rendered: { content: \"password=${RENDERED}\" }
";

/// What `app` finds: owner and mode as the stack asks for, root and 0444 where it does not.
const APP: &str = "\
/run/secrets/owned 1000:2000 400 canary-owned-31c8
/run/secrets/everyones 0:0 444 canary-everyones-77aa
/run/secrets/plain 0:0 644 stands-in-the-repository-18d2
/etc/rendered 0:0 444 password=canary-rendered-90be";
const WORKER: &str = "/run/secrets/everyones 0:0 444 canary-everyones-77aa";

/// Boots the host `alpha`, installs settings, keys and units as an operator does, and waits for the first run's end.
#[track_caller]
fn moor<'engine>(lab: &mut Lab, engine: &'engine Engine) -> Vps<'engine> {
    lab.fleet.write(
        "hosts/alpha/host.yaml",
        "ring: canary\nstacks: [app]\nbackup: { repository: /srv/backup, at: \"03:00\", check: never, drill: never }\n",
    );
    let sealed = format!(
        "all:\n  BACKUP_PASSWORD: x\napp:\n  OWNED: {}\n  EVERYONES: {}\n  RENDERED: {}\n",
        CANARIES[0], CANARIES[1], CANARIES[2]
    );
    lab.fleet.write("hosts/alpha/secrets.sops.yaml", lab.host.seal(&sealed));
    lab.fleet.write("stacks/app/compose.yaml", STACK).write("stacks/app/files/plain", IN_CLEAR);
    lab.publish("first");

    let vps = Vps::boot(engine, "trixie", "alpha");
    vps.load(&["lab/db:1"]);
    let door = lab.server.door(engine);
    furnish(&vps, &lab.host, (&lab.server, &door), "", "");
    vps.systemctl(&["enable", "--now", "moorline-secrets.service", "moorline-courier.service"]);
    until("the courier has fetched", || vps.journal("moorline-courier.service").contains("tip fetched").then_some(()));
    vps.systemctl(&["enable", "--now", "moorline.service"]);
    converged(&vps);
    vps
}

/// Waits for the end of the run that the keeper makes when it starts; returns what it said of it.
#[track_caller]
fn converged(vps: &Vps<'_>) -> String {
    let ended = until("the keeper's first run has ended", || {
        let journal = vps.journal("moorline.service");
        journal.lines().find(|line| line.contains("run ended")).map(str::to_owned)
    });
    assert!(ended.contains("converged"), "{ended}");
    ended
}

/// Containers by service: their ids, where their mounts come from, and what they find there.
#[track_caller]
fn services(vps: &Vps<'_>) -> BTreeMap<&'static str, [String; 3]> {
    let show = "for file; do echo \"$file $(stat -c '%u:%g %a' \"$file\") $(cat \"$file\")\"; done";
    let look = |container: &'static str, expected: &str| {
        let found = until("the service is up", || {
            let found = vps.inspect(container);
            (found["State"]["Health"]["Status"] == "healthy").then_some(found)
        });
        let files: Vec<&str> = expected.lines().filter_map(|line| line.split(' ').next()).collect();
        let read = vps.docker(&[&["exec", container, "sh", "-c", show, "sh"][..], &files].concat()).succeeds();
        assert_eq!(read, expected, "in {container}");
        // The engine lists them in any order.
        let mut sources: Vec<String> = found["Mounts"].as_array().unwrap().iter().map(ToString::to_string).collect();
        sources.sort();
        (container, [found["Id"].to_string(), sources.join("\n"), read])
    };
    [look("app-app-1", APP), look("app-worker-1", WORKER)].into()
}

/// What is left of the host when its memory is gone.
#[track_caller]
fn no_secret_is_on_disk(vps: &Vps<'_>) {
    assert!(!search_for_canary(&vps.disk(), &[IN_CLEAR]).is_empty(), "{:?} is not the disk", vps.disk());
    let hits = search_for_canary(&vps.disk(), &CANARIES);
    assert!(hits.is_empty(), "{hits:#?}");
}

/// What was said since the secrets were last put back. Not asked for by unit or invocation: the journal may read the last words
/// of a oneshot when it can no longer tell whose they are.
#[track_caller]
fn secrets_said(vps: &Vps<'_>) -> String {
    let secrets = "moorline-secrets.service";
    let began = ["show", "--value", "--timestamp=us+utc", "--property=InactiveExitTimestamp", secrets];
    let since = format!("--since={}", vps.systemctl(&began).trim());
    until("the journal has it", || {
        let said = vps.exec(&["journalctl", "--no-pager", "--output=cat", "--identifier=moorline", &since]).succeeds();
        said.lines().any(|line| line.starts_with("error") || line.contains("in memory")).then_some(said)
    })
}

/// Secrets were there before the engine, and everything came up by itself.
#[track_caller]
fn booted_in_order(vps: &Vps<'_>) {
    let time = |unit, property| vps.property(unit, property).parse::<u64>().unwrap();
    let secrets = time("moorline-secrets.service", "ExecMainExitTimestampMonotonic");
    let engine = time("docker.service", "ExecMainStartTimestampMonotonic");
    assert!(0 < secrets && secrets < engine, "secrets ended at {secrets}, the engine began at {engine}");
    let said = secrets_said(vps);
    assert!(said.contains("app: its files are in memory") && !said.contains("canary"), "{said}");
    assert_eq!(vps.failed_units(), "");
    assert!(UNITS.iter().all(|unit| vps.is_active(unit)));
    // Nothing was left for the keeper to mend.
    let ended = converged(vps);
    assert!(ended.contains("nothing to do"), "{ended}");
}

#[test]
fn after_a_power_cut_services_come_back_with_their_secrets_and_without_a_network() {
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    let vps = moor(&mut lab, &engine);
    let before = services(&vps);
    assert!(!vps.docker(&["exec", "-u", "1001", "app-app-1", "cat", "/run/secrets/owned"]).is_success());
    vps.write("/run/in-memory", "0600", "");

    vps.unplug();
    vps.cut_power();
    no_secret_is_on_disk(&vps);
    vps.power_on();
    assert!(!vps.exec(&["test", "-e", "/run/in-memory"]).is_success(), "this was no power cut");
    assert_eq!(vps.exec(&["ip", "route", "show", "default"]).succeeds(), "", "there is a network");
    assert_eq!(services(&vps), before);
    booted_in_order(&vps);

    // And after a shutdown in order, which gives everything time to write something down.
    vps.reboot();
    assert_eq!(services(&vps), before);
    booted_in_order(&vps);
    no_secret_is_on_disk(&vps);
}

#[test]
fn the_units_are_what_they_say() {
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    let vps = moor(&mut lab, &engine);
    let before = services(&vps);

    // An unknown key is only a warning, with exit code 0.
    let paths: Vec<String> = UNITS.iter().chain(&NIGHT).map(|unit| format!("/etc/systemd/system/{unit}")).collect();
    let verify: Vec<&str> = ["systemd-analyze", "verify"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let verified = vps.exec(&verify);
    assert!(verified.is_success() && verified.said().is_empty(), "{verified}");

    for unit in ["moorline.service", "moorline-courier.service"] {
        let pid = vps.property(unit, "MainPID");
        let limits = vps.exec(&["cat", &format!("/proc/{pid}/limits")]).succeeds();
        let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(cores.split_whitespace().collect::<Vec<_>>(), ["Max", "core", "file", "size", "0", "0", "bytes"]);
        // In mounts of its own, and yet the engine sees what it mounts.
        let mounts = |pid: &str| vps.exec(&["readlink", &format!("/proc/{pid}/ns/mnt")]).succeeds();
        assert_ne!(mounts(&pid), mounts("1"), "{unit}");
    }
    assert_eq!(vps.property("moorline-secrets.service", "LimitCORE"), "0");

    // Without this order it would usually be right, too.
    assert!(vps.property("docker.service", "After").split(' ').any(|unit| unit == "moorline-secrets.service"));

    // A night has what it needs and no more; the timer begins it.
    vps.exec(&["/usr/bin/moorline", "backup", "--init"]).succeeds();
    vps.systemctl(&["enable", "--now", NIGHT[1]]);
    assert!(vps.is_active(NIGHT[1]));
    let next = vps.property(NIGHT[1], "NextElapseUSecRealtime");
    assert!(!next.is_empty() && next != "n/a", "{next}");
    vps.systemctl(&["start", NIGHT[0]]);
    assert!(vps.journal(NIGHT[0]).contains("nothing is due; the next night begins at "));
    vps.exec(&["sed", "-i", "s/20[0-9][0-9]-/2020-/g", "/var/lib/moorline/backups.json"]).succeeds();
    vps.systemctl(&["start", NIGHT[0]]);
    let said = vps.journal(NIGHT[0]);
    assert!(said.contains("job done: backup of app to main, ") && !said.contains("error"), "{said}");
    assert_eq!(vps.property(NIGHT[0], "Result"), "success");
    assert_eq!(vps.property(NIGHT[0], "MemoryMax"), (512_u64 << 20).to_string());

    // What is stopped takes nothing along that a container mounts, and nobody is there to put it back.
    vps.systemctl(&[&["stop"], &UNITS[1..]].concat());
    vps.docker(&["restart", "--time", "1", "app-app-1", "app-worker-1"]).succeeds();
    assert_eq!(services(&vps), before);
    let stop = vps.exec(&["systemctl", "stop", UNITS[0]]).fails();
    assert!(stop.contains("refused"), "{stop}");
}

#[test]
fn what_the_engine_made_in_the_place_of_secrets_is_put_right() {
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    let vps = moor(&mut lab, &engine);
    let before = services(&vps);
    // Somebody's own container, in the short form that makes a directory of whatever is missing.
    let file = mount_source(&vps, "app-worker-1", "/run/secrets/everyones");
    let mount = format!("{file}:/theirs");
    vps.docker(&["run", "--detach", "--name=theirs", "--restart=always", "--volume", &mount, "lab/db:1"]).succeeds();

    // The host boots, but its secrets do not come back; the engine starts all the same.
    vps.exec(&["mv", "/etc/moorline/age.key", "/root/"]).succeeds();
    vps.cut_power();
    vps.power_on();
    assert!(vps.failed_units().starts_with("moorline-secrets.service "), "{}", vps.failed_units());
    let said = secrets_said(&vps);
    assert!(said.contains("error[key-missing]"), "{said}");
    vps.exec(&["test", "-d", &file]).succeeds();
    assert_eq!(vps.inspect("app-worker-1")["State"]["Running"], false);

    vps.exec(&["mv", "/root/age.key", "/etc/moorline/"]).succeeds();
    vps.systemctl(&["start", "moorline-secrets.service"]);
    vps.exec(&["test", "-f", &file]).succeeds();
    vps.systemctl(&["restart", "moorline.service"]);
    converged(&vps);
    assert_eq!(services(&vps), before);

    // The other way round: without our services there is no memory either, and after a reboot with them all is well.
    vps.systemctl(&[&["disable"], &UNITS[1..]].concat());
    vps.cut_power();
    vps.power_on();
    vps.exec(&["test", "-d", &file]).succeeds();
    vps.systemctl(&[&["enable"], &UNITS[1..]].concat());
    vps.reboot();
    assert_eq!(services(&vps), before);
    booted_in_order(&vps);
}

/// What a container has mounted at `place`.
#[track_caller]
fn mount_source(vps: &Vps<'_>, container: &str, place: &str) -> String {
    let found = vps.inspect(container);
    let mount = found["Mounts"].as_array().unwrap().iter().find(|mount| mount["Destination"] == place);
    mount.unwrap()["Source"].as_str().unwrap().to_owned()
}
