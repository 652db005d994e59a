//! Decides how a dump is loaded again: the command that reads it, and what must come of it to count.
//!
//! As for dumps, scripts are fixed, what is not ours reaches them as an argument, and a password by the environment.

use crate::model::backup::{Dump, DumpKind};

/// How a dump can be proven to be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A server of this kind is started with no data, and the dump is loaded into it.
    Server(Server),
    /// A container of the image gets the file read-only as [`FILE`], runs this command, and ends with 0 if it is whole.
    File(Vec<String>),
    /// Only whoever wrote the command knows how to read what it printed.
    Unknown,
}

/// A server that a dump is loaded into while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Ends with 0 once the server takes connections, and not while an image is still setting its data up.
    pub ready: Vec<String>,
}

/// Where a container finds the file of a dump.
pub const FILE: &str = "/moorline/dump";

/// One file of a dump and the command that reads it from its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Its path below `/dumps/<stack>/`.
    pub from: String,
    /// The command.
    pub command: Vec<String>,
    /// Variables that it gets besides the password.
    pub variables: Vec<String>,
    /// The variable that gets the password of the SOPS file.
    pub password: &'static str,
    /// What it may complain about.
    pub tolerates: Tolerates,
}

/// What a command that ended with 0 may have complained about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerates {
    /// Anything: its end says whether it worked.
    Anything,
    /// Roles that are there already.
    Roles,
}

/// What happens to the roles of a PostgreSQL server that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// They become as they were, passwords included.
    AsDumped,
    /// They stay as they are: what uses the database now knows its password of now.
    AsTheyAre,
}

/// No message but an error, and in the language that we read.
const POSTGRES_OPTIONS: &str = "PGOPTIONS=-c client_min_messages=error -c lc_messages=C";
const POSTGRES_ROLES: &str = r#"exec psql --no-psqlrc --no-password --quiet --output=/dev/null \
--username="${1:-${POSTGRES_USER:-postgres}}" --dbname=template1"#;
/// The dump drops the database first, which nobody may be using then: they are sent away and kept out. If it fails, the
/// database that is there then lets them in again.
const POSTGRES: &str = r#"run() { psql --no-psqlrc --no-password --quiet --output=/dev/null --set=ON_ERROR_STOP=1 \
--username="$user" --dbname=template1 "$@"; }
user=${1:-${POSTGRES_USER:-postgres}} name=$2
door() { printf '%s\n' "select format('alter database %I with allow_connections $1', datname) from pg_database
where datname = :'name' \gexec" | run --set=name="$name"; }
leave() { echo "select pg_terminate_backend(pid) from pg_stat_activity where datname = :'name';" | run --set=name="$name"; }
door false && leave || exit
run
status=$?
[ "$status" = 0 ] || door true
exit "$status""#;
/// An image that sets its data up starts a server for itself first, as a child of its script and without a network. The
/// one that stays is process 1, or takes connections over TCP.
const POSTGRES_READY: &str = r#"pg_isready --quiet --host=127.0.0.1 && exit
[ "$(cat /proc/1/comm)" = postgres ] && pg_isready --quiet"#;
const MYSQL_READY: &str = r#"admin=$(command -v mariadb-admin || command -v mysqladmin) || { echo 'neither mariadb-admin nor mysqladmin' >&2; exit 127; }
"$admin" --no-defaults --protocol=tcp --host=127.0.0.1 ping >/dev/null 2>&1 && exit
case $(cat /proc/1/comm) in mariadbd|mysqld) exec "$admin" ping;; esac
exit 1"#;
const MYSQL: &str = r#"word=${MYSQL_PWD:-${MARIADB_ROOT_PASSWORD:-${MYSQL_ROOT_PASSWORD:-}}}
file=${MARIADB_ROOT_PASSWORD_FILE:-${MYSQL_ROOT_PASSWORD_FILE:-}}
if [ -z "$word" ] && [ -n "$file" ]; then word=$(cat "$file") || exit; fi
if [ -n "$word" ]; then export MYSQL_PWD="$word"; fi
program=$(command -v mariadb || command -v mysql) || { echo 'neither mariadb nor mysql' >&2; exit 127; }
exec "$program" --user="${1:-root}" --batch"#;
const MONGODB_READY: &str = r#"[ "$(cat /proc/1/comm)" = mongod ] || exit 1
program=$(command -v mongosh || command -v mongo) || { echo 'neither mongosh nor mongo' >&2; exit 127; }
exec "$program" --quiet --eval 'db.runCommand({ ping: 1 })'"#;
/// Its password is in a file: it takes it from no variable, and its input is the dump.
const MONGODB: &str = r#"user=${1:-${MONGO_INITDB_ROOT_USERNAME:-}}
word=${MOORLINE_PASSWORD:-${MONGO_INITDB_ROOT_PASSWORD:-}}
file=${MONGO_INITDB_ROOT_PASSWORD_FILE:-}
if [ -z "$word" ] && [ -n "$file" ]; then word=$(cat "$file") || exit; fi
if [ -z "$user" ]; then exec mongorestore --quiet --archive --drop --stopOnError; fi
umask 077
login=$(mktemp) || exit
trap 'rm -f "$login"' EXIT
printf "password: '%s'\n" "$(printf %s "$word" | sed "s/'/''/g")" >"$login"
mongorestore --quiet --archive --drop --stopOnError --authenticationDatabase=admin --username="$user" --config="$login""#;
/// A server that has read the file and answers. It writes nothing.
const REDIS: &str = r#"server=$(command -v valkey-server || command -v redis-server) || { echo 'neither valkey-server nor redis-server' >&2; exit 127; }
client=$(command -v valkey-cli || command -v redis-cli) || { echo 'neither valkey-cli nor redis-cli' >&2; exit 127; }
"$server" --dir "${1%/*}" --dbfilename "${1##*/}" --save '' --appendonly no --port 0 --unixsocket /tmp/moorline.sock &
until [ "$("$client" -s /tmp/moorline.sock ping 2>/dev/null)" = PONG ]; do
kill -0 $! 2>/dev/null || { wait $!; exit 1; }
sleep 0.2
done
"$client" -s /tmp/moorline.sock shutdown nosave"#;
/// As it lies there: opened the usual way, it would need a file beside it.
const SQLITE: &str = r#"found=$(sqlite3 -batch -bail -readonly "file:$1?immutable=1" 'pragma integrity_check') || exit
[ "$found" = ok ] || { echo "integrity_check: $found" >&2; exit 1; }"#;

/// How this dump can be proven.
pub fn way(dump: &Dump) -> Way {
    let server = |ready: &str| Way::Server(Server { ready: ["sh", "-c", ready].map(str::to_owned).to_vec() });
    let file = |script: &str| Way::File(["sh", "-c", script, "moorline", FILE].map(str::to_owned).to_vec());
    match dump.kind {
        DumpKind::Postgres(_) => server(POSTGRES_READY),
        DumpKind::Mariadb(_) | DumpKind::Mysql(_) => server(MYSQL_READY),
        DumpKind::Mongodb => server(MONGODB_READY),
        DumpKind::Redis => file(REDIS),
        DumpKind::Sqlite(_) => file(SQLITE),
        DumpKind::Command(_) => Way::Unknown,
    }
}

/// The commands that load the files of a dump into a server, in their order: roles before what they own. `files` are
/// below `/dumps/<stack>/`.
pub fn loads(dump: &Dump, files: &[String]) -> Vec<Load> {
    let user = dump.user.as_deref().unwrap_or_default();
    let load = |from: &String, script: &str, more: &[&str], password| Load {
        from: from.clone(),
        command: ["sh", "-c", script, "moorline", user].iter().chain(more).map(|word| (*word).to_owned()).collect(),
        variables: Vec::new(),
        password,
        tolerates: Tolerates::Anything,
    };
    match dump.kind {
        DumpKind::Postgres(_) => {
            let of_roles = format!("{}/globals.sql", dump.to);
            let (roles, databases): (Vec<&String>, Vec<&String>) = files.iter().partition(|file| **file == of_roles);
            let roles = roles
                .into_iter()
                .map(|from| Load { tolerates: Tolerates::Roles, ..load(from, POSTGRES_ROLES, &[], "PGPASSWORD") });
            let of_database = |from: &String| load(from, POSTGRES, &[&database(from)], "PGPASSWORD");
            let all = roles.chain(databases.into_iter().map(of_database));
            all.map(|load| Load { variables: vec![POSTGRES_OPTIONS.to_owned()], ..load }).collect()
        }
        DumpKind::Mariadb(_) | DumpKind::Mysql(_) => {
            files.iter().map(|from| load(from, MYSQL, &[], "MYSQL_PWD")).collect()
        }
        DumpKind::Mongodb => files.iter().map(|from| load(from, MONGODB, &[], "MOORLINE_PASSWORD")).collect(),
        DumpKind::Redis | DumpKind::Sqlite(_) | DumpKind::Command(_) => Vec::new(),
    }
}

/// What must lie in the snapshot for a dump to be whole: one file, or several below a directory.
pub fn is_whole(dump: &Dump, files: &[String]) -> Result<(), String> {
    let of_roles = format!("{}/globals.sql", dump.to);
    let missing = |what: &str| Err(format!("dump {}: {what} is not in the snapshot", dump.to));
    match &dump.kind {
        DumpKind::Postgres(_) if !files.contains(&of_roles) => missing(&of_roles),
        DumpKind::Postgres(named) => {
            let found: Vec<String> =
                files.iter().filter(|file| **file != of_roles).map(|file| database(file)).collect();
            match named.iter().find(|name| !found.contains(name)) {
                Some(name) => missing(&format!("database {name}")),
                None if found.is_empty() => missing("any database"),
                None => Ok(()),
            }
        }
        _ if files.is_empty() => missing("it"),
        _ => Ok(()),
    }
}

/// What a person types to bring a dump back that no running container can load.
pub fn by_hand(dump: &Dump) -> Option<&'static str> {
    match dump.kind {
        DumpKind::Redis => Some("stop it, put the file in the place of its dump.rdb (and its AOF away), and start it"),
        DumpKind::Sqlite(_) => Some("stop it, put the file in the place of the database, and start it"),
        DumpKind::Command(_) => Some("only the application knows how to read it"),
        _ => None,
    }
}

/// The name of the database in a file: [`super::dump`] escaped it as in a URL.
fn database(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or_default();
    let name = name.strip_suffix(".sql").unwrap_or(name).as_bytes();
    let (mut plain, mut at) = (Vec::new(), 0);
    while at < name.len() {
        let escaped = (name[at] == b'%').then(|| name.get(at + 1..at + 3)).flatten();
        let byte = escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        plain.push(byte.unwrap_or(name[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Whether a dump was loaded; otherwise why not. `said` is what the command said, with secrets taken out.
pub fn judge(load: &Load, status: Option<i64>, said: &[String]) -> Result<(), String> {
    let from = &load.from;
    let words = |lines: &[String]| match lines.join(" ") {
        text if text.is_empty() => String::new(),
        text => format!(": {text}"),
    };
    match (status, load.tolerates) {
        (None, _) => Err(format!("dump {from}: the engine does not know how loading it ended{}", words(said))),
        (Some(0), Tolerates::Anything) => Ok(()),
        (Some(0), Tolerates::Roles) => {
            let bad = |line: &&String| line.contains("ERROR:") && !is_known_role(line);
            let bad: Vec<String> = said.iter().filter(bad).cloned().collect();
            if bad.is_empty() { Ok(()) } else { Err(format!("dump {from} does not load{}", words(&bad))) }
        }
        (Some(_), Tolerates::Roles) => {
            let lines: Vec<String> = said.iter().filter(|line| !is_known_role(line)).cloned().collect();
            Err(format!("dump {from} does not load{}", words(&lines)))
        }
        (Some(status), Tolerates::Anything) if said.is_empty() => {
            Err(format!("dump {from} does not load: the command ended with {status}"))
        }
        (Some(_), Tolerates::Anything) => Err(format!("dump {from} does not load{}", words(said))),
    }
}

/// `ERROR:  role "shop" already exists`
fn is_known_role(line: &str) -> bool {
    line.contains("ERROR:  role ") && line.trim_end().ends_with("already exists")
}

/// The roles of a dump, so that those that are there already stay as they are: `pg_dumpall` writes the making of each, and
/// right behind it how it is.
pub fn keep_roles(globals: &str) -> String {
    let mut kept = String::with_capacity(globals.len() * 2);
    // Newer dumps forbid `psql` to do anything but SQL until this key is named again.
    let mut key = None;
    for line in globals.lines() {
        key = line.strip_prefix("\\restrict ").or(key).filter(|_| !line.starts_with("\\unrestrict "));
        let lock = |word: &str| key.map(|key| format!("\\{word} {key}\n")).unwrap_or_default();
        // What has a backslash could be more than SQL where nothing forbids it.
        let is_how = line.starts_with("ALTER ROLE ") && line.contains(" WITH ") && !line.contains('\\');
        match is_how {
            true => {
                let (open, close) = (lock("unrestrict"), lock("restrict"));
                kept.push_str(&format!("{open}\\if :ERROR\n\\else\n{line}\n\\endif\n{close}"));
            }
            false => kept.push_str(&format!("{line}\n")),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(kind: DumpKind) -> Dump {
        Dump { service: "db".into(), kind, to: "db".into(), password: Some("DB_PASSWORD".into()), user: None }
    }

    #[test]
    fn roles_are_loaded_before_the_databases_that_they_own() {
        let files = ["db/databases/app.sql", "db/databases/it%27s%3Dodd%5C.sql", "db/globals.sql"].map(str::to_owned);
        let loads = loads(&dump(DumpKind::Postgres(Vec::new())), &files);
        let from: Vec<&str> = loads.iter().map(|load| load.from.as_str()).collect();
        assert_eq!(from, ["db/globals.sql", "db/databases/app.sql", "db/databases/it%27s%3Dodd%5C.sql"]);
        assert_eq!(loads[2].command.last().unwrap(), r"it's=odd\");
        assert_eq!(loads[0].tolerates, Tolerates::Roles);
        assert_eq!(loads[1].tolerates, Tolerates::Anything);
    }

    #[test]
    fn a_dump_of_which_a_part_is_missing_is_not_whole() {
        let files = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
        let all = dump(DumpKind::Postgres(Vec::new()));
        let one = dump(DumpKind::Postgres(vec!["a b".into()]));
        assert_eq!(is_whole(&one, &files(&["db/globals.sql", "db/databases/a%20b.sql"])), Ok(()));
        for (dump, found, expected) in [
            (&all, files(&[]), "db/globals.sql is not in"),
            (&all, files(&["db/globals.sql"]), "any database is not in"),
            (&one, files(&["db/globals.sql", "db/databases/a.sql"]), "database a b is not in"),
            (&dump(DumpKind::Redis), files(&[]), "it is not in the snapshot"),
        ] {
            assert!(is_whole(dump, &found).unwrap_err().contains(expected), "{expected}");
        }
    }

    #[test]
    fn no_name_becomes_part_of_a_script_and_no_password_an_argument() {
        let files = ["db/globals.sql".to_owned(), "db/databases/%24%28reboot%29.sql".to_owned()];
        for kind in [
            DumpKind::Postgres(Vec::new()),
            DumpKind::Mariadb(Vec::new()),
            DumpKind::Mysql(Vec::new()),
            DumpKind::Mongodb,
        ] {
            for load in loads(&dump(kind), &files) {
                assert_eq!(load.command[..2], ["sh", "-c"]);
                assert!(!load.command[2].contains("reboot"), "{load:?}");
                assert!(!load.command.iter().any(|word| word.contains("DB_PASSWORD")), "{load:?}");
            }
        }
        let Way::File(command) = way(&dump(DumpKind::Sqlite("/$(reboot)".into()))) else { panic!("a file is enough") };
        assert!(!command.join(" ").contains("reboot"));
    }

    #[test]
    fn a_role_that_is_there_already_is_no_failure_and_everything_else_is() {
        let load = loads(&dump(DumpKind::Postgres(Vec::new())), &["db/globals.sql".into()]).remove(0);
        let there = "psql:<stdin>:3: ERROR:  role \"shop\" already exists".to_owned();
        let other = "psql:<stdin>:9: ERROR:  directory \"/fast\" does not exist".to_owned();
        assert_eq!(judge(&load, Some(0), std::slice::from_ref(&there)), Ok(()));
        let why = judge(&load, Some(0), &[there.clone(), other.clone()]).unwrap_err();
        assert!(why.ends_with(&other) && !why.contains("already"), "{why}");
        assert!(judge(&load, Some(2), &[there]).is_err());
        assert!(judge(&load, None, &[]).is_err());
        let load = Load { tolerates: Tolerates::Anything, ..load };
        assert_eq!(judge(&load, Some(0), &["a warning".into()]), Ok(()));
        assert!(judge(&load, Some(3), &[]).unwrap_err().ends_with("ended with 3"));
    }

    #[test]
    fn roles_that_are_there_keep_what_they_have() {
        let globals = "CREATE ROLE shop;\nALTER ROLE shop WITH LOGIN PASSWORD 'SCRAM';\nALTER ROLE shop SET x TO 1;\n";
        let expected = "CREATE ROLE shop;\n\\if :ERROR\n\\else\nALTER ROLE shop WITH LOGIN PASSWORD 'SCRAM';\n\\endif\n\
                        ALTER ROLE shop SET x TO 1;\n";
        assert_eq!(keep_roles(globals), expected);
        let locked = "\\restrict k\nALTER ROLE a WITH LOGIN;\nALTER ROLE b WITH \\! reboot\n\\unrestrict k\n";
        let expected = "\\restrict k\n\\unrestrict k\n\\if :ERROR\n\\else\nALTER ROLE a WITH LOGIN;\n\\endif\n\\restrict k\n\
                        ALTER ROLE b WITH \\! reboot\n\\unrestrict k\n";
        assert_eq!(keep_roles(locked), expected);
    }
}
