use std::sync::Arc;

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAqMGNY0/5D9+wL789Kkc6vb9SDM1v5AlvuTQRaI3ba";

fn name(number: u64) -> Revision {
    format!("{number:040x}").parse().unwrap()
}

fn files(list: &str) -> SignerFiles {
    SignerFiles::of_list(Some(list.as_bytes().to_vec()))
}

fn history(lists: &[SignerFiles]) -> History {
    let signers = (1..).map(name).zip(lists.iter().cloned().map(Arc::new)).collect();
    History { tip: name(9), commits: vec![], signers }
}

#[test]
fn the_list_that_counts_is_the_one_of_the_commit_before() {
    let (alice, bob) = (files(&format!("alice {KEY}")), files(&format!("bob {KEY}")));
    let history = history(&[alice.clone(), alice, bob]);
    let read = |allowed: &Allowed<'_>| (allowed.list.clone(), allowed.signers.entries()[0].principals.clone());
    let first = Allowed::by_commit(&history, &name(1)).unwrap();
    assert_eq!(read(&first), (SignersOf::Commit(name(1)), "alice".to_owned()));
    let second = first.followed_by(&history, &name(2)).unwrap();
    assert_eq!(read(&second), (SignersOf::Commit(name(2)), "alice".to_owned()));
    let third = second.followed_by(&history, &name(3)).unwrap();
    assert_eq!(read(&third), (SignersOf::Commit(name(3)), "bob".to_owned()));
}

#[test]
fn a_list_that_is_not_there_was_not_read_or_allows_nobody_ends_the_history() {
    let history = history(&[SignerFiles::of_list(None), files("# nobody")]);
    let refusal = |number| Allowed::by_commit(&history, &name(number)).map(|_| ()).unwrap_err();
    assert_eq!(refusal(1), Refusal::SignersMissing { revision: name(1) });
    let flaw = SignersFlaw::Nobody(vec![]);
    assert_eq!(refusal(2), Refusal::SignersInvalid { list: SignersOf::Commit(name(2)), flaw });
    assert_eq!(refusal(3).code(), "history-incomplete");
}

#[test]
fn signatures_of_other_kinds_are_told_apart_from_bad_ones() {
    let files = files(&format!("alice {KEY}"));
    let allowed = Allowed::by_host(&files).unwrap();
    let code = |signature: &str| {
        let payload = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@b> 1 +0000\n\
            committer C <c@d> 1 +0000\n\nmessage\n";
        let mut commit = Commit::parse(payload).unwrap();
        commit.signed = Some(SignedPart { signature: signature.into(), payload: payload.to_vec() });
        let refusal = allowed.signer_of(&name(1), &commit, 0).unwrap_err();
        (refusal.code(), refusal.to_string())
    };
    for (signature, expected, words) in [
        (
            "-----BEGIN PGP MESSAGE-----\n",
            "signature-unsupported",
            "an OpenPGP message that is not a detached signature",
        ),
        ("-----BEGIN SIGNED MESSAGE-----\n", "signature-unsupported", "X.509"),
        ("-----BEGIN PGP SIGNATURE-----\n", "signature-bad", "it is not one armoured OpenPGP signature"),
        ("nonsense", "signature-bad", "it is not an armoured SSH signature"),
    ] {
        let (code, text) = code(signature);
        assert!(code == expected && text.ends_with(words), "{signature}: {code}: {text}");
    }
}
