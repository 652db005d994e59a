//! Chooses what of a stack goes into its snapshots: from what Compose resolved, and with a reason for everything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::BackupExtension;
use crate::decide::policy;
use crate::model::Model;
use crate::model::backup::{Dump, DumpKind, LeftOut, Origin, OutReason, Reason, Source, StackBackup};

/// What is chosen of a stack that lies in `directory`.
pub fn choose(stack: &str, model: &Model, backup: &BackupExtension, directory: &Path) -> StackBackup {
    let dumps = backup.dumps();
    let mut chosen: BTreeMap<Origin, Reason> = BTreeMap::new();
    let mut left_out = BTreeSet::new();
    let mut leave = |what: String, reason| _ = left_out.insert(LeftOut { what, reason });
    let dumped = dumped_volumes(model, &dumps);
    for key in model.volumes.keys() {
        let origin = volume(model, key);
        let listed = backup.volumes.as_ref().map(|volumes| volumes.contains(key));
        match (listed, why_not(model, key), dumped.get(&origin)) {
            // Whoever lists a volume has thought about it.
            (Some(true), _, _) => _ = chosen.insert(origin, Reason::Listed),
            (_, _, Some(service)) => leave(key.clone(), OutReason::Dumped { service: (*service).to_owned() }),
            (None, Some(reason), None) => leave(key.clone(), reason),
            (None, None, None) => _ = chosen.insert(origin, Reason::NamedVolume),
            (Some(false), _, None) => leave(key.clone(), OutReason::NotListed),
        }
    }
    for (service, mount) in mounts(model) {
        match mount.origin(model) {
            None => leave(format!("{service}:{}", mount.target), OutReason::Anonymous),
            Some(Origin::Path(path)) => match dumped.get(&Origin::Path(path.clone())) {
                Some(service) => {
                    leave(path.display().to_string(), OutReason::Dumped { service: (*service).to_owned() });
                }
                None if path.starts_with(directory) => _ = chosen.insert(Origin::Path(path), Reason::OwnDirectory),
                None if mount.read_only && policy::is_harmless_to_read(&path) => {}
                None => leave(path.display().to_string(), OutReason::Outside),
            },
            Some(Origin::Volume { .. }) => {}
        }
    }
    let sources = outermost(chosen);
    let writers =
        mounts(model).filter(|(_, mount)| is_source(mount.origin(model), &sources)).map(|(service, _)| service);
    let writers: BTreeSet<String> = writers.map(str::to_owned).collect();
    StackBackup {
        stack: stack.to_owned(),
        sources,
        left_out: left_out.into_iter().collect(),
        dumps,
        excludes: backup.excludes.clone(),
        quiesce: backup.quiesce,
        writers: writers.into_iter().collect(),
    }
}

/// One mount of a service.
struct Mount<'a> {
    kind: &'a str,
    source: &'a str,
    target: &'a str,
    read_only: bool,
}

impl Mount<'_> {
    /// Where its data lies; none for a volume without a name.
    fn origin(&self, model: &Model) -> Option<Origin> {
        match (self.kind, self.source) {
            ("bind", path) => Some(Origin::Path(PathBuf::from(path))),
            (_, "") => None,
            (_, key) => Some(volume(model, key)),
        }
    }
}

/// The mounts that can hold data: binds and volumes.
fn mounts(model: &Model) -> impl Iterator<Item = (&str, Mount<'_>)> {
    model.services.iter().flat_map(|(name, service)| of_service(service).map(move |mount| (name.as_str(), mount)))
}

fn of_service(service: &Json) -> impl Iterator<Item = Mount<'_>> {
    let volumes = service.get("volumes").and_then(Json::as_array).into_iter().flatten();
    volumes.filter_map(|mount| {
        let text = |key: &str| mount.get(key).and_then(Json::as_str).unwrap_or_default();
        let read_only = mount.get("read_only") == Some(&Json::Bool(true));
        let mount = Mount { kind: text("type"), source: text("source"), target: text("target"), read_only };
        ["bind", "volume"].contains(&mount.kind).then_some(mount)
    })
}

fn volume(model: &Model, key: &str) -> Origin {
    let name = model.volumes.get(key).and_then(|volume| volume.get("name")?.as_str()).unwrap_or(key);
    Origin::Volume { key: key.to_owned(), name: name.to_owned() }
}

/// Why a volume does not go in of itself.
fn why_not(model: &Model, key: &str) -> Option<OutReason> {
    let volume = &model.volumes[key];
    if volume.get("external") == Some(&Json::Bool(true)) {
        return Some(OutReason::External);
    }
    match volume.get("driver").and_then(Json::as_str) {
        None | Some("local") => None,
        Some(driver) => Some(OutReason::Driver(driver.to_owned())),
    }
}

/// Where databases that are dumped keep their files, with the service.
fn dumped_volumes<'a>(model: &Model, dumps: &'a [Dump]) -> BTreeMap<Origin, &'a str> {
    let mut found = BTreeMap::new();
    for dump in dumps {
        let Some(service) = model.services.get(&dump.service) else { continue };
        for mount in of_service(service).filter(|mount| holds_database(&dump.kind, mount.target, service)) {
            found.extend(mount.origin(model).map(|origin| (origin, dump.service.as_str())));
        }
    }
    found
}

/// Whether a path of a container is where the database of this kind keeps its files, by the images that are in use.
fn holds_database(kind: &DumpKind, target: &str, service: &Json) -> bool {
    let directories: &[&str] = match kind {
        DumpKind::Postgres(_) => &["/var/lib/postgresql", "/var/lib/postgresql/data", "/bitnami/postgresql"],
        DumpKind::Mariadb(_) => &["/var/lib/mysql", "/bitnami/mariadb"],
        DumpKind::Mysql(_) => &["/var/lib/mysql", "/bitnami/mysql"],
        DumpKind::Mongodb => &["/data/db", "/data/configdb", "/bitnami/mongodb"],
        DumpKind::Redis => &["/data", "/bitnami/redis/data", "/bitnami/valkey/data"],
        // These lie among other files.
        DumpKind::Sqlite(_) | DumpKind::Command(_) => &[],
    };
    let target = target.trim_end_matches('/');
    let own = service.pointer("/environment/PGDATA").and_then(Json::as_str);
    let is_own = matches!(kind, DumpKind::Postgres(_)) && own.is_some_and(|own| own.trim_end_matches('/') == target);
    is_own || directories.contains(&target)
}

/// Without what lies below another one: it would go in twice.
fn outermost(chosen: BTreeMap<Origin, Reason>) -> Vec<Source> {
    let paths: Vec<PathBuf> = chosen.keys().filter_map(path_of).cloned().collect();
    let is_inner = |origin: &Origin| {
        path_of(origin).is_some_and(|path| paths.iter().any(|other| path != other && path.starts_with(other)))
    };
    let outer = chosen.into_iter().filter(|(origin, _)| !is_inner(origin));
    outer.map(|(origin, reason)| Source { origin, reason }).collect()
}

fn path_of(origin: &Origin) -> Option<&PathBuf> {
    match origin {
        Origin::Path(path) => Some(path),
        Origin::Volume { .. } => None,
    }
}

fn is_source(origin: Option<Origin>, sources: &[Source]) -> bool {
    let Some(origin) = origin else { return false };
    sources.iter().any(|source| match (&source.origin, &origin) {
        (Origin::Path(outer), Origin::Path(path)) => path.starts_with(outer),
        (chosen, origin) => chosen == origin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::backup::text;
    use serde::Deserialize;
    use serde_json::json;

    fn chosen(extension: Json, model: Json) -> String {
        let backup = BackupExtension::deserialize(extension).unwrap();
        let model = Model::deserialize(model).unwrap();
        text(&choose("shop", &model, &backup, Path::new("/state/stacks/shop")))
    }

    fn shop() -> Json {
        json!({
            "services": {
                "web": { "volumes": [
                    { "type": "volume", "source": "data", "target": "/data" },
                    { "type": "volume", "target": "/cache" },
                    { "type": "bind", "source": "/state/stacks/shop/files", "target": "/files" },
                    { "type": "bind", "source": "/state/stacks/shop/files/inner", "target": "/inner" },
                    { "type": "bind", "source": "/srv/media", "target": "/media" },
                    { "type": "bind", "source": "/etc/localtime", "target": "/etc/localtime", "read_only": true },
                    { "type": "tmpfs", "target": "/tmp" },
                ] },
                "db": { "volumes": [{ "type": "volume", "source": "db", "target": "/var/lib/postgresql/data" }] },
            },
            "volumes": {
                "data": { "name": "shop_data" }, "db": { "name": "shop_db" },
                "shared": { "name": "others", "external": true }, "far": { "name": "shop_far", "driver": "sshfs" },
            },
        })
    }

    #[test]
    fn every_named_volume_and_every_own_directory_goes_in_and_the_rest_is_named() {
        assert_eq!(
            chosen(json!({}), shop()),
            "\
shop
  in   volume data                     a named volume of the stack
  in   volume db                       a named volume of the stack
  in   /state/stacks/shop/files        mounted from the stack's own directory
  out  /srv/media                      outside of the stack's directory
  out  far                             a volume of driver `sshfs`
  out  shared                          an external volume: it belongs to somebody else
  out  web:/cache                      a volume without a name
"
        );
    }

    #[test]
    fn the_files_of_a_database_that_is_dumped_stay_out_unless_they_are_listed() {
        let dumps = json!([{ "service": "db", "kind": "postgres" }]);
        let seen = chosen(json!({ "dumps": dumps, "quiesce": "pause" }), shop());
        assert!(seen.contains("out  db                              files of a database: the dump of `db`"), "{seen}");
        assert!(seen.contains("in   dump db                         all of PostgreSQL"), "{seen}");
        assert!(seen.contains("pause web while files are read"), "{seen}");
        let seen = chosen(json!({ "dumps": dumps, "volumes": ["db"] }), shop());
        assert!(seen.contains("in   volume db                       listed in x-moorline.backup.volumes"), "{seen}");
        assert!(seen.contains("out  data                            not listed"), "{seen}");
    }

    #[test]
    fn the_order_of_services_and_mounts_does_not_matter() {
        let mut turned = shop();
        let volumes = turned.pointer_mut("/services/web/volumes").and_then(Json::as_array_mut).unwrap();
        volumes.reverse();
        assert_eq!(chosen(json!({}), turned), chosen(json!({}), shop()));
    }
}
