//! `moorline check-backups`: is everything there that the snapshots need, and is it what was written?

use clap::Args;
use serde_json::json;

use super::progress::Progress;
use super::{Host, block_on_work, show};
use crate::decide::fault::Fault;
use crate::decide::report;
use crate::runs::backup::account;
use crate::runs::backup::known::known;
use crate::runs::backup::upkeep::{self, News, Reads};
use crate::world::World;
use crate::world::restic::Restic;
use crate::world::restic::upkeep::{Checked, Severity};

#[derive(Debug, Args)]
pub struct Arguments {
    /// This backup repository only
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Read all data; without this, the share whose turn it is
    #[arg(long)]
    all: bool,
    /// Print the reports as JSON
    #[arg(long)]
    json: bool,
}

pub fn check_backups(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    let reads = if arguments.all { Reads::All } else { Reads::Share };
    let world = host.world()?;
    world.set_up()?;
    let known = known(&*world)?;
    let _lock = world.lock_backup()?;
    let run = report::name(world.now(), std::process::id());
    let mut outcomes = Vec::new();
    for repository in known.chosen(arguments.repository.as_deref())? {
        let name = &repository.name;
        let mut progress = Progress::new("read");
        let mut hear = |news: News<'_>| {
            let text = match news {
                News::Progress(at) => return progress.show(name, at),
                News::Finding(finding) if finding.severity == Severity::Warning => {
                    format!("{name}: warning: {}\n", finding.words())
                }
                News::Checked(checked) => as_text(name, checked),
                News::Finding(_) | News::Plan(_) | News::Pruned(_) => return,
            };
            progress.end();
            if !arguments.json {
                // Whoever closed the pipe has seen enough.
                let _ = show::text(&text);
            }
        };
        let work = async { Ok(upkeep::check(&*world, &known, repository, reads, &mut hear).await) };
        let outcome = block_on_work(&world, work)?;
        account::enter(&*world, &run, &outcome);
        outcomes.push(outcome);
    }
    account::announce(&*world, &run);
    if arguments.json {
        let reports: Vec<_> = outcomes.iter().map(|outcome| &outcome.report).collect();
        show::json(&json!({ "version": 1, "reports": reports }))?;
    }
    let mut code = 0;
    for fault in outcomes.iter().filter_map(|outcome| outcome.fault.as_ref()) {
        show::fault(fault);
        code = if code == 0 { fault.code.exit() } else { code };
    }
    Ok(code)
}

fn as_text(name: &str, checked: &Checked) -> String {
    let (packs, bytes) = (checked.packs, show::size(checked.bytes));
    let verdict = match checked.errors {
        0 => "everything is there that the snapshots need".to_owned(),
        1 => "1 error".to_owned(),
        errors => format!("{errors} errors"),
    };
    format!("{name}: {verdict}; {packs} packs, {bytes} of their data read and compared\n")
}
