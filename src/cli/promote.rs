//! `moorline promote`: lets a ring run a revision that the ring before has proven.

use std::path::PathBuf;

use clap::Args;

use super::{block_on, show};
use crate::decide::diff::show as page;
use crate::decide::fault::{Code, Fault};
use crate::decide::promotion::Reason;
use crate::runs::promote::{self, Promotion, Wish};
use crate::world::checkout::Checkout;
use crate::world::person;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The ring
    ring: String,
    /// What it shall run; without it, what the ring before runs
    #[arg(value_name = "REV")]
    revision: Option<String>,
    /// Only say whether it is proven: 0, or 1 with the reasons; writes nothing
    #[arg(long, conflicts_with_all = ["force", "key"])]
    check: bool,
    /// Promote although it is not proven
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why; it is written into the commit
    #[arg(long, requires = "force")]
    reason: Option<String>,
    /// The ssh key that signs the commit and the ring's file; without it, git's `user.signingKey`
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The checkout
    #[arg(long, value_name = "PATH", default_value = ".")]
    path: PathBuf,
    /// What the promotion goes on top of
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    onto: String,
    /// The branch that hosts follow
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    branch: String,
}

pub fn promote(arguments: &Arguments) -> Result<u8, Fault> {
    let reason = arguments.reason.as_deref().map(str::trim);
    if reason.is_some_and(str::is_empty) {
        return Err(Fault::new(Code::UsageInvalid, "`--force` needs a reason").hint("--reason \"why it cannot wait\""));
    }
    let checkout = Checkout::open(&arguments.path)?;
    let wish = Wish {
        ring: &arguments.ring,
        revision: arguments.revision.as_deref(),
        onto: &arguments.onto,
        branch: &arguments.branch,
    };
    block_on(async {
        let promotion = promote::examine(&checkout, &wish).await?;
        show::text(&page::text(&promotion.diffs))?;
        let (ring, short) = (&promotion.ring.name, promotion.revision.short());
        if !promotion.reasons.is_empty() && !arguments.force {
            return Err(refused(&promotion));
        }
        if arguments.check {
            show::text(&format!("\n{short} may be promoted to {ring}\n"))?;
            return Ok(0);
        }
        let message = message(&promotion, &checkout.subject(&promotion.revision)?, reason);
        let branch = promote::write(&checkout, &promotion, &message, arguments.key.as_deref()).await?;
        let (onto, followed) = (promotion.tip.short(), &arguments.branch);
        show::text(&format!(
            "\n{short} is written for {ring} on branch {branch}, on top of {onto}\n\n  git push origin {branch}\n\n\
             for a pull request, or, as it stands:\n\n  git push origin {branch}:{followed}\n"
        ))?;
        Ok(0)
    })?
}

fn refused(promotion: &Promotion) -> Fault {
    let (ring, short) = (&promotion.ring.name, promotion.revision.short());
    let mut fault = Fault::new(Code::PromotionRefused, format!("{short} is not proven for ring {ring}"));
    fault.because = promotion.reasons.iter().map(Reason::to_string).collect();
    fault.at("nothing was written").hint("wait, or `--force --reason TEXT`, which is written into the commit")
}

fn message(promotion: &Promotion, subject: &str, reason: Option<&str>) -> String {
    let (ring, revision) = (&promotion.ring.name, &promotion.revision);
    let verb = if promotion.is_back { "Take" } else { "Promote" };
    let preposition = if promotion.is_back { "back to" } else { "to" };
    let mut message = format!("{verb} {ring} {preposition} {}\n\n{revision}\n{subject}\n", revision.short());
    if let Some(reason) = reason {
        message.push_str(&format!("\nForced by {}: {reason}\n", person::who_types()));
        for reason in &promotion.reasons {
            message.push_str(&format!("* {reason}\n"));
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_required_with_force_and_nothing_is_forced_by_check() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            arguments: Arguments,
        }
        let parse = |line: &str| Line::try_parse_from(format!("promote {line}").split(' ')).map(|line| line.arguments);
        assert!(parse("production --force").is_err());
        assert!(parse("production --reason x").is_err());
        assert!(parse("production --check --force --reason x").is_err());
        assert!(parse("production --force --reason x").unwrap().force);
    }
}
