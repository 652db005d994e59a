//! `moorline prune`: forget what `keep` does not keep, then free what nothing needs; here, or from a desk.

use std::path::PathBuf;
use std::rc::Rc;

use clap::Args;

use super::progress::Progress;
use super::{Host, block_on_work, checkout, show};
use crate::decide::fault::Fault;
use crate::decide::report;
use crate::model::backup::{Deletes, Repository};
use crate::runs::backup::account;
use crate::runs::backup::known::{Known, known};
use crate::runs::backup::laptop::{self, Login};
use crate::runs::backup::upkeep::{self, Missing, News, Plan, Site};
use crate::world::desk::{self, Desk};
use crate::world::journal::{Audience, Journal};
use crate::world::restic::Restic;
use crate::world::restic::upkeep::{Pruned, Way};
use crate::world::{Real, World};

#[derive(Debug, Args)]
pub struct Arguments {
    /// This backup repository only
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Say what would go and what would be freed; remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Snapshots that this host knows are missing because somebody removed them on purpose
    #[arg(long)]
    accept_missing: bool,
    /// Elsewhere than on the host: the checkout that says what is kept, and where
    #[arg(long, value_name = "CHECKOUT", requires_all = ["host", "age_key"], help_heading = "From a desk")]
    dir: Option<PathBuf>,
    /// The host whose backups they are
    #[arg(long, value_name = "HOST", requires = "dir", help_heading = "From a desk")]
    host: Option<String>,
    /// A file with an age identity of yours, which opens the host's SOPS file
    #[arg(long, value_name = "FILE", requires = "dir", help_heading = "From a desk")]
    age_key: Option<PathBuf>,
    /// A private key without a passphrase that may delete; the host's own when not given
    #[arg(long, value_name = "FILE", requires = "dir", help_heading = "From a desk")]
    ssh_key: Option<PathBuf>,
    /// The user that may delete
    #[arg(long, value_name = "USER", requires = "dir", help_heading = "From a desk")]
    user: Option<String>,
    /// Where the repository is for that user, if it is elsewhere: sftp://USER@HOST:PORT/PATH
    #[arg(long, value_name = "URL", requires_all = ["dir", "repository"], help_heading = "From a desk")]
    url: Option<String>,
}

pub fn prune(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    match (&arguments.dir, &arguments.host, &arguments.age_key) {
        (Some(directory), Some(name), Some(age_key)) => {
            let (tree, _) = checkout::read(directory, Some(name))?;
            let desk = Desk::open()?;
            let settings = desk.settings(name, age_key);
            let world = Real::new(settings, Journal::open(host.verbose, Audience::Person))?;
            let key = arguments.ssh_key.as_deref().map(desk::private_key).transpose()?;
            let login = Login { url: arguments.url.clone(), user: arguments.user.clone(), key };
            let known = laptop::known(&*world, &tree)?;
            of_each(&known, arguments, |repository| {
                let site = laptop::site(&known, repository, &login)?;
                from_desk(&world, &site, arguments)
            })
        }
        _ => {
            let world = host.world()?;
            world.set_up()?;
            let known = known(&*world)?;
            let _lock = world.lock_backup()?;
            let run = report::name(world.now(), std::process::id());
            let code = of_each(&known, arguments, |repository| here(&world, &known, repository, arguments, &run));
            if !arguments.dry_run {
                account::announce(&*world, &run);
            }
            code
        }
    }
}

/// What is in the way of one repository keeps no other from its turn; the first one decides how it ends.
fn of_each(
    known: &Known,
    arguments: &Arguments,
    mut prune: impl FnMut(&Repository) -> Result<(), Fault>,
) -> Result<u8, Fault> {
    let mut code = 0;
    for repository in known.chosen(arguments.repository.as_deref())? {
        if let Err(fault) = prune(repository) {
            show::fault(&fault);
            code = if code == 0 { fault.code.exit() } else { code };
        }
    }
    Ok(code)
}

fn here(
    world: &Rc<Real>,
    known: &Known,
    repository: &Repository,
    arguments: &Arguments,
    run: &str,
) -> Result<(), Fault> {
    let name = &repository.name;
    if repository.deletes == Deletes::Elsewhere {
        return show::text(&format!(
            "{name}: nothing is removed from here (append_only); whoever may, does it: docs/append-only.md\n"
        ));
    }
    let mut teller = Teller::new(name, arguments.dry_run);
    if arguments.dry_run {
        let site = Site::of(known, repository)?;
        let mut hear = |news: News<'_>| teller.tell(&news);
        return block_on_work(world, upkeep::look(&**world, &site, missing(arguments), &mut hear));
    }
    let mut hear = |news: News<'_>| teller.tell(&news);
    let work = async { Ok(upkeep::tidy(&**world, known, repository, missing(arguments), &mut hear).await) };
    let Some(outcome) = block_on_work(world, work)? else { return Ok(()) };
    account::enter(&**world, run, &outcome);
    outcome.fault.map_or(Ok(()), Err)
}

fn from_desk(world: &Rc<Real>, site: &Site, arguments: &Arguments) -> Result<(), Fault> {
    let mut teller = Teller::new(&site.repository.name, arguments.dry_run);
    let mut hear = |news: News<'_>| {
        if let News::Plan(plan) = &news {
            for warning in laptop::warnings(plan, &world.settings().host, world.now()) {
                show::trouble(&format!("warning: {warning}\n"));
            }
        }
        teller.tell(&news);
    };
    let work = async {
        if arguments.dry_run {
            return upkeep::look(&**world, site, missing(arguments), &mut hear).await;
        }
        upkeep::forget_at(&**world, site, missing(arguments), &mut hear).await?;
        upkeep::prune_at(&**world, site, missing(arguments), Way::Act, &mut hear).await.map(|_| ())
    };
    block_on_work(world, work)
}

fn missing(arguments: &Arguments) -> Missing {
    if arguments.accept_missing { Missing::Accept } else { Missing::Refuse }
}

/// Says what happens to one repository.
struct Teller<'a> {
    name: &'a str,
    is_dry: bool,
    progress: Progress,
}

impl<'a> Teller<'a> {
    fn new(name: &'a str, is_dry: bool) -> Self {
        Self { name, is_dry, progress: Progress::new("written anew") }
    }

    fn tell(&mut self, news: &News<'_>) {
        let text = match news {
            News::Plan(plan) => plan_text(self.name, plan, self.is_dry),
            News::Pruned(pruned) => pruned_text(self.name, pruned, self.is_dry),
            News::Progress(progress) => return self.progress.show(self.name, *progress),
            News::Finding(_) | News::Checked(_) => return,
        };
        self.progress.end();
        // Whoever closed the pipe has seen enough.
        let _ = show::text(&text);
    }
}

fn plan_text(name: &str, plan: &Plan, is_dry: bool) -> String {
    let (all, gone) = (plan.snapshots.len(), plan.gone.len());
    let goes = if is_dry { "would go" } else { "go" };
    let mut text = format!("{name}: {all} snapshots, {gone} of them {goes}\n");
    for snapshot in &plan.snapshots {
        if let Some(why) = plan.gone.get(&snapshot.id) {
            let (id, time, label) = (show::short(&snapshot.id), snapshot.time, &snapshot.label);
            text.push_str(&format!("  goes  {id}  {time:.0}  {label:<16}  {why}\n"));
        }
    }
    text
}

fn pruned_text(name: &str, pruned: &Pruned, is_dry: bool) -> String {
    let would = if is_dry { "would be " } else { "" };
    let (freed, marked) = (pruned.freed, pruned.marked);
    let mut text = format!("{name}: {} in {} packs {would}freed\n", show::size(freed.bytes), freed.packs);
    if marked.packs > 0 {
        text.push_str(&format!("{name}: {} in {} packs {would}marked\n", show::size(marked.bytes), marked.packs));
    }
    let waiting = pruned.waiting;
    if let Some(due) = pruned.due {
        let (size, packs) = (show::size(waiting.bytes), waiting.packs);
        text.push_str(&format!("{name}: {size} in {packs} marked packs wait, the first until {due:.0}\n"));
    }
    text
}
