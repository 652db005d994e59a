//! `moorline diff`: what a pull request changes on each host.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::show;
use crate::decide::diff::show as page;
use crate::decide::fault::{Code, Fault};
use crate::runs::promote;
use crate::world::checkout::Checkout;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Two revisions of the branch: `main..HEAD`
    #[arg(value_name = "REV..REV")]
    range: String,
    /// This host only
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// How to print it; `markdown` is the comment of a pull request
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The checkout, or a bare repository
    #[arg(long, value_name = "PATH", default_value = ".")]
    path: PathBuf,
    /// The branch that hosts follow
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    branch: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Markdown,
    Json,
}

pub fn diff(arguments: &Arguments) -> Result<u8, Fault> {
    let range = arguments.range.split_once("..").filter(|(from, to)| !from.is_empty() && !to.is_empty());
    let (from, to) = range.filter(|(_, to)| !to.starts_with('.')).ok_or_else(|| {
        Fault::new(Code::UsageInvalid, format!("`{}` is not a range of revisions", arguments.range.escape_debug()))
            .hint("moorline diff main..HEAD")
    })?;
    let checkout = Checkout::open(&arguments.path)?;
    let (from, to) = (checkout.resolve(from)?, checkout.resolve(to)?);
    let diffs = promote::compare(&checkout, (&from, &to), &arguments.branch, arguments.host.as_deref())?;
    match arguments.format {
        Format::Text => show::text(&page::text(&diffs))?,
        Format::Markdown => show::text(&page::markdown(&diffs))?,
        Format::Json => show::json(&json!({ "version": 1, "from": from, "to": to, "hosts": diffs }))?,
    }
    Ok(0)
}
