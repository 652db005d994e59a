//! What an engine says about a Compose project, in words that are equal for equal projects whoever brought them up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::engine::Engine;
use super::run::Ran;

const LABELS: &str = "com.docker.compose.";
/// What the names of plain projects begin with.
const PREFIX: &str = "plain-";

/// One look at a project: facts by what they are about.
pub struct Facts {
    /// `app-1 state`, `network front`, `volume data`, ...
    pub lines: BTreeMap<String, String>,
    /// Identity and last start of each container.
    lives: BTreeMap<String, (String, String)>,
}

impl Facts {
    /// Everything that the engine says about the project.
    #[track_caller]
    pub fn of(engine: &Engine, project: &str) -> Self {
        let filter = format!("label={LABELS}project={project}");
        let list = |arguments: &[&str]| -> Vec<Json> {
            let listed = engine.docker(&[arguments, &["--quiet", "--filter", &filter]].concat()).succeeds();
            let names: Vec<&str> = listed.lines().collect();
            if names.is_empty() {
                return Vec::new();
            }
            let kind = if arguments[0] == "ps" { "container" } else { arguments[0] };
            let inspected = engine.docker(&[&[kind, "inspect"], &names[..]].concat()).succeeds();
            serde_json::from_str(&inspected).expect("docker prints JSON")
        };
        let short = |name: &Json| {
            let name = name.as_str().unwrap_or_default().trim_start_matches('/');
            let prefixes = [format!("{project}-"), format!("{project}_")];
            let own = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix.as_str()));
            // Of another project, which has its like too.
            own.unwrap_or_else(|| name.strip_prefix(PREFIX).unwrap_or(name)).to_owned()
        };
        let own = |labels: &Json| -> Vec<String> {
            let labels = labels.as_object().into_iter().flatten();
            labels
                .filter(|(name, _)| !name.starts_with(LABELS))
                .map(|(name, value)| format!("{name}={value}"))
                .collect()
        };
        let mut lines = BTreeMap::new();
        let mut lives = BTreeMap::new();
        for container in list(&["ps", "-a", "--no-trunc"]) {
            let name = short(&container["Name"]);
            let text = |path: &str| container.pointer(path).and_then(Json::as_str).unwrap_or_default().to_owned();
            lives.insert(name.clone(), (text("/Id"), text("/State/StartedAt")));
            let state = match text("/State/Status").as_str() {
                "exited" => format!("exited {}", container["State"]["ExitCode"]),
                other => other.to_owned(),
            };
            lines.insert(name.clone(), state);
            lines.insert(format!("{name} image"), text("/Config/Image"));
            lines.insert(format!("{name} restarts"), container["RestartCount"].to_string());
            let networks = container["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
            let networks: BTreeSet<String> = networks.map(|(name, _)| short(&Json::from(name.as_str()))).collect();
            lines.insert(format!("{name} networks"), format!("{networks:?}"));
            let mounts = container["Mounts"].as_array().into_iter().flatten();
            let mount = |mount: &Json| {
                let what = if mount["Type"] == "volume" { short(&mount["Name"]) } else { short(&mount["Type"]) };
                format!("{what} at {} {}", mount["Destination"], if mount["RW"] == true { "rw" } else { "ro" })
            };
            lines.insert(format!("{name} mounts"), format!("{:?}", mounts.map(mount).collect::<BTreeSet<_>>()));
            let labels = &container["Config"]["Labels"];
            // With our label, or in another container's network, the hash is about more than the file; and a relative
            // path is another one in another directory.
            let shares = text("/HostConfig/NetworkMode").starts_with("container:");
            let binds = container["Mounts"].as_array().is_some_and(|mounts| mounts.iter().any(|m| m["Type"] == "bind"));
            if labels["moorline.content"].is_null() && !shares && !binds {
                lines.insert(format!("{name} hash"), labels[format!("{LABELS}config-hash")].to_string());
            }
        }
        for network in list(&["network", "ls"]) {
            let facts = format!(
                "{} internal={} options={} labels={:?}",
                network["Driver"],
                network["Internal"],
                network["Options"],
                own(&network["Labels"])
            );
            lines.insert(format!("network {}", short(&network["Name"])), facts);
        }
        for volume in list(&["volume", "ls"]) {
            let content = files(Path::new(volume["Mountpoint"].as_str().expect("a local volume")));
            let facts = format!(
                "{} options={} labels={:?} content={content:?}",
                volume["Driver"],
                volume["Options"],
                own(&volume["Labels"])
            );
            lines.insert(format!("volume {}", short(&volume["Name"])), facts);
        }
        Self { lines, lives }
    }

    /// What became of each container since an earlier look: kept, started again, or new.
    fn since(&self, before: &Self) -> BTreeMap<String, String> {
        let became = |(name, life): (&String, &(String, String))| {
            let became = match before.lives.get(name) {
                Some(was) if was == life => "kept",
                Some((id, _)) if *id == life.0 => "started again",
                _ => "new",
            };
            (format!("{name} became"), became.to_owned())
        };
        self.lives.iter().map(became).collect()
    }

    /// Where two projects differ: `what: ours | theirs`. Of a container that only one has, nothing but that is said.
    /// `before` are two earlier looks.
    pub fn differences(&self, theirs: &Self, before: Option<&(Self, Self)>) -> Vec<String> {
        let with = |now: &Self, before: Option<&Self>| {
            let became = before.map(|before| now.since(before)).unwrap_or_default();
            now.lines.clone().into_iter().chain(became).collect::<BTreeMap<String, String>>()
        };
        let (ours, theirs) = (with(self, before.map(|both| &both.0)), with(theirs, before.map(|both| &both.1)));
        let all: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let both = |line: &str| match line.split_once(' ') {
            None | Some(("network" | "volume", _)) => true,
            // Not every hash can be compared, and not that of a container that Compose left as it was.
            Some((name, "hash")) => {
                let became = format!("{name} became");
                ours.contains_key(line) && theirs.contains_key(line) && ours.get(&became) == theirs.get(&became)
            }
            Some((name, _)) => ours.contains_key(name) && theirs.contains_key(name),
        };
        let said =
            |facts: &BTreeMap<String, String>, line: &str| facts.get(line).map_or("nothing", |line| line).to_owned();
        let differ = all.iter().filter(|line| both(line) && ours.get(**line) != theirs.get(**line));
        differ.map(|line| format!("{line}: {} | {}", said(&ours, line), said(&theirs, line))).collect()
    }
}

fn files(directory: &Path) -> BTreeMap<PathBuf, String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let read = |entry: std::fs::DirEntry| (entry.file_name().into(), std::fs::read_to_string(entry.path()).ok());
    entries.map(read).filter_map(|(name, text)| Some((name, text?))).collect()
}

/// A project that is brought up by plain `docker compose up -d`, on the same engine.
pub struct Plain<'a> {
    engine: &'a Engine,
    /// Its name.
    pub project: String,
    /// Where its files are.
    pub directory: PathBuf,
}

impl<'a> Plain<'a> {
    pub fn new(engine: &'a Engine, name: &str) -> Self {
        let project = format!("{PREFIX}{name}");
        Self { engine, directory: engine.scratch().directory(Path::new("plain").join(name)), project }
    }

    /// Writes a file as git does: another one in the place of the old one.
    pub fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.directory.join(path);
        let new = path.with_extension("new");
        std::fs::write(&new, text).expect("the scratch is writable");
        std::fs::rename(new, path).expect("the scratch is writable");
        self
    }

    /// Writes `.env`.
    pub fn environment(&self, lines: &str) -> &Self {
        self.write(".env", &format!("COMPOSE_PROJECT_NAME={}\n{lines}", self.project))
    }

    /// `docker compose up -d`, with nobody to answer a question.
    pub fn up(&self) -> Ran {
        self.compose(&["up", "-d", "--pull", "never"])
    }

    pub fn compose(&self, arguments: &[&str]) -> Ran {
        self.engine.compose(&self.directory, arguments)
    }

    #[track_caller]
    pub fn exec(&self, service: &str, command: &[&str]) -> String {
        let arguments: Vec<&str> = ["exec", "-T", service].iter().chain(command).copied().collect();
        self.compose(&arguments).succeeds()
    }
}
