//! `moorline trust`: shows the anchor, or moves it where no signed history leads.

use clap::Args;
use serde_json::json;

use super::{Host, show};
use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::model::{Anchor, Revision, Warrant};
use crate::runs::accept;
use crate::world::{World, ledger, person};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Accept this revision as the new anchor, although nothing that was accepted before leads to it
    #[arg(long, value_name = "REV", requires = "reason")]
    anchor: Option<Revision>,
    /// Why; it is written into the journal and beside the anchor
    #[arg(long, requires = "anchor")]
    reason: Option<String>,
    /// Do not ask
    #[arg(long, requires = "anchor")]
    yes: bool,
    /// Print as JSON
    #[arg(long, conflicts_with = "anchor")]
    json: bool,
}

pub fn trust(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    match (&arguments.anchor, &arguments.reason) {
        (Some(anchor), Some(reason)) => move_anchor(host, anchor, reason.trim(), arguments.yes),
        _ => show_anchor(host, arguments.json),
    }
}

fn show_anchor(host: &Host, as_json: bool) -> Result<u8, Fault> {
    let world = host.world()?;
    let anchor = world.ledger()?.anchor;
    if as_json {
        show::json(&json!({ "version": 1, "anchor": anchor, "tip": world.tip().ok() }))?;
        return Ok(0);
    }
    match anchor {
        None => show::text("this host has not accepted any revision yet\n")?,
        Some(anchor) => show::text(&format!(
            "anchor  {}\nsigner  {}\ntrust   {}\nsince   {}\nfirst   {}\n",
            anchor.revision,
            anchor.signer,
            anchor.trust.remark().unwrap_or("signer: an allowed signer"),
            anchor.at,
            anchor.first
        ))?,
    }
    if let Ok(tip) = world.tip() {
        show::text(&format!("tip     {tip}\n"))?;
    }
    Ok(0)
}

fn move_anchor(host: &Host, revision: &Revision, reason: &str, sure: bool) -> Result<u8, Fault> {
    let usage = |sentence: &str| Fault::new(Code::UsageInvalid, sentence.to_owned()).at("nothing was changed");
    if reason.is_empty() {
        return Err(usage("a new anchor needs a reason").hint("--reason \"why the history was rewritten\""));
    }
    let world = host.world()?;
    world.set_up()?;
    // No run may be in flight: it would write the old anchor back.
    let _lock = world.lock_run("trust")?;
    accept::can_be_anchor(&*world, revision)?;
    let from = match world.ledger() {
        Ok(ledger) => ledger.anchor.map_or_else(|| "nothing".to_owned(), |anchor| anchor.revision.to_string()),
        // This is the way back from one; what can be read of it is kept.
        Err(fault) if fault.code == Code::LedgerDamaged => "a ledger that cannot be believed".to_owned(),
        Err(fault) => return Err(fault),
    };
    let question = format!(
        "this host goes from {from}\n                 to {revision},\nand no signature says so: you do. \
         Whatever that revision and those after it say will run here as root.\nType `yes` to go on: "
    );
    if !sure && !person::agrees(&question) {
        return Err(usage("the anchor was not moved").hint("answer `yes`, or add `--yes` where nobody can be asked"));
    }
    let owner = person::who_types();
    let anchor = Anchor {
        revision: revision.clone(),
        first: revision.clone(),
        signer: format!("{owner} on this host: {reason}"),
        trust: Warrant::Person,
        at: world.now(),
    };
    ledger::set_anchor(&world.settings().state, anchor)?;
    show::text(&format!("anchor moved to {revision}\n"))?;
    world.say(Event::AnchorMoved { owner, reason: reason.to_owned(), from, revision: revision.clone() });
    Ok(0)
}
