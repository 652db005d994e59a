//! Reads `x-moorline.backup` and `x-moorline.drill`, and names what in them could never work.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::decide::dotenv;
use crate::decide::mistake::meant;
use crate::model::backup::{Dump, DumpKind, Quiesce};

/// `x-moorline.backup`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupExtension {
    /// The volumes that go in; all of the stack when it is not there.
    pub volumes: Option<Vec<String>>,
    /// Patterns of paths that stay out.
    pub excludes: Vec<String>,
    /// Commands whose output goes in.
    pub dumps: Vec<DumpExtension>,
    /// What happens to the containers meanwhile.
    pub quiesce: Quiesce,
}

/// One of `x-moorline.backup.dumps`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpExtension {
    service: String,
    #[serde(default)]
    kind: Option<KindName>,
    #[serde(default)]
    command: Option<Vec<String>>,
    #[serde(default)]
    databases: Vec<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    to: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Postgres,
    Mariadb,
    Mysql,
    Mongodb,
    Sqlite,
    Redis,
}

/// `x-moorline.drill`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrillExtension {
    /// What looks at the restored files.
    pub probe: Option<ProbeExtension>,
}

/// `x-moorline.drill.probe`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeExtension {
    /// The image of the container.
    pub image: String,
    /// What runs in it; exit code 0 is the proof.
    pub command: Vec<String>,
}

/// Something that could never work, and where below `x-moorline` it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The keys that lead there: `backup.dumps`.
    pub place: &'static str,
    /// The value, as far as it can be found in the file.
    pub value: String,
    /// What is wrong.
    pub text: String,
}

/// What the rest of the Compose file names.
#[derive(Debug, Clone, Default)]
pub struct Names<'a> {
    /// The services.
    pub services: Vec<&'a str>,
    /// The volumes with a name.
    pub volumes: Vec<&'a str>,
}

/// Every flaw of the two sections. Without `names`, as in a file that includes others, names are not looked up.
pub fn flaws(backup: &BackupExtension, drill: &DrillExtension, names: Option<&Names<'_>>) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let mut wrong = |place, value: &str, text: String| flaws.push(Flaw { place, value: value.to_owned(), text });
    let mut seen = BTreeSet::new();
    for volume in backup.volumes.iter().flatten() {
        if let Some(known) = names.map(|names| &names.volumes).filter(|known| !known.contains(&volume.as_str())) {
            let text = format!("there is no volume `{volume}` in this file{}", meant(volume, known));
            wrong("backup.volumes", volume, text);
        }
        if !seen.insert(volume) {
            wrong("backup.volumes", volume, format!("volume `{volume}` is listed twice"));
        }
    }
    for pattern in &backup.excludes {
        if pattern.trim().is_empty() || pattern.starts_with('!') || pattern.contains(char::is_control) {
            wrong("backup.excludes", pattern, format!("`{pattern}` is not a pattern of what stays out"));
        }
    }
    let mut targets: Vec<String> = Vec::new();
    for extension in &backup.dumps {
        let service = &extension.service;
        if let Some(known) = names.map(|names| &names.services).filter(|known| !known.contains(&service.as_str())) {
            let text = format!("there is no service `{service}` in this file{}", meant(service, known));
            wrong("backup.dumps", service, text);
        }
        match extension.read() {
            Err(text) => wrong("backup.dumps", service, format!("the dump of `{service}`: {text}")),
            Ok(dump) => {
                // A directory and a file in it would be two things in one place as well.
                let clash = targets.iter().find(|other| is_within(&dump.to, other) || is_within(other, &dump.to));
                if let Some(other) = clash {
                    let text = format!("the dump of `{service}`: `to: {}` collides with `{other}`", dump.to);
                    wrong("backup.dumps", &dump.to, text);
                }
                targets.push(dump.to);
            }
        }
    }
    if let Some(probe) = &drill.probe
        && (probe.command.is_empty() || probe.image.is_empty())
    {
        wrong("drill.probe", "probe", "needs an image and a command".into());
    }
    flaws
}

fn is_within(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl BackupExtension {
    /// The dumps that can be taken; those with flaws were named by [`flaws`].
    pub fn dumps(&self) -> Vec<Dump> {
        self.dumps.iter().filter_map(|dump| dump.read().ok()).collect()
    }
}

impl DumpExtension {
    fn read(&self) -> Result<Dump, String> {
        let only_for = |what: &str, given: bool, kinds: &[KindName]| match given
            && !self.kind.is_some_and(|kind| kinds.contains(&kind))
        {
            true => Err(format!("`{what}` is not for this kind")),
            false => Ok(()),
        };
        use KindName::{Mariadb, Mongodb, Mysql, Postgres, Redis, Sqlite};
        only_for("databases", !self.databases.is_empty(), &[Postgres, Mariadb, Mysql])?;
        only_for("path", self.path.is_some(), &[Sqlite])?;
        only_for("user", self.user.is_some(), &[Postgres, Mariadb, Mysql, Mongodb, Redis])?;
        only_for("password", self.password.is_some(), &[Postgres, Mariadb, Mysql, Mongodb, Redis])?;
        // An argument that begins with a dash would be an option.
        let words = self.databases.iter().chain(&self.user).chain(&self.path);
        if let Some(word) = words.into_iter().find(|word| !is_plain(word)) {
            return Err(format!("`{word}` cannot be an argument"));
        }
        if let Some(name) = self.password.as_ref().filter(|name| !dotenv::is_name(name)) {
            return Err(format!("`password: {name}` is not the name of a secret"));
        }
        let (kind, usual) = self.kind()?;
        let to = self.to.clone().or(usual).ok_or("needs `to: FILE`, its name in the snapshot")?;
        let is_path = to.len() <= 255
            && !to.contains(|character: char| character.is_control() || character == '\\')
            && to.split('/').all(|part| !["", ".", ".."].contains(&part));
        if !is_path {
            return Err(format!("`to: {to}` is not a path without `/` at its ends and without `..`"));
        }
        Ok(Dump { service: self.service.clone(), kind, to, password: self.password.clone(), user: self.user.clone() })
    }

    /// What it is, and the name that it gets when none is given.
    fn kind(&self) -> Result<(DumpKind, Option<String>), String> {
        let service = &self.service;
        let databases = || self.databases.clone();
        Ok(match (self.kind, &self.command) {
            (None, Some(command)) if command.first().is_some_and(|program| !program.is_empty()) => {
                (DumpKind::Command(command.clone()), None)
            }
            (Some(KindName::Postgres), None) => (DumpKind::Postgres(databases()), Some(service.clone())),
            (Some(KindName::Mariadb), None) => (DumpKind::Mariadb(databases()), Some(format!("{service}.sql"))),
            (Some(KindName::Mysql), None) => (DumpKind::Mysql(databases()), Some(format!("{service}.sql"))),
            (Some(KindName::Mongodb), None) => (DumpKind::Mongodb, Some(format!("{service}.archive"))),
            (Some(KindName::Redis), None) => (DumpKind::Redis, Some(format!("{service}.rdb"))),
            (Some(KindName::Sqlite), None) => {
                let path = self.path.clone().filter(|path| path.starts_with('/'));
                let path = path.ok_or("needs `path: /...`, the file of the database in the container")?;
                let name = path.rsplit('/').next().map(str::to_owned);
                (DumpKind::Sqlite(path), name)
            }
            _ => return Err("needs either `kind` or `command: [PROGRAM, ...]`".into()),
        })
    }
}

fn is_plain(word: &str) -> bool {
    !word.is_empty() && !word.starts_with('-') && !word.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(backup: serde_json::Value) -> Vec<String> {
        let backup = BackupExtension::deserialize(backup).unwrap();
        let names = Names { services: vec!["db", "web"], volumes: vec!["data"] };
        flaws(&backup, &DrillExtension::default(), Some(&names)).into_iter().map(|flaw| flaw.text).collect()
    }

    #[test]
    fn names_that_are_not_there_are_mistakes() {
        assert_eq!(
            found(json!({ "volumes": ["dato"] })),
            ["there is no volume `dato` in this file (did you mean `data`?)"]
        );
        let dumps = json!({ "dumps": [{ "service": "bd", "kind": "postgres" }] });
        assert_eq!(found(dumps), ["there is no service `bd` in this file (did you mean `db`?)"]);
        assert_eq!(found(json!({ "volumes": ["data", "data"] })), ["volume `data` is listed twice"]);
    }

    #[test]
    fn a_dump_says_what_it_is_in_one_way_and_stays_in_its_place() {
        for (dump, expected) in [
            (json!({ "service": "db" }), "needs either `kind` or"),
            (json!({ "service": "db", "kind": "redis", "command": ["x"] }), "needs either `kind` or"),
            (json!({ "service": "db", "command": ["x"] }), "needs `to: FILE`"),
            (json!({ "service": "db", "command": ["x"], "to": "../x" }), "`to: ../x` is not a path"),
            (json!({ "service": "db", "kind": "sqlite" }), "needs `path: /...`"),
            (json!({ "service": "db", "kind": "redis", "databases": ["a"] }), "`databases` is not for this kind"),
            (json!({ "service": "db", "kind": "postgres", "databases": ["-x"] }), "`-x` cannot be an argument"),
            (json!({ "service": "db", "kind": "postgres", "password": "a b" }), "`password: a b` is not the name"),
        ] {
            let found = found(json!({ "dumps": [dump] }));
            assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
        }
    }

    #[test]
    fn two_dumps_do_not_share_a_place() {
        let dumps = json!({ "dumps": [
            { "service": "db", "kind": "postgres" }, { "service": "web", "command": ["x"], "to": "db/x" },
            { "service": "web", "command": ["x"], "to": "db2" },
        ] });
        assert_eq!(found(dumps), ["the dump of `web`: `to: db/x` collides with `db`"]);
    }
}
