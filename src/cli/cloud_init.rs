//! `moorline cloud-init`: the user-data of a host's first boot, from an operator's checkout.

use std::path::{Path, PathBuf};

use clap::Args;

use super::show;
use crate::decide::fault::{Code, Fault};
use crate::decide::user_data::{self, Wish};
use crate::model::Secret;
use crate::world::disk;
use crate::world::working_tree::WorkingTree;

/// More than a list of keys needs.
const LARGEST: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The host: a directory below hosts/
    host: String,
    /// The fleet repository, as the host reaches it: ssh://git@git.example.org/fleet.git
    #[arg(long, value_name = "URL")]
    remote: String,
    /// The branch that it follows
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    branch: String,
    /// The first revision that it accepts; without it the whole history must be signed
    #[arg(long, value_name = "REV")]
    anchor: Option<String>,
    /// The git server's host keys, as `ssh-keyscan` prints them, compared with what its owner says
    #[arg(long, value_name = "FILE")]
    known_hosts: PathBuf,
    /// Where moorline's Debian package is
    #[arg(long, value_name = "URL")]
    package_url: String,
    /// The SHA-256 of the package
    #[arg(long, value_name = "DIGEST")]
    package_sha256: String,
    /// Who may log in, and with which public key besides the tailnet's own login
    #[arg(long = "admin", value_name = "NAME[=FILE]", required = true)]
    admins: Vec<String>,
    /// A file with an auth key of Tailscale: one-time, pre-authorised, of a short life
    #[arg(long, value_name = "FILE")]
    tailscale_key_file: PathBuf,
    /// The checkout
    #[arg(long, value_name = "CHECKOUT", default_value = ".")]
    dir: PathBuf,
}

pub fn cloud_init(arguments: &Arguments) -> Result<u8, Fault> {
    let checkout = WorkingTree::open(&arguments.dir)?;
    let tree = disk::read_tree(checkout.root())?;
    let mut admins = Vec::new();
    for admin in &arguments.admins {
        let (name, key) = match admin.split_once('=') {
            Some((name, file)) => (name, Some(text(Path::new(file))?)),
            None => (admin.as_str(), None),
        };
        admins.push((name.to_owned(), key));
    }
    let wish = Wish {
        host: &arguments.host,
        remote: &arguments.remote,
        branch: &arguments.branch,
        anchor: arguments.anchor.as_deref(),
        known_hosts: &text(&arguments.known_hosts)?,
        package_url: &arguments.package_url,
        package_sha256: &arguments.package_sha256,
        admins: &admins,
        tailscale_key: &Secret::new(text(&arguments.tailscale_key_file)?),
    };
    show::text(user_data::user_data(&tree, &wish)?.expose())?;
    Ok(0)
}

fn text(path: &Path) -> Result<String, Fault> {
    let unread = || Fault::new(Code::UsageInvalid, format!("{} cannot be read", path.display()));
    let bytes = disk::read(path, LARGEST).map_err(|error| unread().caused_by(&error))?;
    String::from_utf8(bytes).map_err(|_| unread().because("it is not text"))
}
