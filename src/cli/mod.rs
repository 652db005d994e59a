//! One file per verb: parse, call, print. Nothing is decided here and nothing is touched.

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use clap::{CommandFactory, Parser, Subcommand};

use crate::decide::fault::{Code, Fault};
use crate::world::{
    Real, agent_toml,
    journal::{Audience, Journal},
    own_memory,
};

mod anchor;
mod backup;
mod check;
mod check_backups;
mod checkout;
mod cloud_init;
mod courier;
mod diff;
mod doctor;
mod drill;
mod hold;
mod host;
mod internals;
mod key;
mod man;
mod plan;
mod progress;
mod promote;
mod prune;
mod reconcile;
mod restore;
mod restore_database;
mod retry;
mod routes;
mod run;
mod runs;
mod secrets;
mod show;
mod snapshots;
mod status;
mod trust;

/// Keeps a VPS moored to a signed git repository.
#[derive(Debug, Parser)]
#[command(name = "moorline", version, max_term_width = 100)]
pub struct Cli {
    /// What this host was told before it saw the repository
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/moorline/agent.toml")]
    config: PathBuf,
    /// Say more on stderr
    #[arg(long, short, global = true)]
    verbose: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Keep this host as its ring says, until stopped: the keeper
    Run,
    /// Fetch the repository and send status messages, until stopped
    Courier(courier::Arguments),
    /// One run now
    Reconcile(reconcile::Arguments),
    /// What a run would do, and why; changes nothing
    Plan(plan::Arguments),
    /// Where this host is
    Status(status::Arguments),
    /// What happened
    Runs(runs::Arguments),
    /// What leads where: every route, its state as Traefik sees it, and its line
    Routes(routes::Arguments),
    /// Is this checkout valid? Needs no Docker, no key and no host
    Check(check::Arguments),
    /// What a pull request changes on each host; needs no Docker, no key and no host
    Diff(diff::Arguments),
    /// Let a ring run a revision that the ring before has proven
    Promote(promote::Arguments),
    /// Let a host come into the repository, be enrolled, or leave
    Host(host::Arguments),
    /// Print the user-data of a host's first boot
    CloudInit(cloud_init::Arguments),
    /// Look but do not touch, for a while
    Hold(hold::Arguments),
    /// End a hold
    Release(hold::Release),
    /// Forget what failed, and try it now
    Retry(retry::Arguments),
    /// Make a snapshot of each stack, now
    Backup(backup::Arguments),
    /// What lies in the backup repositories
    Snapshots(snapshots::Arguments),
    /// Restore a snapshot, or a part of it, into an empty directory or in place, or a dump into its database
    Restore(restore::Arguments),
    /// Remove the snapshots that `keep` does not keep, and free what nothing needs
    Prune(prune::Arguments),
    /// Is everything there that the snapshots need?
    CheckBackups(check_backups::Arguments),
    /// Restore the newest snapshot of each stack into a scratch place, and see whether it is good
    Drill(drill::Arguments),
    /// Can this host do its job?
    Doctor(doctor::Arguments),
    /// Show the anchor, or move it where no signed history leads
    Trust(trust::Arguments),
    /// Put back the files in memory after a reboot; needs neither network nor engine
    Secrets,
    /// Make this host's age key, or show whom to seal for
    Key(key::Arguments),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page of moorline, or of a verb
    Man(man::Arguments),
    #[command(hide = true)]
    Internals(internals::Arguments),
}

/// Parses the command line and carries it out.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Usage errors exit with 2, `--help` and `--version` with 0.
        Err(error) => error.exit(),
    };
    match carry_out(cli) {
        Ok(code) => ExitCode::from(code),
        Err(fault) => {
            show::fault(&fault);
            ExitCode::from(fault.code.exit())
        }
    }
}

fn carry_out(cli: Cli) -> Result<u8, Fault> {
    own_memory::close()?;
    let host = Host { config: cli.config, verbose: cli.verbose };
    if let Some(code) = anchor::enter(&host, &cli.verb)? {
        return Ok(code);
    }
    match cli.verb {
        Verb::Run => run::run(&host),
        Verb::Courier(arguments) => courier::courier(&host, &arguments),
        Verb::Reconcile(arguments) => reconcile::reconcile(&host, &arguments),
        Verb::Plan(arguments) => plan::plan(&host, &arguments),
        Verb::Status(arguments) => status::status(&host, &arguments),
        Verb::Runs(arguments) => runs::runs(&host, &arguments),
        Verb::Routes(arguments) => routes::routes(&host, &arguments),
        Verb::Check(arguments) => check::check(&arguments),
        Verb::Diff(arguments) => diff::diff(&arguments),
        Verb::Promote(arguments) => promote::promote(&arguments),
        Verb::Host(arguments) => host::host(&arguments),
        Verb::CloudInit(arguments) => cloud_init::cloud_init(&arguments),
        Verb::Hold(arguments) => hold::hold(&host, &arguments),
        Verb::Release(arguments) => hold::release(&host, &arguments),
        Verb::Retry(arguments) => retry::retry(&host, &arguments),
        Verb::Backup(arguments) => backup::backup(&host, &arguments),
        Verb::Snapshots(arguments) => snapshots::snapshots(&host, &arguments),
        Verb::Restore(arguments) => restore::restore(&host, &arguments),
        Verb::Prune(arguments) => prune::prune(&host, &arguments),
        Verb::CheckBackups(arguments) => check_backups::check_backups(&host, &arguments),
        Verb::Drill(arguments) => drill::drill(&host, &arguments),
        Verb::Doctor(arguments) => doctor::doctor(&host, &arguments),
        Verb::Trust(arguments) => trust::trust(&host, &arguments),
        Verb::Secrets => secrets::secrets(&host),
        Verb::Key(arguments) => key::key(&host, &arguments),
        Verb::Internals(arguments) => internals::internals(&arguments),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "moorline", &mut std::io::stdout());
            Ok(0)
        }
        Verb::Man(arguments) => man::man(Cli::command(), &arguments),
    }
}

/// Which host a verb is about.
struct Host {
    config: PathBuf,
    verbose: bool,
}

impl Host {
    /// The world of a verb that a person types.
    fn world(&self) -> Result<Rc<Real>, Fault> {
        Real::new(agent_toml::read(&self.config)?, Journal::open(self.verbose, Audience::Person))
    }

    /// The world of a service.
    fn service(&self) -> Result<Rc<Real>, Fault> {
        Real::new(agent_toml::read(&self.config)?, Journal::open(self.verbose, Audience::Service))
    }
}

/// Runs a future on this thread. One thread is enough: moorline waits for others most of the time.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::new(Code::StateUnwritable, "the system gives no event queue").caused_by(&error))?;
    Ok(runtime.block_on(future))
}

/// The same for work that takes long: the order to stop ends it.
fn block_on_work<T>(world: &Real, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    block_on(async {
        tokio::select! {
            biased;
            Err(error) = world.stop().listen() => Err(no_signals(&error)),
            done = work => done,
        }
    })?
}

/// The fault of a system that passes no signals on.
fn no_signals(error: &std::io::Error) -> Fault {
    Fault::new(Code::StateUnwritable, "the system passes no signals on").caused_by(error)
}
