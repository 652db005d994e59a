//! `moorline snapshots`: what lies in the backup repositories of this host.

use clap::Args;
use serde_json::json;

use super::{Host, block_on_work, show};
use crate::decide::fault::Fault;
use crate::runs::backup::restore::{self, Listing};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub fn snapshots(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    let world = host.world()?;
    world.set_up()?;
    let listings = block_on_work(&world, restore::snapshots(&*world))?;
    if arguments.json {
        show::json(&json!({ "version": 1, "repositories": listings }))?;
    } else {
        for listing in &listings {
            show::text(&as_text(listing))?;
        }
    }
    Ok(0)
}

fn as_text(listing: &Listing) -> String {
    let mut text = format!("{}: {} snapshots\n", listing.repository, listing.snapshots.len());
    for snapshot in &listing.snapshots {
        let size = snapshot.bytes.map(show::size).unwrap_or_default();
        let (id, time) = (show::short(&snapshot.id), snapshot.time);
        let (host, label, tags) = (&snapshot.host, &snapshot.label, snapshot.tags.join(","));
        let line = format!("  {id}  {time:.0}  {host}  {label:<16} {size:>10}  {tags}");
        text.push_str(&format!("{}\n", line.trim_end()));
    }
    text
}
