//! Whether Traefik looks where its routes are put: at the stack's own directory `dynamic/`, whole, and again and again.

use serde_json::Value as Json;

use super::publish::DIRECTORY;
use super::statics::Static;
use crate::decide::mistake::{Mistake, line_in};

/// What keeps Traefik from seeing what is published. `service` is Traefik's, `directory` the stack's, as paths of the
/// model have it.
pub fn mistakes(service: &Json, statics: &Static, directory: &str) -> Vec<Mistake> {
    let published = format!("{directory}/{DIRECTORY}");
    let volumes = service.get("volumes").and_then(Json::as_array).into_iter().flatten();
    let text = |volume: &Json, key: &str| volume.get(key).and_then(Json::as_str).map(tidy);
    let mounted = volumes.filter(|volume| text(volume, "source").as_deref() == Some(published.as_str()));
    let targets: Vec<String> = mounted.filter_map(|volume| text(volume, "target")).collect();
    let watched: Vec<String> = statics.watched.iter().map(|path| tidy(path)).collect();
    let sees = |path: &String| targets.contains(path);
    let at = |word: &str, text: String| Mistake::at(&statics.path, line_in(&statics.text, word), text);
    let mut mistakes = Vec::new();
    match (watched.as_slice(), targets.as_slice()) {
        ([], _) => {
            let text = "`providers.file.directory` is not set, so Traefik would see no routes: mount `./dynamic` and name \
                        its directory in the container";
            mistakes.push(at("providers", text.to_owned()));
        }
        (paths, []) => {
            let text = format!("Traefik reads {}, but `./{DIRECTORY}` is not mounted there", paths.join(", "));
            mistakes.push(at(paths.first().map_or("", String::as_str), text));
        }
        (paths, _) if !paths.iter().all(sees) => {
            let text = format!("Traefik reads {}, but `./{DIRECTORY}` is mounted at {}", paths.join(", "), targets[0]);
            mistakes.push(at(paths.first().map_or("", String::as_str), text));
        }
        _ => {}
    }
    if statics.never_looks_again {
        mistakes.push(at("watch", "`providers.file.watch` is false, so Traefik would see no change".to_owned()));
    }
    mistakes
}

/// A path without what does not count.
fn tidy(path: &str) -> String {
    let path = path.trim_end_matches('/').trim_end_matches("/.");
    path.replace("/./", "/").replace("//", "/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(source: &str, target: &str, watched: &[&str], never_looks_again: bool) -> Vec<String> {
        let service = json!({"volumes": [{"type": "bind", "source": source, "target": target}]});
        let watched = watched.iter().map(|path| (*path).to_owned()).collect();
        let statics = Static { watched, never_looks_again, path: "compose.yaml".into(), ..Static::default() };
        mistakes(&service, &statics, "/s/traefik").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_directory_is_mounted_where_traefik_looks() {
        assert_eq!(found("/s/traefik/dynamic", "/etc/traefik/dynamic", &["/etc/traefik/dynamic/"], false), [""; 0]);
        for (source, target, watched, never, expected) in [
            ("/s/traefik/dynamic", "/d", &[][..], false, "`providers.file.directory` is not set"),
            ("/s/traefik", "/d", &["/d"], false, "`./dynamic` is not mounted there"),
            ("/s/traefik/dynamic", "/d", &["/e"], false, "Traefik reads /e, but `./dynamic` is mounted at /d"),
            ("/s/traefik/dynamic", "/d", &["/d"], true, "`providers.file.watch` is false"),
        ] {
            let found = found(source, target, watched, never);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(expected), "{found:?}");
        }
    }
}
