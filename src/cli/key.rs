//! `moorline key`: makes this host's age key, or shows whom to seal for. No private byte is printed.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Host, show};
use crate::decide::fault::Fault;
use crate::world::{World, key};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make an age key on this host and print its recipient; never overwrites
    Generate {
        /// Add a second identity to the key that is there, for its rotation
        #[arg(long)]
        add: bool,
    },
    /// Print the recipients of this host's key, one per line
    Show {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

pub fn key(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    let world = host.world()?;
    let path = &world.settings().age_key;
    match arguments.verb {
        Verb::Generate { add: true } => show::text(&format!("{}\n", key::add(path, world.now())?))?,
        Verb::Generate { add: false } => show::text(&format!("{}\n", key::generate(path, world.now())?))?,
        Verb::Show { json: true } => {
            show::json(&json!({ "version": 1, "path": path, "recipients": key::read(path)?.recipients() }))?;
        }
        Verb::Show { json: false } => {
            for recipient in key::read(path)?.recipients() {
                show::text(&format!("{recipient}\n"))?;
            }
        }
    }
    Ok(0)
}
