//! Drills on a real engine with real databases: what is proven, what is not, and that nothing is left of them. And dumps
//! that go back into a database that runs.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};
use support::{Lab, Ran, Run as _, Status, tools, wait};

const PASSWORD: &str = "canary-backup-password-31f9";
const WORD: &str = "Sesam-0ffne-dich";

/// A host with one stack `shop`: its databases are the real ones of a Debian release, mounted from the stack's own
/// directory, since they are too large to be copied into images.
struct Shop {
    lab: Lab,
    repository: PathBuf,
    dumps: PathBuf,
}

/// What every service has: the programs, and the script that starts it.
const MOUNTS: &str = "'./usr:/usr:ro', './usr/lib:/lib:ro', './usr/lib64:/lib64:ro', './passwd:/etc/passwd:ro'";

/// What lies in `./usr`: none of it goes into a snapshot.
const PROGRAMS: &str = "/bin, /games, /include, /lib, /lib32, /lib64, /libexec, /libx32, /local, /sbin, /share, /src";

const SETTLE: &str = "mkdir -p /data /var /run/postgresql /run/mysqld && chmod 1777 /data /run /tmp /var /run/postgresql \
                      /run/mysqld && ln -sfn /run /var/run && ";

impl Shop {
    /// Deploys these services: name, user, and what is run as that user.
    #[track_caller]
    fn deploy(services: &[(&str, &str, &str)], dumps: &str) -> Self {
        let mut lab = Lab::new();
        let release = tools::directory().join("databases/trixie");
        assert!(release.exists(), "{} is missing\nhint: run `make databases`", release.display());
        let release = release.canonicalize().expect("it exists");
        let usr = lab.host.stack("shop").join("usr");
        fs::create_dir_all(&usr).unwrap();
        let mut mount = lab.engine.scratch().command("busybox");
        mount.args(["mount", "-o", "bind"]).arg(release.join("usr")).arg(&usr).run().succeeds();
        let passwd = fs::read_to_string(release.join("etc/passwd")).unwrap();
        let repository = lab.engine.scratch().join("backups");
        let monitor = lab.push.monitor("drills");
        lab.secrets(&format!("  BACKUP_PASSWORD: {PASSWORD}\n  KUMA_DRILL: {monitor}\nshop:\n  DB_PASSWORD: {WORD}\n"));
        lab.fleet.write(
            "hosts/alpha/host.yaml",
            format!(
                "ring: canary\nstacks: [shop]\nmonitors: {{ drill: KUMA_DRILL }}\nbackup: {{ repository: \"{}\", at: \"03:00\" }}\n",
                repository.display()
            ),
        );
        let mut compose = "services:\n".to_owned();
        for (service, user, command) in services {
            let entry = passwd.lines().find(|line| line.starts_with(&format!("{user}:"))).expect("the package made it");
            let ids: Vec<&str> = entry.split(':').skip(2).take(2).collect();
            let script =
                format!("{SETTLE}exec chroot --userspec={} / sh -c \"$(cat /start-{service})\"\n", ids.join(":"));
            lab.fleet.write(&format!("stacks/shop/{service}.sh"), script);
            lab.fleet.write(&format!("stacks/shop/start-{service}"), command);
            compose += &format!(
                "  {service}:\n    image: lab/db:1\n    command: [sh, /start.sh]\n    stop_grace_period: 1s\n    \
                 environment: {{ PATH: '/usr/local/bin:/usr/bin:/usr/sbin:/bin', POSTGRES_USER: shop, \
                 MARIADB_ROOT_PASSWORD_FILE: /run/secrets/word }}\n    secrets: [word]\n    volumes: [{MOUNTS}, \
                 './{service}.sh:/start.sh:ro', './start-{service}:/start-{service}:ro', '{service}:/data', 'files:/files']\n"
            );
        }
        let volumes: String = services.iter().map(|(service, ..)| format!("  {service}: {{}}\n")).collect();
        compose += &format!(
            "volumes:\n  files: {{}}\n{volumes}secrets:\n  word: {{ environment: DB_PASSWORD }}\nx-moorline:\n  deploy: {{ \
             health_timeout: 60s }}\n  backup: {{ dumps: [{dumps}], excludes: [{PROGRAMS}] }}\n  drill:\n    probe:\n      image: lab/db:1\n      \
             command: [sh, -c, 'while [ -e /restored/volumes/files/wait ]; do sleep 1; done; echo looking for the page; \
             touch /restored/x 2>/dev/null && exit 3; test -s /restored/volumes/files/page']\n"
        );
        lab.fleet.write("stacks/shop/compose.yaml", compose);
        lab.fleet.write("stacks/shop/passwd", passwd);
        lab.deploy("first");
        let dumps = lab.engine.scratch().directory("dumps");
        let shop = Self { lab, repository, dumps };
        fs::write(shop.files().join("page"), "a page\n").unwrap();
        shop
    }

    fn files(&self) -> PathBuf {
        self.lab.engine.data_root.join("volumes/shop_files/_data")
    }

    fn exec(&self, service: &str, input: &[u8], command: &[&str]) -> Ran {
        let name = format!("shop-{service}-1");
        self.lab.engine.docker_command().args(["exec", "--interactive", &name]).args(command).run_with(input)
    }

    /// A snapshot of the files and of what lies in the place of the dumps.
    #[track_caller]
    fn save(&self) -> String {
        let source = |to: &str, from: &Path| json!({ "to": to, "from": from, "below": "" });
        let task = json!({ "backup": {
            "host": "alpha", "label": "shop", "tags": ["moorline"], "excludes": [], "first": "make",
            "cache": self.lab.engine.scratch().join("cache"),
            "sources": [source("/volumes/files", &self.files()), source("/dumps/shop", &self.dumps)],
        }});
        let order = json!({ "place": { "directory": self.repository }, "password": PASSWORD, "task": task });
        let mut job = Command::new(env!("CARGO_BIN_EXE_moorline"));
        let said = job.args(["internals", "restic"]).run_with(format!("{order}\n").as_bytes()).succeeds();
        let last: Json = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        last["saved"]["id"].as_str().unwrap_or_else(|| panic!("{last}")).to_owned()
    }

    #[track_caller]
    fn drill(&self) -> Ran {
        let ran = self.lab.host.moorline(&["drill"]);
        self.nothing_is_left();
        ran
    }

    /// The drill fails, and says this.
    #[track_caller]
    fn fails(&self, words: &[&str]) {
        let ran = self.drill();
        assert_eq!(ran.code, Some(23), "{ran}");
        for word in words {
            assert!(ran.said().contains(word), "{word} is missing: {ran}");
        }
        assert!(ran.said().contains("error[drill-failed]") && ran.said().contains("hint: "), "{ran}");
        assert!(!ran.said().contains(WORD) && !ran.said().contains(PASSWORD), "{ran}");
    }

    fn start(&self) -> Child {
        let mut drill = self.lab.host.command(&["drill"]);
        drill.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("moorline starts")
    }

    /// What carries the label of drills: containers and volumes.
    fn labelled(&self) -> (String, String) {
        let filter = ["--filter", "label=moorline.drill"];
        let ask = |what: &[&str]| self.lab.engine.docker(&[what, &filter[..]].concat()).succeeds();
        (ask(&["ps", "--all", "--quiet"]), ask(&["volume", "ls", "--quiet"]))
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        assert_eq!(self.labelled(), (String::new(), String::new()));
        let scratch = self.lab.host.state().join("drill");
        let left = fs::read_dir(&scratch).map(|left| left.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
        assert!(left.as_ref().is_ok_and(Vec::is_empty) || left.is_err(), "{left:?}");
    }

    /// Begins a drill, kills it once `when` says so, and shows that it was in the middle of something.
    #[track_caller]
    fn kill(&self, what: &str, mut when: impl FnMut(&Self) -> bool) {
        let mut drill = self.start();
        wait::within(Duration::from_secs(120), what, || {
            assert!(drill.try_wait().unwrap().is_none(), "it has ended before: {what}");
            when(self).then_some(())
        });
        assert!(drill.try_wait().unwrap().is_none(), "it has ended before: {what}");
        drill.kill().unwrap();
        drill.wait().unwrap();
        assert!(self.lab.host.state().join("drill/shop").exists(), "a killed drill leaves what it made");
        let mut restic = self.lab.engine.scratch().command("restic");
        restic.env("RESTIC_PASSWORD", PASSWORD).env("HOME", self.lab.engine.scratch().path());
        restic.arg("--no-cache").arg("--repo").arg(&self.repository).args(["check", "--read-data"]).run().succeeds();
    }
}

/// The most memory that a process and its children held so far, in KiB.
fn memory(pid: u32) -> u64 {
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let own = read(format!("/proc/{pid}/status"));
    let own = own.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    let children = read(format!("/proc/{pid}/task/{pid}/children"));
    own.unwrap_or_default()
        + children.split_whitespace().filter_map(|child| child.parse().ok()).map(memory).sum::<u64>()
}

/// Bytes that no compression makes smaller.
fn random(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

const POSTGRES: &str = "[ -e /data/pg ] || initdb --pgdata=/data/pg --username=shop --locale=C --encoding=UTF8 \
                        --auth=scram-sha-256 --pwfile=/run/secrets/word; \
                        exec postgres -D /data/pg -c unix_socket_directories=/run/postgresql -c fsync=off";

/// Runs SQL in the database of production.
fn psql(shop: &Shop, database: &str, sql: &str) -> Ran {
    let password = format!("PGPASSWORD={WORD}");
    let command =
        ["env", &password, "psql", "--host=/run/postgresql", "--username=shop", "--tuples-only", "--no-align"];
    shop.exec(
        "db",
        sql.as_bytes(),
        &[&command[..], &["--quiet", "--set=ON_ERROR_STOP=1", "--dbname", database]].concat(),
    )
}

/// Dumps it as a backup does.
fn dump(shop: &Shop) {
    let password = format!("PGPASSWORD={WORD}");
    let dump = |command: &[&str], to: &str| {
        let begin = ["env", &password, "PGHOST=/run/postgresql", "PGUSER=shop"];
        let text = shop.exec("db", b"", &[&begin[..], command].concat()).succeeds();
        let to = shop.dumps.join("db").join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, text + "\n").unwrap();
    };
    dump(&["pg_dumpall", "--globals-only", "--database=template1"], "globals.sql");
    for name in ["app", "postgres"] {
        let database = format!("--dbname={name}");
        dump(&["pg_dump", "--create", "--clean", "--if-exists", &database], &format!("databases/{name}.sql"));
    }
}

fn edit_dump(shop: &Shop, change: impl Fn(String) -> String) {
    let path = shop.dumps.join("db/databases/app.sql");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, change(text)).unwrap();
}

#[test]
fn a_drill_of_postgresql_proves_it_or_says_what_is_not_proven_and_a_row_comes_back() {
    let shop = Shop::deploy(&[("db", "postgres", POSTGRES)], "{ service: db, kind: postgres, password: DB_PASSWORD }");
    support::until("postgresql", || psql(&shop, "template1", "select 1").is_success().then_some(()));
    psql(&shop, "template1", "create role clerk login password 'before'; create database app owner clerk;").succeeds();
    let fill = "create table t (id int primary key, word text); \
                insert into t select i, md5(i::text) from generate_series(1, 5000) i; alter table t owner to clerk;";
    psql(&shop, "app", fill).succeeds();
    shop.fails(&["no snapshot of shop is proven", "there is no backup repository"]);
    let before = shop.lab.containers("shop");
    // As every night: the dumps go in while they are made.
    let saved: Json =
        serde_json::from_str(&shop.lab.host.moorline(&["backup", "--init", "--json"]).succeeds()).unwrap();
    let good = saved["reports"][0]["snapshot"].as_str().unwrap_or_else(|| panic!("{saved}")).to_owned();

    let ran = shop.drill();
    assert!(ran.stdout.contains(&format!("proven  shop: snapshot {}", &good[..8])), "{ran}");
    assert!(ran.stdout.contains("dump db was loaded") && ran.stdout.contains("the probe ended with 0"), "{ran}");
    ran.succeeds();
    let status = shop.lab.host.status();
    let of_drill = status["backups"].as_array().unwrap().iter().find(|entry| entry["job"] == "drill").unwrap().clone();
    assert!(of_drill["good"].is_string() && of_drill["problem"].is_null(), "{of_drill}");
    assert_eq!(shop.lab.host.moorline(&["drill", "--if-due"]).succeeds(), "", "it was proven a moment ago");

    // A row goes, a password changes, somebody is connected: the row comes back, the password stays.
    psql(&shop, "app", "delete from t where id = 7; alter role clerk password 'after'").succeeds();
    let word = "select rolpassword from pg_authid where rolname = 'clerk'";
    let password = psql(&shop, "app", word).succeeds();
    let sleeper = format!("PGPASSWORD={WORD} psql -h /run/postgresql -U shop -d app -c 'select pg_sleep(600)'");
    shop.lab.engine.docker(&["exec", "--detach", "shop-db-1", "sh", "-c", &sleeper]).succeeds();
    let arguments = ["restore", "shop", "latest", "--database", "db"];
    let refused = shop.lab.host.command(&arguments).run_with(b"yes\n");
    assert!(refused.code == Some(2) && refused.said().contains("The newest snapshot of shop was made"), "{refused}");
    assert_eq!(psql(&shop, "app", "select count(*) from t").succeeds(), "4999");
    let loaded = shop.lab.host.command(&arguments).run_with(b"shop\n").succeeds();
    assert!(loaded.contains("db/globals.sql, db/databases/app.sql, db/databases/postgres.sql"), "{loaded}");
    assert_eq!(
        psql(&shop, "app", "select count(*), min(word) from t where id in (7, 8)").succeeds().split('|').next(),
        Some("2")
    );
    assert_eq!(psql(&shop, "app", word).succeeds(), password);
    shop.nothing_is_left();

    // A dump that does not load: the words are the database's.
    dump(&shop);
    edit_dump(&shop, |text| text.replace("CREATE TABLE public.t (", "CREATE TABLE public.t ( nonsense,"));
    let bad = shop.save();
    shop.fails(&[
        "dump db/databases/app.sql does not load",
        "syntax error",
        &format!("snapshot {} of shop", &bad[..8]),
    ]);
    let refused = shop.lab.host.moorline(&["restore", "shop", "latest", "--database", "db", "--yes"]);
    assert!(refused.code == Some(1) && refused.said().contains("syntax error"), "{refused}");
    shop.lab.host.moorline(&["restore", "shop", &good[..8], "--database", "db", "--yes"]).succeeds();
    assert_eq!(psql(&shop, "app", "select count(*) from t").succeeds(), "5000");

    // Killed while the dump is loaded, and while the probe looks.
    dump(&shop);
    edit_dump(&shop, |text| text.replace("CREATE TABLE", "select pg_sleep(600);\nCREATE TABLE"));
    shop.save();
    shop.kill("the dump is being loaded", |shop| {
        let (container, _) = shop.labelled();
        !container.is_empty() && shop.lab.engine.docker(&["top", &container]).stdout.contains("[local] SELECT")
    });
    let (containers, volumes) = shop.labelled();
    assert!(!containers.is_empty() && !volumes.is_empty(), "they are left");
    dump(&shop);
    fs::write(shop.files().join("wait"), "").unwrap();
    shop.save();
    shop.kill("the probe looks", |shop| {
        let (containers, _) = shop.labelled();
        let commands = shop.lab.engine.docker(&["ps", "--no-trunc", "--filter", "label=moorline.drill"]).stdout;
        let is_on = containers.lines().count() == 1 && commands.contains("sh -c 'while");
        if is_on {
            // A drill is none of the keeper's business.
            assert!(shop.lab.host.moorline(&["reconcile"]).succeeds().contains("nothing to do"));
        }
        is_on
    });
    assert!(!shop.labelled().0.is_empty(), "it is left");
    fs::remove_file(shop.files().join("wait")).unwrap();
    fs::remove_file(shop.files().join("page")).unwrap();
    shop.save();
    shop.fails(&["the probe ended with 1", "looking for the page"]);
    assert_eq!(shop.lab.containers("shop"), before, "production is as it was");
}

const MARIADB: &str = "[ -e /data/my ] || mariadb-install-db --no-defaults --datadir=/data/my --basedir=/usr \
    --auth-root-authentication-method=normal --skip-test-db >/dev/null; \
    echo \"alter user root@localhost identified by '$(cat /run/secrets/word)';\" >/tmp/first; \
    exec mariadbd --no-defaults --datadir=/data/my --socket=/run/mysqld/mysqld.sock --init-file=/tmp/first";

#[test]
fn drills_load_mariadb_redis_and_sqlite_and_see_what_is_broken() {
    let dumps = "{ service: my, kind: mariadb }, { service: cache, kind: redis }, \
                 { service: cache, kind: sqlite, path: /data/app.db }, { service: cache, command: [cat, /x], to: own.json }";
    let redis = "exec redis-server --dir /data --save ''";
    let shop = Shop::deploy(&[("my", "mysql", MARIADB), ("cache", "redis", redis)], dumps);
    let word = format!("MYSQL_PWD={WORD}");
    let client =
        ["env", &word, "mariadb", "--no-defaults", "--socket=/run/mysqld/mysqld.sock", "--user=root", "--batch"];
    support::until("mariadb", || shop.exec("my", b"select 1;", &client).is_success().then_some(()));
    shop.exec("my", b"create database shop; create table shop.t (n int); insert into shop.t values (1), (2);", &client)
        .succeeds();
    let mut dump = client.to_vec();
    dump[2] = "mariadb-dump";
    dump[6] = "--all-databases";
    let my = shop.exec("my", b"", &dump).succeeds();
    fs::write(shop.dumps.join("my.sql"), my).unwrap();
    shop.exec("cache", b"set greeting hello\n", &["redis-cli"]).succeeds();
    shop.exec(
        "cache",
        b"pragma journal_mode=wal; create table t (n); insert into t values (1);",
        &["sqlite3", "/data/app.db"],
    )
    .succeeds();
    let copy = "redis-cli --rdb /tmp/r >&2; sqlite3 /data/app.db \".backup '/tmp/s'\"";
    shop.exec("cache", b"", &["sh", "-c", copy]).succeeds();
    for (from, to) in [("/tmp/r", "cache.rdb"), ("/tmp/s", "app.db")] {
        let to = shop.dumps.join(to);
        shop.lab.engine.docker(&["cp", &format!("shop-cache-1:{from}"), to.to_str().unwrap()]).succeeds();
    }
    fs::write(shop.dumps.join("own.json"), "{}").unwrap();
    shop.save();
    let ran = shop.drill();
    for line in
        ["my.sql was loaded", "cache.rdb was loaded", "app.db was loaded", "own.json was compared and not loaded"]
    {
        assert!(ran.stdout.contains(line), "{ran}");
    }
    ran.succeeds();

    // Into a server that runs there is no way for a file; it says what to type instead.
    let refused = shop.lab.host.moorline(&["restore", "shop", "latest", "--database", "cache", "--yes"]);
    assert!(refused.code == Some(2) && refused.said().contains("--path /dumps/shop/cache.rdb --to DIR"), "{refused}");

    for (name, words) in
        [("cache.rdb", "reading dump cache.rdb ended with"), ("app.db", "reading dump app.db ended with")]
    {
        let path = shop.dumps.join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        shop.save();
        shop.fails(&[words]);
        fs::write(&path, whole).unwrap();
    }
    fs::remove_file(shop.dumps.join("my.sql")).unwrap();
    shop.save();
    shop.fails(&["dump my.sql: it is not in the snapshot"]);
}

#[test]
fn a_drill_of_files_finds_a_rotten_pack_needs_room_and_survives_a_kill() {
    let shop = Shop::deploy(&[("app", "redis", "exec sleep 100000")], "");
    fs::write(shop.files().join("heavy"), random(150 << 20)).unwrap();
    shop.save();
    let scratch = shop.lab.host.state().join("drill");
    shop.kill("the restore has begun", |shop| {
        shop.lab.host.state().join("drill/shop/restored/volumes/files/heavy").exists()
    });
    let mut drill = shop.start();
    let mut peak = 0;
    let ended = wait::within(Duration::from_secs(120), "the drill ends", || {
        peak = peak.max(memory(drill.id()));
        drill.try_wait().unwrap()
    });
    assert!(ended.success());
    assert!(peak > 0 && peak <= 200 << 10, "{peak} KiB");
    eprintln!("a drill of 150 MiB held {peak} KiB at most");
    shop.nothing_is_left();

    fs::create_dir_all(&scratch).unwrap();
    let mut mount = shop.lab.engine.scratch().command("busybox");
    mount.args(["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs"]).arg(&scratch).run().succeeds();
    shop.fails(&["there is no room for a drill of shop: it needs 151 MiB, and 600 MiB are free"]);
    support::scratch::unmount_below(&scratch);

    let list = |directory: PathBuf| fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    let packs = list(shop.repository.join("data")).flat_map(list);
    let pack = packs.max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    fs::OpenOptions::new().write(true).open(&pack).unwrap().write_all_at(b"rotten", 1000).unwrap();
    shop.fails(&["/volumes/files/heavy"]);
    let status = shop.lab.host.moorline(&["status", "--check"]);
    assert!(status.code == Some(1) && status.said().contains("drill of shop from main failed"), "{status}");
    shop.lab.host.moorline(&["courier", "--once"]).succeeds();
    let beats = shop.lab.push.beats("drills");
    let told = |status, words: &str| beats.iter().any(|beat| beat.status == status && beat.msg.contains(words));
    assert!(told(Status::Up, "ok") && told(Status::Down, "/volumes/files/heavy"), "{beats:?}");
}
