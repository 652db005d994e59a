//! Databases in snapshots, and containers that stand while their files are read: a real PostgreSQL on a real engine.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use support::strace::{Moment, was_killed};
use support::{Image, Lab, Run as _, search_for_canary, tools, until};

const PASSWORD: &str = "canary-backup-password-9a41";
const LOGIN: &str = "canary-Sesam-0ffne-dich";

/// The programs of a Debian release, mounted and not copied: it is large.
fn release() -> PathBuf {
    let release = tools::directory().join("databases/trixie");
    assert!(release.exists(), "{} is missing\nhint: run `make databases`", release.display());
    release.canonicalize().expect("it exists")
}

fn ids(user: &str) -> String {
    let passwd = fs::read_to_string(release().join("etc/passwd")).expect("the release has users");
    let entry = passwd.lines().find(|line| line.starts_with(&format!("{user}:"))).expect("the package made it");
    entry.split(':').skip(2).take(2).collect::<Vec<_>>().join(":")
}

/// A service with a database of which every connection needs a password.
fn database(name: &str, volume: &str) -> String {
    let release = release();
    let mounts: String = [("usr", "/usr"), ("usr/lib", "/lib"), ("usr/lib64", "/lib64"), ("etc/passwd", "/etc/passwd")]
        .iter()
        .map(|(from, to)| format!("      - {}:{to}:ro\n", release.join(from).display()))
        .collect();
    let start = format!(
        "mkdir -p /data /var /var/run/postgresql && chmod 1777 /data /run /tmp /var/run/postgresql && exec chroot \
         --userspec={} / sh -c 'if [ ! -d /data/pg ]; then initdb --pgdata=/data/pg --username=shop --locale=C \
         --encoding=UTF8 --auth=scram-sha-256 --pwfile=/run/secrets/login; fi; exec postgres -D /data/pg -c \
         unix_socket_directories=/var/run/postgresql -c fsync=off'",
        ids("postgres")
    );
    format!(
        "  {name}:\n    image: lab/bare:1\n    command: [sh, -c, {}]\n    environment: {{ PATH: \
         '/usr/local/bin:/usr/bin:/usr/sbin:/bin', POSTGRES_USER: shop }}\n    stop_grace_period: 5s\n    secrets: \
         [login]\n    volumes:\n      - {volume}\n{mounts}",
        serde_json::to_string(&start).unwrap()
    )
}

/// Two databases, one of which is dumped, and something with files.
fn shop(dumps: &str) -> String {
    format!(
        "services:\n{}{}{APP}volumes:\n  data: {{}}\n  files: {{}}\nsecrets:\n  login: {{ environment: DB_PASSWORD }}\n\
         x-moorline:\n  backup:\n    volumes: [files]\n    dumps:\n{dumps}",
        database("db", "data:/data"),
        database("fresh", "/data")
    )
}

const DATABASE: &str = "      - { service: db, kind: postgres, password: DB_PASSWORD }\n";
const APP: &str = "  app:\n    image: lab/db:1\n    stop_grace_period: 1s\n    secrets: [login]\n    \
    volumes: [files:/files, /anonymous]\n";

/// A host with one stack and a backup repository in a directory.
struct House {
    lab: Lab,
    repository: PathBuf,
}

impl House {
    fn new(stack: &str, compose: &str) -> Self {
        let lab = Lab::new();
        lab.engine.image("lab/bare:1", &Image::idle());
        let repository = lab.engine.scratch().join("vault");
        let policy: String = ["usr", "usr/lib", "usr/lib64", "etc/passwd"]
            .iter()
            .map(|path| {
                let path = release().join(path);
                // Where the tools of tests lie below a home directory, that is a path of the system.
                ["bind", "system-path"]
                    .map(|rule| {
                        format!("      - {{ rule: {rule}, value: \"{}:ro\", reason: the programs }}\n", path.display())
                    })
                    .concat()
            })
            .collect();
        if compose.contains(release().to_str().unwrap()) {
            lab.fleet.write("moorline.yaml", format!("version: 1\npolicy:\n  allow:\n    {stack}:\n{policy}"));
        }
        lab.secrets(&format!("  BACKUP_PASSWORD: {PASSWORD}\n{stack}:\n  DB_PASSWORD: {LOGIN}\n"));
        lab.fleet.write(
            "hosts/alpha/host.yaml",
            format!(
                "ring: canary\nstacks: [{stack}]\nbackup: {{ at: \"03:00\", repository: \"{}\" }}\n",
                repository.display()
            ),
        );
        lab.fleet.write(&format!("stacks/{stack}/compose.yaml"), compose);
        let mut house = Self { lab, repository };
        house.lab.deploy("first");
        house
    }

    /// `moorline backup --json`: the only report.
    #[track_caller]
    fn back_up(&self, more: &[&str]) -> Json {
        let ran = self.lab.host.moorline(&[&["backup", "--json"], more].concat());
        let said: Json = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran}"));
        let mut report = said["reports"][0].clone();
        (report["code"], report["said"], report["notes"]) = (ran.code.into(), ran.said().into(), said["notes"].clone());
        report
    }

    #[track_caller]
    fn done(&self, more: &[&str]) -> Json {
        let report = self.back_up(more);
        assert_eq!((&report["end"], &report["code"]), (&"done".into(), &0.into()), "{report:#}");
        report
    }

    fn restic(&self, arguments: &[&str]) -> Command {
        let mut restic = self.lab.engine.scratch().command("restic");
        restic.env("RESTIC_PASSWORD", PASSWORD).env("HOME", "/nonexistent");
        restic.arg("--no-cache").arg("--repo").arg(&self.repository).args(arguments);
        restic
    }

    /// Plain restic finds nothing wrong in any byte, and says which snapshot is the newest.
    #[track_caller]
    fn newest(&self) -> String {
        self.restic(&["check", "--read-data"]).run().succeeds();
        let listed: Json = serde_json::from_str(&self.restic(&["snapshots", "--json"]).run().succeeds()).unwrap();
        listed.as_array().unwrap().last().expect("there is one")["id"].as_str().unwrap().to_owned()
    }

    /// Restores it with plain restic.
    #[track_caller]
    fn by_restic(&self, name: &str) -> PathBuf {
        let to = self.lab.engine.scratch().join(name);
        self.restic(&["restore", "latest", "--target"]).arg(&to).run().succeeds();
        to
    }

    #[track_caller]
    fn psql(&self, service: &str, database: &str, input: &[u8]) -> String {
        let id = self.lab.containers("shop")[service].clone();
        let (password, database) = (format!("PGPASSWORD={LOGIN}"), format!("--dbname={database}"));
        let psql = ["env", &password, "psql", "--username=shop", "--tuples-only", "--no-align", "--quiet", &database];
        let mut docker = self.lab.engine.docker_command();
        docker.args(["exec", "--interactive", &id]).args(psql).run_with(input).succeeds()
    }

    fn state(&self, id: &str) -> String {
        self.lab.engine.inspect(id)["State"]["Status"].as_str().unwrap_or_default().to_owned()
    }

    fn all_run(&self, stack: &str) -> bool {
        self.lab.containers(stack).values().all(|id| self.state(id) == "running")
    }

    fn journal(&self) -> PathBuf {
        self.lab.host.state().join("standing.json")
    }
}

fn wait_for_database(house: &House) {
    let id = house.lab.containers("shop")["db"].clone();
    let password = format!("PGPASSWORD={LOGIN}");
    let ask = ["exec", &id, "env", &password, "psql", "--username=shop", "--dbname=template1", "--command=select 1"];
    until("the database", || house.lab.engine.docker(&ask).is_success().then_some(()));
}

const FILL: &[u8] = b"create table t (id int primary key, word text); \
    insert into t select i, md5(i::text) from generate_series(1, 20000) i;";
const QUESTION: &[u8] = b"select count(*), md5(string_agg(word, '' order by id)) from t;";

#[test]
fn a_snapshot_holds_dumps_that_load_and_a_dump_that_is_not_whole_leaves_none() {
    let mut house = House::new("shop", &shop(DATABASE));
    wait_for_database(&house);
    house.psql("db", "template1", b"create database app;");
    house.psql("db", "app", FILL);
    let id = house.lab.containers("shop")["app"].clone();
    house.lab.engine.docker(&["exec", &id, "sh", "-c", "echo y >/files/y"]).succeeds();

    let first = house.done(&["--init"]);
    assert!(first["notes"].to_string().contains("app:/anonymous is not in its snapshots"), "{first:#}");
    let snapshot = house.newest();
    assert_eq!(first["snapshot"], snapshot);
    let restored = house.by_restic("first");
    assert_eq!(fs::read(restored.join("volumes/files/y")).unwrap(), b"y\n");
    let dumps = restored.join("dumps/shop/db");
    // A dump has its size, though nobody knew it when it began.
    let listed = house.restic(&["ls", "--json", "latest"]).run().succeeds();
    let listed = listed.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    let of_dumps = |node: &Json| node["type"] == "file" && node["path"].to_string().contains("/dumps/");
    let sizes: Vec<Json> = listed.filter(of_dumps).collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    for node in sizes {
        let path = restored.join(node["path"].as_str().unwrap().trim_start_matches('/'));
        assert_eq!(node["size"], fs::metadata(path).unwrap().len(), "{node}");
    }
    // What moorline restores is the same.
    let ours = house.lab.engine.scratch().join("ours");
    house.lab.host.moorline(&["restore", "shop", "latest", "--to", ours.to_str().unwrap()]).succeeds();
    for file in ["globals.sql", "databases/app.sql", "databases/postgres.sql"] {
        let content = fs::read(dumps.join(file)).unwrap();
        assert!(content.len() > 100 && content == fs::read(ours.join("dumps/shop/db").join(file)).unwrap(), "{file}");
        // A role that is there already is named and passed over.
        house.psql("fresh", "template1", &content);
    }
    let (before, after) = (house.psql("db", "app", QUESTION), house.psql("fresh", "app", QUESTION));
    assert!(before.starts_with("20000|"), "{before}");
    assert_eq!(before, after);

    // What is new since is in the next one: yesterday's dump would have the same name and no other mark.
    house.psql("db", "app", b"update t set word = 'new-in-the-second' where id = 7;");
    let second = house.done(&[]);
    assert_ne!(house.newest(), snapshot);
    let dump = fs::read_to_string(house.by_restic("second").join("dumps/shop/db/databases/app.sql")).unwrap();
    assert!(dump.contains("new-in-the-second"));
    assert!(second["bytes_added"].as_u64() > Some(1000), "{second:#}");

    // A command that fails after it printed a lot.
    let fails = "      - service: app\n        to: export\n        command: [sh, -c, 'head -c 3000000 /dev/urandom; \
                 echo the lamp is out; (echo the lamp is out; cat /run/secrets/login) >&2; exit 4']\n";
    house.lab.fleet.write("stacks/shop/compose.yaml", shop(&format!("{DATABASE}{fails}")));
    house.lab.deploy("a dump that fails");
    let before = house.newest();
    let failed = house.back_up(&[]);
    assert_eq!((&failed["end"], &failed["code"]), (&"failed".into(), &1.into()), "{failed:#}");
    let problem = failed["problems"][0].as_str().unwrap();
    assert!(problem.contains("ended with 4: the lamp is out") && !problem.contains(LOGIN), "{problem}");
    assert_eq!(house.newest(), before, "the last good one stays the newest");

    // A service that does not run, and a login that is not there.
    let id = house.lab.containers("shop")["db"].clone();
    house.lab.engine.docker(&["stop", &id]).succeeds();
    let failed = house.back_up(&[]);
    let problem = failed["problems"][0].as_str().unwrap();
    assert!(problem.contains("no container of `db` runs"), "{failed:#}");
    assert_eq!(house.newest(), before);

    let places = [house.repository.clone(), house.lab.host.state(), house.lab.host.etc()];
    let hits = search_for_canary(&places, &[LOGIN, PASSWORD]);
    assert!(hits.is_empty(), "{hits:#?}");
}

/// Two services that write and one that does not, each with its way of ending.
fn site(quiesce: &str) -> String {
    format!(
        "services:\n  web:\n    image: lab/db:1\n    stop_grace_period: 1s\n    restart: unless-stopped\n    volumes: \
         [files:/files]\n    depends_on: [db]\n  db:\n    image: lab/db:1\n    stop_grace_period: 1s\n    restart: \
         unless-stopped\n    volumes: [data:/data]\n  idle:\n    image: lab/db:1\n    stop_grace_period: 1s\n    restart: \
         unless-stopped\nvolumes:\n  data: {{}}\n  files: {{}}\nx-moorline:\n  backup:\n    excludes: \
         [\"**/cache/**\"]\n    quiesce: {quiesce}\n"
    )
}

fn house_with(quiesce: &str) -> House {
    let house = House::new("site", &site(quiesce));
    for volume in ["data", "files"] {
        let volume = house.lab.engine.data_root.join(format!("volumes/site_{volume}/_data"));
        fs::create_dir(volume.join("cache")).unwrap();
        fs::write(volume.join("cache/x"), "x").unwrap();
        for number in 0..300 {
            fs::write(volume.join(format!("{number}")), format!("{number}\n").repeat(100)).unwrap();
        }
    }
    house.done(&["--init"]);
    house
}

/// The moments of a backup from the one at which what is about to stand is on disk to the one at which that is removed.
fn moments(house: &House) -> Vec<Moment> {
    let log = house.lab.engine.scratch().join("trace");
    let calls = "trace=rename,renameat,renameat2,fsync,unlink,unlinkat,sendto,writev,write";
    assert!(traced(house, &["-s", "300", "-e", calls], &log).is_success());
    let all = support::strace::moments(&log, false, "standing.json");
    let first = all.iter().position(|(moment, marked)| *marked && moment.call == "rename").expect("it is written down");
    let last = all.iter().rposition(|(_, marked)| *marked).expect("and removed");
    all[first + 1..=last].iter().map(|(moment, _)| moment.clone()).collect()
}

fn traced(house: &House, options: &[&str], log: &Path) -> support::Ran {
    let moorline = house.lab.host.command(&["backup"]);
    let mut strace = house.lab.engine.scratch().command("strace");
    strace.env_clear().envs(moorline.get_envs().filter_map(|(name, value)| Some((name, value?))));
    strace.args(options).arg("-o").arg(log).arg(moorline.get_program()).args(moorline.get_args());
    strace.run()
}

fn killed_anywhere(quiesce: &str) {
    let house = house_with(quiesce);
    let before = house.lab.containers("site");
    let all = moments(&house);
    let (mut killed, mut stood) = (0, 0);
    let count = 4;
    for number in 0..count {
        let moment = &all[number * (all.len() - 1) / (count - 1)];
        let log = house.lab.engine.scratch().join("kill");
        let ran = traced(&house, &moment.kill().each_ref().map(String::as_str), &log);
        let hit = was_killed(&log) && ran.code.is_none();
        let standing = house.journal().exists();
        println!("{quiesce}: at {moment}: killed {hit}, standing {standing}, all run {}", house.all_run("site"));
        killed += usize::from(hit);
        stood += usize::from(standing && !house.all_run("site"));
        // What comes next is a backup, or a run, or a run after the engine was started again.
        match number {
            1 => _ = house.done(&[]),
            0 | 3 => _ = house.lab.host.moorline(&["reconcile"]).succeeds(),
            _ => {
                house.lab.engine.stop();
                house.lab.engine.resume();
                house.lab.host.moorline(&["reconcile"]).succeeds();
            }
        }
        assert!(house.all_run("site") && !house.journal().exists(), "{moment}");
        assert_eq!(house.lab.containers("site"), before, "none was made anew");
    }
    assert!(killed >= 3 && stood >= 1, "{killed} of {count} were killed, {stood} left containers standing");
    house.newest();
    let restored = house.by_restic("restored");
    assert_eq!(fs::read_dir(restored.join("volumes/data")).unwrap().count(), 301);
    assert!(!restored.join("volumes/data/cache/x").exists(), "excludes stay out in every pass");
}

#[test]
fn a_backup_that_is_killed_while_containers_are_stopped_is_undone_by_whatever_comes_next() {
    killed_anywhere("stop");
}

#[test]
fn a_backup_that_is_killed_while_containers_are_paused_is_undone_by_whatever_comes_next() {
    killed_anywhere("pause");
}

fn start(house: &House, arguments: &[&str]) -> Child {
    let mut command = house.lab.host.command(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("moorline starts")
}

#[test]
fn containers_stand_only_while_what_changed_is_read_and_no_run_starts_them_meanwhile() {
    let house = house_with("stop");
    let (web, idle) = (house.lab.containers("site")["web"].clone(), house.lab.containers("site")["idle"].clone());
    let volume = house.lab.engine.data_root.join("volumes/site_files/_data");
    // Enough that reading it takes a while: the second pass does not read it again.
    let mut heavy = fs::File::create(volume.join("heavy")).unwrap();
    std::io::copy(&mut fs::File::open("/dev/urandom").unwrap().take(64 << 20), &mut heavy).unwrap();
    let began = Instant::now();
    let backup = start(&house, &["backup", "--json"]);
    until("it stands", || (house.state(&web) == "exited").then_some(()));
    let stood = Instant::now();
    let refused = house.lab.host.moorline(&["reconcile"]);
    let in_between = house.state(&web) != "running";
    assert_eq!(house.state(&idle), "running", "what has no files goes on");
    until("it goes on", || (house.state(&web) == "running").then_some(()));
    let standing = stood.elapsed();
    let ended = backup.wait_with_output().unwrap();
    println!("a backup of 64 MiB took {:?}, its containers stood for {standing:?}", began.elapsed());
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    if in_between {
        assert!(refused.code == Some(11) && refused.said().contains("runs `backup`"), "{refused}");
    }
    assert!(standing < began.elapsed() / 2, "they stood for {standing:?}");
    let text = house.lab.host.moorline(&["reconcile"]).succeeds();
    assert!(text.contains("nothing to do") || text.contains("converged"), "{text}");

    // Asked to stop in the middle, it lets them go on before it ends.
    fs::write(volume.join("more"), "more").unwrap();
    let backup = start(&house, &["backup"]);
    until("it stands again", || house.journal().exists().then_some(()));
    house.lab.engine.scratch().command("busybox").args(["kill", "-TERM", &backup.id().to_string()]).run().succeeds();
    let ended = backup.wait_with_output().unwrap();
    assert!(house.all_run("site") && !house.journal().exists(), "{}", String::from_utf8_lossy(&ended.stderr));

    // A job that dies alone takes nobody with it.
    let backup = start(&house, &["backup"]);
    until("it stands once more", || house.journal().exists().then_some(()));
    let children = format!("/proc/{0}/task/{0}/children", backup.id());
    let job = fs::read_to_string(children).unwrap().split_whitespace().next().expect("a job").to_owned();
    house.lab.engine.scratch().command("busybox").args(["kill", "-KILL", &job]).run().succeeds();
    let ended = backup.wait_with_output().unwrap();
    assert!(ended.status.code() == Some(1) && house.all_run("site") && !house.journal().exists());

    // A run that is there first is waited for.
    let lock = house.lab.host.run_directory().join("lock");
    let held = fs::OpenOptions::new().read(true).write(true).open(&lock).unwrap();
    held.lock().unwrap();
    let mut backup = start(&house, &["backup"]);
    let patience = Instant::now() + Duration::from_secs(4);
    while Instant::now() < patience {
        assert!(backup.try_wait().unwrap().is_none() && house.all_run("site"));
        support::wait::breathe();
    }
    drop(held);
    let ended = backup.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success() && house.all_run("site"), "{said}");
    house.newest();
}
