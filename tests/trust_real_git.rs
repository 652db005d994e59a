//! Repositories made by real `git` and `ssh-keygen`: what `decide::trust` says of each, beside what `git verify-commit` says.
//!
//! Where the two differ, the table says so, and trust is the stricter one.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

use moorline::decide::trust::{
    AllowedSigners, Anchor, ObjectId, Objects, Refusal, Signature, Times, Unadmitted, Verdict, Verified, admit, verify,
};
use moorline::model::Revision;

#[path = "trust_git/repository.rs"]
mod repository;
use repository::{LIST, Repository, header, signature_header, with_header};

/// What trust says.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trust {
    Accepts,
    /// Refuses with a code, because of the tip.
    Refuses(&'static str),
    /// Refuses with a code, because of a commit below the tip: git only ever looks at one.
    RefusesBelow(&'static str),
}
use Trust::{Accepts, Refuses, RefusesBelow};

/// One repository after the anchor, and what is thought of its tip.
struct Case {
    name: &'static str,
    trust: Trust,
    /// Whether `git verify-commit` accepts the tip, with the list of the tip's parent.
    git: bool,
    make: fn(&mut Repository) -> Revision,
}

const CASES: &[Case] = &[
    Case { name: "signed by an allowed signer", trust: Accepts, git: true, make: |r| r.signed("alice") },
    Case {
        name: "several commits, several signers",
        trust: Accepts,
        git: true,
        make: |r| {
            r.list(&["alice", "bob"]);
            r.signed("alice");
            r.signed("bob");
            r.signed("alice")
        },
    },
    Case { name: "not signed", trust: Refuses("commit-unsigned"), git: false, make: |r| r.unsigned() },
    Case { name: "signed by a stranger", trust: Refuses("signer-unknown"), git: false, make: |r| r.signed("mallory") },
    Case {
        name: "signed for another purpose",
        trust: Refuses("signature-bad"),
        git: false,
        make: |r| r.signed_in("alice", "file"),
    },
    Case { name: "signed by hand for git", trust: Accepts, git: true, make: |r| r.signed_in("alice", "git") },
    Case {
        name: "content changed after signing",
        trust: Refuses("signature-bad"),
        git: false,
        make: |r| {
            let signed = r.signed("alice");
            let raw = r.raw(&signed);
            r.put(&raw.replace("\nchange\n", "\nchanges\n"))
        },
    },
    Case {
        name: "the signature of another commit",
        trust: Refuses("signature-bad"),
        git: false,
        make: |r| {
            let (first, second) = (r.signed("alice"), r.unsigned());
            let raw = r.raw(&second);
            let stolen = signature_header(&r.raw(&first));
            r.put(&with_header(&raw, &stolen))
        },
    },
    Case {
        name: "the signature header twice",
        trust: Refuses("commit-malformed"),
        git: true,
        make: |r| {
            let signed = r.signed("alice");
            let raw = r.raw(&signed);
            let again = signature_header(&raw);
            r.put(&with_header(&raw, &again))
        },
    },
    Case {
        name: "a second, foreign signature header",
        trust: Refuses("commit-malformed"),
        git: true,
        make: |r| {
            let signed = r.signed("alice");
            let raw = r.raw(&signed);
            let foreign = header("gpgsig", "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----");
            r.put(&with_header(&raw, &foreign))
        },
    },
    Case {
        name: "a gpgsig-sha256 header beside the signature",
        trust: Refuses("commit-malformed"),
        git: true,
        make: |r| {
            let signed = r.signed("alice");
            let raw = r.raw(&signed);
            r.put(&with_header(&raw, "gpgsig-sha256 anything at all\n and more\n"))
        },
    },
    Case {
        name: "an unsigned commit below a signed tip",
        trust: RefusesBelow("commit-unsigned"),
        git: true,
        make: |r| {
            r.unsigned();
            r.signed("alice")
        },
    },
    Case {
        name: "a stranger's commit below a signed tip",
        trust: RefusesBelow("signer-unknown"),
        git: true,
        make: |r| {
            r.signed("mallory");
            r.signed("alice")
        },
    },
    Case {
        name: "the list deleted",
        trust: Refuses("signers-missing"),
        git: true,
        make: |r| {
            r.git(&["rm", "-q", LIST]);
            r.signed("alice")
        },
    },
    Case {
        name: "the list emptied",
        trust: Refuses("signers-invalid"),
        git: true,
        make: |r| {
            r.write(LIST, "# nobody\n");
            r.signed("alice")
        },
    },
    Case {
        name: "a list that cannot be read",
        trust: Refuses("signers-invalid"),
        git: true,
        make: |r| {
            r.write(LIST, "alice@example.org ssh-ed25519\n");
            r.signed("alice")
        },
    },
    Case {
        name: "a key added, then used",
        trust: Accepts,
        git: true,
        make: |r| {
            r.list(&["alice", "bob"]);
            r.signed("alice");
            r.signed("bob")
        },
    },
    Case {
        name: "a key that adds itself",
        trust: Refuses("signer-unknown"),
        git: false,
        make: |r| {
            r.list(&["alice", "mallory"]);
            r.signed("mallory")
        },
    },
    Case {
        name: "a key that removes itself",
        trust: Accepts,
        git: true,
        make: |r| {
            r.list(&["bob"]);
            r.signed("alice");
            r.signed("bob")
        },
    },
    Case {
        name: "a removed key",
        trust: Refuses("signer-unknown"),
        git: false,
        make: |r| {
            r.list(&["bob"]);
            r.signed("alice");
            r.signed("alice")
        },
    },
    Case {
        name: "a removed key that backdates",
        trust: Refuses("signer-unknown"),
        git: false,
        make: |r| {
            r.list(&["bob"]);
            r.signed("alice");
            r.now -= 10_000_000;
            r.signed("alice")
        },
    },
    Case {
        name: "a merge of a branch that nobody signed",
        trust: Accepts,
        git: true,
        make: |r| {
            r.git(&["checkout", "-q", "-b", "work"]);
            r.write("stacks/a/compose.yaml", "services: {}\n");
            r.unsigned();
            r.git(&["checkout", "-q", "main"]);
            r.merge("alice", "work")
        },
    },
    Case {
        name: "a merge that nobody signed",
        trust: Refuses("commit-unsigned"),
        git: false,
        make: |r| {
            r.git(&["checkout", "-q", "-b", "work"]);
            r.signed("alice");
            r.git(&["checkout", "-q", "main"]);
            r.git(&["merge", "-q", "--no-ff", "--no-gpg-sign", "-m", "merge", "work"]);
            r.revision("HEAD")
        },
    },
    Case {
        name: "a merge the wrong way round (foxtrot)",
        trust: Refuses("history-rewound"),
        git: true,
        make: |r| {
            r.git(&["checkout", "-q", "-b", "work", "main~1"]);
            r.signed("alice");
            r.merge("alice", "main")
        },
    },
    Case { name: "an older commit", trust: Refuses("history-rewound"), git: true, make: |r| r.revision("main~1") },
    Case {
        name: "a signed branch from an older commit",
        trust: Refuses("history-rewound"),
        git: true,
        make: |r| {
            r.git(&["reset", "-q", "--hard", "main~1"]);
            r.signed("alice")
        },
    },
    Case {
        name: "a key for other namespaces",
        trust: Refuses("signer-limited"),
        git: false,
        make: |r| {
            r.write(LIST, &format!("{}bob namespaces=\"file,moorline-ring@v1\" {}\n", r.line("alice"), r.key("bob")));
            r.signed("alice");
            r.signed("bob")
        },
    },
    Case {
        name: "a key for the namespace of git",
        trust: Accepts,
        git: true,
        make: |r| {
            r.write(LIST, &format!("bob namespaces=\"file,g?t\" {}\n", r.key("bob")));
            r.signed("alice");
            r.signed("bob")
        },
    },
    Case {
        name: "a key that has expired",
        trust: Refuses("signer-limited"),
        git: false,
        make: |r| {
            r.write(LIST, &format!("bob valid-before=\"20250101Z\" {}\n{}", r.key("bob"), r.line("alice")));
            r.signed("alice");
            r.signed("bob")
        },
    },
    Case {
        name: "a key that is not valid yet",
        trust: Refuses("signer-limited"),
        git: false,
        make: |r| {
            r.write(LIST, &format!("bob valid-after=\"20300101Z\" {}\n{}", r.key("bob"), r.line("alice")));
            r.signed("alice");
            r.signed("bob")
        },
    },
    Case {
        name: "a key within its dates",
        trust: Accepts,
        git: true,
        make: |r| {
            let dates = "valid-after=\"20250101Z\",valid-before=\"203001010000\"";
            r.write(LIST, &format!("bob {dates} {}\n", r.key("bob")));
            r.signed("alice");
            r.signed("bob")
        },
    },
    Case {
        name: "a certificate authority that signs itself",
        trust: Refuses("signer-limited"),
        git: false,
        make: |r| {
            r.write(LIST, &format!("*@example.org cert-authority {}\n{}", r.key("bob"), r.line("alice")));
            r.signed("alice");
            r.signed("bob")
        },
    },
    Case {
        name: "a list with comments and quotes",
        trust: Accepts,
        git: true,
        make: |r| {
            let rsa = r.key_of_kind("rsa", "rsa");
            let list = format!("# who\n\nrsa {rsa}\n\t\"bob@example.org\" {} laptop at home\n", r.key("bob"));
            r.write(LIST, &list);
            r.signed("alice");
            r.signed("bob")
        },
    },
    Case {
        name: "signed by an RSA key",
        trust: Accepts,
        git: true,
        make: |r| {
            let rsa = r.key_of_kind("rsa", "rsa");
            r.write(LIST, &format!("rsa {rsa}\n{}", r.line("alice")));
            r.signed("alice");
            r.signed("rsa")
        },
    },
];

/// Two signed commits; the second one is the anchor.
fn begun() -> (Repository, Revision, Revision) {
    let mut repository = Repository::new();
    repository.list(&["alice"]);
    repository.write("moorline.yaml", "version: 1\n");
    let first = repository.signed("alice");
    let anchor = repository.signed("alice");
    (repository, first, anchor)
}

#[test]
fn trust_agrees_with_git_or_is_stricter() {
    let mut wrong = Vec::new();
    for case in CASES {
        let (mut repository, first, anchor) = begun();
        // The branch is looked at where a case moves away from it.
        let tip = (case.make)(&mut repository);
        let history = repository.history(&tip);
        let answer = verify(&history, Anchor::Known { newest: &anchor, first: &first }, b"");
        let trust = match &answer {
            Ok(_) => Accepts,
            Err(refusal) if refusal.revision() == Some(&tip) => Refuses(refusal.code()),
            Err(refusal) => RefusesBelow(refusal.code()),
        };
        let git = tip == first || repository.git_accepts(&tip);
        if (trust, git) != (case.trust, case.git) {
            wrong.push(format!("{}: trust {trust:?}, git {git}: {:?}", case.name, answer.err()));
        }
        if trust == Accepts && !git {
            wrong.push(format!("{}: git refuses what trust accepts", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn refusal(answer: Result<Verified, Refusal>) -> String {
    let refusal = answer.expect_err("a refusal");
    let mut lines = vec![format!("error[{}]: {refusal}", refusal.code())];
    lines.extend(refusal.because().map(|because| format!("because: {because}")));
    lines.extend(refusal.hint().map(|hint| format!("hint: {hint}")));
    lines.join("\n")
}

#[test]
fn a_refusal_says_what_was_found_and_what_to_do() {
    let (mut repository, first, anchor) = begun();
    repository.key("mallory");
    let mut command = repository.command("ssh-keygen");
    let shown = repository.run(command.args(["-lf", "keys/mallory.pub"]), None).stdout;
    let fingerprint = String::from_utf8(shown).unwrap().split(' ').nth(1).unwrap().to_owned();
    let tip = repository.signed("mallory");
    let known = Anchor::Known { newest: &anchor, first: &first };
    assert_eq!(
        refusal(verify(&repository.history(&tip), known, b"")),
        format!(
            "error[signer-unknown]: commit {} is signed by {fingerprint}, which is not an allowed signer\n\
             because: signers/allowed_signers of {} does not list that key\n\
             hint: if they may deploy here, add their key to signers/allowed_signers in a commit of its own, signed by \
             someone who already may, and let them sign after it",
            tip.short(),
            anchor.short()
        )
    );
    assert_eq!(
        refusal(verify(&repository.history(&first), known, b"")),
        format!(
            "error[history-rewound]: commit {0} does not descend from {1}, the last revision accepted here\n\
             because: the branch was force-pushed, or an old copy is being served\n\
             hint: restore the branch, or accept the new history with `moorline trust --anchor {2}`",
            first.short(),
            anchor.short(),
            first
        )
    );
    repository.git(&["checkout", "-q", "-b", "work", first.as_str()]);
    repository.signed("alice");
    let foxtrot = repository.merge("alice", anchor.as_str());
    let said = refusal(verify(&repository.history(&foxtrot), known, b""));
    assert!(said.contains(&format!("commit {} has {} as a later parent", foxtrot.short(), anchor.short())), "{said}");
}

#[test]
fn a_first_start_believes_the_hosts_own_list_and_nothing_else() {
    let (mut repository, first, anchor) = begun();
    let tip = repository.signed("alice");
    let history = repository.history(&tip);
    let alice = repository.line("alice");
    let verified = verify(&history, Anchor::Root, alice.as_bytes()).unwrap();
    assert_eq!((verified.tip(), verified.first(), verified.range().len()), (&tip, &first, 3));
    assert_eq!(verified.signer().unwrap().principal, "alice@example.org");

    let stranger = repository.line("mallory");
    assert_eq!(verify(&history, Anchor::Root, stranger.as_bytes()).unwrap_err().code(), "signer-unknown");
    assert_eq!(verify(&history, Anchor::Root, b"").unwrap_err().code(), "signers-invalid");

    let verified = verify(&history, Anchor::Named(&anchor), alice.as_bytes()).unwrap();
    assert_eq!((verified.first(), verified.range().len()), (&anchor, 2));
    assert!(!verified.accepts(&first));
    let elsewhere: Revision = "9f2c1e07aa00bb11cc22dd33ee44ff5566778899".parse().unwrap();
    let refused = verify(&history, Anchor::Named(&elsewhere), alice.as_bytes()).unwrap_err();
    assert_eq!(refused.code(), "anchor-unknown");
}

#[test]
fn a_repository_that_was_not_signed_from_its_beginning_needs_a_named_revision() {
    let mut repository = Repository::new();
    repository.write("README.md", "long before\n");
    repository.unsigned();
    repository.list(&["alice"]);
    let begin = repository.signed("alice");
    let tip = repository.signed("alice");
    let (history, alice) = (repository.history(&tip), repository.line("alice"));
    assert!(refusal(verify(&history, Anchor::Root, alice.as_bytes())).contains("`anchor` in /etc/moorline/agent.toml"));
    assert!(verify(&history, Anchor::Named(&begin), alice.as_bytes()).is_ok());
}

/// Trees and blobs out of the object database.
struct Odb<'a>(git2::Odb<'a>);

impl Odb<'_> {
    fn read(&self, id: &ObjectId, kind: git2::ObjectType) -> Result<Vec<u8>, git2::Error> {
        let object = self.0.read(git2::Oid::from_bytes(id.as_bytes())?)?;
        match object.kind() == kind {
            true => Ok(object.data().to_vec()),
            false => Err(git2::Error::from_str("an object of another kind")),
        }
    }
}

impl Objects for Odb<'_> {
    type Error = git2::Error;

    fn size(&self, id: &ObjectId) -> Result<u64, git2::Error> {
        let (size, _) = self.0.read_header(git2::Oid::from_bytes(id.as_bytes())?)?;
        Ok(size as u64)
    }

    fn tree(&self, id: &ObjectId) -> Result<Vec<u8>, git2::Error> {
        self.read(id, git2::ObjectType::Tree)
    }

    fn blob(&self, id: &ObjectId) -> Result<Vec<u8>, git2::Error> {
        self.read(id, git2::ObjectType::Blob)
    }
}

/// Verifies a tip and reads the tree of a revision.
fn admitted(
    repository: &Repository,
    (first, anchor): (&Revision, &Revision),
    tip: &Revision,
    wanted: &Revision,
) -> Result<Vec<(String, bool)>, Unadmitted<git2::Error>> {
    let known = Anchor::Known { newest: anchor, first };
    let verified = verify(&repository.history(tip), known, b"").unwrap();
    let bare = git2::Repository::open(repository.root.path()).unwrap();
    let tree = admit(&verified, wanted, &Odb(bare.odb().unwrap()))?;
    assert_eq!(tree.revision(), wanted);
    Ok(tree.files().map(|(path, file)| (path.to_owned(), file.executable)).collect())
}

#[test]
fn the_files_of_an_accepted_revision_are_those_that_git_lists() {
    let (mut repository, first, anchor) = begun();
    repository.write("stacks/a/compose.yaml", "services: {}\n");
    repository.write("stacks/a.b/run.sh", "#!/bin/sh\n");
    repository.write("stacks/a-b/Dockerfile", "FROM scratch\n");
    repository.git(&["update-index", "--chmod=+x", "stacks/a.b/run.sh"]);
    let tip = repository.signed("alice");
    let listed = repository.git(&["ls-tree", "-r", "--format=%(path) %(objectmode)", tip.as_str()]);
    let mut listed: Vec<(String, bool)> = listed
        .lines()
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(path, mode)| (path.into(), mode == "100755"))
        .collect();
    listed.sort();
    let found = admitted(&repository, (&first, &anchor), &tip, &tip).unwrap();
    assert_eq!(found, listed);
    // A ring may name an older revision, whose tree has less in it.
    assert_eq!(admitted(&repository, (&first, &anchor), &tip, &first).unwrap().len(), 2);
}

#[test]
fn a_revision_that_was_not_accepted_has_no_tree() {
    let (mut repository, first, anchor) = begun();
    repository.git(&["checkout", "-q", "-b", "work"]);
    let aside = repository.signed("alice");
    repository.git(&["checkout", "-q", "main"]);
    let tip = repository.merge("alice", "work");
    for (first, wanted) in [(&first, &aside), (&anchor, &first)] {
        match admitted(&repository, (first, &anchor), &tip, wanted) {
            Err(Unadmitted::Refused(refusal)) => {
                assert_eq!(refusal.code(), "revision-not-accepted");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_has_no_business_on_a_host_is_refused_with_its_path() {
    type Change = fn(&Repository);
    let cases: [(&str, Change); 6] = [
        ("`stacks/link` is a symbolic link (mode 120000)", |repository| {
            std::fs::create_dir_all(repository.path("stacks")).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", repository.path("stacks/link")).unwrap();
            repository.git(&["add", "stacks/link"]);
        }),
        ("`module` is a submodule (mode 160000)", |repository| {
            let head = repository.revision("HEAD");
            repository.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},module")]);
        }),
        ("`large` has 1048577 bytes; at most 1048576 are allowed", |repository| {
            repository.write("large", &"x".repeat(1024 * 1024 + 1));
        }),
        ("`new\\nline` has a name that is not allowed: it has a control character", |repository| {
            repository.write("new\nline", "x");
        }),
        ("`readme.MD` stands beside another entry", |repository| {
            repository.write("README.md", "x");
            repository.write("readme.MD", "x");
        }),
        ("is more than 16 levels deep", |repository| {
            repository.write(&format!("{}file", "d/".repeat(16)), "x");
        }),
    ];
    for (expected, change) in cases {
        let (mut repository, first, anchor) = begun();
        change(&repository);
        let tip = repository.signed("alice");
        match admitted(&repository, (&first, &anchor), &tip, &tip) {
            Err(Unadmitted::Refused(refusal @ Refusal::TreeRefused { .. })) => {
                assert!(refusal.to_string().contains(expected), "{refusal}");
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn a_set_user_id_mode_is_refused_although_git_signs_and_stores_it() {
    let (mut repository, first, anchor) = begun();
    let blob = repository.git(&["hash-object", "-w", "moorline.yaml"]);
    let signers = repository.git(&["rev-parse", "HEAD:signers"]);
    // `git mktree` would put the mode right, so the tree is written by its bytes.
    let mut tree = Vec::new();
    for (entry, id) in [("104755 moorline.yaml", &blob), ("40000 signers", &signers)] {
        tree.extend_from_slice(format!("{entry}\0").as_bytes());
        tree.extend_from_slice(git2::Oid::from_str(id).unwrap().as_bytes());
    }
    let written = repository.git_with(&["hash-object", "-t", "tree", "-w", "--stdin", "--literally"], Some(&tree));
    let written = String::from_utf8(written).unwrap();
    repository.now += 60;
    let mut arguments: Vec<String> = repository.signing("alice").to_vec();
    let rest = ["commit-tree", "-S", "-p", anchor.as_str(), "-m", "change", written.trim()];
    arguments.extend(rest.map(str::to_owned));
    let tip: Revision = repository.git(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).parse().unwrap();
    match admitted(&repository, (&first, &anchor), &tip, &tip) {
        Err(Unadmitted::Refused(refusal)) => {
            assert!(refusal.to_string().contains("`moorline.yaml` has mode 104755"), "{refusal}");
        }
        other => panic!("{other:?}"),
    }
}

/// Trust leaves hashing to the object database; this is the promise it relies on.
#[test]
fn the_object_database_refuses_an_object_whose_content_is_not_what_its_name_says() {
    let (repository, _, anchor) = begun();
    let path = |revision: &Revision| {
        let (directory, name) = revision.as_str().split_at(2);
        repository.path(".git/objects").join(directory).join(name)
    };
    let other = repository.git(&["commit-tree", "-m", "evil", &format!("{anchor}^{{tree}}")]).parse().unwrap();
    std::fs::remove_file(path(&anchor)).unwrap();
    std::fs::copy(path(&other), path(&anchor)).unwrap();
    let opened = git2::Repository::open(repository.root.path()).unwrap();
    let error = opened.odb().unwrap().read(git2::Oid::from_str(anchor.as_str()).unwrap()).map(|_| ()).unwrap_err();
    assert!(error.message().contains("mismatch"), "{error}");
}

/// Lines of a list, with `KEY` for the key that signed and `OTHER` for another one, and whether alice may sign by them.
const LISTS: &[(&str, bool)] = &[
    ("alice KEY", true),
    ("alice KEY a comment", true),
    ("  \talice\t KEY", true),
    ("alice KEY\r", true),
    ("# alice KEY", false),
    ("", false),
    ("alice OTHER", false),
    ("bob KEY", false),
    ("alice OTHER\nbob KEY\nalice KEY", true),
    ("bob,alice KEY", true),
    ("a* KEY", true),
    ("*,!alice KEY", false),
    ("al?ce KEY", true),
    ("\"bob b,alice\" KEY", true),
    ("\"alice KEY", false),
    ("al\"ice\"KEY", true),
    ("alice namespaces=\"git\" KEY", true),
    ("alice NAMESPACES=\"file,g*\" KEY", true),
    ("alice namespaces=\"file\" KEY", false),
    ("alice namespaces=\"!git,*\" KEY", false),
    ("alice namespaces=\"file\" KEY\nalice namespaces=\"git\" KEY", true),
    ("alice namespaces=git KEY", false),
    ("alice namespaces=\"git\",namespaces=\"git\" KEY", false),
    ("alice namespaces=\"git KEY", false),
    ("alice namespaces=\"git\\\"\" KEY", false),
    ("alice namespaces=\"git,x y\" KEY", true),
    ("alice namespaces=\"git\", KEY", false),
    ("alice frobnicate KEY", false),
    ("alice cert-authority KEY", false),
    ("alice cert-authority OTHER\nalice KEY", true),
    ("alice valid-after=\"20250101Z\" KEY", true),
    ("alice valid-after=\"20251009085320Z\" KEY", true),
    ("alice valid-after=\"20251009085321Z\" KEY", false),
    ("alice valid-before=\"20251009085320\" KEY", true),
    ("alice valid-before=\"20251009085319Z\" KEY", false),
    ("alice valid-before=\"202510090854\",valid-after=\"20251009\" KEY", true),
    ("alice valid-after=\"2025\" KEY", false),
    ("alice valid-after=\"20250102\",valid-before=\"20250101\" KEY", false),
    ("alice valid-after=\"19700101Z\" KEY", false),
    ("alice", false),
    ("alice ssh-ed25519", false),
    ("alice ssh-ed25519 AAAA", false),
];

/// ssh-keygen leaves out a line that it cannot read and takes the next one; here the list is refused.
const STRICTER: &[&str] =
    &["alice frobnicate KEY\nalice KEY", "alice ssh-rot13 AAAA\nalice KEY", "alice valid-after=\"x\" KEY\nalice KEY"];

#[test]
fn a_list_means_here_what_it_means_to_ssh_keygen() {
    let repository = Repository::new();
    let (key, other) = (repository.key("alice"), repository.key("bob"));
    let bare = |key: &str| key.rsplit_once(' ').unwrap().0.to_owned();
    let message = b"content\n";
    let mut command = repository.command("ssh-keygen");
    let text =
        repository.run(command.args(["-q", "-Y", "sign", "-n", "git", "-f", "keys/alice"]), Some(message)).stdout;
    std::fs::write(repository.path("signature"), &text).unwrap();
    let signature = Signature::parse(&text).unwrap();
    signature.verify("git", message).unwrap();

    let mut wrong = Vec::new();
    let stricter = STRICTER.iter().map(|list| (*list, (false, true)));
    for (list, expected) in LISTS.iter().map(|(list, good)| (*list, (*good, *good))).chain(stricter) {
        let content = format!("{}\n", list.replace("KEY", &bare(&key)).replace("OTHER", &bare(&other)));
        std::fs::write(repository.path("list"), &content).unwrap();
        let mut command = repository.command("ssh-keygen");
        // 2025-10-09 08:53:20, which is 1760000000.
        command.args(["-Y", "verify", "-f", "list", "-I", "alice", "-n", "git", "-s", "signature"]);
        command.arg("-Overify-time=20251009085320Z");
        let theirs = repository.run(&mut command, Some(message)).status.success();
        let parsed = AllowedSigners::parse(content.as_bytes());
        let judged =
            parsed.as_ref().map(|list| list.judge_for("alice", signature.by(), "git", Times::at(1_760_000_000)));
        let ours = matches!(judged, Ok(Verdict::Allowed(_)));
        if (ours, theirs) != expected {
            wrong.push(format!("{list:?}: ours {ours}, ssh-keygen {theirs}: {judged:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
