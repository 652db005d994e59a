//! The units on a whole host: who may what, what becomes of a host whose courier was taken over, and that whatever is killed
//! or hangs comes back by itself.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use serde_json::Value as Json;
use support::git_server::Door;
use support::mooring::furnish;
use support::{Engine, Lab, Vps, until};

const COURIER: &str = "moorline-courier.service";
const KEEPER: &str = "moorline.service";
const SECRETS: &str = "moorline-secrets.service";
const NIGHT: &str = "moorline-backup.service";
const CANARY: &str = "canary-t0ken-51d7";

const STACK: &str = "\
services:
  app:
    image: lab/db:1
    environment: { VERSION: one }
    restart: unless-stopped
    stop_grace_period: 1s
    volumes: ['data:/data']
    secrets: [{ source: token, target: token, uid: \"1000\", mode: 0400 }]
volumes:
  data: {}
secrets:
  token: { environment: TOKEN }
x-moorline: { deploy: { snapshot_before: true } }
";

/// Stands for Uptime Kuma, on the host itself.
const KUMA: &str = "\
#!/usr/bin/python3
from http.server import BaseHTTPRequestHandler, HTTPServer
class Kuma(BaseHTTPRequestHandler):
    def do_GET(self):
        open('/run/beats', 'a').write(self.path + '\\n')
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{\"ok\":true}')
HTTPServer(('127.0.0.1', 3001), Kuma).serve_forever()
";

/// A host whose stack runs, with a backup repository and a monitor.
#[track_caller]
fn moor<'engine>(lab: &mut Lab, engine: &'engine Engine) -> (Vps<'engine>, Door) {
    lab.fleet.write(
        "hosts/alpha/host.yaml",
        "ring: canary\nstacks: [app]\nmonitors: { reconcile: KUMA }\n\
         backup: { repository: /srv/backup, at: \"03:00\", check: never, drill: never }\n",
    );
    let kuma = "http://127.0.0.1:3001/api/push/t0ken";
    let sealed = lab.host.seal(&format!("all:\n  BACKUP_PASSWORD: x\n  KUMA: {kuma}\napp:\n  TOKEN: {CANARY}\n"));
    lab.fleet.write("hosts/alpha/secrets.sops.yaml", sealed).write("stacks/app/compose.yaml", STACK);
    lab.publish("first");

    let vps = Vps::boot(engine, "trixie", "alpha");
    vps.load(&["lab/db:1"]);
    let door = lab.server.door(engine);
    furnish(&vps, &lab.host, (&lab.server, &door), "poll = \"2s\"\n", "");
    vps.write("/usr/local/bin/kuma", "0755", KUMA);
    vps.exec(&["systemd-run", "--quiet", "--unit=kuma", "/usr/local/bin/kuma"]).succeeds();
    // Not as patient as in earnest.
    for (unit, quick) in [(KEEPER, "WatchdogSec=4s\n"), (COURIER, "WatchdogSec=4s\n"), (SECRETS, "")] {
        let quick = format!("[Service]\nRestartSec=100ms\n{quick}");
        vps.write(&format!("/etc/systemd/system/{unit}.d/quick.conf"), "0644", quick);
    }
    vps.systemctl(&["daemon-reload"]);
    // By hand first, as root: what it made is the courier's afterwards.
    vps.exec(&["/usr/bin/moorline", "courier", "--once"]).succeeds();
    vps.systemctl(&["enable", "--now", SECRETS, COURIER, KEEPER]);
    converged(&vps);
    vps.exec(&["/usr/bin/moorline", "backup", "--init"]).succeeds();
    (vps, door)
}

/// The keeper that runs now has ended a run, and it was a good one.
#[track_caller]
fn converged(vps: &Vps<'_>) {
    until("the keeper has converged", || vps.journal(KEEPER).contains("run ended: converged").then_some(()));
}

/// What runs: the container's id, its version, and its secret.
#[track_caller]
fn running(vps: &Vps<'_>) -> [String; 3] {
    let app = vps.inspect("app-app-1");
    assert_eq!(app["State"]["Running"], true);
    let environment = app["Config"]["Env"].as_array().unwrap().iter().filter_map(Json::as_str);
    let version = environment.filter_map(|line| line.strip_prefix("VERSION=")).collect();
    let token = vps.docker(&["exec", "app-app-1", "cat", "/run/secrets/token"]).succeeds();
    [app["Id"].to_string(), version, token]
}

/// Waits until this version runs.
#[track_caller]
fn deployed(vps: &Vps<'_>, version: &str) {
    let (format, expected) = ("{{.Config.Env}} {{.State.Running}}", format!("VERSION={version}"));
    until("it is deployed", || {
        let app = vps.docker(&["inspect", "--format", format, "app-app-1"]).stdout;
        (app.contains(&expected) && app.contains("true")).then_some(())
    });
}

/// A shell as the courier's user, with none of what its unit forbids.
#[track_caller]
fn as_courier(vps: &Vps<'_>, script: &str) -> bool {
    let user = ["setpriv", "--reuid=moorline-courier", "--regid=moorline-courier", "--clear-groups"];
    vps.exec(&[&user[..], &["sh", "-euc", script]].concat()).is_success()
}

/// What is trusted. The tip is only what the courier says.
#[track_caller]
fn trust(vps: &Vps<'_>) -> String {
    let said = vps.exec(&["/usr/bin/moorline", "trust"]).succeeds();
    said.lines().filter(|line| !line.starts_with("tip")).collect::<Vec<_>>().join("\n")
}

/// Has the keeper look, and returns what it says at the end of that run.
#[track_caller]
fn look(vps: &Vps<'_>) -> String {
    let ended = || -> Vec<String> {
        vps.journal(KEEPER).lines().filter(|line| line.contains("run ended")).map(str::to_owned).collect()
    };
    let before = ended().len();
    vps.systemctl(&["reload", KEEPER]);
    until("another run has ended", || ended().get(before..).and_then(|new| new.last().cloned()))
}

#[test]
fn the_courier_may_fetch_and_send_and_whoever_takes_it_over_changes_nothing() {
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    let (vps, _door) = moor(&mut lab, &engine);

    // It is not root, and yet it fetched over ssh; what it sent goes with the keeper's next message.
    let pid = vps.property(COURIER, "MainPID");
    let user = vps.exec(&["stat", "-c", "%U", &format!("/proc/{pid}")]).succeeds();
    let owner = |path: &str| vps.exec(&["stat", "-c", "%U %a", path]).succeeds();
    assert_eq!(
        (user.as_str(), owner("/var/lib/moorline/courier").as_str()),
        ("moorline-courier", "moorline-courier 700")
    );
    assert!(owner("/var/lib/moorline/courier/repo.git").starts_with("moorline-courier "));
    until("Kuma was told", || vps.exec(&["grep", "-q", "status=up", "/run/beats"]).is_success().then_some(()));
    let first = until("it says so", || {
        let sent = vps.exec(&["cat", "/var/lib/moorline/courier/sent"]);
        sent.is_success().then(|| sent.stdout.lines().next().unwrap().to_owned())
    });
    vps.exec(&["test", "-f", &format!("/run/moorline/outbox/{first}")]).succeeds();
    let _ = look(&vps);
    until("it is gone", || {
        vps.exec(&["test", "!", "-e", &format!("/run/moorline/outbox/{first}")]).is_success().then_some(())
    });
    assert!(as_courier(
        &vps,
        "cat /etc/moorline/ssh/deploy_key; ls /run/moorline/outbox; cat /run/moorline/push/reconcile"
    ));
    for forbidden in [
        "cat /etc/moorline/age.key",
        "ls /run/moorline/secrets",
        "ls /run/moorline/env",
        "touch /run/moorline/outbox/x",
        "touch /run/moorline/x",
        "touch /var/lib/moorline/x",
        "echo >>/var/lib/moorline/ledger.json",
        "rm -f /run/moorline/push/reconcile",
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/docker.sock\")'",
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/moorline/jobs\")'",
    ] {
        assert!(!as_courier(&vps, forbidden), "{forbidden}");
    }

    // The keeper has no internet, so that somebody else makes the snapshot before a deploy.
    let denied = vps.property(KEEPER, "IPAddressDeny");
    assert!(denied.contains("0.0.0.0/0") && denied.contains("::/0"), "{denied}");
    lab.fleet.write("stacks/app/compose.yaml", STACK.replace("one", "two"));
    lab.publish("second");
    deployed(&vps, "two");
    converged(&vps);
    assert_eq!(vps.property("moorline-job.socket", "NAccepted"), "1");
    let snapshots = vps.exec(&["/usr/bin/moorline", "snapshots"]).succeeds();
    assert!(snapshots.contains("pre-deploy"), "{snapshots}");

    // Somebody takes the courier over.
    let before = running(&vps);
    let trusted = trust(&vps);
    vps.systemctl(&["stop", COURIER]);
    vps.write("/run/evil", "0755", "#!/bin/sh\ntouch /run/was-run\n");
    assert!(as_courier(&vps, "cp -a /var/lib/moorline/courier/repo.git /var/lib/moorline/courier/kept"));
    for (trick, answer) in [
        (
            "printf '[core]\\n fsmonitor = /run/evil\\n sshCommand = /run/evil\\n hooksPath = /run\\n[include]\\n path = /etc/moorline/age.key\\n' >>config; \
             mkdir hooks; for hook in post-checkout reference-transaction fsmonitor-watchman; do ln -s /run/evil hooks/$hook; done",
            "converged",
        ),
        (
            "mkdir -p objects/info; echo /root >objects/info/alternates; echo $NEW >refs/heads/main",
            "repository-damaged",
        ),
        ("rm refs/heads/main; ln -s /etc/moorline/age.key refs/heads/main", "repository-damaged"),
        ("rm refs/heads/main; mkfifo refs/heads/main", "repository-damaged"),
        ("rm refs/heads/main; truncate -s 1T refs/heads/main", "repository-damaged"),
        ("rm refs/heads/main; truncate -s 1T packed-refs", "repository-damaged"),
        ("rm -r refs; ln -s /root refs", "repository-damaged"),
        (
            "rm objects/pack/*; ln -s /etc/moorline/age.key objects/pack/pack-1.idx; ln -s /dev/zero objects/pack/pack-1.pack; \
             echo $NEW >refs/heads/main",
            "repository-damaged",
        ),
        ("cd ..; rm -r repo.git; ln -s /etc repo.git", "repository-"),
        ("truncate -s 1T ../sent", "converged"),
        ("mkfifo ../sent", "converged"),
        (
            "id=$(git --git-dir=. -c user.name=x -c user.email=x@x commit-tree -p main -m evil main^{tree}); \
             git --git-dir=. update-ref refs/heads/main $id",
            "commit-unsigned",
        ),
    ] {
        let prepare = "cd /var/lib/moorline/courier; rm -rf repo.git sent; cp -a kept repo.git; cd repo.git; \
                       NEW=1111111111111111111111111111111111111111; ";
        assert!(as_courier(&vps, &format!("{prepare}{trick}")), "{trick}");
        let said = look(&vps);
        assert!(said.contains(answer) && !said.contains("AGE-SECRET"), "{trick}: {said}");
    }
    assert_eq!(running(&vps), before);
    assert_eq!(trust(&vps), trusted);
    for made in ["/run/was-run", "/etc/moorline-damaged", "/root/heads"] {
        assert!(!vps.exec(&["test", "-e", made]).is_success(), "{made}");
    }

    // And whoever mends it need not know what was done.
    lab.fleet.write("stacks/app/compose.yaml", STACK.replace("one", "three"));
    lab.publish("third");
    vps.systemctl(&["start", COURIER]);
    deployed(&vps, "three");
}

#[test]
fn what_is_killed_or_hangs_comes_back_and_no_secret_is_lost() {
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    let (vps, _door) = moor(&mut lab, &engine);
    let before = running(&vps);
    let main = |unit: &str| vps.property(unit, "MainPID");
    let told = |unit: &str| vps.exec(&["journalctl", "--no-pager", "--output=cat", "--unit", unit]).succeeds();
    let is_another = |unit: &str, before: &str| vps.is_active(unit) && main(unit) != before;

    for unit in [COURIER, KEEPER] {
        for (signal, said) in [("-KILL", "status=9/KILL"), ("-STOP", "Watchdog timeout")] {
            let pid = main(unit);
            vps.exec(&["kill", signal, &pid]).succeeds();
            until("there is another one", || is_another(unit, &pid).then_some(()));
            assert!(told(unit).contains(said), "{unit} {signal}: {}", told(unit));
        }
    }
    converged(&vps);
    assert_eq!(running(&vps), before);

    // In the middle of a deploy.
    lab.fleet.write("stacks/app/compose.yaml", STACK.replace("one", "two"));
    lab.publish("second");
    until("a step is in flight", || {
        vps.exec(&["test", "-e", "/var/lib/moorline/journal.json"]).is_success().then_some(())
    });
    vps.systemctl(&["kill", "--signal=KILL", KEEPER]);
    deployed(&vps, "two");
    converged(&vps);
    let before = running(&vps);
    assert_eq!(before[1..], ["two".to_owned(), CANARY.to_owned()]);

    // Both oneshots, while they work.
    let killed = "status=9/KILL";
    until("the secrets were killed", || {
        let _ = vps.exec(&["systemctl", "reset-failed", SECRETS]);
        vps.systemctl(&["restart", "--no-block", SECRETS]);
        let _ = vps.exec(&["systemctl", "kill", "--signal=KILL", SECRETS]);
        told(SECRETS).contains(killed).then_some(())
    });
    until("they are there", || vps.is_active(SECRETS).then_some(()));
    vps.exec(&["sed", "-i", "s/20[0-9][0-9]-/2020-/g", "/var/lib/moorline/backups.json"]).succeeds();
    until("a night was killed", || {
        vps.systemctl(&["start", "--no-block", NIGHT]);
        let _ = vps.exec(&["systemctl", "kill", "--signal=KILL", NIGHT]);
        (vps.property(NIGHT, "Result") == "signal").then_some(())
    });
    vps.systemctl(&["start", NIGHT]);
    let done = "job done: backup of app to main, ";
    assert!(told(NIGHT).contains(done), "{}", told(NIGHT));

    vps.systemctl(&["restart", KEEPER]);
    converged(&vps);
    assert_eq!(running(&vps), before);
    vps.docker(&["restart", "--time", "1", "app-app-1"]).succeeds();
    assert_eq!(running(&vps)[2], CANARY);
    assert_eq!(vps.failed_units(), "");
}
