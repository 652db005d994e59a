//! Files written by real SOPS open to what SOPS says they hold; damaged ones are refused.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

use std::fs;
use std::path::{Path, PathBuf};

use moorline::decide::sops::{self, Format, Identities, Node, SopsError};
use serde_json::Value;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sops")
}

fn read(name: &str) -> Vec<u8> {
    fs::read(vectors().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn cases(part: &str) -> Vec<Value> {
    let manifest: Value = serde_json::from_slice(&read("manifest.json")).expect("valid manifest");
    manifest[part].as_array().expect("a list").clone()
}

fn identities(case: &Value) -> Result<Identities, SopsError> {
    let mut all: Option<Identities> = None;
    for key in case["keys"].as_array().expect("keys") {
        let text = String::from_utf8(read(key.as_str().expect("a path"))).expect("utf-8");
        let parsed = Identities::parse(&text)?;
        all = Some(match all {
            Some(others) => others.join(parsed),
            None => parsed,
        });
    }
    Ok(all.expect("at least one key"))
}

/// The value as JSON, for the comparison that does not depend on layout.
fn as_json(node: &Node) -> String {
    match node {
        Node::Map(_) => {
            let entries: Vec<_> =
                node.entries().map(|(key, value)| format!("{}:{}", Value::from(key), as_json(value))).collect();
            format!("{{{}}}", entries.join(","))
        }
        Node::List(_) => {
            let items: Vec<_> = node.items().map(as_json).collect();
            format!("[{}]", items.join(","))
        }
        Node::Str(text) | Node::Time(text) => Value::from(text.expose().as_str()).to_string(),
        Node::Int(text) | Node::Float(text) => text.expose().clone(),
        Node::Bool(truth) => truth.to_string(),
        Node::Bytes(bytes) => Value::from(String::from_utf8_lossy(bytes.expose())).to_string(),
        Node::Null => String::from("null"),
        Node::Comment(_) => unreachable!("entries and items leave comments out"),
    }
}

#[test]
fn every_file_of_real_sops_opens_to_what_sops_prints() {
    let (mut same, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    for case in cases("generated") {
        let id = case["id"].as_str().expect("an id");
        let format = match Format::of_name(case["format"].as_str().expect("a format")) {
            Ok(format) => format,
            Err(error) => {
                assert_eq!(error, SopsError::IniRefused, "{id}");
                refused += 1;
                continue;
            }
        };
        if case["case"] == "k10_pq_only" {
            let error = identities(&case).expect_err("post-quantum identities are not supported");
            assert!(error.to_string().contains("post-quantum"), "{error}");
            refused += 1;
            continue;
        }
        let identities = identities(&case).expect("the identities are readable");
        let document = match sops::decrypt(&read(id), format, &identities) {
            Ok(document) => document,
            Err(error) => {
                wrong.push(format!("{id}: {error}"));
                continue;
            }
        };
        assert!(identities.recipients().contains(&document.opened_by().to_owned()));
        let printed = document.emit().expect("it can be printed");
        if *printed.expose() != read(case["expected"].as_str().expect("a path")) {
            wrong.push(format!("{id}: printed\n{}", String::from_utf8_lossy(printed.expose())));
            continue;
        }
        if let Some(expected) = case["expected_json"].as_str() {
            let ours: Value = serde_json::from_str(&as_json(document.root())).expect("json");
            let theirs: Value = serde_json::from_slice(&read(expected)).expect("json");
            assert_eq!(ours, theirs, "{id}");
        }
        same += 1;
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!((same, refused), (225, 16));
}

#[test]
fn every_damaged_file_is_refused() {
    let mut refused = 0;
    for case in cases("negative") {
        let id = case["id"].as_str().expect("an id");
        if case["must"] != "fail" {
            continue;
        }
        let format = Format::of_name(case["format"].as_str().expect("a format")).expect("known");
        let identities = identities(&case).expect("the identities are readable");
        let result = sops::decrypt(&read(id), format, &identities);
        assert!(result.is_err(), "{id} must be refused: {}", case["note"]);
        refused += 1;
    }
    assert_eq!(refused, 22);
}

/// What SOPS accepts although it was changed. We are stricter only where nothing else is lost.
#[test]
fn the_known_weaknesses_of_the_format_are_accepted_as_sops_does_but_for_trailing_garbage() {
    for case in cases("negative") {
        let id = case["id"].as_str().expect("an id");
        if case["must"] == "fail" {
            continue;
        }
        let format = Format::of_name(case["format"].as_str().expect("a format")).expect("known");
        let identities = identities(&case).expect("the identities are readable");
        let result = sops::decrypt(&read(id), format, &identities);
        let strict = id.contains("w11_trailing_garbage");
        assert_eq!(result.is_err(), strict, "{id}: {result:?}");
    }
}

#[test]
fn metadata_and_key_names_are_readable_without_a_key() {
    for case in cases("generated") {
        let Ok(format) = Format::of_name(case["format"].as_str().expect("a format")) else {
            continue;
        };
        let (id, groups) = (&case["id"], case["recipients"].as_array().expect("groups"));
        let bytes = read(id.as_str().expect("an id"));
        let metadata = sops::metadata(&bytes, format).expect("readable");
        for recipient in groups.iter().flat_map(|group| group.as_array().expect("a group")) {
            match recipient.as_str().expect("a text").strip_prefix("pgp:") {
                Some(_) => assert_eq!(metadata.other_keys, ["pgp"], "{id}"),
                None => assert!(metadata.recipients.iter().any(|known| known == recipient), "{id}: {recipient}"),
            }
        }
        assert_eq!(metadata.version, case["sops_version"].as_str().expect("a text"));
        assert!(!sops::keys_in_clear(&bytes, format).expect("readable").is_empty());
        let unsealed = sops::unsealed_places(&bytes, format).expect("readable");
        assert!(unsealed.is_empty(), "{id}: {unsealed:?}");
    }
}

#[test]
fn a_file_for_others_is_refused_with_both_sides_named() {
    let key = String::from_utf8(read("keys/admin.txt")).expect("utf-8");
    let identities = Identities::parse(&key).expect("readable");
    let error = sops::decrypt(&read("generated/y01_scalars.v3.13.0.yaml"), Format::Yaml, &identities)
        .expect_err("sealed for host1");
    assert_eq!(error.recipients(), ["age1qsd9q9hnsec8gt9vu27j3g7fq3j6j5q0rtyplfgka6dfq38mn48q5yhl4t"]);
    assert_eq!(error.tried(), identities.recipients());
    assert_eq!(
        error.to_string(),
        "the file cannot be opened with this host's key: it is sealed for \
         age1qsd9q9hnsec8gt9vu27j3g7fq3j6j5q0rtyplfgka6dfq38mn48q5yhl4t; this host is \
         age1jh5923g8amhfvf9v69rxjts25yhaxx2k92cml9vg0wpwjxuk5agsxuyyj2"
    );
}

#[test]
fn an_ssh_host_key_gives_the_native_recipient_and_that_of_ssh_to_age() {
    let text = String::from_utf8(read("keys/ssh_host_ed25519_key")).expect("utf-8");
    let identities = Identities::parse(&text).expect("readable");
    assert_eq!(
        identities.recipients(),
        [
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILC6wcuctVubZZlOcnav+SiJ9W2OkWe2WOaAV+WQh40f",
            "age1daydfw9ueephht7aj2cmaxjwrez37057q2xp0gfzn70eu6nregjsxq8t4f",
        ]
    );
    let id = "generated/k16_ssh_to_age_recipient.v3.13.0.yaml";
    assert!(sops::decrypt(&read(id), Format::Yaml, &identities).is_ok());
}

#[test]
fn a_plain_file_is_named_as_such() {
    let error = sops::metadata(b"a: 1\n", Format::Yaml).expect_err("plain");
    assert_eq!(error, SopsError::NotSealed);
    let error = sops::metadata(b"A=1\n", Format::Dotenv).expect_err("plain");
    assert_eq!(error, SopsError::NotSealed);
}

#[test]
fn what_is_too_large_too_deep_or_too_many_is_refused_before_it_is_built() {
    let refused = |text: String, format| sops::metadata(text.as_bytes(), format).expect_err("bomb");
    let large = "#".repeat(sops::MAX_BYTES + 1);
    assert!(matches!(refused(large, Format::Yaml), SopsError::TooLarge { .. }));
    let deep = "{\"a\":".repeat(200);
    assert!(matches!(refused(deep.clone(), Format::Json), SopsError::TooDeep { .. }));
    assert!(matches!(refused(deep, Format::Binary), SopsError::TooDeep { .. }));
    let many = format!("{{\"a\":[{}1]}}", "1,".repeat(200_000));
    assert!(matches!(refused(many, Format::Json), SopsError::TooManyEntries { .. }));
    let many = "A=\n".repeat(200_000);
    assert!(matches!(refused(many, Format::Dotenv), SopsError::TooManyEntries { .. }));
    let large_alias = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(1000));
    assert!(matches!(refused(large_alias, Format::Yaml), SopsError::TooManyEntries { .. }));
    let inside = String::from("a: &a\n  b: *a\n");
    assert!(matches!(refused(inside, Format::Yaml), SopsError::Malformed { .. }));
    let gaps = (0..100).map(|n| format!("sops_a__list_{n}__list_999__list_999=1\n"));
    assert!(matches!(refused(gaps.collect(), Format::Dotenv), SopsError::TooManyEntries { .. }));
}

fn changed(name: &str, change: impl Fn(&str) -> String) -> (Vec<u8>, Identities) {
    let text = String::from_utf8(read(name)).expect("utf-8");
    let key = String::from_utf8(read("keys/host1.txt")).expect("utf-8");
    let identities = Identities::parse(&key).expect("readable");
    (change(&text).into_bytes(), identities)
}

#[test]
fn a_checkout_with_windows_line_ends_still_opens() {
    for (name, format) in [
        ("generated/y01_scalars.v3.13.0.yaml", Format::Yaml),
        ("generated/y07b_comments_list.v3.7.3.yaml", Format::Yaml),
        ("generated/j02_nested.v3.13.0.json", Format::Json),
    ] {
        let (bytes, identities) = changed(name, |text| text.replace('\n', "\r\n"));
        let opened = sops::decrypt(&bytes, format, &identities).expect("it opens");
        let expected = read(&format!("{name}.expected"));
        assert_eq!(*opened.emit().expect("printable").expose(), expected, "{name}");
    }
}

#[test]
fn a_rule_by_comment_is_refused_where_the_mac_covers_sealed_values_only() {
    let (bytes, identities) = changed("generated/r13_comment_enc.v3.13.0.yaml", |text| {
        text.replace("    lastmodified", "    mac_only_encrypted: true\n    lastmodified")
    });
    let error = sops::decrypt(&bytes, Format::Yaml, &identities).expect_err("not authenticated");
    assert!(error.to_string().contains("comment rule"), "{error}");
}

#[test]
fn two_rules_in_one_file_are_refused() {
    let (bytes, _) = changed("generated/y01_scalars.v3.13.0.yaml", |text| {
        text.replace("    lastmodified", "    encrypted_regex: x\n    lastmodified")
    });
    let error = sops::metadata(&bytes, Format::Yaml).expect_err("two rules");
    assert!(error.to_string().contains("stands beside another rule"), "{error}");
}

#[test]
fn a_key_that_stands_twice_in_a_yaml_mapping_is_refused_at_any_depth() {
    for text in ["a: 1\na: 2\n", "m:\n    a: 1\n    a: null\n", "l:\n- a: 1\n  a: ''\n"] {
        let error = sops::metadata(text.as_bytes(), Format::Yaml).expect_err("twice");
        assert!(error.to_string().contains("stands twice"), "{error}");
    }
}

#[test]
fn plaintext_where_the_rule_wants_ciphertext_is_found_without_a_key_and_named_by_its_place() {
    let (bytes, identities) =
        changed("generated/y01_scalars.v3.13.0.yaml", |text| format!("extra:\n    deep: hunter2\n{text}"));
    assert_eq!(sops::unsealed_places(&bytes, Format::Yaml), Ok(vec![String::from("extra.deep")]));
    let error = sops::decrypt(&bytes, Format::Yaml, &identities).expect_err("not sealed");
    assert!(error.to_string().starts_with("the value at `extra.deep` is not sealed"), "{error}");
    assert!(!error.to_string().contains("hunter2"));
}

#[test]
fn nothing_that_holds_a_secret_shows_it_in_debug() {
    let (bytes, identities) = changed("generated/y01_scalars.v3.13.0.yaml", str::to_owned);
    let key = sops::data_key(&bytes, Format::Yaml, &identities).expect("it opens");
    let document = sops::decrypt(&bytes, Format::Yaml, &identities).expect("it opens");
    assert_eq!(format!("{key:?} {document:?}"), "DataKey(..) Document(..)");
    assert!(!format!("{identities:?}").contains("SECRET"));
}

#[test]
fn whole_numbers_keep_their_text_also_those_that_old_sops_stored_as_floats() {
    let (bytes, identities) = changed("generated/j03_ints.v3.7.3.json", str::to_owned);
    let document = sops::decrypt(&bytes, Format::Json, &identities).expect("it opens");
    match document.root().get("port") {
        Some(Node::Int(text)) => assert_eq!(text.expose(), "8080"),
        _ => panic!("the port is no whole number"),
    }
}
