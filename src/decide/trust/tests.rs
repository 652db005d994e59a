use super::*;

#[test]
fn a_forge_is_known_by_its_principal_and_nobody_else_is_taken_for_one() {
    let warrant = |principal: &str| Signer::named(principal, String::new()).warrant();
    for forge in ["forge", "forge:codeberg", "forge-github", "alice,forge", "forge:codeberg,bot"] {
        assert_eq!(warrant(forge), Warrant::Forge, "{forge}");
    }
    for person in ["alice", "forger", "alice@forge", "", "alice:forge,bob-forge"] {
        assert_eq!(warrant(person), Warrant::Signer, "{person}");
    }
}

#[test]
fn files_of_signers_are_as_large_as_all_of_them() {
    let mut files = SignerFiles::of_list(Some(vec![0; 10]));
    assert_eq!(files.size(), 10);
    files.keys.insert("a.asc".into(), vec![0; 200]);
    files.keys.insert("b.asc".into(), vec![0; 3_000]);
    assert_eq!(files.size(), 3_210);
    assert_eq!(SignerFiles::of_list(None).size(), 0);
    assert_eq!(SignerFiles::LARGEST, 65_536);
}

#[test]
fn the_files_of_a_verified_tree_are_its_tree() {
    let tree: Tree = std::iter::once(("a".to_owned(), crate::model::File::plain("b"))).collect();
    let verified = VerifiedTree { revision: "0".repeat(40).parse().unwrap(), tree: tree.clone() };
    assert_eq!((verified.tree(), &*verified), (&tree, &tree));
}
