//! Decides how a database is dumped: the command inside of its container, and what its output must look like to count.
//!
//! The built-in kinds run a script of ours with `sh` of the image. What is not ours reaches it as an argument and never
//! as text of the script. Passwords are taken from the container's own environment or come by the environment of the
//! command, never by an argument.

use crate::model::backup::{Dump, DumpKind};

/// One command whose output is one file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The service in whose container it runs.
    pub service: String,
    /// The path below `/dumps/<stack>/`.
    pub to: String,
    /// The command.
    pub command: Vec<String>,
    /// Which variable gets the password of the SOPS file, and the password's name there.
    pub password: Option<(&'static str, String)>,
    /// What must stand at the very beginning.
    pub begins: &'static str,
    /// What must stand in the last [`TAIL`] bytes: without it, the program was cut off.
    pub ends: &'static str,
}

/// How far from its end a dump is searched for its mark: newer programs write a line or two behind it.
pub const TAIL: usize = 1024;

/// How a command ended and what was seen of its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The exit status; none when the engine does not know it.
    pub status: Option<i64>,
    /// How many bytes came.
    pub length: u64,
    /// The first bytes, at least as many as `begins` has.
    pub head: &'a [u8],
    /// The last [`TAIL`] bytes.
    pub tail: &'a [u8],
    /// What it said besides.
    pub said: &'a str,
}

/// How much of what a program says is shown.
const LONGEST: usize = 300;

/// `psql` prints a NUL behind each name.
const POSTGRES_LIST: &str = r#"exec psql --no-psqlrc --no-password --username="${1:-${POSTGRES_USER:-postgres}}" \
--dbname=template1 --tuples-only --no-align --record-separator-zero \
--command='select datname from pg_database where datallowconn and not datistemplate order by datname'"#;
const POSTGRES_ROLES: &str = r#"exec pg_dumpall --globals-only --no-password --username="${1:-${POSTGRES_USER:-postgres}}" --database=template1"#;
/// `--clean --create`: the file can be fed to `psql --dbname=template1` on an empty server and on one that has it.
const POSTGRES: &str = r#"exec pg_dump --create --clean --if-exists --no-password \
--username="${1:-${POSTGRES_USER:-postgres}}" --dbname="$2""#;
/// Images keep the password of root in a variable or in a file that a variable names.
const MYSQL: &str = r#"word=${MYSQL_PWD:-${MARIADB_ROOT_PASSWORD:-${MYSQL_ROOT_PASSWORD:-}}}
file=${MARIADB_ROOT_PASSWORD_FILE:-${MYSQL_ROOT_PASSWORD_FILE:-}}
if [ -z "$word" ] && [ -n "$file" ]; then word=$(cat "$file") || exit; fi
if [ -n "$word" ]; then export MYSQL_PWD="$word"; fi
user=${1:-root}
shift
program=$(command -v mariadb-dump || command -v mysqldump) || { echo 'neither mariadb-dump nor mysqldump' >&2; exit 127; }
exec "$program" --user="$user" --single-transaction --quick --routines --events --triggers --hex-blob "$@""#;
/// `mongodump` takes a password from an argument or a file, so it gets it as a file that is its input.
const MONGODB: &str = r#"user=${1:-${MONGO_INITDB_ROOT_USERNAME:-}}
word=${MOORLINE_PASSWORD:-${MONGO_INITDB_ROOT_PASSWORD:-}}
file=${MONGO_INITDB_ROOT_PASSWORD_FILE:-}
if [ -z "$word" ] && [ -n "$file" ]; then word=$(cat "$file") || exit; fi
if [ -z "$user" ]; then exec mongodump --quiet --archive; fi
printf "password: '%s'\n" "$(printf %s "$word" | sed "s/'/''/g")" |
mongodump --quiet --archive --authenticationDatabase=admin --username="$user" --config=/dev/stdin"#;
/// Both write to a file only. `.backup` is whole whatever is written meanwhile.
const SQLITE: &str = r#"[ -f "$1" ] || { echo "there is no file $1" >&2; exit 1; }
copy=$(mktemp) || exit
trap 'rm -f "$copy"' EXIT
sqlite3 -batch -bail -cmd '.timeout 60000' "$1" ".backup '$copy'" && cat "$copy""#;
const REDIS: &str = r#"program=$(command -v valkey-cli || command -v redis-cli) || { echo 'neither valkey-cli nor redis-cli' >&2; exit 127; }
copy=$(mktemp) || exit
trap 'rm -f "$copy"' EXIT
"$program" ${1:+--user "$1"} --no-auth-warning --rdb "$copy" >&2 && cat "$copy""#;

/// The command that lists the databases, for a dump that names none but needs one command for each.
pub fn listing(dump: &Dump) -> Option<Stream> {
    match &dump.kind {
        DumpKind::Postgres(databases) if databases.is_empty() => {
            Some(stream(dump, dump.to.clone(), script(POSTGRES_LIST, dump, &[]), Some("PGPASSWORD"), ("", "")))
        }
        _ => None,
    }
}

/// The names in the output of [`listing`].
pub fn listed(output: &[u8]) -> Vec<String> {
    let names = output.split(|byte| *byte == 0).map(|name| String::from_utf8_lossy(name).trim_matches('\n').to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

/// The commands of a dump. `listed` are the databases that [`listing`] found.
pub fn streams(dump: &Dump, listed: &[String]) -> Vec<Stream> {
    let one = |command, password, marks| vec![stream(dump, dump.to.clone(), command, password, marks)];
    match &dump.kind {
        DumpKind::Command(command) => one(command.clone(), None, ("", "")),
        DumpKind::Postgres(named) => {
            let roles = script(POSTGRES_ROLES, dump, &[]);
            let mark = ("", "PostgreSQL database cluster dump complete");
            let roles = stream(dump, format!("{}/globals.sql", dump.to), roles, Some("PGPASSWORD"), mark);
            let databases = if named.is_empty() { listed } else { named };
            let of_database = |name: &String| {
                let command = script(POSTGRES, dump, &[&connection(name)]);
                let to = format!("{}/databases/{}.sql", dump.to, file_name(name));
                stream(dump, to, command, Some("PGPASSWORD"), ("", "PostgreSQL database dump complete"))
            };
            std::iter::once(roles).chain(databases.iter().map(of_database)).collect()
        }
        DumpKind::Mariadb(databases) => one(mysql(dump, databases, &[]), Some("MYSQL_PWD"), ("", "-- Dump completed")),
        DumpKind::Mysql(databases) => {
            // Otherwise the dump can be loaded only into a server that never had a transaction.
            let command = mysql(dump, databases, &["--set-gtid-purged=OFF"]);
            one(command, Some("MYSQL_PWD"), ("", "-- Dump completed"))
        }
        DumpKind::Mongodb => one(script(MONGODB, dump, &[]), Some("MOORLINE_PASSWORD"), ("", "")),
        DumpKind::Redis => one(script(REDIS, dump, &[]), Some("REDISCLI_AUTH"), ("REDIS", "")),
        DumpKind::Sqlite(path) => {
            let command = ["sh", "-c", SQLITE, "moorline", path].map(str::to_owned).to_vec();
            one(command, None, ("SQLite format 3", ""))
        }
    }
}

fn stream(
    dump: &Dump,
    to: String,
    command: Vec<String>,
    password: Option<&'static str>,
    (begins, ends): (&'static str, &'static str),
) -> Stream {
    let password = password.and_then(|variable| Some((variable, dump.password.clone()?)));
    Stream { service: dump.service.clone(), to, command, password, begins, ends }
}

/// A script, with the user as its first argument.
fn script(text: &str, dump: &Dump, arguments: &[&str]) -> Vec<String> {
    let user = dump.user.as_deref().unwrap_or_default();
    ["sh", "-c", text, "moorline", user].iter().chain(arguments).map(|word| (*word).to_owned()).collect()
}

fn mysql(dump: &Dump, databases: &[String], more: &[&str]) -> Vec<String> {
    let which = if databases.is_empty() { "--all-databases" } else { "--databases" };
    let databases = databases.iter().map(String::as_str);
    let arguments: Vec<&str> = more.iter().copied().chain([which]).chain(databases).collect();
    script(MYSQL, dump, &arguments)
}

/// A connection string for a database: a bare name with `=` in it would be read as one.
fn connection(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A name of a database as a name of a file, reversibly: everything unusual is escaped as in a URL.
fn file_name(database: &str) -> String {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let escape = |byte| if usual(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    database.bytes().map(escape).collect()
}

/// Whether a dump is whole; otherwise why not.
pub fn judge(stream: &Stream, seen: &Seen<'_>) -> Result<(), String> {
    let Stream { service, to, .. } = stream;
    let said = match shortened(seen.said) {
        text if text.is_empty() => String::new(),
        text => format!(": {text}"),
    };
    let holds_mark = || seen.tail.windows(stream.ends.len().max(1)).any(|window| window == stream.ends.as_bytes());
    match seen.status {
        None => Err(format!("dump {to}: the engine does not know how the command in `{service}` ended{said}")),
        Some(status) if status != 0 => Err(format!("dump {to}: the command in `{service}` ended with {status}{said}")),
        Some(_) if seen.length == 0 => Err(format!("dump {to}: the command in `{service}` printed nothing{said}")),
        Some(_) if !seen.head.starts_with(stream.begins.as_bytes()) => {
            Err(format!("dump {to}: the output of `{service}` does not begin with `{}`", stream.begins))
        }
        Some(_) if !stream.ends.is_empty() && !holds_mark() => {
            Err(format!("dump {to}: the output of `{service}` was cut off: `{}` is missing at its end", stream.ends))
        }
        Some(_) => Ok(()),
    }
}

/// One line, without what could move a cursor.
fn shortened(said: &str) -> String {
    let words: Vec<&str> = said.split_whitespace().collect();
    let line = words.join(" ");
    let skipped = line.chars().count().saturating_sub(LONGEST);
    let shown: String = line.chars().skip(skipped).filter(|character| !character.is_control()).collect();
    if skipped > 0 { format!("…{shown}") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(kind: DumpKind) -> Dump {
        Dump { service: "db".into(), kind, to: "db".into(), password: Some("DB_PASSWORD".into()), user: None }
    }

    #[test]
    fn every_database_is_a_file_of_its_own_beside_the_roles() {
        let dump = dump(DumpKind::Postgres(Vec::new()));
        let listed = listed(b"app\0it's=odd\\\0\n");
        let streams = streams(&dump, &listed);
        let to: Vec<&str> = streams.iter().map(|stream| stream.to.as_str()).collect();
        assert_eq!(to, ["db/globals.sql", "db/databases/app.sql", "db/databases/it%27s%3Dodd%5C.sql"]);
        assert_eq!(streams[2].command.last().unwrap(), r"dbname='it\'s=odd\\'");
        assert!(listing(&self::dump(DumpKind::Postgres(vec!["app".into()]))).is_none());
    }

    #[test]
    fn no_password_and_no_name_becomes_part_of_a_script() {
        let names = || vec!["$(reboot)".to_owned()];
        for kind in [
            DumpKind::Postgres(names()),
            DumpKind::Mariadb(names()),
            DumpKind::Mysql(names()),
            DumpKind::Mongodb,
            DumpKind::Redis,
            DumpKind::Sqlite("/$(reboot)".into()),
        ] {
            for stream in streams(&dump(kind), &[]) {
                assert_eq!(stream.command[..2], ["sh", "-c"]);
                assert!(!stream.command[2].contains("reboot"), "{stream:?}");
                assert!(!stream.command.iter().any(|word| word.contains("DB_PASSWORD")), "{stream:?}");
            }
        }
    }

    #[test]
    fn a_dump_counts_only_when_the_command_worked_and_the_output_is_whole() {
        let stream = streams(&dump(DumpKind::Mariadb(Vec::new())), &[]).remove(0);
        let good = Seen { status: Some(0), length: 30, head: b"--", tail: b"x\n-- Dump completed on\n", said: "" };
        assert_eq!(judge(&stream, &good), Ok(()));
        for (seen, expected) in [
            (Seen { status: Some(2), said: "Access\n denied\x1b", ..good.clone() }, "ended with 2: Access denied"),
            (Seen { status: None, ..good.clone() }, "does not know how"),
            (Seen { length: 0, tail: b"", ..good.clone() }, "printed nothing"),
            (Seen { tail: b"INSERT INTO", ..good.clone() }, "`-- Dump completed` is missing at its end"),
        ] {
            let why = judge(&stream, &seen).unwrap_err();
            assert!(why.ends_with(expected) || why.contains(expected), "{why}");
        }
        let redis = streams(&dump(DumpKind::Redis), &[]).remove(0);
        let seen = Seen { tail: b"", head: b"ERR", ..good };
        assert!(judge(&redis, &seen).unwrap_err().contains("does not begin with `REDIS`"));
    }
}
