//! Looks whether what a stack mounts of its own directory really lies there: a container that may write below the
//! directory can have planted a link, and the engine would follow it out.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::decide::fault::{Code, Fault};
use crate::model::DesiredStack;

/// Refuses to go on when a directory on the way to a bind of the stack's own is a link, unless it is `ours` and leads
/// where we made it lead.
pub fn lie_within(directory: &Path, desired: &DesiredStack, ours: Option<&(PathBuf, PathBuf)>) -> Result<(), Fault> {
    let is_ours = |path: &Path| ours.is_some_and(|(link, target)| path == link && is_link_to(path, target));
    for (name, service) in &desired.model.services {
        let mounts = service.get("volumes").and_then(Json::as_array).into_iter().flatten();
        for source in mounts.filter_map(|mount| mount.get("source")?.as_str()) {
            let Ok(relative) = Path::new(source).strip_prefix(directory) else { continue };
            let mut path = directory.to_owned();
            for part in relative.components() {
                path.push(part);
                if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) && !is_ours(&path) {
                    return Err(planted(&path, &desired.name, name));
                }
            }
        }
    }
    Ok(())
}

fn is_link_to(path: &Path, target: &Path) -> bool {
    fs::read_link(path).is_ok_and(|found| found == target)
}

fn planted(path: &Path, stack: &str, service: &str) -> Fault {
    Fault::new(Code::PolicyRefused, format!("{} is a link, and the engine would follow it", path.display()))
        .because(format!("service {service} of {stack} mounts it, and no link was ever written there by moorline"))
        .hint(format!("`ls -l {}` shows where it leads; remove it if nobody made it on purpose", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Model, Secret};
    use serde_json::json;
    use std::collections::BTreeMap;

    fn stack(sources: &[&Path]) -> DesiredStack {
        let volumes: Vec<_> = sources.iter().map(|source| json!({ "type": "bind", "source": source })).collect();
        let services = [("web".to_owned(), json!({ "volumes": volumes }))].into();
        DesiredStack {
            name: "web".into(),
            digest: String::new(),
            files: BTreeMap::new(),
            environment: Secret::new(String::new()),
            secrets: Vec::new(),
            model: Model { services, ..Model::default() },
            content: BTreeMap::new(),
            reloads: BTreeMap::new(),
            health_timeout: std::time::Duration::ZERO,
            exposed: Vec::new(),
        }
    }

    #[test]
    fn a_planted_link_on_the_way_is_refused_and_a_missing_directory_is_not() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("web");
        fs::create_dir_all(own.join("data/deep")).unwrap();
        std::os::unix::fs::symlink("/etc", own.join("data/link")).unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("elsewhere")).unwrap();
        let judged = |path: &Path| lie_within(&own, &stack(&[path]), None);
        for fine in [own.join("data/deep"), own.join("not/there/yet"), own.clone(), root.path().join("elsewhere")] {
            judged(&fine).unwrap();
        }
        for planted in [own.join("data/link"), own.join("data/link/ssl")] {
            let fault = judged(&planted).unwrap_err();
            assert!(fault.sentence.contains("data/link is a link"), "{fault}");
        }
        let ours = |target: &str| Some((own.join("data/link"), PathBuf::from(target)));
        lie_within(&own, &stack(&[&own.join("data/link")]), ours("/etc").as_ref()).unwrap();
        lie_within(&own, &stack(&[&own.join("data/link")]), ours("/run").as_ref()).unwrap_err();
    }
}
