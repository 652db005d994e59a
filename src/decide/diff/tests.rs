//! What a comparison names, and what it never shows.

use super::*;
use crate::model::File;

const SEALED: &str = "all: { SHARED: 'ENC[AES256_GCM,data:AAAA,iv:AA==,tag:AA==,type:str]' }\n\
                      web: { PASSWORD: 'ENC[AES256_GCM,data:BBBB,iv:AA==,tag:AA==,type:str]' }\n";

const COMPOSE: &str = r#"services:
  app:
    image: "app:${TAG:-1}"
    environment: { MODE: quiet, PASSWORD: "${PASSWORD:-}" }
    labels: ["traefik.http.routers.app.rule=Host(`${DOMAIN}`)"]
    volumes: ["data:/data"]
  old: { image: "old:1" }
volumes: { data: {} }
"#;

fn tree(files: &[(&str, &str)]) -> Tree {
    let mut all: BTreeMap<&str, &str> = BTreeMap::from([
        ("moorline.yaml", "version: 1\n"),
        ("hosts/alpha/host.yaml", "ring: canary\nvars: { DOMAIN: a.example.org, TOKEN_OF: hunter2 }\nstacks: [web]\n"),
        ("stacks/web/compose.yaml", COMPOSE),
    ]);
    all.extend(files.iter().copied());
    all.into_iter().map(|(path, text)| (path.to_owned(), File::plain(text))).collect()
}

fn shown(before: &Tree, after: &Tree) -> Vec<String> {
    let (one, two): (Revision, Revision) = ("a".repeat(40).parse().unwrap(), "b".repeat(40).parse().unwrap());
    let diff = host("alpha", Some(Side { revision: &one, tree: before }), Some(Side { revision: &two, tree: after }));
    assert!(diff.notes.is_empty(), "{:?}", diff.notes);
    show::text(&[diff]).lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn images_names_mounts_routes_and_files_are_named() {
    let compose = COMPOSE
        .replace("TAG:-1", "TAG:-2")
        .replace("MODE: quiet", "MODE: hunter2, NEW: hunter2")
        .replace("\"data:/data\"", "\"data:/data\", \"./conf:/conf:ro\"")
        .replace("  old: { image: \"old:1\" }\n", "  new: { image: \"new:1\" }\n");
    let host = "ring: canary\nvars: { DOMAIN: b.example.org, TOKEN_OF: hunter3 }\nstacks: [web]\n";
    let after =
        tree(&[("stacks/web/compose.yaml", &compose), ("stacks/web/conf/x", "y"), ("hosts/alpha/host.yaml", host)]);
    let found = shown(&tree(&[]), &after);
    assert_eq!(
        found,
        [
            "~ host  variable DOMAIN",
            "~ host  variable TOKEN_OF",
            "~ web/app  environment MODE",
            "+ web/app  environment NEW",
            "~ web/app  image: app:1 -> app:2",
            "~ web/app  labels.traefik.http.routers.app.rule: Host(`a.example.org`) -> Host(`b.example.org`)",
            "+ web/app  volumes ./conf:/conf:ro",
            "+ web/new  service",
            "- web/old  service",
            "+ web  file conf/x",
        ]
    );
    assert!(!found.join("\n").contains("hunter"));
}

#[test]
fn secrets_are_named_and_never_shown() {
    let with = |sealed: &str| tree(&[("hosts/alpha/secrets.sops.yaml", sealed)]);
    let rotated = SEALED.replace("BBBB", "CCCC").replace("{ SHARED", "{ MORE: 'ENC[x]', SHARED");
    let values = |text: &str| {
        let sealed = Sealed { path: "x".into(), bytes: text.into() };
        sealed_values(Some(&sealed))
    };
    let (before, after) = (values(SEALED), values(&rotated));
    assert_eq!(named("host", "secret", &before["all"], &after["all"]).len(), 1);
    assert_eq!(named("web", "secret", &before["web"], &after["web"])[0].how, How::Changed);
    // A file that is not sealed properly cannot be compared, and says so.
    let revision: Revision = "a".repeat(40).parse().unwrap();
    let diff = host("alpha", Some(Side { revision: &revision, tree: &with("all: { A: b }\n") }), None);
    assert_eq!(diff.notes.len(), 1, "{diff:?}");
}

#[test]
fn a_stack_that_comes_brings_its_images_and_equal_trees_bring_nothing() {
    assert_eq!(shown(&tree(&[]), &tree(&[])), [""; 0]);
    let none = tree(&[("hosts/alpha/host.yaml", "ring: production\nstacks: []\n")]);
    let found = shown(&none, &tree(&[]));
    assert!(found.contains(&"~ host  ring: production -> canary".to_owned()), "{found:?}");
    assert!(found.contains(&"+ web  stack".to_owned()) && found.contains(&"+ web/app  image app:1".to_owned()));
}

#[test]
fn what_is_written_by_others_is_no_markup_in_a_comment() {
    let odd = Change {
        place: "web/[x](https://evil.example)".into(),
        what: "image a`|b\n# title".into(),
        how: How::Replaced { from: "`x` | y".into(), to: "@everyone".into() },
    };
    let diff = HostDiff { host: "alpha".into(), from: None, to: None, changes: vec![odd], notes: vec!["<b>".into()] };
    let text = show::markdown(&[diff]);
    let row = text.lines().find(|line| line.contains("web/")).unwrap();
    assert_eq!(row, "| web/?x?(https://evil.example) | `image a'\\|b # title` | `'x' \\| y` | `@everyone` |");
    assert!(text.contains("> ?b?"), "{text}");
}
