//! `moorline status`: where this host is.

use clap::Args;
use serde_json::{Value as Json, json};

use super::{Host, block_on, show};
use crate::decide::backup::{logbook, overview};
use crate::decide::fault::Fault;
use crate::decide::{report, succession};
use crate::model::report::ServiceStatus;
use crate::model::{Failure, Ledger, Left, Report};
use crate::runs::backup::account;
use crate::world::logbook::Logs as _;
use crate::world::release::Releases as _;
use crate::world::{World, last_report, ledger, lock};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Exit with the code of the last run unless it converged, and with 1 if a backup failed or is too old
    #[arg(long)]
    check: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub fn status(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    let world = host.world()?;
    let settings = world.settings();
    let ledger = world.ledger()?;
    let last = match ledger::runs(&settings.state)?.last() {
        Some(run) => Some(ledger::read_report(&settings.state, run)?),
        None => None,
    };
    let last = last_report::newer(&settings.run, last);
    let engine = block_on(world.observe())?;
    let (services, engine) = match engine {
        Ok(observed) => {
            (report::statuses(&observed, &ledger.digests(), |stack| ledger.applied.contains_key(stack)), None)
        }
        Err(fault) => (last.as_ref().map(|last| last.services.clone()).unwrap_or_default(), Some(fault)),
    };
    let running = lock::holder(&settings.run.join(lock::AGENT));
    let now = world.now();
    let backups = logbook::statuses(&world.logbook()?, now);
    let (night, backing) = (account::next(&*world)?, lock::holder(&settings.run.join(lock::BACKUP)));
    let releases = world.succession()?;
    let problems: Vec<&String> = backups.iter().filter_map(|backup| backup.problem.as_ref()).collect();
    if arguments.json {
        let mut value = as_json(&settings.host, &ledger, last.as_ref(), &services, engine.as_ref(), running.as_ref());
        value["releases"] = json!(releases);
        value["backups"] = json!(backups);
        value["night"] = json!({ "next": night, "running": backing });
        show::json(&value)?;
    } else {
        let releases = succession::text(&releases, env!("CARGO_PKG_VERSION"), now);
        show::text(&as_text(&settings.host, &ledger, last.as_ref(), &services, running.as_ref(), &releases, now))?;
        let at_work = backing.map(|holder| (holder.pid, holder.since));
        show::text(&overview::text(&backups, night, at_work, now))?;
        for problem in &problems {
            show::text(&format!("backups   {problem}\n"))?;
        }
        if let Some(fault) = &engine {
            show::text(&format!("\nthe services are those of the last run: {}\n", fault.sentence))?;
        }
        if let Some(fault) = last.as_ref().and_then(show::recorded_fault) {
            show::text(&format!("\n{fault}"))?;
        }
    }
    Ok(match (&last, arguments.check) {
        // A run that failed says more than a backup that is old.
        (Some(last), true) => report::exit(last).max(u8::from(!problems.is_empty())),
        (None, true) => 1,
        (_, false) => 0,
    })
}

fn as_json(
    host: &str,
    ledger: &Ledger,
    last: Option<&Report>,
    services: &[ServiceStatus],
    engine: Option<&Fault>,
    running: Option<&lock::Holder>,
) -> Json {
    let stacks: serde_json::Map<String, Json> = ledger
        .applied
        .iter()
        .map(|(name, applied)| {
            (name.clone(), json!({ "revision": applied.revision, "at": applied.at, "plugin": applied.plugin }))
        })
        .collect();
    json!({
        "version": 1,
        "host": host,
        "agent": env!("CARGO_PKG_VERSION"),
        "running": running,
        "anchor": ledger.anchor,
        "trust": ledger.anchor.as_ref().map(|anchor| anchor.trust),
        "hold": ledger.hold,
        "stack_holds": ledger.stack_holds,
        "failures": ledger.failures,
        "repairs": ledger.repairs,
        "stacks": stacks,
        "services": services,
        "engine": engine.map(Fault::record),
        "last_run": last,
    })
}

fn as_text(
    host: &str,
    ledger: &Ledger,
    last: Option<&Report>,
    services: &[ServiceStatus],
    running: Option<&lock::Holder>,
    releases: &str,
    now: jiff::Timestamp,
) -> String {
    let ring = last.and_then(|last| last.ring.clone()).unwrap_or_else(|| "unknown".into());
    let mut text = format!("host      {host}, ring {ring}\n");
    match &ledger.anchor {
        Some(anchor) => {
            let (revision, since) = (anchor.revision.short(), show::ago(anchor.at, now));
            text.push_str(&format!("anchor    {revision}, signed by {}, accepted {since}\n", anchor.signer));
            if let Some(remark) = anchor.trust.remark() {
                text.push_str(&format!("trust     {remark}\n"));
            }
        }
        None => text.push_str("anchor    none: this host has not accepted any revision yet\n"),
    }
    match last {
        Some(last) => {
            text.push_str(&format!("last run  {}, {}\n", last.summary, show::ago(last.ended, now)));
            for opened in &last.opened {
                text.push_str(&format!("secrets   {} opened by {}\n", opened.path, opened.recipient));
            }
            for note in &last.notes {
                text.push_str(&format!("note      {note}\n"));
            }
        }
        None => text.push_str("last run  none yet\n"),
    }
    match ledger.held(now) {
        Some(hold) => text.push_str(&format!("hold      by {} until {}: {}\n", hold.owner, hold.until, hold.reason)),
        None => text.push_str("hold      none\n"),
    }
    for (stack, hold) in ledger.held_stacks(now) {
        text.push_str(&format!("hold      {stack} by {} until {}: {}\n", hold.owner, hold.until, hold.reason));
    }
    for (stack, failure) in &ledger.failures {
        text.push_str(&failed(stack, failure, ledger, now));
    }
    for (stack, repair) in &ledger.repairs {
        let good = ledger.applied.get(stack).map_or("nothing", |applied| applied.revision.short());
        let (why, since) = (repair.because.join(": "), show::ago(repair.at, now));
        let again = tried_again(stack, repair, now);
        text.push_str(&format!("repair    {stack} at {good}, {since}: {why}\n          {again}\n"));
    }
    match running {
        Some(holder) => text.push_str(&format!("agent     runs as pid {} since {:.0}\n", holder.pid, holder.since)),
        None => text.push_str("agent     does not run (`systemctl start moorline`)\n"),
    }
    text.push_str(releases);
    if !services.is_empty() {
        text.push('\n');
    }
    for service in services {
        let health = service.health.map(|health| format!(", {health}")).unwrap_or_default();
        let name = format!("{}/{}", service.stack, service.service);
        text.push_str(&format!("  {name:<24} {:<22} {}\n", format!("{}{health}", service.state), service.image));
    }
    text
}

/// What failed, how its stack is left, and when it is tried again.
fn failed(stack: &str, failure: &Failure, ledger: &Ledger, now: jiff::Timestamp) -> String {
    let good = ledger.applied.get(stack).map_or("nothing", |applied| applied.revision.short());
    let left = match failure.left {
        Left::Untouched => "not touched".to_owned(),
        Left::Begun => "in the middle, the next run goes on".to_owned(),
        Left::RolledBack => format!("rolled back to {good}"),
        Left::AsIs => "left as it is".to_owned(),
        Left::Stuck => format!("could not be rolled back to {good}, left as it is"),
    };
    let again = tried_again(stack, failure, now);
    let from = failure.revision.as_ref().map_or("what is desired", |revision| revision.short());
    let why = failure.because.join(": ");
    format!("failed    {stack} at {from}, {}: {why}\n          {left}; {again}\n", show::ago(failure.at, now))
}

fn tried_again(stack: &str, failure: &Failure, now: jiff::Timestamp) -> String {
    match failure.next {
        Some(next) if next > now => format!("tried again at {next:.0}"),
        Some(_) => "tried again by the next run".to_owned(),
        None => format!("not tried again: `moorline retry {stack}`"),
    }
}
