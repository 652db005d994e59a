//! `moorline diff` and `moorline promote` in an operator's checkout and in CI, without hosts: the example repository,
//! its workflow files, and what both verbs refuse.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

#[path = "sim/golden.rs"]
mod golden;
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml::Value as Yaml;
use support::{Fleet, Ran, Run as _, Scratch, Signer, Signing};

/// An operator's checkout of the example, whose production runs its first commit.
struct Operator {
    fleet: Fleet,
    alice: Signer,
    first: String,
    scratch: Scratch,
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("repo-layout-example")
}

impl Operator {
    fn new() -> Self {
        let scratch = Scratch::new();
        let bare = scratch.join("fleet.git");
        scratch.command("git").args(["init", "--quiet", "--bare", "--initial-branch=main"]).arg(&bare).run().succeeds();
        let alice = Signer::new("alice");
        let mut fleet = Fleet::new(&bare);
        fleet.copy(&example());
        let first = fleet.commit(Signing::By(&alice), "our fleet");
        let ring = fs::read_to_string(fleet.path().join("rings/production.yaml")).unwrap();
        fleet.write("rings/production.yaml", ring.replace(&"0".repeat(40), &first));
        fleet.commit(Signing::By(&alice), "production runs the first commit");
        Self { fleet, alice, first, scratch }
    }

    /// A merge that changes an image, a variable and a file.
    fn change(&mut self) -> String {
        let path = "stacks/nextcloud/compose.yaml";
        let text = fs::read_to_string(self.fleet.path().join(path)).unwrap();
        let redis = text.lines().find_map(|line| line.trim().strip_prefix("image: redis:")).expect("redis").to_owned();
        let changed = text.replace(&format!("image: redis:{redis}"), "image: redis:8.0.0-alpine");
        self.fleet.write(path, changed);
        self.fleet.write("stacks/traefik/dynamic/more.yaml", "http: {}\n");
        self.fleet.commit(Signing::By(&self.alice), "redis 8")
    }

    fn moorline(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command(env!("CARGO_BIN_EXE_moorline"));
        command.args(arguments).run()
    }

    /// A program with the operator's key and configuration, in the checkout.
    fn command(&self, program: &str) -> Command {
        let text = format!(
            "[user]\nname = alice\nemail = alice@example.org\nsigningKey = {}\n[gpg]\nformat = ssh\n",
            self.alice.private_key().display()
        );
        let config = self.scratch.write("gitconfig", text);
        let bin = self.scratch.directory("bin");
        symlink(env!("CARGO_BIN_EXE_moorline"), bin.join("moorline")).ok();
        let plugins = self.scratch.directory("home/.docker/cli-plugins");
        symlink(support::tools::tool("docker-compose"), plugins.join("docker-compose")).ok();
        let mut command = Command::new(program);
        let path = support::tools::search_path();
        let path = format!("{}:{}", bin.display(), Path::new(&path).display());
        command.env_clear().env("PATH", path).env("HOME", self.scratch.join("home")).current_dir(self.fleet.path());
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", config);
        command
    }

    /// Commits by what they are instead of their names, which differ from run to run.
    fn named(&self, text: &str, others: &[(&str, &str)]) -> String {
        let mut text = text.to_owned();
        for (name, revision) in others.iter().copied().chain([("first", self.first.as_str())]) {
            text = text.replace(revision, name).replace(&revision[..8], name);
        }
        text
    }
}

#[test]
fn a_comparison_names_what_each_host_gets_and_leaves_pinned_hosts_alone() {
    let mut operator = Operator::new();
    let before = operator.fleet.revision("HEAD");
    let after = operator.change();
    let names = [("before", before.as_str()), ("after", after.as_str())];
    let mut seen = String::new();
    for format in ["text", "markdown"] {
        let printed = operator.moorline(&["diff", "HEAD~1..HEAD", "--format", format]).succeeds();
        seen.push_str(&format!(
            "$ moorline diff HEAD~1..HEAD --format {format}\n{}\n\n",
            operator.named(&printed, &names)
        ));
    }
    let promoted = fs::read_to_string(operator.fleet.path().join("rings/production.yaml")).unwrap();
    operator.fleet.write("rings/production.yaml", promoted.replace(&operator.first, &after));
    let promotion = operator.fleet.commit(Signing::By(&operator.alice), "promote");
    let names = [("before", before.as_str()), ("after", after.as_str()), ("promotion", promotion.as_str())];
    let printed = operator.moorline(&["diff", "HEAD~1..HEAD", "--host", "bravo"]).succeeds();
    seen.push_str(&format!(
        "* the promotion itself\n\n$ moorline diff HEAD~1..HEAD --host bravo\n{}\n",
        operator.named(&printed, &names)
    ));
    golden::same_as_golden("tests/cli/diff/example.txt", &seen);
    let json = operator.moorline(&["diff", "HEAD~2..HEAD", "--format", "json"]).succeeds();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["hosts"][0]["to"], promotion.as_str(), "{json:#}");
    assert_eq!(operator.moorline(&["diff", "HEAD"]).code, Some(2));
    assert_eq!(operator.moorline(&["diff", "HEAD..nothing"]).code, Some(2));
    assert_eq!(operator.moorline(&["diff", "HEAD~1..HEAD", "--host", "zulu"]).code, Some(2));
}

#[test]
fn a_bare_repository_is_compared_as_well() {
    let mut operator = Operator::new();
    operator.change();
    operator.fleet.push();
    let bare = operator.scratch.join("fleet.git").display().to_string();
    let printed = operator.moorline(&["diff", "main~1..main", "--path", &bare]).succeeds();
    assert!(printed.contains("redis:8.0.0-alpine"), "{printed}");
}

#[test]
fn a_promotion_is_refused_until_it_is_proven_and_touches_no_file_of_the_checkout() {
    let mut operator = Operator::new();
    let revision = operator.change();
    let refused = operator.moorline(&["promote", "production"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stderr.contains("is not proven for ring production"), "{refused}");
    assert!(refused.stderr.contains("alpha gives no status"), "{refused}");
    assert!(refused.stdout.contains("bravo"), "what would change is shown: {refused}");
    // Work in progress stays as it is.
    operator.fleet.write("hosts/alpha/host.yaml", "half written");
    let before = operator.fleet.git(&["status", "--porcelain=v1", "--branch"]).succeeds();
    let printed = operator.moorline(&["promote", "production", "--force", "--reason", "the demo"]).succeeds();
    assert_eq!(operator.fleet.git(&["status", "--porcelain=v1", "--branch"]).succeeds(), before);
    let branch = format!("promote-production-{}", &revision[..8]);
    assert!(printed.contains(&format!("git push origin {branch}")), "{printed}");
    assert_eq!(operator.fleet.verify(&branch, &[&operator.alice]).code, Some(0), "it is signed");
    let changed = operator.fleet.git(&["diff", "--name-only", &format!("main..{branch}")]).succeeds();
    assert_eq!(changed.trim(), "rings/production.yaml");
    let lines = operator.fleet.git(&["diff", "--unified=0", &format!("main..{branch}")]).succeeds();
    let lines: Vec<&str> = lines.lines().filter(|line| line.starts_with("+commit") || line.starts_with('-')).collect();
    assert_eq!(lines.len(), 3, "one line is another one: {lines:?}");
    let again = operator.moorline(&["promote", "production", "--force", "--reason", "twice"]);
    assert!(again.stderr.contains("there is a branch"), "{again}");
    assert_eq!(operator.fleet.git(&["log", "-1", "--format=%B", &branch]).succeeds().matches("alpha gives").count(), 1);
}

#[test]
fn what_no_host_would_accept_is_not_promoted() {
    let mut operator = Operator::new();
    let revision = operator.change();
    let usage = |arguments: &[&str], expected: &str| {
        let ran = operator.moorline(arguments);
        assert!(ran.stderr.contains(expected), "{ran}");
        assert_ne!(ran.code, Some(0));
    };
    usage(&["promote", "canary"], "ring canary follows main");
    usage(&["promote", "produktion"], "did you mean `production`?");
    usage(&["promote", "production", &operator.first], "already");
    usage(&["promote", "production", "--force"], "--reason");
    usage(&["promote", "production", "--force", "--reason", " "], "needs a reason");
    operator.fleet.branch("side").write("x", "y");
    let side = operator.fleet.commit(Signing::By(&operator.alice), "a branch that nobody merged");
    operator.fleet.checkout("main");
    let ran = operator.moorline(&["promote", "production", &side, "--force", "--reason", "x"]);
    assert_eq!(ran.code, Some(13), "{ran}");
    let elsewhere = operator.moorline(&["promote", "production", &revision, "--path", "/"]);
    assert_eq!(elsewhere.code, Some(2), "{elsewhere}");
}

/// Every `run` and `script` of a workflow.
fn scripts(value: &Yaml, found: &mut Vec<String>) {
    match value {
        Yaml::Mapping(fields) => {
            for (name, field) in fields {
                match (name.as_str(), field) {
                    (Some("run"), Yaml::String(text)) => found.push(text.clone()),
                    (Some("script"), Yaml::Sequence(lines)) => {
                        let lines: Vec<&str> = lines.iter().filter_map(Yaml::as_str).collect();
                        assert!(!lines.is_empty());
                        found.push(lines.join("\n"));
                    }
                    _ => scripts(field, found),
                }
            }
        }
        Yaml::Sequence(items) => items.iter().for_each(|item| scripts(item, found)),
        _ => {}
    }
}

#[test]
fn the_workflows_of_three_forges_can_be_read_and_their_commands_run() {
    let mut operator = Operator::new();
    let base = operator.fleet.revision("HEAD");
    operator.change();
    let mut moorline = 0;
    for file in [
        ".github/workflows/check.yml",
        ".github/workflows/promote.yml",
        ".forgejo/workflows/check.yml",
        ".forgejo/workflows/promote.yml",
        ".gitlab-ci.yml",
    ] {
        let text = fs::read_to_string(example().join(file)).unwrap();
        let workflow: Yaml = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut found = Vec::new();
        scripts(&workflow, &mut found);
        assert!(!found.is_empty(), "{file} runs nothing");
        for script in found {
            assert!(!script.contains("${{"), "{file}: what others write must not become a part of a script: {script}");
            for line in script.lines().filter(|line| line.starts_with("moorline ")) {
                moorline += 1;
                let line = line.replace("/tmp/", &format!("{}/", operator.scratch.join("").display()));
                let mut shell = operator.command("sh");
                // What the lines before it find out in a real pull request.
                shell.env("BASE", &base).env("REVISION", operator.fleet.revision("HEAD")).args(["-ec", &line]);
                // Promotions go on top of the base, so the promoted commit must be on it.
                if line.contains("promote") {
                    shell.env("BASE", "HEAD");
                }
                let ran = shell.run();
                let gated = ran.code == Some(1) && ran.stderr.contains("error[promotion-refused]");
                assert!(ran.code == Some(0) || (line.contains("--check") && gated), "{file}: {line}: {ran}");
            }
        }
    }
    assert!(moorline >= 11, "only {moorline} commands were found");
    // The line that finds the revision in a ring file finds it.
    let sed = operator
        .command("sed")
        .args(["-n", r#"s/^commit: *"\{0,1\}\([0-9a-f]\{40\}\).*/\1/p"#, "rings/production.yaml"])
        .run();
    assert_eq!(sed.succeeds().trim(), operator.first);
}
