//! `moorline internals`: hidden verbs for tests and for support.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::show;
use crate::decide::fault::{Code, Fault};
use crate::decide::fleet;
use crate::decide::sops::{self, Format, Identities};
use crate::world::{disk, git, release, restic};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: InternalVerb,
}

#[derive(Debug, Subcommand)]
enum InternalVerb {
    /// Print what `sops -d` would print
    SopsDecrypt {
        /// The format of the file
        #[arg(long)]
        format: FormatName,
        /// An age identity file
        #[arg(long)]
        key: PathBuf,
        /// The sealed file
        file: PathBuf,
    },
    /// Answer the keeper's questions about the objects of a repository, within limits
    Objects {
        /// The bare repository
        repository: PathBuf,
    },
    /// Go on as a version of moorline that is on trial, for as long as it is watched
    Trial {
        /// The process that watches
        #[arg(long)]
        watcher: u32,
        /// The program
        program: PathBuf,
        /// Its name and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Do one job in a backup repository: the order on standard input, lines of JSON on standard output
    Restic,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatName {
    Yaml,
    Json,
    Dotenv,
    Binary,
}

pub fn internals(arguments: &Arguments) -> Result<u8, Fault> {
    match &arguments.verb {
        InternalVerb::SopsDecrypt { format, key, file } => sops_decrypt(*format, key, file),
        InternalVerb::Objects { repository } => {
            let served = git::serve(repository);
            served.map(|()| 0).map_err(|error| {
                Fault::new(Code::RepositoryDamaged, "nobody listens to what is read").caused_by(&error)
            })
        }
        InternalVerb::Trial { watcher, program, arguments } => Err(release::become_trial(*watcher, program, arguments)),
        InternalVerb::Restic => restic::serve()
            .map(|()| 0)
            .map_err(|error| Fault::new(Code::BackupFailed, "there is no order, or nobody listens").caused_by(&error)),
    }
}

fn sops_decrypt(format: FormatName, key: &PathBuf, file: &PathBuf) -> Result<u8, Fault> {
    let format = match format {
        FormatName::Yaml => Format::Yaml,
        FormatName::Json => Format::Json,
        FormatName::Dotenv => Format::Dotenv,
        FormatName::Binary => Format::Binary,
    };
    let read = |path: &PathBuf| {
        disk::read(path, sops::limits::MAX_BYTES as u64).map_err(|error| {
            Fault::new(Code::KeyMissing, format!("{} cannot be read", path.display())).caused_by(&error)
        })
    };
    let identities = Identities::parse(&String::from_utf8_lossy(&read(key)?))
        .map_err(|error| Fault::new(Code::KeyMissing, format!("{} cannot be used", key.display())).caused_by(&error))?;
    let path = file.display().to_string();
    let sealed = |error: sops::SopsError| fleet::sealed_fault(&error, &path, &identities.recipients());
    let plain =
        sops::decrypt(&read(file)?, format, &identities).and_then(|document| document.emit()).map_err(sealed)?;
    show::bytes(plain.expose())?;
    Ok(0)
}
