//! dotenv means to moorline what it means to the Compose plugin, and what is not dotenv stays as it is.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

#[path = "support/tools.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of the lab")]
mod tools;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use moorline::decide::render::{self, Secrets};
use moorline::decide::sops::{self, Format, Identities};
use moorline::decide::{dotenv, fleet};
use moorline::model::host::Sealed;
use moorline::model::{File, Inputs};

const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/sops/keys");

/// What stands behind `NAME=`.
const VALUES: &[&str] = &[
    "plain",
    "",
    "  spaces around  ",
    "two words # a comment",
    "no#comment",
    "# not a comment",
    "'single # quoted'",
    "'it\\'s'",
    r"'back\slash \n \\ \t'",
    "'$HOME ${X} $$'",
    "\"double # quoted\"",
    r#""say \"hi\"""#,
    r#""a\nb\tc\\d\$e""#,
    r#""\q \' \c""#,
    r#""\x41 \\n""#,
    "\"windows\r\nlines\"",
    "windows\r",
    "\u{a0}no-break",
    "\"cost $$5\"",
    "cost $$5 and $$$$",
    r"back\slash \n \t",
    "a=b=c",
    "a:b",
    "ünïcödé ☃",
    "'two\nlines'",
    "\"two\nlines\"",
    "%{}[]!&*|>?,",
    "'quoted' # with a comment",
    "\"",
    "it's",
    "tab\there",
    "trailing\t",
];

/// What Compose makes of the file, or nothing if it refuses it.
fn compose(env: &str, name: &str) -> Option<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let model = format!("name: x\nservices: {{ a: {{ image: i, environment: {{ V: '${{{name}}}' }} }} }}\n");
    std::fs::write(directory.path().join("compose.yaml"), model).expect("writable");
    std::fs::write(directory.path().join(".env"), env).expect("writable");
    let mut plugin = Command::new(tools::tool("docker-compose"));
    plugin.args(["config", "--format", "json"]).current_dir(directory.path()).env_clear().stdin(Stdio::null());
    let output = plugin.output().expect("it starts");
    let model: serde_json::Value = serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())?;
    // Compose doubles each dollar sign of a value when it prints it.
    Some(model["services"]["a"]["environment"]["V"].as_str()?.replace("$$", "$"))
}

#[test]
fn every_way_to_write_a_value_means_the_same_to_both() {
    let (mut same, mut refused) = (0, 0);
    for value in VALUES {
        for (head, tail) in [("V=", "\n"), ("export V = ", "\n"), ("V: ", "\nW=x\n")] {
            let env = format!("# first\n\nA='1'\n{head}{value}{tail}");
            let ours = dotenv::values(&env).ok().map(|found| found["V"].expose().clone());
            let theirs = compose(&env, "V");
            assert_eq!(ours, theirs, "{env}");
            if ours.is_some() { same += 1 } else { refused += 1 }
        }
    }
    println!("{same} files the same, {refused} refused by both");
    assert!(same > 60);
}

#[test]
fn a_value_that_names_another_variable_is_refused_by_its_line_and_without_the_value() {
    for value in ["hunter2${X}", "hunter2$X", "\"hunter2 $X\"", "hunter2$"] {
        let mistake = dotenv::values(&format!("A=1\nB={value}\n")).expect_err("a variable");
        assert!(mistake.starts_with("line 2 names another variable"), "{mistake}");
        assert!(!mistake.contains("hunter2"));
    }
    let many = dotenv::values("A=0\nA=1\nexport A=2\n").expect("readable");
    assert_eq!(many["A"].expose(), "2", "the last one wins");
    assert_eq!(dotenv::values("A=1\nB=\"\\0101\"").expect_err("octal"), "line 2 has an octal escape");
}

#[test]
fn the_dotenv_file_of_a_stack_is_read_by_compose_alone_and_other_values_are_literal() {
    for value in VALUES {
        let own = format!("V={value}\n");
        let files = BTreeMap::from([(".env".to_owned(), File::plain(own.clone().into_bytes()))]);
        let inputs = Inputs { stack: "x".into(), files, environment: BTreeMap::new(), digest: String::new() };
        let literal = BTreeMap::from([("W".to_owned(), format!("{value}$HOME ${{V}} \\n"))]);
        let text = render::env_text(&inputs, &["compose.yaml"], &literal);
        let theirs = compose(&own, "V");
        assert_eq!(compose(&text, "V"), theirs, "{text}");
        // A quote that nothing closes leaves nothing of the file readable.
        if theirs.is_some() {
            assert_eq!(compose(&text, "W").as_ref(), literal.get("W"), "{text}");
        }
    }
}

/// What moorline makes of the host's file of secrets, after real `sops` sealed it.
fn opened(ending: &str, plain: &str) -> (BTreeMap<String, Vec<String>>, Secrets) {
    let directory = tempfile::tempdir().expect("a directory");
    let name = format!("secrets.sops.{ending}");
    std::fs::write(directory.path().join(&name), plain).expect("writable");
    let key = std::fs::read_to_string(Path::new(KEYS).join("host1.txt")).expect("the key of the vectors");
    let identities = Identities::parse(&key).expect("a valid key");
    let mut sops = Command::new(tools::tool("sops"));
    sops.args(["-e", "-i", "--age", &identities.recipients()[0], &name]).current_dir(directory.path());
    assert!(sops.status().expect("it starts").success());
    let bytes = std::fs::read(directory.path().join(&name)).expect("readable");
    let path = format!("hosts/alpha/{name}");
    let format = Format::of_path(&path).expect("a known ending");
    let document = sops::decrypt(&bytes, format, &identities).expect("sealed for this key");
    let names = fleet::names_in(Some(&Sealed { path, bytes })).expect("readable without a key");
    let names = names.into_iter().map(|(section, names)| (section, names.into_iter().collect())).collect();
    (names, Secrets::read(&document).expect("the shape of a file of secrets"))
}

#[test]
fn a_host_keeps_its_secrets_as_yaml_json_or_dotenv_and_only_dotenv_has_rules_for_values() {
    let literal = r#"'quoted' "$HOME" ${X} # \n"#;
    let json = serde_json::json!({ "all": { "A": literal } }).to_string();
    let yaml = format!("all:\n    A: |-\n        {literal}\n");
    let dotenv = "export A=\"one\\ttwo\" # a comment\nB='$HOME # literal'\nC=\"it costs $$5\"\n";
    for (ending, plain) in [("yaml", yaml.as_str()), ("json", &json)] {
        let (names, secrets) = opened(ending, plain);
        assert_eq!(names["all"], ["A"]);
        assert_eq!(secrets.shared("A").expect("a value").expose(), literal, "{ending}");
    }
    let (names, secrets) = opened("env", dotenv);
    assert_eq!(names["all"], ["A", "B", "C"]);
    for (name, value) in [("A", "one\ttwo"), ("B", "$HOME # literal"), ("C", "it costs $5")] {
        assert_eq!(secrets.shared(name).expect("a value").expose(), value);
    }
}
