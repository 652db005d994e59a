use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::certificate::certificate;
use super::super::wire::put_string;
use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAqMGNY0/5D9+wL789Kkc6vb9SDM1v5AlvuTQRaI3ba";

fn key() -> PublicKey {
    let (kind, encoded) = KEY.split_once(' ').unwrap();
    PublicKey::from_words(kind, encoded).unwrap()
}

fn by() -> SignedBy {
    SignedBy::Key(Box::new(key()))
}

fn one(line: &str) -> Entry {
    AllowedSigners::parse(line.as_bytes()).unwrap().entries.remove(0)
}

fn flaw(line: &str) -> LineFlaw {
    match AllowedSigners::parse(line.as_bytes()) {
        Err(SignersFlaw::Line { line: 1, flaw }) => flaw,
        other => panic!("{line:?}: {other:?}"),
    }
}

#[test]
fn comments_and_blank_lines_are_nothing() {
    let list = format!("# a list\n\n \t\r\n  # more\nalice {KEY} laptop\r\n\tbob@example.org,carol {KEY}");
    let signers = AllowedSigners::parse(list.as_bytes()).unwrap();
    let found: Vec<_> = signers.entries().iter().map(|entry| (entry.line, entry.principals.as_str())).collect();
    assert_eq!(found, [(5, "alice"), (6, "bob@example.org,carol")]);
}

#[test]
fn principals_may_be_quoted() {
    assert_eq!(one(&format!("\"Alice A,bob\" {KEY}")).principals, "Alice A,bob");
    assert_eq!(one(&format!("a\"l ice\"{KEY}")).principals, "al ice");
    assert_eq!(flaw(&format!("\"alice {KEY}")), LineFlaw::OpenQuote);
    assert_eq!(flaw(&format!("\"\" {KEY}")), LineFlaw::NoPrincipal);
}

#[test]
fn options_are_read_as_ssh_keygen_reads_them() {
    let entry = one(&format!(
        "alice NameSpaces=\"git,f\\\"x y\",valid-after=\"20250101Z\",valid-before=\"202601011230\" {KEY}"
    ));
    assert_eq!(entry.options.namespaces.as_deref(), Some("git,f\"x y"));
    assert_eq!(entry.options.after.unwrap().seconds, 1_735_689_600);
    assert_eq!(entry.options.before.unwrap().seconds, 1_767_270_600);
    // A backslash protects a quote, and is itself everywhere else.
    assert_eq!(one(&format!("alice namespaces=\"a\\b\" {KEY}")).options.namespaces.as_deref(), Some("a\\b"));
    assert_eq!(one(&format!("ca CERT-authority,namespaces=\"git\" {KEY}")).options.role, Role::Authority);
}

#[test]
fn mistakes_are_named() {
    for (line, expected) in [
        ("alice".to_owned(), LineFlaw::NoKey),
        ("alice ssh-ed25519".to_owned(), LineFlaw::NoKey),
        ("alice namespaces=\"git\"".to_owned(), LineFlaw::NoKey),
        (format!("alice frobnicate {KEY}"), LineFlaw::UnknownOption("frobnicate".into())),
        (format!("alice cert-authorityx {KEY}"), LineFlaw::UnknownOption("x".into())),
        (format!("alice namespaces=git {KEY}"), LineFlaw::NotQuoted("namespaces")),
        (format!("alice namespaces=\"git {KEY}"), LineFlaw::OpenQuote),
        (format!("alice namespaces=\"a\",namespaces=\"b\" {KEY}"), LineFlaw::Twice("namespaces")),
        (format!("alice cert-authority, {KEY}"), LineFlaw::EmptyOption),
        (format!("alice cert-authority,,namespaces=\"git\" {KEY}"), LineFlaw::EmptyOption),
        (format!("alice valid-after=\"20250231\" {KEY}"), LineFlaw::Date("20250231".into())),
        (format!("alice valid-after=\"19700101Z\" {KEY}"), LineFlaw::Date("19700101Z".into())),
        (format!("alice valid-after=\"Z\" {KEY}"), LineFlaw::Date("Z".into())),
        (format!("alice valid-after=\"2025010112\" {KEY}"), LineFlaw::Date("2025010112".into())),
        (format!("alice valid-after=\"202501+1\" {KEY}"), LineFlaw::Date("202501+1".into())),
        (format!("alice valid-after=\"20250102\",valid-before=\"20250101\" {KEY}"), LineFlaw::NeverValid),
        (format!("alice valid-after=\"20250101\",valid-before=\"20250101\" {KEY}"), LineFlaw::NeverValid),
        ("alice ssh-rot13 AAAA".to_owned(), LineFlaw::UnknownOption("ssh-rot13".into())),
        ("alice ssh-ed25519 AAAA".to_owned(), LineFlaw::Key(KeyFlaw::Malformed)),
        (format!("alice\u{1b} {KEY}"), LineFlaw::ControlCharacter),
        (format!("alice {KEY} \0"), LineFlaw::ControlCharacter),
    ] {
        assert_eq!(flaw(&line), expected, "{line}");
    }
}

#[test]
fn the_line_of_a_mistake_is_counted_with_comments() {
    let flaw = AllowedSigners::parse(format!("# one\nalice {KEY}\n\nbob").as_bytes()).unwrap_err();
    assert_eq!(flaw.to_string(), "line 4: it has no key");
}

#[test]
fn dates_bound_a_key_on_both_sides_and_include_the_bounds() {
    let list = format!("alice valid-after=\"20250101000000Z\",valid-before=\"20250102000000UTC\" {KEY}");
    let signers = AllowedSigners::parse(list.as_bytes()).unwrap();
    let allowed = |at| matches!(signers.judge(&by(), "git", Times::at(at)), Verdict::Allowed(_));
    let begin = 1_735_689_600;
    assert!(!allowed(begin - 1) && allowed(begin) && allowed(begin + 86_400) && !allowed(begin + 86_401));
}

#[test]
fn an_authoritys_key_signs_nothing_itself() {
    let signers = AllowedSigners::parse(format!("ca cert-authority {KEY}").as_bytes()).unwrap();
    assert!(matches!(signers.judge(&by(), "git", Times::at(0)), Verdict::Limited(_, Limit::Authority)));
    // Those with its certificates can sign.
    assert_eq!(signers.someone_signs("git"), Ok(()));
}

#[test]
fn a_key_listed_twice_may_what_either_entry_lets_it() {
    let list = format!("alice namespaces=\"file\" {KEY}\nalice namespaces=\"git\" {KEY}");
    let signers = AllowedSigners::parse(list.as_bytes()).unwrap();
    assert!(matches!(signers.judge(&by(), "git", Times::at(0)), Verdict::Allowed(entry) if entry.line == 2));
    assert!(matches!(signers.judge(&by(), "other", Times::at(0)), Verdict::Limited(entry, _) if entry.line == 1));
    let twice = AllowedSigners::parse(format!("alice {KEY}\nbob {KEY}").as_bytes()).unwrap();
    assert!(matches!(twice.judge(&by(), "git", Times::at(0)), Verdict::Allowed(entry) if entry.principals == "alice"));
}

#[test]
fn a_principal_can_be_asked_for() {
    let signers = AllowedSigners::parse(format!("alice,ring:* {KEY}").as_bytes()).unwrap();
    assert!(matches!(signers.judge_for("ring:production", &by(), "git", Times::at(0)), Verdict::Allowed(_)));
    assert!(matches!(signers.judge_for("bob", &by(), "git", Times::at(0)), Verdict::Limited(_, Limit::Principal(_))));
}

#[test]
fn nobody_signs_by_an_empty_list() {
    assert_eq!(AllowedSigners::parse(b"# none\n").unwrap().someone_signs("git"), Err(SignersFlaw::Nobody(vec![])));
}

/// A list of one line for the authority of [`certificate`].
fn authority(principals: &str, options: &str) -> AllowedSigners {
    let key = "AAAAC3NzaC1lZDI1NTE5AAAAIIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";
    let line = format!("{principals} {options} ssh-ed25519 {key}");
    AllowedSigners::parse(line.as_bytes()).unwrap()
}

#[test]
fn a_certificate_counts_by_its_authority_its_principals_and_its_time() {
    let by = SignedBy::Certificate(Box::new(certificate()));
    let at = Times::at(1_500);
    let lets_in = |list: &AllowedSigners, at| match list.judge(&by, "git", at) {
        Verdict::Allowed(entry) => Ok(entry.names(&by)),
        Verdict::Limited(_, limit) => Err(Some(limit)),
        Verdict::Unknown => Err(None),
    };
    let list = authority("*@example.org", "cert-authority");
    assert_eq!(lets_in(&list, at), Ok("alice@example.org".to_owned()));
    assert_eq!(lets_in(&list, Times::at(999)), Err(Some(Limit::CertificateNotYetValid)));
    assert_eq!(lets_in(&list, Times::at(2_000)), Err(Some(Limit::CertificateExpired)));
    assert_eq!(lets_in(&list, Times { stated: 1_500, before: 2_000 }), Err(Some(Limit::CertificateExpired)));
    assert_eq!(lets_in(&list, Times { stated: 999, before: 1_500 }), Err(Some(Limit::CertificateNotYetValid)));
    let others = Limit::CertificateForOthers("*@example.net".into());
    assert_eq!(lets_in(&authority("*@example.net", "cert-authority"), at), Err(Some(others)));
    // A key that is listed for itself, and another authority.
    assert_eq!(lets_in(&authority("*", ""), at), Err(None));
    let another = AllowedSigners::parse(format!("* cert-authority {KEY}").as_bytes()).unwrap();
    assert_eq!(lets_in(&another, at), Err(None));
    let own = SignedBy::Key(Box::new(certificate().key));
    assert_eq!(list.judge(&own, "git", at), Verdict::Unknown);
    assert_eq!(another.judge(&own, "git", at), Verdict::Unknown);
}

#[test]
fn a_certificate_signs_for_a_principal_that_both_it_and_the_list_name() {
    let by = SignedBy::Certificate(Box::new(certificate()));
    let at = Times::at(1_500);
    let list = authority("*@example.org", "cert-authority");
    let limit = |principal: &str| match list.judge_for(principal, &by, "git", at) {
        Verdict::Limited(_, limit) => Some(limit),
        Verdict::Allowed(_) => None,
        Verdict::Unknown => panic!("{principal}"),
    };
    assert_eq!(limit("alice@example.org"), None);
    let others = Limit::CertificateForOthers("carol@example.org".into());
    assert_eq!(limit("carol@example.org"), Some(others));
    assert_eq!(limit("bob@example.com"), Some(Limit::Principal("*@example.org".into())));
}

#[test]
fn a_list_says_which_of_its_lines_sign_nothing() {
    let mut dss = Vec::new();
    put_string(&mut dss, b"ssh-dss");
    let dss = format!("bob ssh-dss {}", STANDARD.encode(dss));
    let signers = AllowedSigners::parse(format!("alice {KEY}\n{dss}").as_bytes()).unwrap();
    let why = "keys of kind ssh-dss are not supported";
    assert_eq!(signers.unsupported().collect::<Vec<_>>(), [(2, why.to_owned())]);
    assert_eq!(signers.someone_signs("git"), Ok(()));
    let nobody = AllowedSigners::parse(format!("{dss}\nalice namespaces=\"file\" {KEY}").as_bytes()).unwrap();
    let flaw = nobody.someone_signs("git").unwrap_err();
    assert_eq!(
        flaw.to_string(),
        format!("it has no key that could sign a commit (line 1: {why}; line 2: namespaces= leaves out `git`)")
    );
}
