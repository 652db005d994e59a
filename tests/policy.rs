//! Hostile Compose files are refused and those of the real world accepted, through the real Compose plugin.
//!
//! `MOORLINE_UPDATE=1` writes the list of exceptions anew. Read what changed: each line is work for somebody.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use moorline::model::policy::Rule;

#[path = "sim/golden.rs"]
mod golden;
#[path = "support/tools.rs"]
#[allow(dead_code, reason = "this binary needs one tool of the lab")]
mod tools;

fn corpus(kind: &str) -> BTreeMap<String, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy").join(kind);
    let read = |entry: fs::DirEntry| {
        let path = entry.path();
        let name = path.file_stem()?.to_str()?.to_owned();
        Some((name, fs::read_to_string(&path).unwrap()))
    };
    fs::read_dir(directory).unwrap().filter_map(|entry| read(entry.unwrap())).collect()
}

/// A repository with one host, the stack `x` and, so that somebody else is there, the stack `db`.
struct Repository {
    root: tempfile::TempDir,
}

impl Repository {
    fn new(compose: &str) -> Self {
        let repository = Self { root: tempfile::tempdir().unwrap() };
        repository.write("moorline.yaml", "version: 1\n");
        repository.write("rings/canary.yaml", "follow: main\n");
        repository.stacks("x");
        repository.write("stacks/db/compose.yaml", "services: { db: { image: \"db:1\" } }\n");
        repository.stack("x", compose);
        let plugins = repository.root.path().join("home/.docker/cli-plugins");
        fs::create_dir_all(&plugins).unwrap();
        std::os::unix::fs::symlink(tools::tool("docker-compose"), plugins.join("docker-compose")).unwrap();
        repository
    }

    fn stacks(&self, names: &str) {
        let vars = "{ ON: \"true\", TAIL: ADMIN, DOT: . }";
        self.write("hosts/alpha/host.yaml", &format!("ring: canary\nvars: {vars}\nstacks: [{names}, db]\n"));
    }

    /// A stack, with the files that some of the corpus reach for.
    fn stack(&self, name: &str, compose: &str) {
        self.write(&format!("stacks/{name}/compose.yaml"), compose);
        self.write(&format!("stacks/{name}/immich.env"), "TZ=Europe/Berlin\n");
        let base = "services: { base: { image: \"db:1\", privileged: true } }\n";
        self.write(&format!("stacks/{name}/base.yaml"), base);
    }

    fn write(&self, path: &str, text: &str) {
        let path: PathBuf = self.root.path().join("fleet").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn moorline(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moorline"));
        command.args(arguments).current_dir(self.root.path().join("fleet")).env("HOME", self.root.path().join("home"));
        command.output().unwrap()
    }

    /// The exit code, and what was said.
    fn plan(&self) -> (Option<i32>, String) {
        let output = self.moorline(&["plan", "--dir", ".", "--host", "alpha"]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }
}

/// The lines to paste, as the hint has them.
fn exceptions_in(said: &str) -> Vec<String> {
    let lines = said.lines().filter(|line| line.starts_with("      - { rule: "));
    lines.map(str::to_owned).collect()
}

/// What a file of the corpus is refused for: the name of a rule, or words.
fn expected(text: &str) -> &str {
    text.lines().next().unwrap().trim_start_matches("# ")
}

/// Plans all of these stacks on one host, and returns those that are not refused for what they should be.
fn not_refused(corpus: &BTreeMap<String, String>, fault: &str, reason: impl Fn(&str) -> String) -> Vec<String> {
    let repository = Repository::new("services: { web: { image: \"web:1\" } }\n");
    let names: Vec<&str> = corpus.keys().map(String::as_str).collect();
    repository.stacks(&names.join(", "));
    for (name, text) in corpus {
        repository.stack(name, text);
    }
    let (code, said) = repository.plan();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("error[{fault}]")), "{said}");
    let is_refused = |name: &str, text: &str| {
        let place = format!("stacks/{name}/compose.yaml:");
        said.lines().any(|line| {
            let at = line.trim_start().strip_prefix(&place);
            at.is_some_and(|at| {
                at.starts_with(|first: char| first.is_ascii_digit()) && at.contains(&reason(expected(text)))
            })
        })
    };
    let passed = corpus.iter().filter(|(name, text)| !is_refused(name, text));
    passed.map(|(name, text)| format!("{name} is not refused for `{}`:\n{said}", expected(text))).collect()
}

#[test]
fn every_hostile_file_is_refused_by_its_rule_and_line() {
    let is_judged = |(_, text): &(String, String)| Rule::of_name(expected(text)).is_some();
    let (judged, found): (BTreeMap<_, _>, BTreeMap<_, _>) = corpus("hostile").into_iter().partition(is_judged);
    assert!(judged.len() >= 40, "{}", judged.len());
    let mut passed = not_refused(&judged, "policy-refused", |rule| format!("is refused by rule {rule} "));
    passed.extend(not_refused(&found, "spec-invalid", str::to_owned));
    let all = judged.len() + found.len();
    println!("{all} hostile files, {} refused", all - passed.len());
    assert!(passed.is_empty(), "{}", passed.join("\n"));
}

#[test]
fn every_rule_has_a_hostile_file() {
    let corpus = corpus("hostile");
    let covered: Vec<&str> = corpus.values().filter_map(|text| text.lines().next()?.strip_prefix("# ")).collect();
    for rule in Rule::ALL {
        assert!(covered.contains(&rule.name()), "no hostile file is for rule {}", rule.name());
    }
}

#[test]
fn stacks_of_the_real_world_are_accepted_with_the_exceptions_that_the_hint_names_and_no_others() {
    let corpus = corpus("accepted");
    assert!(corpus.len() >= 15, "{}", corpus.len());
    let mut seen = String::from("# Each exception that a stack of tests/policy/accepted needs.\n");
    for (name, text) in &corpus {
        let repository = Repository::new(text);
        let (code, said) = repository.plan();
        let exceptions = exceptions_in(&said);
        if exceptions.is_empty() {
            assert_eq!(code, Some(0), "{name}: {said}");
            _ = writeln!(seen, "{name}: none");
            continue;
        }
        assert_eq!(code, Some(1), "{name}: {said}");
        _ = writeln!(seen, "{name}:");
        for exception in &exceptions {
            let short = exception.trim().trim_start_matches("- { rule: ").split(", reason").next().unwrap();
            _ = writeln!(seen, "  {}", short.replacen(", value:", "", 1));
        }
        let pasted = exceptions.join("\n").replace("\"...\"", "\"a test\"");
        repository.write("moorline.yaml", &format!("version: 1\npolicy:\n  allow:\n    x:\n{pasted}\n"));
        let (code, said) = repository.plan();
        assert_eq!(code, Some(0), "{name} with its exceptions: {said}");
        assert!(!said.contains("has no use for"), "{name}: {said}");
        let one_less = exceptions[1..].join("\n").replace("\"...\"", "\"a test\"");
        repository.write("moorline.yaml", &format!("version: 1\npolicy:\n  allow:\n    x:\n{one_less}\n"));
        if exceptions.len() > 1 {
            assert_eq!(repository.plan().0, Some(1), "{name} without {}", exceptions[0]);
        }
    }
    golden::same_as_golden("tests/policy/exceptions.txt", &seen);
}

#[test]
fn an_exception_that_nobody_needs_is_noted_and_a_wrong_one_is_a_mistake() {
    let repository = Repository::new("services: { web: { image: \"web:1\" } }\n");
    let allow = |lines: &str| repository.write("moorline.yaml", &format!("version: 1\npolicy:\n  allow:\n{lines}\n"));
    allow("    x: [{ rule: cap-add, value: NET_ADMIN, reason: was needed once }]");
    let (code, said) = repository.plan();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("note: moorline.yaml:4: stack x has no use for `cap-add: NET_ADMIN`"), "{said}");
    for (lines, mistake) in [
        ("    x: [{ rule: cap-ad, value: NET_ADMIN, reason: why }]", "no rule `cap-ad` (did you mean `cap-add`?)"),
        ("    x: [{ rule: provider, value: x, reason: why }]", "no exceptions to rule `provider`"),
        ("    x: [{ rule: cap-add, value: NET_ADMIN, reason: \" \" }]", "needs a reason"),
        ("    x: [{ rule: cap-add, value: NET_ADMIN, reason: \"...\" }]", "needs a reason"),
        ("    x: [{ rule: cap-add, value: NET_ADMIN }]", "missing field `reason`"),
        ("    y: [{ rule: cap-add, value: NET_ADMIN, reason: why }]", "there is no stack `y`"),
    ] {
        allow(lines);
        let (code, said) = repository.plan();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("moorline.yaml") && said.contains(mistake), "{said}");
    }
}

#[test]
fn a_stacks_own_env_cannot_redirect_compose() {
    let repository = Repository::new("services: { web: { image: \"web:1\" } }\n");
    repository.write("stacks/x/.env", "OK=1\nCOMPOSE_PATH_SEPARATOR=;\nexport DOCKER_HOST=tcp://192.0.2.1\n");
    let (code, said) = repository.plan();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("stacks/x/.env:2: `COMPOSE_PATH_SEPARATOR` is set by moorline"), "{said}");
    assert!(said.contains("stacks/x/.env:3: `DOCKER_HOST` is set by moorline"), "{said}");
}

#[test]
fn check_finds_the_plainest_demands_without_compose() {
    let without_plugin = |text: &str| {
        let repository = Repository::new(text);
        repository.write("signers/allowed_signers", "");
        let output = repository.moorline(&["check"]);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let hostile = corpus("hostile");
    let plain = hostile.iter().filter(|(_, text)| {
        let rule = expected(text);
        Rule::of_name(rule).is_some_and(|rule| without_plugin(text).contains(&format!("by rule {} ", rule.name())))
    });
    let found: Vec<&str> = plain.map(|(name, _)| name.as_str()).collect();
    for name in ["privileged", "cap-all", "socket", "network-host", "open-port", "device", "root-bind", "provider"] {
        assert!(found.contains(&name), "check does not see {name}; it sees {found:?}");
    }
    assert!(found.len() >= 30, "{} of {}: {found:?}", found.len(), hostile.len());
}
