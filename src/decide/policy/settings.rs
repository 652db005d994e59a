//! Reads the exceptions in `moorline.yaml`, and collects every mistake with its place.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::decide::mistake::{Mistake, line_of, meant};
use crate::model::policy::{Allowance, Allowances, Exception, Rule};
use crate::model::tree::Tree;

const PATH: &str = "moorline.yaml";

/// `policy` in `moorline.yaml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    #[serde(default)]
    allow: BTreeMap<String, Vec<AllowanceFile>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowanceFile {
    rule: String,
    value: String,
    reason: String,
}

/// The exceptions by stack.
pub fn read(file: &PolicyFile, tree: &Tree, mistakes: &mut Vec<Mistake>) -> Allowances {
    let known = tree.directories_in("stacks");
    let known: Vec<&str> = known.into_iter().collect();
    let rules: Vec<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    let mut allowances = Allowances::new();
    for (stack, listed) in &file.allow {
        if !known.contains(&stack.as_str()) {
            let text = format!("policy.allow: there is no stack `{stack}`{}", meant(stack, &known));
            mistakes.push(Mistake::at(PATH, line_of(tree, PATH, stack), text));
        }
        for allowance in listed {
            let line = line_of(tree, PATH, &allowance.value).or_else(|| line_of(tree, PATH, stack));
            let mut mistake = |text: String| mistakes.push(Mistake::at(PATH, line, text));
            if allowance.reason.trim().trim_matches('.').is_empty() {
                mistake(format!("policy.allow.{stack}: `{}` needs a reason", allowance.value));
            }
            match Rule::of_name(&allowance.rule) {
                None => mistake(format!(
                    "policy.allow.{stack}: there is no rule `{}`{}",
                    allowance.rule,
                    meant(&allowance.rule, &rules)
                )),
                Some(rule) if rule.exception() == Exception::Never => {
                    mistake(format!("policy.allow.{stack}: there are no exceptions to rule `{}`", allowance.rule));
                }
                Some(rule) => {
                    let place = line.map_or_else(|| PATH.to_owned(), |line| format!("{PATH}:{line}"));
                    let allowance = Allowance { rule, value: allowance.value.clone(), place };
                    allowances.entry(stack.clone()).or_default().push(allowance);
                }
            }
        }
    }
    allowances
}
