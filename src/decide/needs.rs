//! Reads which stacks need which others, and puts them into an order in which each comes after what it needs.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::mistake::{Mistake, line_of, meant};
use crate::model::host::StackSource;
use crate::model::tree::Tree;

/// `needs` in `host.yaml`: the stacks that must work before each stack is touched.
pub type Needs = BTreeMap<String, Vec<String>>;

/// The stacks in the order of `host.yaml`, but each after those that it needs.
pub fn in_order(
    stacks: Vec<StackSource>,
    needs: &Needs,
    tree: &Tree,
    path: &str,
    mistakes: &mut Vec<Mistake>,
) -> Vec<StackSource> {
    let known: Vec<&str> = stacks.iter().map(|stack| stack.name.as_str()).collect();
    let before = mistakes.len();
    for (stack, needed) in needs {
        for name in std::iter::once(stack).chain(needed).filter(|name| !known.contains(&name.as_str())) {
            let text = format!("needs: `{name}` is not a stack of this host{}", meant(name, &known));
            mistakes.push(Mistake::at(path, line_of(tree, path, name), text));
        }
    }
    if mistakes.len() > before {
        return stacks;
    }
    let mut waiting = stacks;
    let mut ordered: Vec<StackSource> = Vec::new();
    let mut done = BTreeSet::new();
    while let Some(next) = waiting.iter().position(|stack| is_ready(&stack.name, needs, &done)) {
        let stack = waiting.remove(next);
        done.insert(stack.name.clone());
        ordered.push(stack);
    }
    if !waiting.is_empty() {
        let names: Vec<&str> = waiting.iter().map(|stack| stack.name.as_str()).collect();
        let text = format!("needs: {} wait for one another, so none of them could ever begin", names.join(", "));
        mistakes.push(Mistake::at(path, line_of(tree, path, "needs"), text));
    }
    ordered.extend(waiting);
    ordered
}

fn is_ready(stack: &str, needs: &Needs, done: &BTreeSet<String>) -> bool {
    needs.get(stack).is_none_or(|needed| needed.iter().all(|name| done.contains(name)))
}

/// Why a stack is not touched in this run: something that it needs did not work. `ended` says why, by stack.
pub fn hindrance(stack: &str, needs: &Needs, ended: &BTreeMap<String, String>) -> Option<String> {
    let needed = needs.get(stack).into_iter().flatten();
    let failed = needed.filter_map(|name| Some((name, ended.get(name)?)));
    failed.map(|(name, why)| format!("it needs {name}: {why}")).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(stacks: &[&str], needs: &[(&str, &[&str])]) -> (Vec<String>, Vec<String>) {
        let stack = |name: &&str| StackSource { name: (*name).to_owned(), files: BTreeMap::new() };
        let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let needs = needs.iter().map(|(name, needed)| ((*name).to_owned(), text(needed))).collect();
        let mut mistakes = Vec::new();
        let stacks = stacks.iter().map(stack).collect();
        let ordered = in_order(stacks, &needs, &Tree::default(), "host.yaml", &mut mistakes);
        let names = ordered.into_iter().map(|stack| stack.name).collect();
        (names, mistakes.into_iter().map(|mistake| mistake.to_string()).collect())
    }

    #[test]
    fn each_stack_comes_after_what_it_needs_and_otherwise_as_listed() {
        let (names, mistakes) = order(&["c", "a", "b", "d"], &[("c", &["d"]), ("a", &["b"])]);
        assert_eq!(names, ["b", "a", "d", "c"]);
        assert!(mistakes.is_empty());
    }

    #[test]
    fn circles_and_unknown_names_are_mistakes() {
        let (names, mistakes) = order(&["a", "b", "c"], &[("a", &["b"]), ("b", &["a"])]);
        assert_eq!((names.len(), mistakes.len()), (3, 1));
        assert!(mistakes[0].contains("a, b wait for one another"), "{mistakes:?}");
        assert!(order(&["a"], &[("a", &["a"])]).1[0].contains("a wait for"));
        let (_, mistakes) = order(&["web", "db"], &[("web", &["bd", "db"]), ("wbe", &[])]);
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    }

    #[test]
    fn what_needs_something_that_failed_is_told_why() {
        let needs = [("web".to_owned(), vec!["db".to_owned(), "edge".to_owned()])].into();
        let ended = [("edge".to_owned(), "gate of edge failed".to_owned())].into();
        assert_eq!(hindrance("web", &needs, &ended).unwrap(), "it needs edge: gate of edge failed");
        assert_eq!(hindrance("db", &needs, &ended), None);
    }
}
