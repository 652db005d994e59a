//! `moorline routes`: what leads where on this host, and from which line.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Host, block_on, checkout, show};
use crate::decide::fault::Fault;
use crate::decide::traefik::routes::as_text;
use crate::runs::routes::{self, Listing};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Show the routes that this checkout would give; needs no host, no key and no signature
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// With --dir: this host only
    #[arg(long, value_name = "HOST", requires = "dir")]
    host: Option<String>,
    /// Print the routes as JSON
    #[arg(long)]
    json: bool,
}

pub fn routes(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    let listings = match &arguments.dir {
        Some(directory) => of_directory(arguments, directory)?,
        None => vec![block_on(routes::here(&*host.world()?))??],
    };
    if arguments.json {
        let hosts: Vec<_> =
            listings.iter().map(|listing| json!({ "host": listing.host, "routes": listing.routes })).collect();
        show::json(&json!({ "version": 1, "hosts": hosts }))?;
        return Ok(0);
    }
    for listing in &listings {
        show::text(&text(listing))?;
    }
    Ok(0)
}

fn of_directory(arguments: &Arguments, directory: &std::path::Path) -> Result<Vec<Listing>, Fault> {
    let (tree, hosts) = checkout::read(directory, arguments.host.as_ref())?;
    hosts.iter().map(|name| routes::of_directory(&tree, name)).collect()
}

fn text(listing: &Listing) -> String {
    let count = match listing.routes.len() {
        1 => "1 route".to_owned(),
        more => format!("{more} routes"),
    };
    let unknown = listing.unknown.as_ref().map(|why| format!(", state unknown: {why}")).unwrap_or_default();
    let mut text = format!("{}: {count}{unknown}\n", listing.host);
    text.push_str(&as_text(&listing.routes));
    text
}
