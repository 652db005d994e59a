//! `moorline doctor`: can this host do its job? Looks at everything, changes nothing.

use clap::Args;
use serde_json::json;

use super::{Host, block_on_work, show};
use crate::decide::doctor::{Finding, is_unfit};
use crate::decide::fault::Fault;
use crate::decide::settings;
use crate::runs::doctor;
use crate::world::journal::{Audience, Journal};
use crate::world::{Real, World as _, agent_toml};

/// The version of the JSON form.
const VERSION: u32 = 2;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub fn doctor(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    // A host whose `agent.toml` has a mistake needs a doctor most of all.
    let (settings, told) = match agent_toml::read(&host.config) {
        Ok(settings) => (settings, None),
        Err(fault) => (settings::of_unknown(), Some(fault)),
    };
    let world = Real::new(settings, Journal::open(host.verbose, Audience::Person))?;
    let findings = block_on_work(&world, async { Ok(doctor::examine(&*world, told).await) })?;
    if arguments.json {
        let all: Vec<_> = findings.iter().map(Finding::as_json).collect();
        show::json(&json!({ "version": VERSION, "host": world.settings().host, "findings": all }))?;
    } else {
        show::text(&findings.iter().map(ToString::to_string).collect::<String>())?;
    }
    Ok(u8::from(is_unfit(&findings)))
}
