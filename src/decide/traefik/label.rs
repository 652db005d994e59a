//! Reads `traefik.*` labels as Traefik reads them, into what a dynamic file would say.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::scalar;
use super::schema::{Field, Kind, ROOT, Schema, Speaker, Unknown};

/// What every label of Traefik begins with.
const PREFIX: &str = "traefik.";
/// Keys of Traefik's Docker provider, and of constraints, which say nothing about routes.
const ASIDE: [&str; 4] = ["traefik.enable", "traefik.docker.", "traefik.swarm.", "traefik.constraint-label"];

/// The labels of one service: the text, and the line of the Compose file where one is known.
pub type Labels = BTreeMap<String, Label>;

/// One label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The value.
    pub text: String,
    /// Where it stands.
    pub line: Option<usize>,
}

/// Why a label is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The key, as written.
    pub label: String,
    /// The rest of the sentence.
    pub text: String,
}

/// What labels say.
#[derive(Debug, Default)]
pub struct Said {
    /// In the shape of a dynamic file; servers still have `scheme` and `port` instead of a URL.
    pub root: Map<String, Json>,
    /// The line of every value, by its path.
    pub lines: BTreeMap<String, usize>,
    /// What is refused.
    pub wrong: Vec<Wrong>,
}

/// Whether a label is one that Traefik reads.
pub fn is_ours(key: &str) -> bool {
    key.to_lowercase().starts_with(PREFIX)
}

/// A label of the Docker provider itself, whose keys have no capitals either.
pub fn aside<'a>(labels: &'a Labels, name: &str) -> Option<(&'a str, &'a Label)> {
    labels.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(key, label)| (key.as_str(), label))
}

/// Reads the labels of one service.
pub fn read(labels: &Labels) -> Said {
    let mut said = Said::default();
    let mut root = Branch::default();
    for (key, label) in labels.iter().filter(|(key, _)| is_ours(key)) {
        let lower = key.to_lowercase();
        if ASIDE.iter().any(|aside| lower.starts_with(aside)) {
            continue;
        }
        if !key.starts_with(PREFIX) {
            said.refuse(key, "Traefik wants `traefik` in small letters");
            continue;
        }
        match elements(&key[PREFIX.len()..]) {
            Some(path) => root.grow(&path, key, label),
            None => said.refuse(key, "is not a path of names separated by dots"),
        }
    }
    said.root = said.group(&root, ROOT, "");
    said
}

/// The names of a path. `domains[0].main` is `domains`, `[0]`, `main`.
fn elements(path: &str) -> Option<Vec<&str>> {
    let mut found = Vec::new();
    for part in path.split('.') {
        match part.find('[') {
            _ if part.is_empty() => return None,
            Some(0) => return None,
            Some(at) if part.ends_with(']') => found.extend([&part[..at], &part[at..]]),
            _ => found.push(part),
        }
    }
    Some(found)
}

/// Labels as a tree. Names that differ in capitals only are the same one; the first spelling stays.
#[derive(Debug, Default)]
struct Branch {
    name: String,
    /// The label that made it, for sentences.
    label: String,
    value: Option<Label>,
    below: Vec<Branch>,
}

impl Branch {
    fn grow(&mut self, path: &[&str], key: &str, label: &Label) {
        let Some((first, rest)) = path.split_first() else {
            self.value = Some(label.clone());
            key.clone_into(&mut self.label);
            return;
        };
        let at = self.below.iter().position(|branch| branch.name.eq_ignore_ascii_case(first)).unwrap_or_else(|| {
            let branch = Branch { name: (*first).to_owned(), label: key.to_owned(), ..Self::default() };
            self.below.push(branch);
            self.below.len() - 1
        });
        self.below[at].grow(rest, key, label);
    }

    fn text(&self) -> &str {
        self.value.as_ref().map_or("", |label| &label.text)
    }

    /// Its line, or that of the first label below it.
    fn line(&self) -> Option<usize> {
        let own = self.value.as_ref().and_then(|label| label.line);
        own.or_else(|| self.below.iter().filter_map(Branch::line).min())
    }
}

impl Said {
    fn refuse(&mut self, label: &str, text: impl Into<String>) {
        self.wrong.push(Wrong { label: label.to_owned(), text: text.into() });
    }

    fn group(&mut self, branch: &Branch, group: &str, path: &str) -> Map<String, Json> {
        let mut said = Map::new();
        for below in &branch.below {
            match Schema::known().field(group, &below.name, Speaker::LabelOnly) {
                Ok(field) => {
                    let path = join(path, &field.name);
                    if let Some(value) = self.field(below, field, &path) {
                        said.insert(field.name.clone(), value);
                    }
                }
                Err(Unknown::OnlyInFiles) => {
                    let text = format!("`{}` cannot be said in labels; write a dynamic file", below.name);
                    self.refuse(&below.label, text);
                }
                Err(Unknown::Nowhere(hint)) => {
                    self.refuse(&below.label, format!("Traefik does not know `{}` here{hint}", below.name));
                }
            }
        }
        said
    }

    fn field(&mut self, branch: &Branch, field: &Field, path: &str) -> Option<Json> {
        // `tls=false` takes back whatever stands below it.
        let disabled = !branch.text().is_empty() && !branch.text().eq_ignore_ascii_case("true");
        if field.may_be_empty && disabled && matches!(field.kind, Kind::Group(_)) {
            return None;
        }
        let is_bare = branch.below.is_empty() && !field.may_be_empty;
        if is_bare && matches!(field.kind, Kind::Group(_)) {
            self.refuse(&branch.label, format!("says nothing by itself: name one of the keys of `{}`", field.label()));
            return None;
        }
        match &field.kind {
            Kind::List(of) if field.single.is_some() => {
                let element = self.value(branch, of, &format!("{path}.0"))?;
                Some(Json::Array(vec![element]))
            }
            kind => self.value(branch, kind, path),
        }
    }

    fn value(&mut self, branch: &Branch, kind: &Kind, path: &str) -> Option<Json> {
        self.lines.extend(branch.line().map(|line| (path.to_owned(), line)));
        match kind {
            Kind::Group(group) => Some(Json::Object(self.group(branch, group, path))),
            Kind::Map(_) if branch.below.is_empty() => {
                self.refuse(&branch.label, format!("needs a name after `{}`", branch.name));
                None
            }
            Kind::Map(of) => {
                let entries = branch.below.iter().filter_map(|below| {
                    let value = self.value(below, of, &join(path, &below.name))?;
                    Some((below.name.clone(), value))
                });
                Some(Json::Object(entries.collect()))
            }
            Kind::List(of) if matches!(**of, Kind::Group(_)) => self.elements(branch, of, path),
            Kind::List(of) => self.words(branch, of),
            Kind::Any => Some(raw(branch)),
            scalar => self.scalar(branch, scalar),
        }
    }

    /// `domains[0].main`, in the order of the labels: `[10]` stands before `[2]`, as it does in Traefik.
    fn elements(&mut self, branch: &Branch, of: &Kind, path: &str) -> Option<Json> {
        let is_index = |name: &str| name.starts_with('[') && name.ends_with(']');
        if branch.below.is_empty() || branch.below.iter().any(|below| !is_index(&below.name)) {
            self.refuse(&branch.label, format!("`{0}` is a list: write `{0}[0]`", branch.name));
            return None;
        }
        let below = branch.below.iter().enumerate();
        let elements = below.filter_map(|(index, below)| self.value(below, of, &format!("{path}.{index}")));
        Some(Json::Array(elements.collect()))
    }

    /// `a, b`.
    fn words(&mut self, branch: &Branch, of: &Kind) -> Option<Json> {
        if !branch.below.is_empty() {
            self.refuse(&branch.below[0].label, format!("`{}` is a list: separate with commas", branch.name));
            return None;
        }
        if branch.text().is_empty() {
            return None;
        }
        let words = branch.text().split(',').map(|word| scalar::read(word.trim(), of));
        let words: Option<Vec<Json>> = words.collect();
        words.map(Json::Array)
    }

    fn scalar(&mut self, branch: &Branch, kind: &Kind) -> Option<Json> {
        if let Some(below) = branch.below.first() {
            self.refuse(&below.label, format!("`{}` is a single value and has nothing below it", branch.name));
            return None;
        }
        let read = scalar::read(branch.text(), kind);
        if read.is_none() {
            let text = format!("`{}` is not {}", branch.text(), kind.wanted());
            self.refuse(&branch.label, text);
        }
        read
    }
}

/// What a plugin gets: text, or maps of it.
fn raw(branch: &Branch) -> Json {
    if branch.below.is_empty() {
        return Json::String(branch.text().to_owned());
    }
    if branch.below.iter().all(|below| below.name.starts_with('[')) {
        return Json::Array(branch.below.iter().map(raw).collect());
    }
    Json::Object(branch.below.iter().map(|below| (below.name.clone(), raw(below))).collect())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(labels: &[(&str, &str)]) -> Said {
        let label = |text: &str| Label { text: text.to_owned(), line: None };
        read(&labels.iter().map(|(key, text)| ((*key).to_owned(), label(text))).collect())
    }

    fn root(labels: &[(&str, &str)]) -> Json {
        let said = said(labels);
        assert_eq!(said.wrong, []);
        Json::Object(said.root)
    }

    fn refusal(key: &str, text: &str) -> String {
        let said = said(&[(key, text)]);
        assert_eq!(said.wrong.len(), 1, "{key}");
        assert_eq!(said.wrong[0].label, key);
        said.wrong[0].text.clone()
    }

    #[test]
    fn values_get_the_types_of_a_file() {
        let read = root(&[
            ("traefik.enable", "true"),
            ("traefik.http.routers.web.entrypoints", "web, websecure"),
            ("traefik.http.routers.web.priority", "7"),
            ("traefik.http.routers.web.tls", "true"),
            ("traefik.http.routers.web.tls.domains[0].main", "example.org"),
            ("traefik.http.routers.web.tls.domains[0].sans", "*.example.org"),
            ("traefik.http.services.web.loadbalancer.server.port", "80"),
            ("traefik.HTTP.Middlewares.h.headers.customResponseHeaders.X-Robots", ""),
            ("traefik.http.middlewares.c.compress", "true"),
        ]);
        let domains = json!([{"main": "example.org", "sans": ["*.example.org"]}]);
        assert_eq!(
            read,
            json!({"http": {
                "middlewares": {
                    "h": {"headers": {"customResponseHeaders": {"X-Robots": ""}}},
                    "c": {"compress": {}},
                },
                "routers": {"web": {"entryPoints": ["web", "websecure"], "priority": 7, "tls": {"domains": domains}}},
                "services": {"web": {"loadBalancer": {"servers": [{"port": "80"}]}}},
            }})
        );
    }

    #[test]
    fn what_traefik_would_drop_with_the_whole_container_is_refused_with_the_label() {
        assert_eq!(
            refusal("traefik.http.routers.web.rul", "x"),
            "Traefik does not know `rul` here (did you mean `rule`?)"
        );
        assert!(refusal("traefik.http.services.w.weighted.services[0].name", "a").contains("dynamic file"));
        assert!(refusal("traefik.http.routers.web.priority", "high").contains("`high` is not a whole number"));
        assert!(refusal("traefik.http.middlewares.r.ratelimit", "true").contains("says nothing by itself"));
        assert!(refusal("traefik.http.routers.web.tls.domains.main", "x").contains("`domains[0]`"));
        assert!(refusal("traefik.http.routers.web.rule.x", "x").contains("single value"));
        assert!(refusal("traefik.http.routers.web.entrypoints.0", "x").contains("commas"));
        assert!(refusal("traefik.http..web", "x").contains("dots"));
        assert!(refusal("traefik.frontend.rule", "x").contains("`frontend`"));
    }

    #[test]
    fn tls_false_takes_back_what_stands_below() {
        let labels = [("traefik.http.routers.a.tls", "false"), ("traefik.http.routers.a.tls.certresolver", "le")];
        assert_eq!(root(&labels), json!({"http": {"routers": {"a": {}}}}));
    }

    #[test]
    fn capitals_make_no_other_router() {
        let labels = [("traefik.http.routers.Web.rule", "a"), ("traefik.http.routers.web.service", "b")];
        assert_eq!(root(&labels), json!({"http": {"routers": {"Web": {"rule": "a", "service": "b"}}}}));
    }
}
