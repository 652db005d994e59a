//! Every kind of key that may sign a commit, in every way that a signature can be wrong: what trust says of each, beside
//! what `git verify-commit` says with real `ssh-keygen` and `gpg`.
//!
//! Trust never accepts what git refuses. Where it refuses what git accepts, the case says why.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use moorline::decide::trust::{
    AllowedSigners, Anchor, DetachedFlaw, History, Limit, RawCommit, SignerFiles, Times, signer_of_detached, verify,
};
use moorline::model::{Revision, Warrant};
use sha2::{Digest as _, Sha256, Sha512};

#[path = "trust_git/repository.rs"]
mod repository;
use repository::{LIST, Repository, header};

/// 2025-10-09 08:53:20 UTC, when the commits of these tests are made.
const NOW: u64 = 1_760_000_000;

/// A key inside a security key, as the security key would keep it.
enum Token {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    Ecdsa(Box<p256::ecdsa::SigningKey>),
}

const TOUCHED: u8 = 1;

impl Token {
    fn kind(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "sk-ssh-ed25519@openssh.com",
            Self::Ecdsa(_) => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    fn blob(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => fields(&[self.kind().as_bytes(), key.verifying_key().as_bytes(), b"ssh:"]),
            Self::Ecdsa(key) => {
                let point = key.verifying_key().to_encoded_point(false);
                fields(&[self.kind().as_bytes(), b"nistp256", point.as_bytes(), b"ssh:"])
            }
        }
    }

    fn line(&self) -> String {
        format!("{} {}", self.kind(), STANDARD.encode(self.blob()))
    }

    /// What the security key gives for a message, in the armour that `ssh-keygen` would put around it.
    fn sign(&self, namespace: &str, message: &[u8], flags: u8) -> String {
        let digest = Sha512::digest(message);
        let mut asked = b"SSHSIG".to_vec();
        asked.extend(fields(&[namespace.as_bytes(), b"", b"sha512", &digest]));
        let mut signed = Sha256::digest(b"ssh:").to_vec();
        signed.push(flags);
        signed.extend_from_slice(&7u32.to_be_bytes());
        signed.extend_from_slice(&Sha256::digest(&asked));
        let bytes = match self {
            Self::Ed25519(key) => key.sign(&signed).to_bytes().to_vec(),
            Self::Ecdsa(key) => {
                let signature: p256::ecdsa::Signature = key.sign(&signed);
                let (r, s) = signature.split_bytes();
                fields(&[&positive(&r), &positive(&s)])
            }
        };
        let mut signature = fields(&[self.kind().as_bytes(), &bytes]);
        signature.push(flags);
        signature.extend_from_slice(&7u32.to_be_bytes());
        armoured(&self.blob(), namespace, "sha512", &signature)
    }
}

fn fields(fields: &[&[u8]]) -> Vec<u8> {
    fields.iter().flat_map(|field| [&u32::try_from(field.len()).unwrap().to_be_bytes(), *field].concat()).collect()
}

fn positive(number: &[u8]) -> Vec<u8> {
    let first = number.iter().position(|byte| *byte != 0).unwrap();
    let number = &number[first..];
    if number[0] >= 0x80 { [&[0], number].concat() } else { number.to_vec() }
}

fn armoured(key: &[u8], namespace: &str, hash: &str, signature: &[u8]) -> String {
    let mut blob = b"SSHSIG\0\0\0\x01".to_vec();
    blob.extend(fields(&[key, namespace.as_bytes(), b"", hash.as_bytes(), signature]));
    let text = STANDARD.encode(blob);
    let lines: Vec<&str> = text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"))
}

/// Somebody who signs with one kind of key.
enum Scribe {
    /// A key file that `ssh-keygen` signs with; a certificate has another file beside it.
    Ssh(String),
    Token(Token),
    /// The fingerprint of a key in the keyring of the operators, and more arguments for `gpg`.
    Gpg(String, Vec<&'static str>),
}

struct Bench {
    repository: Repository,
}

impl Drop for Bench {
    fn drop(&mut self) {
        for home in ["operators", "checker"] {
            if self.repository.path(home).exists() {
                let mut command = self.repository.command("gpgconf");
                let home = self.repository.path(home);
                self.repository.run(command.args(["--kill", "all"]).env("GNUPGHOME", home), None);
            }
        }
    }
}

impl Bench {
    fn new() -> Self {
        Self { repository: Repository::new() }
    }

    fn ssh_keygen(&self, arguments: &[&str], input: Option<&[u8]>) -> String {
        let mut command = self.repository.command("ssh-keygen");
        let output = self.repository.run(command.args(arguments), input);
        assert!(output.status.success(), "ssh-keygen {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A new key file; its public line.
    fn key(&self, name: &str, kind: &str) -> String {
        std::fs::create_dir_all(self.repository.path("keys")).unwrap();
        let (kind, bits) = kind.split_once('-').unwrap_or((kind, ""));
        let mut arguments = vec!["-q", "-t", kind, "-N", "", "-C", name, "-f"];
        let file = format!("keys/{name}");
        arguments.push(&file);
        if !bits.is_empty() {
            arguments.extend(["-b", bits]);
        }
        self.ssh_keygen(&arguments, None);
        self.public(name)
    }

    fn public(&self, name: &str) -> String {
        let line = std::fs::read_to_string(self.repository.path(&format!("keys/{name}.pub"))).unwrap();
        line.trim().to_owned()
    }

    fn gpg(&self, home: &str, arguments: &[&str], input: Option<&[u8]>) -> Vec<u8> {
        let path = self.repository.path(home);
        if !path.exists() {
            std::fs::create_dir(&path).unwrap();
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        let mut command = self.repository.command("gpg");
        command.args(["--batch", "--yes", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]);
        let output = self.repository.run(command.args(arguments).env("GNUPGHOME", path), input);
        assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// A new OpenPGP key of the operators, made in 2024; its fingerprint.
    fn gpg_key(&self, name: &str, algorithm: &str, usage: &str, expires: &str) -> String {
        let user = format!("{name} <{name}@example.org>");
        let generate =
            ["--faked-system-time", "20240101T000000!", "--quick-generate-key", &user, algorithm, usage, expires];
        self.gpg("operators", &generate, None);
        let listed = self.gpg("operators", &["--with-colons", "--list-keys", name], None);
        let listed = String::from_utf8(listed).unwrap();
        let print = listed.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap();
        print.trim_matches(':').to_owned()
    }

    fn exported(&self, keys: &[&str]) -> String {
        let arguments = [&["--armor", "--export"], keys].concat();
        String::from_utf8(self.gpg("operators", &arguments, None)).unwrap()
    }

    fn sign(&self, scribe: &Scribe, namespace: &str, payload: &[u8]) -> String {
        match scribe {
            Scribe::Ssh(file) => {
                self.ssh_keygen(&["-q", "-Y", "sign", "-n", namespace, "-f", &format!("keys/{file}")], Some(payload))
            }
            Scribe::Token(token) => token.sign(namespace, payload, TOUCHED),
            Scribe::Gpg(key, more) => {
                let mut arguments = vec!["--armor", "--detach-sign", "--local-user", key];
                arguments.extend(more);
                String::from_utf8(self.gpg("operators", &arguments, Some(payload))).unwrap()
            }
        }
    }

    /// The first commit, which says who may sign the next.
    fn anchor(&self, list: &str, keys: &[(&str, &str)]) -> Revision {
        self.repository.write(LIST, list);
        for (name, key) in keys {
            self.repository.write(&format!("signers/{name}.asc"), key);
            self.gpg("checker", &["--import"], Some(key.as_bytes()));
        }
        self.repository.git(&["commit", "-q", "--no-gpg-sign", "-m", "anchor"]);
        self.repository.revision("HEAD")
    }

    /// The bytes of a commit on top, without a signature.
    fn payload(&self, anchor: &Revision) -> String {
        let tree = self.repository.git(&["rev-parse", "HEAD^{tree}"]);
        format!(
            "tree {tree}\nparent {anchor}\nauthor A <a@example.org> {NOW} +0000\n\
             committer C <c@example.org> {NOW} +0000\n\nchange\n"
        )
    }

    /// What trust says and what git says of a commit on top of the anchor.
    fn judged(&self, anchor: &Revision, commit: &str) -> (Result<(), &'static str>, bool) {
        let written = ["hash-object", "-t", "commit", "-w", "--stdin", "--literally"];
        let name = self.repository.git_with(&written, Some(commit.as_bytes()));
        let tip: Revision = String::from_utf8(name).unwrap().trim().parse().unwrap();
        let parents: Vec<String> =
            commit.lines().filter_map(|line| line.strip_prefix("parent ")).map(str::to_owned).collect();
        let trust = if parents == [anchor.to_string()] {
            let known = Anchor::Known { newest: anchor, first: anchor };
            verify(&self.repository.history(&tip), known, b"").map(drop).map_err(|refusal| refusal.code())
        } else {
            Err("history-rewound")
        };
        let list =
            self.repository.run(self.repository.command("git").args(["show", &format!("{anchor}:{LIST}")]), None);
        std::fs::write(self.repository.path("list"), list.stdout).unwrap();
        let option = format!("gpg.ssh.allowedSignersFile={}", self.repository.path("list").display());
        let mut command = self.repository.command("git");
        command.args(["-c", &option, "verify-commit", tip.as_str()]).env("GNUPGHOME", self.repository.path("checker"));
        (trust, self.repository.run(&mut command, None).status.success())
    }
}

/// The payload with its signature where git puts it.
fn signed(payload: &str, signature: &str) -> String {
    let (head, message) = payload.split_once("\n\n").unwrap();
    format!("{head}\n{}\n{message}", header("gpgsig", signature))
}

/// One way to change a signed commit, and why trust refuses it if git does not.
struct Harm {
    name: &'static str,
    stricter: Option<&'static str>,
    /// From the payload and its genuine signature.
    make: fn(&str, &str) -> String,
}

const HARMS: &[Harm] = &[
    Harm {
        name: "another tree",
        stricter: None,
        make: |p, s| altered(&signed(p, s), "tree ", "4b825dc642cb6eb9a060e54bf8d69288fbee4904"),
    },
    Harm { name: "another author", stricter: None, make: |p, s| signed(p, s).replace("author A <", "author B <") },
    Harm {
        name: "another committer",
        stricter: None,
        make: |p, s| signed(p, s).replace("committer C <", "committer D <"),
    },
    Harm { name: "another date", stricter: None, make: |p, s| signed(p, s).replace("1760000000", "1760000001") },
    Harm { name: "another message", stricter: None, make: |p, s| signed(p, s).replace("\n\nchange", "\n\nchanges") },
    Harm { name: "a line feed more", stricter: None, make: |p, s| format!("{}\n", signed(p, s)) },
    Harm {
        name: "a parent more",
        stricter: None,
        make: |p, s| {
            let commit = signed(p, s);
            let parent = commit.lines().find(|line| line.starts_with("parent ")).unwrap();
            commit.replace(parent, &format!("{parent}\nparent 4b825dc642cb6eb9a060e54bf8d69288fbee4904"))
        },
    },
    Harm {
        name: "another header",
        stricter: None,
        make: |p, s| signed(p, s).replacen("gpgsig", "encoding x\ngpgsig", 1),
    },
    Harm { name: "the armour cut", stricter: None, make: |p, s| signed(p, &s[..s.len() / 2]) },
    Harm {
        name: "a line of the armour missing",
        stricter: None,
        make: |p, s| {
            let lines: Vec<&str> = s.lines().collect();
            let (half, all) = (lines.len() / 2, lines.len());
            signed(p, &[&lines[..half], &lines[half + 1..all]].concat().join("\n"))
        },
    },
    Harm { name: "no armour", stricter: None, make: |p, s| signed(p, s.lines().nth(1).unwrap()) },
    Harm { name: "an empty signature", stricter: None, make: |p, _| signed(p, "") },
    Harm {
        name: "bytes after the armour",
        stricter: Some("anybody can add them, and each makes another commit"),
        make: |p, s| signed(p, &format!("{}\nmore\n", s.trim_end())),
    },
    Harm {
        name: "the signature twice in one header",
        stricter: Some("one header, one signature"),
        make: |p, s| signed(p, &format!("{s}{s}")),
    },
    Harm {
        name: "the header twice",
        stricter: Some("git joins them, and anybody can add one"),
        make: |p, s| signed(p, s).replacen("gpgsig", &format!("{}gpgsig", header("gpgsig", s)), 1),
    },
    Harm {
        name: "a gpgsig-sha256 header",
        stricter: Some("no signature covers it, and anybody can add one"),
        make: |p, s| signed(p, s).replacen("gpgsig", "gpgsig-sha256 x\ngpgsig", 1),
    },
    Harm {
        name: "an unknown gpgsig header",
        stricter: Some("git leaves it out of the signed bytes"),
        make: |p, s| signed(p, s).replacen("gpgsig", "gpgsigx y\ngpgsig", 1),
    },
    Harm {
        name: "carriage returns in the armour",
        stricter: Some("anybody can add them, and each makes another commit"),
        make: |p, s| signed(p, &s.replace('\n', "\r\n")),
    },
    Harm {
        name: "the header before the committer",
        stricter: Some("git never puts it there, and anybody can move it"),
        make: |p, s| {
            let (before, after) = p.split_once("committer").unwrap();
            format!("{before}{}committer{after}", header("gpgsig", s))
        },
    },
    Harm { name: "the header after the message", stricter: None, make: |p, s| format!("{p}{}", header("gpgsig", s)) },
    Harm { name: "no signature", stricter: None, make: |p, _| p.to_owned() },
];

/// The commit with another value in the first header of that name.
fn altered(commit: &str, name: &str, value: &str) -> String {
    let line = commit.lines().find(|line| line.starts_with(name)).unwrap();
    commit.replacen(line, &format!("{name}{value}"), 1)
}

/// Every kind of key: its name, who signs with it, a stranger of the same kind, the list, the OpenPGP keys.
struct Kind {
    name: &'static str,
    scribe: Scribe,
    stranger: Scribe,
    line: String,
    key: Option<String>,
}

fn tokens() -> [Token; 4] {
    let ecdsa = |byte: u8| Token::Ecdsa(Box::new(p256::ecdsa::SigningKey::from_slice(&[byte; 32]).unwrap()));
    let ed25519 = |byte: u8| Token::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(&[byte; 32])));
    [ed25519(1), ed25519(2), ecdsa(3), ecdsa(4)]
}

fn kinds(bench: &Bench) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for name in ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-3072"] {
        let (ours, theirs) = (format!("{name}-ours"), format!("{name}-theirs"));
        let line = format!("{name}@example.org {}\n", bench.key(&ours, name));
        bench.key(&theirs, name);
        kinds.push(Kind { name, scribe: Scribe::Ssh(ours), stranger: Scribe::Ssh(theirs), line, key: None });
    }
    let [one, other, third, fourth] = tokens();
    for (name, ours, theirs) in [("sk-ed25519", one, other), ("sk-ecdsa", third, fourth)] {
        let line = format!("{name}@example.org {}\n", ours.line());
        kinds.push(Kind { name, scribe: Scribe::Token(ours), stranger: Scribe::Token(theirs), line, key: None });
    }
    for (name, kind, authority) in [
        ("certificate-ed25519", "ed25519", "ecdsa-256"),
        ("certificate-ecdsa", "ecdsa-384", "rsa-3072"),
        ("certificate-rsa", "rsa-3072", "ed25519"),
    ] {
        for who in ["ours", "theirs"] {
            bench.key(&format!("{name}-ca-{who}"), authority);
            bench.key(&format!("{name}-{who}"), kind);
            certify(bench, &format!("{name}-ca-{who}"), &format!("{name}-{who}"), &[]);
        }
        let file = |who: &str| Scribe::Ssh(format!("{name}-{who}-cert.pub"));
        let line = format!("*@example.org cert-authority {}\n", bench.public(&format!("{name}-ca-ours")));
        kinds.push(Kind { name, scribe: file("ours"), stranger: file("theirs"), line, key: None });
    }
    for (name, algorithm) in [("openpgp-ed25519", "ed25519"), ("openpgp-rsa", "rsa3072")] {
        let ours = bench.gpg_key(&format!("{algorithm}ours"), algorithm, "sign", "never");
        let theirs = bench.gpg_key(&format!("{algorithm}theirs"), algorithm, "sign", "never");
        let key = Some(bench.exported(&[&ours]));
        let gpg = |key| Scribe::Gpg(key, vec![]);
        kinds.push(Kind { name, scribe: gpg(ours), stranger: gpg(theirs), line: String::new(), key });
    }
    let with_subkey = |name: &str| {
        let key = bench.gpg_key(name, "ed25519", "cert", "never");
        let add = ["--faked-system-time", "20240101T000000!", "--quick-add-key", &key, "ed25519", "sign", "never"];
        bench.gpg("operators", &add, None);
        key
    };
    let (ours, theirs) = (with_subkey("subkeyours"), with_subkey("subkeytheirs"));
    let key = Some(bench.exported(&[&ours]));
    let gpg = |key| Scribe::Gpg(key, vec![]);
    kinds.push(Kind { name: "openpgp-subkey", scribe: gpg(ours), stranger: gpg(theirs), line: String::new(), key });
    kinds
}

fn certify(bench: &Bench, authority: &str, key: &str, more: &[&str]) {
    let (authority, file) = (format!("keys/{authority}"), format!("keys/{key}.pub"));
    let mut arguments = vec!["-q", "-s", &authority, "-I", key];
    let usual = ["-n", "alice@example.org", "-V", "20250101000000:20300101000000"];
    arguments.extend(if more.is_empty() { &usual[..] } else { more });
    arguments.push(&file);
    bench.ssh_keygen(&arguments, None);
}

#[test]
fn t9_every_kind_of_key_signs_and_no_harm_to_any_passes() {
    let bench = Bench::new();
    let kinds = kinds(&bench);
    let list: String = kinds.iter().map(|kind| kind.line.as_str()).collect();
    let keys: Vec<(&str, &str)> = kinds.iter().filter_map(|kind| Some((kind.name, kind.key.as_deref()?))).collect();
    let anchor = bench.anchor(&list, &keys);
    let payload = bench.payload(&anchor);
    let (mut wrong, mut laxer, mut count) = (Vec::new(), BTreeSet::new(), 0);
    for kind in &kinds {
        let signature = bench.sign(&kind.scribe, "git", payload.as_bytes());
        let (trust, git) = bench.judged(&anchor, &signed(&payload, &signature));
        if trust.is_err() || !git {
            wrong.push(format!("{}: a good signature: trust {trust:?}, git {git}", kind.name));
        }
        let stranger = bench.sign(&kind.stranger, "git", payload.as_bytes());
        let (trust, git) = bench.judged(&anchor, &signed(&payload, &stranger));
        if trust != Err("signer-unknown") || git {
            wrong.push(format!("{}: a stranger's signature: trust {trust:?}, git {git}", kind.name));
        }
        for harm in HARMS {
            let (trust, git) = bench.judged(&anchor, &(harm.make)(&payload, &signature));
            count += 1;
            if git {
                laxer.insert(harm.name);
            }
            if trust.is_ok() || git && harm.stricter.is_none() {
                wrong.push(format!("{}: {}: trust {trust:?}, git {git}", kind.name, harm.name));
            }
        }
        if !matches!(kind.scribe, Scribe::Gpg(..)) {
            let other = bench.sign(&kind.scribe, "file", payload.as_bytes());
            let (trust, git) = bench.judged(&anchor, &signed(&payload, &other));
            if trust != Err("signature-bad") || git {
                wrong.push(format!("{}: another namespace: trust {trust:?}, git {git}", kind.name));
            }
        }
    }
    for harm in HARMS.iter().filter(|harm| harm.stricter.is_some() && !laxer.contains(harm.name)) {
        wrong.push(format!("{}: git refuses it too, for every kind of key", harm.name));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} kinds of keys, {count} harmed commits; git accepts some of: {laxer:?}", kinds.len());
}

/// A repository with one list, and who signs the commit on top.
struct Case {
    name: &'static str,
    trust: Result<(), &'static str>,
    git: bool,
    /// The list, OpenPGP keys, and the signature over a payload.
    make: fn(&Bench) -> (String, Vec<(&'static str, String)>, Scribe),
}

const CASES: &[Case] = &[
    Case {
        name: "an RSA key of 2048 bits: too short to last",
        trust: Err("signature-unsupported"),
        git: true,
        make: |b| (format!("a {}\n{}", b.key("rsa", "rsa-2048"), other(b)), vec![], Scribe::Ssh("rsa".into())),
    },
    Case { name: "a certificate", trust: Ok(()), git: true, make: |b| certified(b, "*@example.org", &[]) },
    Case {
        name: "a certificate for others than the list lets the authority certify",
        trust: Err("signer-limited"),
        git: false,
        make: |b| certified(b, "*@example.com", &[]),
    },
    Case {
        name: "a certificate whose principal the list excludes",
        trust: Err("signer-limited"),
        git: false,
        make: |b| certified(b, "*@example.org,!alice@example.org", &[]),
    },
    Case {
        name: "a certificate without principals",
        trust: Err("signature-bad"),
        git: false,
        make: |b| certified(b, "*@example.org", &["-V", "20250101000000:20300101000000"]),
    },
    Case {
        name: "a certificate whose time is over",
        trust: Err("signer-limited"),
        git: false,
        make: |b| certified(b, "*", &["-n", "alice@example.org", "-V", "20240101000000:20250101000000"]),
    },
    Case {
        name: "a certificate whose time ends with the second of the commit",
        trust: Err("signer-limited"),
        git: false,
        make: |b| certified(b, "*", &["-n", "alice@example.org", "-V", "20240101000000:20251009085320"]),
    },
    Case {
        name: "a certificate whose time begins with the second of the commit",
        trust: Ok(()),
        git: true,
        make: |b| certified(b, "*", &["-n", "alice@example.org", "-V", "20251009085320:20300101000000"]),
    },
    Case {
        name: "a certificate whose time has not begun",
        trust: Err("signer-limited"),
        git: false,
        make: |b| certified(b, "*", &["-n", "alice@example.org", "-V", "20251009085321:20300101000000"]),
    },
    Case {
        name: "a certificate for a host",
        trust: Err("signature-bad"),
        git: false,
        make: |b| certified(b, "*", &["-h", "-n", "alice@example.org"]),
    },
    Case {
        name: "a certificate with a critical option: whoever does not know it must refuse it",
        trust: Err("signature-bad"),
        git: true,
        make: |b| certified(b, "*", &["-n", "alice@example.org", "-O", "critical:x@example.org=y"]),
    },
    Case {
        name: "a certificate that limits what a login may do: not known for signing, so refused",
        trust: Err("signature-bad"),
        git: true,
        make: |b| certified(b, "*", &["-n", "alice@example.org", "-O", "force-command=true"]),
    },
    Case {
        name: "an authority in a namespace",
        trust: Err("signer-limited"),
        git: false,
        make: |b| {
            let (list, keys, scribe) = certified(b, "*", &[]);
            let list = list.replace("cert-authority", "cert-authority,namespaces=\"file\"");
            (format!("{list}{}", other(b)), keys, scribe)
        },
    },
    Case {
        name: "a key with a certificate, where the list has the bare key",
        trust: Err("signer-unknown"),
        git: false,
        make: |b| {
            let (_, keys, scribe) = certified(b, "*", &[]);
            (format!("alice@example.org {}\n", b.public("alice")), keys, scribe)
        },
    },
    Case {
        name: "a bare key, where the list has its authority",
        trust: Err("signer-unknown"),
        git: false,
        make: |b| {
            let (list, keys, _) = certified(b, "*", &[]);
            (list, keys, Scribe::Ssh("alice".into()))
        },
    },
    Case {
        name: "an OpenPGP key whose time is over",
        trust: Err("signer-limited"),
        git: false,
        make: |b| {
            let key = b.gpg_key("late", "ed25519", "sign", "2025-01-01");
            let then = vec!["--faked-system-time", "20240601T000000!"];
            (other(b), vec![("late", b.exported(&[&key]))], Scribe::Gpg(key, then))
        },
    },
    Case {
        name: "an OpenPGP key that was revoked",
        trust: Err("signer-limited"),
        git: false,
        make: |b| {
            let key = b.gpg_key("gone", "ed25519", "sign", "never");
            let file = b.repository.path(&format!("operators/openpgp-revocs.d/{key}.rev"));
            let revocation = std::fs::read_to_string(file).unwrap().replace(":-----BEGIN", "-----BEGIN");
            // Only the list learns of it: the thief goes on.
            let exported = b.exported(&[&key]);
            b.gpg("checker", &["--import"], Some(exported.as_bytes()));
            b.gpg("checker", &["--import"], Some(revocation.as_bytes()));
            let revoked = b.gpg("checker", &["--armor", "--export", &key], None);
            (other(b), vec![("gone", String::from_utf8(revoked).unwrap())], Scribe::Gpg(key, vec![]))
        },
    },
    Case {
        name: "an OpenPGP key of 2048 bits: too short to last",
        trust: Err("signer-limited"),
        git: true,
        make: |b| pgp(b, "rsa2048", vec![]),
    },
    Case {
        name: "an OpenPGP key of another algorithm: no more of them than are needed",
        trust: Err("signer-limited"),
        git: true,
        make: |b| pgp(b, "nistp256", vec![]),
    },
    Case {
        name: "an OpenPGP signature with SHA-1, which is broken",
        trust: Err("signature-bad"),
        git: true,
        make: |b| pgp(b, "rsa3072", vec!["--digest-algo", "SHA1"]),
    },
    Case {
        name: "an OpenPGP signature over text, which leaves line ends open",
        trust: Err("signature-bad"),
        git: true,
        make: |b| pgp(b, "ed25519", vec!["--textmode"]),
    },
    Case {
        name: "an OpenPGP signature that ends",
        trust: Err("signature-bad"),
        git: true,
        make: |b| pgp(b, "ed25519", vec!["--default-sig-expire", "2099-01-01"]),
    },
    Case {
        name: "an OpenPGP signature with a condition that nobody knows",
        trust: Err("signature-bad"),
        git: false,
        make: |b| pgp(b, "ed25519", vec!["--sig-notation", "!x@example.org=y"]),
    },
    Case {
        name: "an OpenPGP signature with a remark",
        trust: Ok(()),
        git: true,
        make: |b| pgp(b, "ed25519", vec!["--sig-notation", "x@example.org=y"]),
    },
    Case {
        name: "an OpenPGP key, two in one file",
        trust: Ok(()),
        git: true,
        make: |b| {
            let (one, two) =
                (b.gpg_key("one", "ed25519", "sign", "never"), b.gpg_key("two", "ed25519", "sign", "never"));
            (other(b), vec![("both", b.exported(&[&one, &two]))], Scribe::Gpg(two, vec![]))
        },
    },
    Case {
        name: "an OpenPGP key alone, without any SSH key",
        trust: Ok(()),
        git: true,
        make: |b| {
            let (_, keys, scribe) = pgp(b, "ed25519", vec![]);
            ("# see *.asc\n".to_owned(), keys, scribe)
        },
    },
    Case {
        name: "two OpenPGP blocks in one file: a reader would stop after the first",
        trust: Err("signers-invalid"),
        git: true,
        make: |b| {
            let (list, mut keys, scribe) = pgp(b, "ed25519", vec![]);
            keys[0].1 = format!("{0}{0}", keys[0].1);
            (list, keys, scribe)
        },
    },
];

fn other(bench: &Bench) -> String {
    format!("other@example.org {}\n", bench.key("other", "ed25519"))
}

fn pgp(bench: &Bench, algorithm: &str, more: Vec<&'static str>) -> (String, Vec<(&'static str, String)>, Scribe) {
    let key = bench.gpg_key("somebody", algorithm, "sign", "never");
    (other(bench), vec![("somebody", bench.exported(&[&key]))], Scribe::Gpg(key, more))
}

fn certified(bench: &Bench, principals: &str, more: &[&str]) -> (String, Vec<(&'static str, String)>, Scribe) {
    let authority = bench.key("authority", "ed25519");
    bench.key("alice", "ed25519");
    certify(bench, "authority", "alice", more);
    (format!("{principals} cert-authority {authority}\n"), vec![], Scribe::Ssh("alice-cert.pub".into()))
}

#[test]
fn t7_what_excludes_a_key_excludes_it_here_as_it_does_for_git_or_more() {
    let mut wrong = Vec::new();
    for case in CASES {
        let bench = Bench::new();
        let (list, keys, scribe) = (case.make)(&bench);
        let keys: Vec<(&str, &str)> = keys.iter().map(|(name, key)| (*name, key.as_str())).collect();
        let anchor = bench.anchor(&list, &keys);
        let payload = bench.payload(&anchor);
        let signature = bench.sign(&scribe, "git", payload.as_bytes());
        let judged = bench.judged(&anchor, &signed(&payload, &signature));
        if judged != (case.trust, case.git) {
            wrong.push(format!("{}: trust {:?}, git {}", case.name, judged.0, judged.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_security_key_that_nobody_touched_signs_nothing() {
    let bench = Bench::new();
    let [one, _, two, _] = tokens();
    for token in [one, two] {
        let anchor = bench.anchor(&format!("alice {}\n", token.line()), &[]);
        let payload = bench.payload(&anchor);
        for (flags, expected) in [(1, Ok(())), (5, Ok(())), (0, Err("signature-bad")), (4, Err("signature-bad"))] {
            let commit = signed(&payload, &token.sign("git", payload.as_bytes(), flags));
            // ssh-keygen accepts them all: it leaves it to the server that somebody logs into.
            assert_eq!(bench.judged(&anchor, &commit), (expected, true), "{} with flags {flags}", token.kind());
        }
    }
}

#[test]
fn rsa_signatures_with_sha_1_are_refused() {
    let bench = Bench::new();
    let line = bench.key("rsa", "rsa-3072");
    let anchor = bench.anchor(&format!("alice {line}\n"), &[]);
    let payload = bench.payload(&anchor);
    let good = bench.sign(&Scribe::Ssh("rsa".into()), "git", payload.as_bytes());
    assert_eq!(bench.judged(&anchor, &signed(&payload, &good)), (Ok(()), true));
    // The name is what says SHA-1; the bytes need not even be changed for a reader that would fall for it.
    let text: String = good.lines().filter(|line| !line.starts_with('-')).collect();
    let blob = STANDARD.decode(text).unwrap();
    let named = b"rsa-sha2-512";
    let at = blob.windows(named.len()).position(|window| window == named).unwrap();
    let old = u32::from_be_bytes(blob[at - 8..at - 4].try_into().unwrap());
    let name = fields(&[b"ssh-rsa"]);
    let less = u32::try_from(named.len() + 4 - name.len()).unwrap();
    let changed = [&blob[..at - 8], &(old - less).to_be_bytes(), &name, &blob[at + named.len()..]].concat();
    let armoured =
        format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", STANDARD.encode(changed));
    assert_eq!(bench.judged(&anchor, &signed(&payload, &armoured)), (Err("signature-bad"), false));
}

#[test]
fn a_forge_s_key_is_shown_as_one() {
    let bench = Bench::new();
    let key = bench.gpg_key("webflow", "rsa3072", "sign", "never");
    let forge = bench.key("forge", "ed25519");
    let list = format!("forge:codeberg,bot {forge}\n{}", other(&bench));
    let anchor = bench.anchor(&list, &[("forge-github", &bench.exported(&[&key]))]);
    let payload = bench.payload(&anchor);
    for (scribe, principal, warrant) in [
        (Scribe::Gpg(key, vec![]), "forge-github", Warrant::Forge),
        (Scribe::Ssh("forge".into()), "forge:codeberg,bot", Warrant::Forge),
        (Scribe::Ssh("other".into()), "other@example.org", Warrant::Signer),
    ] {
        let commit = signed(&payload, &bench.sign(&scribe, "git", payload.as_bytes()));
        let tip: Revision = "9f2c1e07aa00bb11cc22dd33ee44ff5566778899".parse().unwrap();
        let mut history = bench.repository.history(&anchor);
        history.commits.insert(0, RawCommit { revision: tip.clone(), bytes: commit.into_bytes() });
        let files = history.signers[&anchor].clone();
        history.signers.insert(tip.clone(), files);
        history.tip = tip;
        let verified = verify(&history, Anchor::Known { newest: &anchor, first: &anchor }, b"").unwrap();
        let signer = verified.signer().unwrap();
        assert_eq!((signer.principal.as_str(), signer.warrant()), (principal, warrant));
    }
}

#[test]
fn a_detached_signature_is_judged_as_ssh_keygen_judges_it() {
    let bench = Bench::new();
    let content = b"follow: main\n";
    let space = "moorline-ring@v1";
    let line = format!("alice,ring:production namespaces=\"{space}\" {}\n", bench.key("alice", "ecdsa-521"));
    std::fs::write(bench.repository.path("list"), &line).unwrap();
    let signers = AllowedSigners::parse(line.as_bytes()).unwrap();
    for (namespace, principal, good) in
        [(space, "ring:production", true), (space, "ring:canary", false), ("git", "ring:production", false)]
    {
        let text = bench.sign(&Scribe::Ssh("alice".into()), namespace, content);
        std::fs::write(bench.repository.path("signature"), &text).unwrap();
        let mut command = bench.repository.command("ssh-keygen");
        command.args(["-Y", "verify", "-f", "list", "-I", principal, "-n", space, "-s", "signature"]);
        let theirs = bench.repository.run(&mut command, Some(content)).status.success();
        let at = Times::at(1_760_000_000);
        let ours = signer_of_detached(text.as_bytes(), content, space, principal, &signers, at);
        assert_eq!((ours.is_ok(), theirs), (good, good), "{namespace} {principal}: {ours:?}");
        let changed = signer_of_detached(text.as_bytes(), b"follow: evil\n", space, principal, &signers, at);
        assert!(matches!(changed, Err(DetachedFlaw::Signature(_))));
        if let Err(DetachedFlaw::Limited { signer, limit }) = ours {
            assert_eq!(signer.principal, "alice,ring:production");
            assert!(matches!(limit, Limit::Principal(_)));
        }
    }
}

/// The whole path: commits by keys of every kind, in turns, and the time scaled up to 5,000.
#[test]
fn five_thousand_commits_by_keys_of_every_kind_are_verified_in_seconds() {
    const ROUNDS: usize = 10;
    let bench = Bench::new();
    let kinds = kinds(&bench);
    let list: String = kinds.iter().map(|kind| kind.line.as_str()).collect();
    let keys = kinds.iter().filter_map(|kind| Some((format!("{}.asc", kind.name), kind.key.clone()?.into_bytes())));
    let files = Arc::new(SignerFiles { allowed_signers: Some(list.into_bytes()), keys: keys.collect() });
    let name = |number: usize| format!("{number:040x}").parse::<Revision>().unwrap();
    let payload = |number: usize| {
        let parent = if number == 0 { String::new() } else { format!("parent {}\n", name(number - 1)) };
        let (tree, at) = ("4b825dc642cb6eb9a060e54bf8d69288fbee4904", NOW);
        format!("tree {tree}\n{parent}author A <a@b> {at} +0000\ncommitter C <c@d> {at} +0000\n\nchange {number}\n")
    };
    let mut commits = vec![RawCommit { revision: name(0), bytes: payload(0).into_bytes() }];
    for kind in (0..ROUNDS).flat_map(|_| &kinds) {
        let payload = payload(commits.len());
        let bytes = signed(&payload, &bench.sign(&kind.scribe, "git", payload.as_bytes())).into_bytes();
        commits.insert(0, RawCommit { revision: name(commits.len()), bytes });
    }
    let count = commits.len() - 1;
    let signers = (0..=count).map(|number| (name(number), Arc::clone(&files))).collect();
    let history = History { tip: name(count), commits, signers };
    let first = name(0);
    let before = Instant::now();
    let verified = verify(&history, Anchor::Known { newest: &first, first: &first }, b"").unwrap();
    let took = before.elapsed();
    assert_eq!(verified.range().len(), count);
    let scaled = took * 5_000 / u32::try_from(count).unwrap();
    println!("{count} commits by {} kinds of keys in {took:?}: 5,000 in {scaled:?}", kinds.len());
    // Not a measurement: nothing is optimized here, and every 13th commit has a P-521 key, the slowest of all.
    assert!(scaled < Duration::from_secs(60), "{scaled:?}");
}
