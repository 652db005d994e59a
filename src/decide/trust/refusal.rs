//! Every way in which trust says no: a stable code, one sentence about what was found, and what to do about it.
//!
//! The sentences never say what happened to the host; `decide::fault` adds that nothing was changed.

use super::Signer;
use super::commit::CommitFlaw;
use super::signers::{Limit, SignersFlaw};
use super::sshsig::SignatureFlaw;
use super::tree::TreeFlaw;
use crate::model::Revision;

/// Whose list of allowed signers was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignersOf {
    /// The root of trust on this host: `/etc/moorline/allowed_signers`.
    Host,
    /// `signers/allowed_signers` in the tree of this commit.
    Commit(Revision),
}

/// Why a history, or the tree of a revision, is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The commit is not one that git itself would have written, or it was altered around its signature.
    #[error("commit {} is malformed: {flaw}", .revision.short())]
    CommitMalformed {
        /// The commit.
        revision: Revision,
        /// What is wrong with it.
        flaw: CommitFlaw,
    },
    /// No signature at all.
    #[error("commit {} is not signed", .revision.short())]
    CommitUnsigned {
        /// The commit.
        revision: Revision,
        /// Who would have been allowed to sign it.
        asked: SignersOf,
    },
    /// A signature of a kind that is not verified here; it may well be genuine.
    #[error("commit {} has a signature of a kind that is not supported: {kind}", .revision.short())]
    SignatureUnsupported {
        /// The commit.
        revision: Revision,
        /// The kind, as its own standard calls it.
        kind: String,
    },
    /// A signature that does not fit the commit, or that is not a signature.
    #[error("commit {} has a bad signature: {flaw}", .revision.short())]
    SignatureBad {
        /// The commit.
        revision: Revision,
        /// What is wrong with it.
        flaw: SignatureFlaw,
    },
    /// The signature is genuine, the key is nobody's.
    #[error("commit {} is signed by {fingerprint}, which is not an allowed signer", .revision.short())]
    SignerUnknown {
        /// The commit.
        revision: Revision,
        /// The key that signed.
        fingerprint: String,
        /// Where it was looked for.
        asked: SignersOf,
    },
    /// The key is listed, but an option beside it excludes this commit.
    #[error("commit {} is signed by {} ({}), whose key may not sign it", .revision.short(), .signer.principal, .signer.fingerprint)]
    SignerLimited {
        /// The commit.
        revision: Revision,
        /// Whose key it is. Boxed, so that a refusal stays small enough to be handed up by value.
        signer: Box<Signer>,
        /// The option that excludes it.
        limit: Limit,
        /// Where the option stands.
        asked: SignersOf,
    },
    /// An accepted commit must say who may sign the next one.
    #[error("commit {} has no signers/allowed_signers, so nobody could sign after it", .revision.short())]
    SignersMissing {
        /// The commit.
        revision: Revision,
    },
    /// The list of allowed signers cannot be read, or allows nobody.
    #[error("{} is not usable: {flaw}", list_of(.list))]
    SignersInvalid {
        /// Which list.
        list: SignersOf,
        /// What is wrong with it.
        flaw: SignersFlaw,
    },
    /// The tip is not a descendant of what this host accepted before.
    #[error("commit {} does not descend from {}, the last revision accepted here", .tip.short(), .anchor.short())]
    HistoryRewound {
        /// What was offered.
        tip: Revision,
        /// What was accepted.
        anchor: Revision,
        /// The commit that has the anchor as a later parent, if the history was merged the wrong way round.
        merged_by: Option<Revision>,
    },
    /// `agent.toml` names a first revision that is not part of the history offered.
    #[error("commit {} does not descend from {}, the first revision that agent.toml names", .tip.short(), .anchor.short())]
    AnchorUnknown {
        /// What was offered.
        tip: Revision,
        /// What was named.
        anchor: Revision,
    },
    /// The commits offered are not one path, or a part of the path is missing.
    #[error("the history of commit {} is incomplete: {what}", .tip.short())]
    HistoryIncomplete {
        /// What was offered.
        tip: Revision,
        /// What is missing.
        what: String,
    },
    /// A revision was asked for that is not part of the accepted history.
    #[error("revision {} is not part of the history accepted here", .revision.short())]
    RevisionNotAccepted {
        /// What was asked for, by a ring file say.
        revision: Revision,
        /// The newest accepted revision.
        tip: Revision,
    },
    /// The tree holds something that has no business on a host.
    #[error("the tree of {} is refused: {flaw}", .revision.short())]
    TreeRefused {
        /// The revision.
        revision: Revision,
        /// Which path, and why.
        flaw: TreeFlaw,
    },
}

impl Refusal {
    /// The stable name of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::CommitMalformed { .. } => "commit-malformed",
            Self::CommitUnsigned { .. } => "commit-unsigned",
            Self::SignatureUnsupported { .. } => "signature-unsupported",
            Self::SignatureBad { .. } => "signature-bad",
            Self::SignerUnknown { .. } => "signer-unknown",
            Self::SignerLimited { .. } => "signer-limited",
            Self::SignersMissing { .. } => "signers-missing",
            Self::SignersInvalid { .. } => "signers-invalid",
            Self::HistoryRewound { .. } => "history-rewound",
            Self::AnchorUnknown { .. } => "anchor-unknown",
            Self::HistoryIncomplete { .. } => "history-incomplete",
            Self::RevisionNotAccepted { .. } => "revision-not-accepted",
            Self::TreeRefused { .. } => "tree-refused",
        }
    }

    /// The commit that the refusal is about.
    pub fn revision(&self) -> Option<&Revision> {
        match self {
            Self::CommitMalformed { revision, .. }
            | Self::CommitUnsigned { revision, .. }
            | Self::SignatureUnsupported { revision, .. }
            | Self::SignatureBad { revision, .. }
            | Self::SignerUnknown { revision, .. }
            | Self::SignerLimited { revision, .. }
            | Self::SignersMissing { revision }
            | Self::RevisionNotAccepted { revision, .. }
            | Self::TreeRefused { revision, .. } => Some(revision),
            Self::SignersInvalid { list: SignersOf::Commit(revision), .. } => Some(revision),
            Self::SignersInvalid { list: SignersOf::Host, .. } => None,
            Self::HistoryRewound { tip, .. }
            | Self::AnchorUnknown { tip, .. }
            | Self::HistoryIncomplete { tip, .. } => Some(tip),
        }
    }

    /// What lies behind the sentence, where there is more to say.
    pub fn because(&self) -> Option<String> {
        match self {
            Self::SignerUnknown { asked: SignersOf::Commit(parent), fingerprint, .. }
                if fingerprint.starts_with("OpenPGP:") =>
            {
                Some(format!("no signers/*.asc of {} holds that key", parent.short()))
            }
            Self::SignerUnknown { asked, .. } => Some(format!("{} does not list that key", list_of(asked))),
            Self::SignerLimited { limit, asked, .. } => Some(format!("in {}, {limit}", list_of(asked))),
            Self::CommitUnsigned { asked: SignersOf::Commit(parent), .. } => Some(format!(
                "every commit after {} needs the signature of an allowed signer, also the ones between",
                parent.short()
            )),
            Self::CommitUnsigned { asked: SignersOf::Host, .. } => {
                Some("the history is accepted from its first commit on, and that one must be signed too".to_owned())
            }
            Self::HistoryRewound { merged_by: Some(merge), anchor, .. } => Some(format!(
                "commit {} has {} as a later parent: the branch was merged into another one, and that one put in its place",
                merge.short(),
                anchor.short()
            )),
            Self::HistoryRewound { merged_by: None, .. } => {
                Some("the branch was force-pushed, or an old copy is being served".to_owned())
            }
            Self::RevisionNotAccepted { tip, .. } => Some(format!(
                "it is not on the first-parent path from {} back to the first revision accepted here",
                tip.short()
            )),
            _ => None,
        }
    }

    /// What a person can do, if it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::CommitUnsigned { asked: SignersOf::Host, .. } | Self::SignersMissing { .. } => Some(
                "every accepted commit is signed and carries signers/allowed_signers; for a history that began otherwise, \
                 name its first such revision as `anchor` in /etc/moorline/agent.toml"
                    .to_owned(),
            ),
            Self::CommitUnsigned { revision, .. } => Some(format!(
                "sign it (`git rebase --exec 'git commit --amend --no-edit -S' {}^`) and push again",
                revision.short()
            )),
            Self::SignatureUnsupported { .. } => {
                Some("sign with an ed25519 key: `git config gpg.format ssh`, `ssh-keygen -t ed25519`".to_owned())
            }
            Self::SignerUnknown { asked: SignersOf::Host, .. } => {
                Some("if they may deploy here, add their key to /etc/moorline/allowed_signers on this host".to_owned())
            }
            Self::SignerUnknown { asked: SignersOf::Commit(_), .. } => Some(
                "if they may deploy here, add their key to signers/allowed_signers in a commit of its own, signed by \
                 someone who already may, and let them sign after it"
                    .to_owned(),
            ),
            Self::SignersInvalid { list: SignersOf::Host, .. } => {
                Some("correct /etc/moorline/allowed_signers on this host; `man ssh-keygen` has the format".to_owned())
            }
            Self::SignersInvalid { .. } => {
                Some("correct signers/allowed_signers in that commit; `moorline check` finds this before you merge".to_owned())
            }
            Self::HistoryRewound { tip, merged_by, .. } => {
                let back = match merged_by {
                    Some(_) => "merge the other way round (`git merge` on the branch itself)",
                    None => "restore the branch",
                };
                Some(format!("{back}, or accept the new history with `moorline trust --anchor {tip}`"))
            }
            Self::AnchorUnknown { .. } => {
                Some("correct `anchor` in /etc/moorline/agent.toml, or the branch that is followed".to_owned())
            }
            Self::TreeRefused { .. } => Some("`moorline check` finds this before you merge".to_owned()),
            _ => None,
        }
    }
}

fn list_of(list: &SignersOf) -> String {
    match list {
        SignersOf::Host => "/etc/moorline/allowed_signers".to_owned(),
        SignersOf::Commit(revision) => format!("signers/allowed_signers of {}", revision.short()),
    }
}

#[cfg(test)]
mod tests;
