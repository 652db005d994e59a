//! What is said of a restore in place, and what it leaves alone.

use std::path::Path;

use serde_json::Value as Json;

use crate::decide::fault::{Code, Fault};
use crate::model::Model;
use crate::model::backup::{InPlace, Repository};

/// The command that begins it, and finishes it.
pub fn in_place_command(restore: &InPlace) -> String {
    let path = restore.path.iter().map(|path| format!(" --path {}", path.display())).collect::<String>();
    let among = match restore.repository.as_str() {
        Repository::ONLY => String::new(),
        name => format!(" --repository {name}"),
    };
    let snapshot = restore.snapshot.get(..8).unwrap_or(&restore.snapshot);
    format!("moorline restore {} {snapshot}{path}{among} --in-place", restore.stack)
}

/// What is said of a stack in the middle of one: the keeper does nothing to it.
pub fn unfinished(restore: &InPlace) -> Fault {
    let stack = &restore.stack;
    let moves = restore
        .moves
        .iter()
        .map(|one| format!("{}: the old data is or will be {}", one.live.display(), one.aside.display()));
    let fault = Fault::new(Code::RestoreUnfinished, format!("restore unfinished: {stack} is not started"))
        .because(format!("a restore in place, begun at {:.0}, was cut while data changed places", restore.since));
    moves.fold(fault, Fault::at).hint(format!("`{}` finishes it", in_place_command(restore)))
}

/// Whether every mount of this path only reads it: then it is no data of the stack.
pub fn is_read_only(model: &Model, path: &Path) -> bool {
    let mounts = model.services.values().filter_map(|service| service.get("volumes")?.as_array()).flatten();
    let of_path =
        |mount: &&Json| mount.get("source").and_then(Json::as_str).is_some_and(|source| Path::new(source) == path);
    let mut of_path = mounts.filter(of_path).peekable();
    of_path.peek().is_some() && of_path.all(|mount| mount.get("read_only").and_then(Json::as_bool) == Some(true))
}
