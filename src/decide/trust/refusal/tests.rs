use super::super::tree::TreeFault;
use super::*;

fn name(digit: char) -> Revision {
    String::from(digit).repeat(40).parse().unwrap()
}

/// Checks the code, the commit it is about, and how what lies behind it and the hint begin.
fn says(refusal: &Refusal, code: &str, about: Option<char>, because: &str, hint: &str) {
    assert_eq!((refusal.code(), refusal.revision()), (code, about.map(name).as_ref()));
    for (found, expected) in [(refusal.because(), because), (refusal.hint(), hint)] {
        match found {
            Some(found) => assert!(!expected.is_empty() && found.starts_with(expected), "{code}: {found}"),
            None => assert_eq!(expected, "", "{code}"),
        }
    }
}

#[test]
fn a_commit_that_is_not_signed_well_is_named_with_what_to_do() {
    let (revision, parent) = (name('1'), SignersOf::Commit(name('2')));
    let flaw = CommitFlaw::Nul;
    says(&Refusal::CommitMalformed { revision: revision.clone(), flaw }, "commit-malformed", Some('1'), "", "");
    let unsigned = |asked| Refusal::CommitUnsigned { revision: name('1'), asked };
    let every = "every commit after 22222222 needs";
    says(&unsigned(parent.clone()), "commit-unsigned", Some('1'), every, "sign it (`git rebase");
    let first = "the history is accepted from its first commit on";
    says(&unsigned(SignersOf::Host), "commit-unsigned", Some('1'), first, "every accepted commit is signed");
    let kind = "X.509".to_owned();
    let unsupported = Refusal::SignatureUnsupported { revision: revision.clone(), kind };
    says(&unsupported, "signature-unsupported", Some('1'), "", "sign with an ed25519 key");
    let bad = Refusal::SignatureBad { revision, flaw: SignatureFlaw::Wrong };
    says(&bad, "signature-bad", Some('1'), "", "");
}

#[test]
fn a_signer_that_may_not_is_named_with_the_list_that_was_asked() {
    let unknown = |fingerprint: &str, asked| {
        let fingerprint = fingerprint.to_owned();
        Refusal::SignerUnknown { revision: name('1'), fingerprint, asked }
    };
    let parent = SignersOf::Commit(name('2'));
    let add = "if they may deploy here, add their key to";
    let theirs = format!("{add} signers/allowed_signers in a commit");
    let here = format!("{add} /etc/moorline/allowed_signers");
    let list = "signers/allowed_signers of 22222222 does not list";
    says(&unknown("SHA256:x", parent.clone()), "signer-unknown", Some('1'), list, &theirs);
    says(&unknown("OpenPGP:x", parent.clone()), "signer-unknown", Some('1'), "no signers/*.asc of 22222222", &theirs);
    let host = "/etc/moorline/allowed_signers does not list";
    says(&unknown("SHA256:x", SignersOf::Host), "signer-unknown", Some('1'), host, &here);
    let signer = Box::new(Signer::named("alice", String::new()));
    let limited = Refusal::SignerLimited { revision: name('1'), signer, limit: Limit::Authority, asked: parent };
    let limit = "in signers/allowed_signers of 22222222, the key is a certificate authority's";
    says(&limited, "signer-limited", Some('1'), limit, "");
    let missing = Refusal::SignersMissing { revision: name('1') };
    says(&missing, "signers-missing", Some('1'), "", "every accepted commit is signed");
    let invalid = |list| Refusal::SignersInvalid { list, flaw: SignersFlaw::Nobody(vec![]) };
    says(&invalid(SignersOf::Host), "signers-invalid", None, "", "correct /etc/moorline/allowed_signers");
    says(
        &invalid(SignersOf::Commit(name('3'))),
        "signers-invalid",
        Some('3'),
        "",
        "correct signers/allowed_signers in",
    );
}

#[test]
fn a_history_that_does_not_go_on_is_named_with_a_way_back() {
    let rewound = |merged_by| Refusal::HistoryRewound { tip: name('1'), anchor: name('2'), merged_by };
    let forced = "the branch was force-pushed";
    says(&rewound(None), "history-rewound", Some('1'), forced, "restore the branch, or accept");
    let merged = "commit 33333333 has 22222222 as a later parent";
    says(&rewound(Some(name('3'))), "history-rewound", Some('1'), merged, "merge the other way round");
    let unknown = Refusal::AnchorUnknown { tip: name('1'), anchor: name('2') };
    says(&unknown, "anchor-unknown", Some('1'), "", "correct `anchor` in");
    let incomplete = Refusal::HistoryIncomplete { tip: name('1'), what: String::new() };
    says(&incomplete, "history-incomplete", Some('1'), "", "");
    let other = Refusal::RevisionNotAccepted { revision: name('1'), tip: name('2') };
    let path = "it is not on the first-parent path from 22222222";
    says(&other, "revision-not-accepted", Some('1'), path, "");
    let flaw = TreeFlaw { path: "a".into(), fault: TreeFault::Submodule };
    let tree = Refusal::TreeRefused { revision: name('1'), flaw };
    says(&tree, "tree-refused", Some('1'), "", "`moorline check` finds this");
}
