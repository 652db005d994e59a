//! Dumps of real databases in real containers: what comes out can be loaded again, and half of it is never taken for all.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::io::Read as _;
use std::path::PathBuf;

use moorline::decide::backup::dump::Stream;
use moorline::model::Secret;
use moorline::model::backup::{Dump, DumpKind};
use moorline::world::docker;
use moorline::world::dump::{begin, streams};
use support::{Engine, Image, Run as _, tools, until};

/// A host whose containers have the programs of a Debian release, mounted and not copied: it is large.
struct Databases {
    engine: Engine,
    release: PathBuf,
}

/// A password that no program would print by itself.
const PASSWORD: &str = "Sesam-0ffne-dich";

impl Databases {
    #[track_caller]
    fn start() -> Self {
        let release = tools::directory().join("databases/trixie");
        assert!(release.exists(), "{} is missing\nhint: run `make databases`", release.display());
        let engine = Engine::start();
        engine.image("lab/bare:1", &Image::idle());
        Self { engine, release: release.canonicalize().expect("it exists") }
    }

    /// Runs `command` as the user of this name, as the only container of a service of the stack `shop`.
    #[track_caller]
    fn run(&self, service: &str, user: &str, more: &[&str], command: &str) {
        let passwd = std::fs::read_to_string(self.release.join("etc/passwd")).expect("the release has users");
        let entry = passwd.lines().find(|line| line.starts_with(&format!("{user}:"))).expect("the package made it");
        let ids: Vec<&str> = entry.split(':').skip(2).take(2).collect();
        let mut docker = self.engine.docker_command();
        docker.args(["run", "--detach", "--name", service]);
        docker.args(["--label", "com.docker.compose.project=shop"]);
        docker.arg("--label").arg(format!("com.docker.compose.service={service}"));
        for (from, to) in [("usr", "/usr"), ("usr/lib", "/lib"), ("usr/lib64", "/lib64"), ("etc/passwd", "/etc/passwd")]
        {
            docker.arg("--volume").arg(format!("{}:{to}:ro", self.release.join(from).display()));
        }
        docker.args(["--env", "PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin"]).args(more);
        // As in the images that people use: root begins, and what it starts is another user.
        let begin =
            "mkdir -p /data /var && chmod 1777 /data /run /tmp /var && exec chroot --userspec=\"$0\" / sh -c \"$1\"";
        docker.args(["lab/bare:1", "sh", "-c", begin, &ids.join(":"), command]).run().succeeds();
    }

    fn exec(&self, service: &str, input: &[u8], command: &[&str]) -> support::Ran {
        self.engine.docker_command().args(["exec", "--interactive", service]).args(command).run_with(input)
    }

    #[track_caller]
    fn waits_for(&self, service: &str, command: &[&str]) {
        until(service, || self.exec(service, b"", command).is_success().then_some(()));
    }

    fn streams(&self, dump: &Dump, password: Option<&str>) -> Result<Vec<Stream>, String> {
        let password = password.map(|password| Secret::new(password.to_owned()));
        let engine = docker::Engine::at(&self.engine.socket);
        streams(&engine, "shop", dump, password.as_ref()).map_err(|fault| format!("{fault:?}"))
    }

    fn read(&self, stream: Stream, password: Option<&str>) -> Result<Vec<u8>, String> {
        let password = password.map(|password| Secret::new(password.to_owned()));
        let engine = docker::Engine::at(&self.engine.socket);
        let mut dumping = begin(&engine, "shop", stream, password.as_ref()).map_err(|fault| format!("{fault:?}"))?;
        let mut output = Vec::new();
        let read = dumping.read_to_end(&mut output).map_err(|error| error.to_string());
        // Whoever asks again is told the same.
        assert_eq!(dumping.read(&mut [0; 8]).is_err(), read.is_err());
        read.map(|_| output)
    }

    /// Every file of a dump.
    #[track_caller]
    fn dumped(&self, dump: &Dump, password: Option<&str>) -> Vec<(String, Vec<u8>)> {
        let streams = self.streams(dump, password).expect("the databases are listed");
        let read = |stream: Stream| (stream.to.clone(), self.read(stream, password).expect("the dump is whole"));
        streams.into_iter().map(read).collect()
    }
}

fn dump(service: &str, kind: DumpKind, password: bool) -> Dump {
    let password = password.then(|| "DB_PASSWORD".to_owned());
    Dump { service: service.into(), kind, to: service.into(), password, user: None }
}

fn postgres(databases: &Databases, service: &str) {
    // Every connection needs the password, also one from inside.
    let start = format!(
        "mkdir -p /var/run/postgresql && echo {PASSWORD} >/tmp/word && \
         initdb --pgdata=/data/pg --username=shop --locale=C --encoding=UTF8 --auth=scram-sha-256 --pwfile=/tmp/word && \
         exec postgres -D /data/pg -c unix_socket_directories=/var/run/postgresql -c fsync=off"
    );
    databases.run(service, "postgres", &["--env", "POSTGRES_USER=shop"], &start);
    let password = format!("PGPASSWORD={PASSWORD}");
    databases
        .waits_for(service, &["env", &password, "psql", "--username=shop", "--dbname=template1", "--command=select 1"]);
}

fn psql(databases: &Databases, service: &str, database: &str, input: &[u8]) -> String {
    let (password, database) = (format!("PGPASSWORD={PASSWORD}"), format!("dbname='{database}'"));
    let command =
        ["env", &password, "psql", "--username=shop", "--tuples-only", "--no-align", "--quiet", "--dbname", &database];
    databases.exec(service, input, &command).succeeds()
}

#[test]
fn postgresql_is_dumped_with_its_roles_and_every_database_and_loaded_again() {
    let databases = Databases::start();
    postgres(&databases, "db");
    psql(
        &databases,
        "db",
        "template1",
        b"create role clerk login; create database \"o'dd =1\" owner clerk; create database app;",
    );
    let fill = b"create table t (id int primary key, word text); \
                 insert into t select i, md5(i::text) from generate_series(1, 20000) i; alter table t owner to clerk;";
    psql(&databases, "db", "app", fill);
    psql(&databases, "db", r"o\'dd =1", b"create table u as select 7 as seven;");

    let files = databases.dumped(&dump("db", DumpKind::Postgres(Vec::new()), true), Some(PASSWORD));
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let expected =
        ["db/globals.sql", "db/databases/app.sql", "db/databases/o%27dd%20%3D1.sql", "db/databases/postgres.sql"];
    assert_eq!(names, expected);

    postgres(&databases, "fresh");
    for (_, content) in &files {
        psql(&databases, "fresh", "template1", content);
    }
    let question = b"select count(*), md5(string_agg(word, '' order by id)), (select tableowner from pg_tables where tablename = 't') from t;";
    let (before, after) = (psql(&databases, "db", "app", question), psql(&databases, "fresh", "app", question));
    assert!(before.starts_with("20000|") && before.ends_with("|clerk"), "{before}");
    assert_eq!(before, after);
    assert_eq!(psql(&databases, "fresh", r"o\'dd =1", b"select seven from u;"), "7");

    let refused = databases.streams(&dump("db", DumpKind::Postgres(Vec::new()), true), Some("wrong-w0rd")).unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");
    let one = dump("db", DumpKind::Postgres(vec!["nowhere".into()]), true);
    let streams = databases.streams(&one, Some(PASSWORD)).unwrap();
    let refused = databases.read(streams[1].clone(), Some(PASSWORD)).unwrap_err();
    assert!(refused.contains("ended with 1") && refused.contains("nowhere"), "{refused}");
    // Neither the engine's answer nor the list of processes ever had it.
    assert!(!format!("{streams:?}").contains(PASSWORD));
}

#[test]
fn mariadb_is_dumped_with_the_password_that_its_container_has_in_a_file_and_loaded_again() {
    let databases = Databases::start();
    let word = databases.engine.scratch().write("word", PASSWORD);
    std::fs::set_permissions(&word, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
    std::fs::set_permissions(databases.engine.scratch().path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))
        .unwrap();
    let start = format!(
        "mkdir -p /run/mysqld && mariadb-install-db --no-defaults --datadir=/data/my --basedir=/usr \
         --auth-root-authentication-method=normal --skip-test-db >/dev/null && \
         echo \"alter user root@localhost identified by '{PASSWORD}';\" >/tmp/first && \
         exec mariadbd --no-defaults --datadir=/data/my --socket=/run/mysqld/mysqld.sock --init-file=/tmp/first"
    );
    let mount = format!("{}:/secret/word:ro", word.display());
    let more = ["--env", "MARIADB_ROOT_PASSWORD_FILE=/secret/word", "--volume"];
    let client = |service: &str, input: &[u8]| {
        let password = format!("MYSQL_PWD={PASSWORD}");
        databases.exec(
            service,
            input,
            &["env", &password, "mariadb", "--no-defaults", "--user=root", "--batch", "--skip-column-names"],
        )
    };
    for service in ["db", "fresh"] {
        databases.run(service, "mysql", &[&more[..], &[&mount]].concat(), &start);
        until(service, || client(service, b"select 1;").is_success().then_some(()));
    }
    let fill = b"create database shop; use shop; create table t (id int primary key, word blob) engine=innodb; \
                 insert into t select seq, unhex(md5(seq)) from seq_1_to_20000; \
                 create procedure p() select 1; create trigger g before insert on t for each row set new.id = new.id;";
    client("db", fill).succeeds();
    let mut files = databases.dumped(&dump("db", DumpKind::Mariadb(Vec::new()), false), None);
    let (_, content) = files.remove(0);
    client("fresh", &content).succeeds();
    let question = b"select count(*), bit_xor(crc32(word)), \
        (select count(*) from information_schema.triggers where trigger_schema='shop'), \
        (select count(*) from information_schema.routines where routine_schema='shop') from shop.t;";
    let (before, after) = (client("db", question).succeeds(), client("fresh", question).succeeds());
    assert!(before.starts_with("20000\t") && before.ends_with("\t1\t1"), "{before}");
    assert_eq!(before, after);

    // The password of the SOPS file wins over that of the container.
    let wrong = dump("db", DumpKind::Mariadb(vec!["shop".into()]), true);
    let stream = databases.streams(&wrong, Some("wrong-w0rd")).unwrap().remove(0);
    let refused = databases.read(stream, Some("wrong-w0rd")).unwrap_err();
    assert!(refused.contains("Access denied"), "{refused}");
    // A database that dies in the middle leaves an error, not an end.
    let stream = databases.streams(&dump("db", DumpKind::Mariadb(Vec::new()), false), None).unwrap().remove(0);
    let engine = docker::Engine::at(&databases.engine.socket);
    let mut dumping = begin(&engine, "shop", stream, None).unwrap();
    let mut beginning = [0; 16];
    dumping.read_exact(&mut beginning).unwrap();
    databases.engine.docker(&["kill", "db"]).succeeds();
    let mut rest = Vec::new();
    // What was on its way still comes; then there must be an error, unless all of it was.
    let read = dumping.read_to_end(&mut rest);
    assert!(read.is_err(), "{} bytes", rest.len());
}

#[test]
fn redis_and_sqlite_are_dumped_whole_and_loaded_again() {
    let databases = Databases::start();
    let start = format!("mkdir -p /data && exec redis-server --dir /data --save '' --requirepass {PASSWORD}");
    databases.run("cache", "redis", &[], &start);
    let client = |input: &[u8]| {
        let password = format!("REDISCLI_AUTH={PASSWORD}");
        databases.exec("cache", input, &["env", &password, "redis-cli"])
    };
    until("redis", || client(b"ping\n").stdout.contains("PONG").then_some(()));
    client(b"set greeting hello\nrpush list a b c\n").succeeds();
    let (name, content) = databases.dumped(&dump("cache", DumpKind::Redis, true), Some(PASSWORD)).remove(0);
    assert_eq!(name, "cache");
    load(&databases, "again", &content, "/data/dump.rdb", "redis", "exec redis-server --dir /data --save ''");
    until("redis again", || databases.exec("again", b"ping\n", &["redis-cli"]).stdout.contains("PONG").then_some(()));
    assert_eq!(
        databases.exec("again", b"get greeting\nlrange list 0 -1\n", &["redis-cli"]).succeeds(),
        "hello\na\nb\nc"
    );
    let stream = databases.streams(&dump("cache", DumpKind::Redis, true), None).unwrap().remove(0);
    let refused = databases.read(stream, Some("wrong-w0rd")).unwrap_err();
    assert!(!refused.contains("wrong-w0rd"), "{refused}");

    databases.run("app", "redis", &[], "exec sleep 100000");
    let sql = b"pragma journal_mode=wal; create table t (n int); with recursive c(n) as (select 1 union all select n + 1 from c where n < 20000) insert into t select n from c;";
    databases.exec("app", sql, &["sqlite3", "/data/app.db"]).succeeds();
    let kind = DumpKind::Sqlite("/data/app.db".into());
    let (_, content) = databases.dumped(&dump("app", kind, false), None).remove(0);
    databases.exec("app", &content, &["sh", "-c", "cat >/data/copy.db"]).succeeds();
    let asked = databases.exec(
        "app",
        b"pragma integrity_check; select count(*), sum(n) from t;",
        &["sqlite3", "/data/copy.db"],
    );
    assert_eq!(asked.succeeds(), "ok\n20000|200010000");
    let stream =
        databases.streams(&dump("app", DumpKind::Sqlite("/data/nowhere.db".into()), false), None).unwrap().remove(0);
    assert!(databases.read(stream, None).unwrap_err().contains("there is no file /data/nowhere.db"));

    commands_that_fail(&databases);
}

/// Begins a container only once a file is in it.
fn load(databases: &Databases, service: &str, content: &[u8], path: &str, user: &str, command: &str) {
    databases.run(service, user, &[], &format!("while [ ! -e /data/ready ]; do sleep 0.1; done; {command}"));
    databases.exec(service, content, &["sh", "-c", &format!("cat >{path} && touch /data/ready")]).succeeds();
}

/// Whatever way a command fails, its output has no end.
fn commands_that_fail(databases: &Databases) {
    let of = |script: &str| {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        databases.streams(&dump("app", DumpKind::Command(command), false), None).unwrap().remove(0)
    };
    let large = databases.read(of("head -c 50000000 /dev/zero; echo 'disk of the database is full' >&2; exit 3"), None);
    assert!(large.unwrap_err().contains("ended with 3: disk of the database is full"));
    assert!(databases.read(of("true"), None).unwrap_err().contains("printed nothing"));
    assert!(databases.read(of("echo half; kill -9 $$"), None).unwrap_err().contains("ended with 137"));
    assert!(databases.read(of("exec /no/such/program"), None).unwrap_err().contains("ended with 127"));
    assert_eq!(databases.read(of("echo said >&2; echo whole"), None).unwrap(), b"whole\n");
    let nowhere = dump("nowhere", DumpKind::Command(vec!["true".into()]), false);
    let stream = databases.streams(&nowhere, None).unwrap().remove(0);
    assert!(databases.read(stream, None).unwrap_err().contains("no container of `nowhere` runs"));
}
