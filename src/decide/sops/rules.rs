//! Which values of a file must be sealed: the rule in its metadata, applied to the path of a value.
//!
//! Says what has to be, not what is: a value that breaks its rule is refused by the one who opens the file.

use regex::bytes::Regex;

use super::document::Node;
use super::error::SopsError;
use super::go_regex;
use super::metadata::{bad, text};

/// The one rule of a file. SOPS refuses files that state two.
#[derive(Debug, Clone)]
pub(super) enum Rule {
    /// All but what lies below a key with this ending.
    AllButSuffix(String),
    /// Only what lies below a key with this ending.
    OnlySuffix(String),
    /// All but what lies below a key that matches.
    AllButMatching(Pattern),
    /// Only what lies below a key that matches.
    OnlyMatching(Pattern),
    /// What a comment marks. Decided by the form of each value: which comment belongs to which value depends
    /// on the YAML library, and the MAC covers a value in either form.
    ByComment,
}

/// What the rule says about one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    Sealed,
    Clear,
    Either,
}

/// A Go regular expression. One that Go cannot compile matches nothing, as in SOPS.
#[derive(Debug, Clone)]
pub(super) struct Pattern(Option<Regex>);

impl Pattern {
    fn new(field: &str, go: &str) -> Result<Self, SopsError> {
        let Some(translated) = go_regex::translate(go) else {
            return Ok(Self(None));
        };
        let built = regex::bytes::RegexBuilder::new(&translated).size_limit(1 << 20).nest_limit(100).build();
        match built {
            Ok(regex) => Ok(Self(Some(regex))),
            Err(regex::Error::CompiledTooBig(_)) => Err(bad(field, "is too large an expression")),
            Err(_) => Ok(Self(None)),
        }
    }

    fn matches(&self, key: &str) -> bool {
        self.0.as_ref().is_some_and(|regex| regex.is_match(key.as_bytes()))
    }
}

impl Rule {
    pub(super) fn read(sops: &Node) -> Result<Self, SopsError> {
        const FIELDS: [&str; 6] = [
            "unencrypted_suffix",
            "encrypted_suffix",
            "unencrypted_regex",
            "encrypted_regex",
            "unencrypted_comment_regex",
            "encrypted_comment_regex",
        ];
        let mut rules = Vec::new();
        for field in FIELDS {
            if let Some(text) = text(sops, field)? {
                rules.push((field, text));
            }
        }
        if rules.len() > 1 {
            return Err(bad(rules[1].0, "stands beside another rule"));
        }
        let Some((field, text)) = rules.pop() else {
            return Ok(Rule::AllButSuffix(String::from("_unencrypted")));
        };
        Ok(match field {
            "unencrypted_suffix" => Rule::AllButSuffix(text),
            "encrypted_suffix" => Rule::OnlySuffix(text),
            "unencrypted_regex" => Rule::AllButMatching(Pattern::new(field, &text)?),
            "encrypted_regex" => Rule::OnlyMatching(Pattern::new(field, &text)?),
            _ => Rule::ByComment,
        })
    }

    /// Whether this key names an exception (or, for an `Only` rule, the subject) for everything below it.
    pub(super) fn marks(&self, key: &str) -> bool {
        match self {
            Rule::AllButSuffix(suffix) | Rule::OnlySuffix(suffix) => key.ends_with(suffix.as_str()),
            Rule::AllButMatching(pattern) | Rule::OnlyMatching(pattern) => pattern.matches(key),
            Rule::ByComment => false,
        }
    }

    /// What has to be at a place, given whether any key that leads to it is marked.
    pub(super) fn demand(&self, marked: bool) -> Demand {
        let sealed = match self {
            Rule::AllButSuffix(_) | Rule::AllButMatching(_) => !marked,
            Rule::OnlySuffix(_) | Rule::OnlyMatching(_) => marked,
            Rule::ByComment => return Demand::Either,
        };
        if sealed { Demand::Sealed } else { Demand::Clear }
    }
}
