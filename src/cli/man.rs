//! `moorline man`: prints the manual page of moorline, or of one of its verbs.

use clap::Args;

use super::show;
use crate::decide::fault::{Code, Fault};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The verb, in as many words as it has (`host new`); without one: the page of moorline itself
    verb: Vec<String>,
}

pub fn man(command: clap::Command, arguments: &Arguments) -> Result<u8, Fault> {
    // `help` has no page: it prints what these pages hold.
    let mut command = command.disable_help_subcommand(true);
    // Gives every verb its full name, and the options that all have.
    command.build();
    let mut found = &command;
    for word in &arguments.verb {
        found = found.find_subcommand(word).ok_or_else(|| {
            Fault::new(Code::UsageInvalid, format!("moorline has no verb `{}`", arguments.verb.join(" ")))
                .hint("`moorline --help` lists them")
        })?;
    }
    let mut page = Vec::new();
    let version = command.get_version().unwrap_or_default();
    clap_mangen::Man::new(found.clone())
        .source(format!("moorline {version}"))
        .render(&mut page)
        .map_err(|error| Fault::new(Code::StateUnwritable, "the output cannot be written").caused_by(&error))?;
    show::bytes(&page)?;
    Ok(0)
}
