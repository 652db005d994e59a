//! Finds what looks like a secret and stands in clear: in the files of hosts, of rings and of stacks.
//!
//! Names kind and place, never the value. It cannot find everything; it finds what people paste.

use serde_json::Value;

use crate::decide::check::Findings;
use crate::decide::check_secrets::is_sops_path;
use crate::decide::fleet::Mistake;
use crate::decide::yaml;
use crate::model::tree::Tree;

/// What a token is made of behind its prefix, and how much of it there must be. A prefix alone is documentation.
type Token = (&'static str, usize, fn(char) -> bool, &'static str);

const TOKENS: [Token; 29] = [
    ("AGE-SECRET-KEY-1", 20, alphanumeric, "an age identity"),
    ("AGE-SECRET-KEY-PQ-1", 20, alphanumeric, "an age identity"),
    ("AGE-PLUGIN-", 20, wordlike, "the identity of an age plugin"),
    ("ghp_", 20, alphanumeric, "a token of GitHub"),
    ("gho_", 20, alphanumeric, "a token of GitHub"),
    ("ghu_", 20, alphanumeric, "a token of GitHub"),
    ("ghs_", 20, alphanumeric, "a token of GitHub"),
    ("ghr_", 20, alphanumeric, "a token of GitHub"),
    ("github_pat_", 20, wordlike, "a token of GitHub"),
    ("glpat-", 20, wordlike, "a token of GitLab"),
    ("AKIA", 16, upper, "an access key of AWS"),
    ("ASIA", 16, upper, "an access key of AWS"),
    ("xoxa-", 10, wordlike, "a token of Slack"),
    ("xoxb-", 10, wordlike, "a token of Slack"),
    ("xoxe-", 10, wordlike, "a token of Slack"),
    ("xoxp-", 10, wordlike, "a token of Slack"),
    ("xoxr-", 10, wordlike, "a token of Slack"),
    ("xoxs-", 10, wordlike, "a token of Slack"),
    ("sk_live_", 16, alphanumeric, "a live key of Stripe"),
    ("rk_live_", 16, alphanumeric, "a live key of Stripe"),
    ("AIza", 30, wordlike, "a key of Google"),
    ("sk-ant-", 20, wordlike, "a key of Anthropic"),
    ("sk-proj-", 20, wordlike, "a key of OpenAI"),
    ("tskey-auth-", 10, wordlike, "a key of Tailscale"),
    ("tskey-client-", 10, wordlike, "a key of Tailscale"),
    ("dckr_pat_", 20, wordlike, "a token of Docker Hub"),
    ("npm_", 30, alphanumeric, "a token of npm"),
    ("hvs.", 20, wordlike, "a token of Vault"),
    ("SG.", 20, wordlike, "a key of SendGrid"),
];

fn alphanumeric(character: char) -> bool {
    character.is_ascii_alphanumeric()
}

fn upper(character: char) -> bool {
    character.is_ascii_uppercase() || character.is_ascii_digit()
}

fn wordlike(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '-' || character == '_'
}

/// How the names of variables end that hold secrets.
const ENDINGS: [&str; 14] = [
    "PASSWORD",
    "PASSWD",
    "_PASS",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "API_KEY",
    "APIKEY",
    "SECRET_KEY",
    "SECRET_KEY_BASE",
    "PRIVATE_KEY",
    "ENCRYPTION_KEY",
    "ACCESS_KEY",
    "MASTERKEY",
];
/// Values of `ALLOW_EMPTY_PASSWORD` and its like.
const SWITCHES: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "0", "1", "y", "n"];

/// Looks through everything in clear that an agent reads.
pub fn check(tree: &Tree, findings: &mut Findings) {
    for (path, file) in tree.files().filter(|(path, _)| !is_sops_path(path)) {
        let Ok(text) = file.text() else { continue };
        let is_read = ["hosts/", "stacks/", "rings/"].iter().any(|place| path.starts_with(place));
        if !is_read && path != "moorline.yaml" {
            continue;
        }
        check_lines(path, text, findings);
        let named = match path.rsplit('/').next() {
            Some("host.yaml" | "compose.yaml") => in_yaml(text),
            Some(".env") => text.lines().filter_map(assignment).collect(),
            _ => Vec::new(),
        };
        let mut lines = Vec::new();
        for (name, value) in &named {
            let Some(what) = suspicion(name, value) else { continue };
            let line = line_of(text, name, value);
            if !lines.contains(&(line, name)) {
                lines.push((line, name));
                let place = line.map_or_else(|| path.to_owned(), |line| format!("{path}:{line}"));
                findings.notes.push(format!("{place}: `{name}` has {what}; a secret belongs into a SOPS file"));
            }
        }
    }
}

fn check_lines(path: &str, text: &str, findings: &mut Findings) {
    for (index, line) in text.lines().enumerate() {
        if let Some(kind) = kind_of(line) {
            let text = format!(
                "{kind} stands in clear; take it out, make a new one, and enter it with \
                 `sops hosts/<host>/secrets.sops.yaml`"
            );
            findings.mistakes.push(Mistake::at(path, Some(index + 1), text));
        }
    }
}

/// What kind of secret a line holds. Comments count: whoever reads the repository reads them too.
fn kind_of(line: &str) -> Option<&'static str> {
    if let Some((_, label)) = line.split_once("-----BEGIN ")
        && label.split_once("-----").is_some_and(|(label, _)| label.contains("PRIVATE KEY"))
    {
        return Some("a private key");
    }
    if line.split(|letter| !wordlike(letter) && letter != '.').any(is_web_token) {
        return Some("a JSON web token");
    }
    TOKENS.iter().find(|token| holds(line, token)).map(|(.., kind)| *kind)
}

/// Three parts of Base64, of which the first two begin as `{"` does.
fn is_web_token(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    matches!(parts[..], [head, body, mac] if head.starts_with("eyJ") && body.starts_with("eyJ") && mac.len() >= 20)
}

fn holds(line: &str, (prefix, least, is_part, _): &Token) -> bool {
    line.match_indices(prefix).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let body = line[at + prefix.len()..].chars().take_while(|character| is_part(*character)).count();
        !before.is_some_and(|character| character.is_ascii_alphanumeric()) && body >= *least
    })
}

/// Names with their values, wherever they stand in a YAML file: `NAME: value`, or `NAME=value` in a list.
fn in_yaml(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Ok(value) = yaml::read::<Value>(text) {
        collect(&value, &mut found);
    }
    found
}

fn collect(value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value {
                    Value::String(text) => found.push((key.clone(), text.clone())),
                    Value::Number(number) => found.push((key.clone(), number.to_string())),
                    nested => collect(nested, found),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::String(text) => found.extend(assignment(text)),
                    nested => collect(nested, found),
                }
            }
        }
        _ => {}
    }
}

fn assignment(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    Some((name.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
}

/// Why a value may be a secret, if it may.
fn suspicion(name: &str, value: &str) -> Option<&'static str> {
    if !is_literal(value) {
        return None;
    }
    if is_telling(name) && !is_name_of_secret(value) {
        return Some("a value in clear");
    }
    if has_login(value) {
        return Some("a URL with a password in clear");
    }
    looks_random(value).then_some("a value in clear that looks random")
}

/// `BACKUP_PASSWORD`, as `password: NAME` has it: where a secret is, and not what it is.
fn is_name_of_secret(value: &str) -> bool {
    value.contains('_') && value.bytes().all(|byte| byte == b'_' || byte.is_ascii_uppercase())
}

/// A variable by its form, and one that holds a secret by its ending. `*_FILE` names a path.
pub fn is_telling(name: &str) -> bool {
    let is_variable = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    let name = name.to_ascii_uppercase();
    is_variable && (name == "PASS" || ENDINGS.iter().any(|ending| name.ends_with(ending)))
}

/// `scheme://user:password@host`.
fn has_login(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let login = authority.rsplit_once('@').and_then(|(login, _)| login.split_once(':'));
    login.is_some_and(|(_, password)| !password.is_empty())
}

/// What a generator makes: one long word of many different letters and digits, or of hexadecimal digits.
fn looks_random(value: &str) -> bool {
    let value = value.trim();
    let is_word = value.chars().all(|letter| wordlike(letter) || matches!(letter, '+' | '/' | '='));
    let kinds: [fn(&char) -> bool; 3] = [char::is_ascii_digit, char::is_ascii_lowercase, char::is_ascii_uppercase];
    let of_kind = |is: &fn(&char) -> bool| value.chars().filter(is).count();
    // Names and paths consist of words, so few of their letters are digits, or they have one case only.
    let is_key = value.len() >= 24 && kinds.iter().all(|kind| of_kind(kind) >= 3) && entropy(value) > 4.0;
    let is_hexadecimal = value.len() >= 32 && value.chars().all(|letter| letter.is_ascii_hexdigit());
    is_word && (is_key || (is_hexadecimal && entropy(value) > 3.0))
}

/// Bits per letter, after Shannon.
fn entropy(text: &str) -> f64 {
    let mut counts = std::collections::BTreeMap::new();
    text.chars().for_each(|letter| *counts.entry(letter).or_insert(0_u32) += 1);
    let length = f64::from(counts.values().sum::<u32>());
    counts.values().map(|count| f64::from(*count) / length).map(|share| -share * share.log2()).sum()
}

/// Whether the value is a secret itself: not a variable, not the path of a file, not a switch.
fn is_literal(value: &str) -> bool {
    let value = value.trim();
    let is_path = value.starts_with(['/', '~']) || value.starts_with("./") || value.starts_with("../");
    let is_switch = SWITCHES.iter().any(|switch| value.eq_ignore_ascii_case(switch));
    // `$$` is a dollar sign for Compose.
    let is_variable = value.replace("$$", "").contains('$');
    !value.is_empty() && !is_path && !is_switch && !is_variable
}

/// The line where name and value stand together, or else the first one with the name.
fn line_of(text: &str, name: &str, value: &str) -> Option<usize> {
    let first = value.lines().next().unwrap_or_default();
    let holds = |line: &str, value: &str| {
        line.split_once(name).is_some_and(|(before, after)| {
            !before.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '_')
                && !before.trim_start().starts_with('#')
                && after.trim_start_matches(['"', '\'', ' ']).starts_with([':', '='])
                && after.contains(value)
        })
    };
    let find = |value: &str| text.lines().position(|line| holds(line, value)).map(|index| index + 1);
    find(first).or_else(|| find(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_known_by_prefix_and_length_and_only_at_the_start_of_a_word() {
        let body = "abcdefghij0123456789";
        for prefix in ["ghp_", "github_pat_", "glpat-", "xoxb-", "sk_live_", "AGE-SECRET-KEY-1"] {
            assert!(kind_of(&format!("  TOKEN: \"{prefix}{body}\"")).is_some(), "{prefix}");
            assert!(kind_of(&format!("  TOKEN: {prefix}...")).is_none(), "{prefix}");
            assert!(kind_of(&format!("  TOKEN: x{prefix}{body}")).is_none(), "{prefix}");
        }
        assert!(kind_of("key: AKIAIOSFODNN7EXAMPLE").is_some());
        assert!(kind_of("key: AKIAiosfodnn7example").is_none());
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"] {
            assert_eq!(kind_of(&format!("    -----BEGIN {label}-----")), Some("a private key"));
        }
        assert_eq!(kind_of("-----BEGIN CERTIFICATE-----"), None);
        assert_eq!(kind_of("-----BEGIN PUBLIC KEY-----"), None);
    }

    #[test]
    fn a_literal_value_is_one_that_names_nothing_else() {
        for value in ["hunter2", "pa$$word", "123456"] {
            assert!(is_literal(value), "{value}");
        }
        for value in ["", " ", "${DB}", "$DB", "${A:-b}", "/run/secrets/x", "./x", "yes", "TRUE", "1"] {
            assert!(!is_literal(value), "{value}");
        }
        for name in ["DB_PASSWORD", "PASSWORD", "X_API_KEY", "TOKEN", "db_password", "smtp_pass", "SECRET_KEY_BASE"] {
            assert!(is_telling(name), "{name}");
        }
        for name in ["DB_PASSWORD_FILE", "a.password", "COMPASS", "TOKENS", "DOMAIN", "SORT_KEY"] {
            assert!(!is_telling(name), "{name}");
        }
    }

    #[test]
    fn what_looks_random_is_named_and_what_people_write_is_not() {
        for value in [
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY12345",
            "8f14e45fceea167a5a36dedd4bea2543a1b2c3d4e5f60718",
            "q3LkT9vXz2Wm8RbY5NcJ7HdF",
        ] {
            assert!(looks_random(value), "{value}");
        }
        for value in [
            "docker.io/library/postgres:16.4-alpine3.20",
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "00000000000000000000000000000000",
            "123e4567-e89b-12d3-a456-426614174000",
            "nextcloud-fpm-with-a-long-name-29",
            "/var/lib/postgresql/data/pgdata",
            "NEXTCLOUD_TRUSTED_DOMAINS_AND_MORE",
            "com.docker.compose.project.working_dir",
            "max_connections=200",
        ] {
            assert!(!looks_random(value), "{value}");
        }
        assert!(has_login("postgres://nextcloud:s3cret@db:5432/nextcloud"));
        for value in ["https://example.org/a:b@c", "postgres://nextcloud@db/x", "redis://cache:6379", "user:a@b"] {
            assert!(!has_login(value), "{value}");
        }
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
        assert_eq!(kind_of(&format!("JWT: '{token}'")), Some("a JSON web token"));
        assert_eq!(kind_of("see eyJ.eyJ.eyJ"), None);
    }

    #[test]
    fn a_value_has_the_line_where_it_stands() {
        let text = "# DB_PASSWORD: hunter2\nMY_DB_PASSWORD: hunter2\nDB_PASSWORD: ${X}\n\"DB_PASSWORD\": hunter2\n";
        assert_eq!(line_of(text, "DB_PASSWORD", "hunter2"), Some(4));
        assert_eq!(line_of("- DB_PASSWORD=hunter2", "DB_PASSWORD", "hunter2"), Some(1));
        assert_eq!(line_of("DB_PASSWORD: >-\n  hunter2", "DB_PASSWORD", "hunter2"), Some(1));
    }
}
