//! Decides which values reach containers as files in memory, where each file lies, and whose it is. It writes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use crate::decide::digest::DigestKey;
use crate::decide::taint;
use crate::model::{Access, Desired, DesiredStack, Inputs, Model, Remap, Secret, SecretFile, Value};

/// What of one stack is delivered as files in memory.
#[derive(Debug, Default)]
pub struct Delivery {
    /// The files.
    pub files: Vec<SecretFile>,
    /// Whole paths of secrets, by name.
    pub secrets: BTreeMap<String, String>,
    /// Whole paths of configs, by name.
    pub configs: BTreeMap<String, String>,
    /// Whose each file is, by kind and name, where it is not everyone's to read.
    limited: BTreeMap<(&'static str, String), Access>,
}

impl Delivery {
    /// Chooses the files of a stack. What cannot be delivered as asked is added to `refused`.
    pub fn choose(
        inputs: &Inputs,
        model: &Model,
        key: &DigestKey,
        directory: &Path,
        refused: &mut Vec<String>,
    ) -> Self {
        let mut delivery = Self::default();
        let chosen = [("secrets", secrets(inputs, model, refused)), ("configs", configs(inputs, model, key, refused))];
        for (kind, texts) in chosen {
            for (name, text) in texts {
                let access = access(kind, &name, model, refused);
                let file = file(inputs, &name, text, access, key);
                let whole = directory.join(&file.path).to_string_lossy().into_owned();
                delivery.files.push(file);
                if access != Access::default() {
                    delivery.limited.insert((kind, name.clone()), access);
                }
                let paths = if kind == "secrets" { &mut delivery.secrets } else { &mut delivery.configs };
                paths.insert(name, whole);
            }
        }
        delivery
    }

    /// What of a secret or config counts as content beside its text: another owner is another file.
    pub fn mark(&self, kind: &'static str, name: &str) -> Option<Vec<u8>> {
        self.limited.get(&(kind, name.to_owned())).map(mark)
    }
}

/// The text of a value as a container gets it.
pub fn in_clear(value: &Value) -> String {
    match value {
        Value::Plain(text) => text.clone(),
        Value::Tainted(secret) => secret.expose().clone(),
    }
}

/// What a person should know about secrets that a stack puts where they are on disk.
pub fn exposed_notes(desired: &Desired) -> Vec<String> {
    let of_stack = |stack: &DesiredStack| {
        let note = |(service, variable): &(String, String)| {
            format!("secret {variable} stands in the environment of {}/{service}, which is on disk", stack.name)
        };
        stack.exposed.iter().map(note).collect::<Vec<_>>()
    };
    desired.stacks.iter().flat_map(of_stack).collect()
}

/// Top-level secrets with `environment:` become files in memory: Compose itself would copy them into the container's
/// writable layer, which is on disk (docs/facts.md, C7).
fn secrets(inputs: &Inputs, model: &Model, refused: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (name, definition) in &model.secrets {
        let Some(variable) = definition.get("environment").and_then(Json::as_str) else { continue };
        let Some(value) = inputs.environment.get(variable) else {
            refused.push(format!("secrets.{name}.environment: `{variable}` is not a secret or variable of this stack"));
            continue;
        };
        texts.insert(name.clone(), in_clear(value));
    }
    texts
}

/// Configs that stand in the repository as text, or come from a variable, become files in memory too. Compose would copy them
/// into the container: it cannot when that is read-only, below a tmpfs they vanish without a word (docs/facts.md, C6), and
/// it never copies a new text into one that exists (C4).
fn configs(inputs: &Inputs, model: &Model, key: &DigestKey, refused: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (name, definition) in &model.configs {
        let text = match (definition.get("content"), definition.get("environment")) {
            (Some(Json::String(text)), _) => taint::unmark(text, inputs, key),
            (_, Some(Json::String(variable))) => match inputs.environment.get(variable) {
                Some(value) => in_clear(value),
                None => {
                    refused.push(format!("configs.{name}.environment: `{variable}` is not a variable of this stack"));
                    continue;
                }
            },
            _ => continue,
        };
        texts.insert(name.clone(), text);
    }
    texts
}

/// One file, whose path changes exactly when its content or its owner does, so that an old container keeps its own.
fn file(inputs: &Inputs, name: &str, text: String, access: Access, key: &DigestKey) -> SecretFile {
    let mark = mark(&access);
    let mut parts = vec![name.as_bytes(), text.as_bytes()];
    if access != Access::default() {
        parts.push(&mark);
    }
    let digest = key.of(parts);
    let path = format!("{}/{}/{name}", inputs.stack, &digest[..16]);
    SecretFile { path, access, content: Secret::new(text.into_bytes()) }
}

fn mark(access: &Access) -> Vec<u8> {
    access.to_string().into_bytes()
}

/// Whose a file is: what the long form of its users says. There is one file, so they must agree.
fn access(kind: &str, name: &str, model: &Model, refused: &mut Vec<String>) -> Access {
    let mut first: Option<(&str, Access)> = None;
    for (service, definition) in &model.services {
        let used = definition.get(kind).and_then(Json::as_array).into_iter().flatten();
        for entry in used.filter(|entry| entry.get("source").and_then(Json::as_str) == Some(name)) {
            let place = format!("services.{service}.{kind}.{name}");
            match (asked(entry), first) {
                (Err(mistake), _) => refused.push(format!("{place}.{mistake}")),
                (Ok(access), None) => first = Some((service, access)),
                (Ok(access), Some((other, before))) if access != before => refused.push(format!(
                    "{place} asks for {access}, but services.{other} for {before}; one file has one owner, so give \
                     each a {} of its own",
                    kind.trim_end_matches('s')
                )),
                (Ok(_), Some(_)) => {}
            }
        }
    }
    first.map(|(_, access)| access).unwrap_or_default()
}

/// The owner and the mode in the long form; what is not said there is as Compose has it: root, and all may read.
fn asked(entry: &Json) -> Result<Access, String> {
    let number = |field: &str| match entry.get(field) {
        None | Some(Json::Null) => Ok(0),
        Some(stated) => {
            let text = stated.as_str().map_or_else(|| stated.to_string(), str::to_owned);
            // The largest number means "leave it as it is" to the kernel.
            let number = text.parse().ok().filter(|id: &u32| *id != u32::MAX);
            number.ok_or_else(|| {
                format!("{field}: `{text}` is not a number; a name may mean another user in another image")
            })
        }
    };
    let mode = match entry.get("mode") {
        None | Some(Json::Null) => Some(Access::default().mode),
        // Compose prints octal digits; before 2.30 it printed the number itself.
        Some(Json::String(text)) => u32::from_str_radix(text.trim_start_matches("0o"), 8).ok(),
        Some(stated) => stated.as_u64().and_then(|mode| u32::try_from(mode).ok()),
    };
    let mode = mode.filter(|mode| *mode <= 0o777).ok_or_else(|| {
        let stated = entry.get("mode").map(Json::to_string).unwrap_or_default();
        format!("mode: {stated} is not a mode between 0000 and 0777")
    })?;
    Ok(Access { uid: number("uid")?, gid: number("gid")?, mode })
}

/// How far an engine shifts the users of containers, by what it says of itself: with `userns-remap` it names the option,
/// and keeps everything in a directory that is named after the first user and group. None if it does one but not the other.
pub fn remap(options: &[String], root: &str) -> Option<Remap> {
    if !options.iter().any(|option| option.split(',').any(|part| part == "name=userns")) {
        return Some(Remap::default());
    }
    let (uid, gid) = root.trim_end_matches('/').rsplit('/').next()?.split_once('.')?;
    Some(Remap { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

/// Gives the files of a stack to whom the engine makes of their owners. An owner beyond all numbers is nobody's.
pub fn shift(stack: &mut DesiredStack, remap: Remap) {
    let shifted = |id: u32, by: u32| id.saturating_add(by).min(u32::MAX - 1);
    for file in &mut stack.secrets {
        file.access.uid = shifted(file.access.uid, remap.uid);
        file.access.gid = shifted(file.access.gid, remap.gid);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inputs() -> Inputs {
        let environment = BTreeMap::from([("TOKEN".to_owned(), Value::Tainted(Secret::new("canary".to_owned())))]);
        Inputs { stack: "app".into(), files: BTreeMap::new(), environment, digest: String::new() }
    }

    fn choose(services: Json) -> (Delivery, Vec<String>) {
        let model = json!({ "services": services, "secrets": { "token": { "environment": "TOKEN" } } });
        let model: Model = serde_json::from_value(model).unwrap();
        let mut refused = Vec::new();
        let key = DigestKey::new(vec![7; 32]);
        (Delivery::choose(&inputs(), &model, &key, Path::new("/secrets"), &mut refused), refused)
    }

    fn used(long: Json) -> Json {
        let mut entry = json!({ "source": "token", "target": "token" });
        entry.as_object_mut().unwrap().extend(long.as_object().unwrap().clone());
        json!({ "secrets": [entry] })
    }

    #[test]
    fn a_file_is_roots_and_all_may_read_it_unless_the_long_form_says_otherwise() {
        let (delivery, refused) = choose(json!({ "a": used(json!({})) }));
        assert!(refused.is_empty());
        assert_eq!(delivery.files[0].access, Access { uid: 0, gid: 0, mode: 0o444 });
        assert_eq!(delivery.mark("secrets", "token"), None);
        for mode in [json!("0440"), json!("440"), json!(0o440)] {
            let long = json!({ "uid": "103", "gid": "104", "mode": mode });
            let (delivery, refused) = choose(json!({ "a": used(long) }));
            assert!(refused.is_empty(), "{refused:?}");
            assert_eq!(delivery.files[0].access, Access { uid: 103, gid: 104, mode: 0o440 });
        }
    }

    #[test]
    fn another_owner_or_mode_is_another_file_and_other_content() {
        let mut paths = std::collections::BTreeSet::new();
        let mut marks = std::collections::BTreeSet::new();
        let long = [json!({}), json!({ "uid": "1" }), json!({ "gid": "1" }), json!({ "mode": "0400" })];
        for long in &long {
            let (delivery, _) = choose(json!({ "a": used(long.clone()) }));
            paths.insert(delivery.secrets["token"].clone());
            marks.insert(delivery.mark("secrets", "token"));
        }
        assert_eq!((paths.len(), marks.len()), (long.len(), long.len()));
    }

    #[test]
    fn services_that_ask_for_different_owners_of_one_file_are_refused_by_place() {
        let (_, refused) = choose(json!({ "a": used(json!({ "uid": "5", "mode": "0400" })), "b": used(json!({})) }));
        assert_eq!(
            refused,
            ["services.b.secrets.token asks for user 0, group 0, mode 0444, but services.a for user 5, group 0, mode \
              0400; one file has one owner, so give each a secret of its own"]
        );
        let (_, refused) = choose(json!({ "a": used(json!({ "uid": "0" })), "b": used(json!({ "mode": "0444" })) }));
        assert!(refused.is_empty(), "{refused:?}");
    }

    #[test]
    fn names_of_users_and_odd_modes_are_refused_by_place() {
        let cases = [
            (json!({ "uid": "postgres" }), "uid: `postgres` is not a number"),
            (json!({ "gid": "-1" }), "gid: `-1` is not a number"),
            (json!({ "gid": "4294967295" }), "gid: `4294967295` is not a number"),
            (json!({ "mode": "4755" }), "mode: \"4755\" is not a mode"),
            (json!({ "mode": "rw" }), "mode: \"rw\" is not a mode"),
        ];
        for (long, expected) in cases {
            let (_, refused) = choose(json!({ "a": used(long) }));
            assert_eq!(refused.len(), 1, "{refused:?}");
            assert!(refused[0].starts_with(&format!("services.a.secrets.token.{expected}")), "{refused:?}");
        }
    }

    #[test]
    fn an_engine_that_remaps_users_says_so_and_its_directory_by_how_much() {
        let options = |of: &[&str]| of.iter().map(ToString::to_string).collect::<Vec<_>>();
        let plain = options(&["name=seccomp,profile=builtin"]);
        let remapped = options(&["name=seccomp,profile=builtin", "name=userns"]);
        assert_eq!(remap(&plain, "/var/lib/docker/1.2"), Some(Remap::default()));
        assert_eq!(remap(&remapped, "/var/lib/docker/231072.65537"), Some(Remap { uid: 231_072, gid: 65_537 }));
        for root in ["/var/lib/docker", "/var/lib/docker.d/5", "/x/a.b", ""] {
            assert_eq!(remap(&remapped, root), None, "{root}");
        }
    }
}
