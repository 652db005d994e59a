use super::super::commit::CommitFlaw;
use super::*;

fn name(number: u64) -> Revision {
    format!("{number:040x}").parse().unwrap()
}

/// A commit that nobody signed, with its number as its date: this module looks at no signature.
fn commit(number: u64, parents: &[u64]) -> RawCommit {
    let above: String = parents.iter().map(|parent| format!("parent {}\n", name(*parent))).collect();
    let tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    let text = format!("tree {tree}\n{above}author A <a@b> 1 +0000\ncommitter C <c@d> {number} +0000\n\nmessage\n");
    RawCommit { revision: name(number), bytes: text.into_bytes() }
}

/// The commits 5 to 1, of which 1 is the root.
fn history() -> History {
    let commits = [commit(5, &[4]), commit(4, &[3]), commit(3, &[2]), commit(2, &[1]), commit(1, &[])];
    History { tip: name(5), commits: commits.into(), signers: BTreeMap::new() }
}

fn unverified(path: &Path<'_>) -> Vec<Revision> {
    path.unverified.iter().map(|(revision, _)| (*revision).clone()).collect()
}

fn accepted(path: &Path<'_>) -> Vec<Revision> {
    path.accepted.keys().cloned().collect()
}

#[test]
fn above_a_known_anchor_all_need_a_signature_and_below_it_none() {
    let (history, newest, first) = (history(), name(3), name(2));
    let path = Path::read(&history, Anchor::Known { newest: &newest, first: &first }).unwrap();
    assert_eq!((path.anchor, path.anchored_at, path.first), (Some(&newest), 3, &first));
    assert_eq!(unverified(&path), [name(5), name(4)]);
    assert_eq!(accepted(&path), [name(2), name(3), name(4), name(5)]);
}

#[test]
fn a_named_anchor_needs_a_signature_itself_and_nothing_below_it_is_accepted() {
    let (history, named) = (history(), name(3));
    let path = Path::read(&history, Anchor::Named(&named)).unwrap();
    assert_eq!((path.anchor, path.anchored_at, path.first), (None, 0, &named));
    assert_eq!(unverified(&path), [name(5), name(4), name(3)]);
    assert_eq!(accepted(&path), [name(3), name(4), name(5)]);
}

#[test]
fn from_the_root_all_need_a_signature_and_the_root_must_be_there() {
    let mut history = history();
    let path = Path::read(&history, Anchor::Root).unwrap();
    assert_eq!((path.anchor, path.anchored_at, path.first), (None, 0, &name(1)));
    assert_eq!((unverified(&path).len(), accepted(&path).len()), (5, 5));
    history.commits.pop();
    let refusal = Path::read(&history, Anchor::Root).map(|_| ()).unwrap_err();
    assert!(matches!(refusal, Refusal::HistoryIncomplete { .. }), "{refusal}");
}

#[test]
fn an_anchor_that_is_not_on_the_path_says_how_it_was_lost() {
    let (mut history, lost) = (history(), name(9));
    let known = Anchor::Known { newest: &lost, first: &lost };
    let refused = |history: &History, anchor| Path::read(history, anchor).map(|_| ()).unwrap_err();
    let rewound = |merged_by| Refusal::HistoryRewound { tip: name(5), anchor: name(9), merged_by };
    assert_eq!(refused(&history, known), rewound(None));
    assert_eq!(refused(&history, Anchor::Named(&lost)), Refusal::AnchorUnknown { tip: name(5), anchor: name(9) });
    // The third commit merges it, the wrong way round; the second one merges something else.
    history.commits[1] = commit(4, &[3, 8]);
    history.commits[2] = commit(3, &[2, 9]);
    assert_eq!(refused(&history, known), rewound(Some(name(3))));
    // A commit that cannot be read ends the path: the anchor may lie behind it.
    history.commits.last_mut().unwrap().bytes = b"nonsense".to_vec();
    let malformed = Refusal::CommitMalformed { revision: name(1), flaw: CommitFlaw::Header("tree") };
    assert_eq!(refused(&history, known), malformed);
    assert_eq!(refused(&history, Anchor::Named(&lost)), malformed);
}
