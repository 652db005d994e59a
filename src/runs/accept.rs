//! Which revision of the clone this host may act on, and where its anchor moves to.

use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::report::Draft;
use crate::decide::trust::{self, Refusal, Unadmitted, Verified, VerifiedTree};
use crate::model::{Anchor, Ledger, Revision};
use crate::world::World;

/// The exit code of every fault that says that a revision is not trusted.
const REFUSED: u8 = 13;

/// What a run may do to the anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Accept the tip: the anchor moves, and is on disk before anything else happens.
    Advance,
    /// Only look.
    LookOnly,
}

/// Verifies the tip and, if the run may, moves the anchor to it.
pub fn accept(world: &impl World, ledger: &mut Ledger, draft: &mut Draft, trust: Trust) -> Result<Verified, Fault> {
    let tip = world.tip()?;
    let until = ledger.anchor.as_ref().map(|anchor| anchor.revision.clone()).or(world.settings().first.clone());
    let verified = verify(world, ledger, &tip, until.as_ref()).inspect_err(|fault| {
        // A clone that cannot be read says nothing about the revision.
        if trust == Trust::Advance && fault.code.exit() == REFUSED {
            world.say(Event::RevisionRefused { run: draft.run.clone(), fault: Box::new(fault.clone()) });
        }
    })?;
    let known = ledger.anchor.as_ref();
    let (signer, trust_of) = match verified.signer() {
        Some(signer) => (format!("{} {}", signer.principal, signer.fingerprint), signer.warrant()),
        None => known.map(|anchor| (anchor.signer.clone(), anchor.trust)).unwrap_or_default(),
    };
    draft.tip = Some(tip.clone());
    draft.trust = trust_of;
    draft.signer = Some(signer.clone());
    draft.accepted = known.filter(|anchor| anchor.revision == tip).map(|anchor| anchor.at);
    let is_new = ledger.anchor.as_ref().is_none_or(|anchor| anchor.revision != tip);
    if is_new && trust == Trust::Advance {
        let count = verified.range().len();
        let first = verified.first().clone();
        let (revision, at) = (tip.clone(), world.now());
        ledger.anchor = Some(Anchor { revision, first, signer: signer.clone(), trust: trust_of, at });
        world.persist(ledger)?;
        world.say(Event::RevisionVerified { run: draft.run.clone(), revision: tip, signer, count });
    }
    Ok(verified)
}

/// Whether a person may make this revision the anchor: it is there, it is a commit as git writes it, and its list of
/// signers can be used, or nothing could ever follow it.
pub fn can_be_anchor(world: &impl World, revision: &Revision) -> Result<(), Fault> {
    let history = world.history(revision, Some(revision))?;
    let anchor = trust::Anchor::Known { newest: revision, first: revision };
    let verified = trust::verify(&history, anchor, &[]);
    verified.map(drop).map_err(|refusal| refused(&refusal, &Ledger::default()))
}

/// Verifies the path from `tip` down to `until`, with the anchor of this host.
pub fn verify(
    world: &impl World,
    ledger: &Ledger,
    tip: &Revision,
    until: Option<&Revision>,
) -> Result<Verified, Fault> {
    let history = world.history(tip, until)?;
    let anchor = match (&ledger.anchor, &world.settings().first) {
        (Some(anchor), _) => trust::Anchor::Known { newest: &anchor.revision, first: &anchor.first },
        (None, Some(first)) => trust::Anchor::Named(first),
        (None, None) => trust::Anchor::Root,
    };
    trust::verify(&history, anchor, &world.local_signers()?).map_err(|refusal| refused(&refusal, ledger))
}

/// The files of an accepted revision.
pub fn admit(
    world: &impl World,
    verified: &Verified,
    revision: &Revision,
    ledger: &Ledger,
) -> Result<VerifiedTree, Fault> {
    trust::admit(verified, revision, &world.objects()?).map_err(|error| match error {
        Unadmitted::Refused(refusal) => refused(&refusal, ledger),
        Unadmitted::Unread(fault) => fault,
    })
}

fn refused(refusal: &Refusal, ledger: &Ledger) -> Fault {
    let mut fault = Fault::new(Code::of_refusal(refusal), refusal.to_string());
    fault.because.extend(refusal.because());
    fault.hint = refusal.hint();
    fault.at(match &ledger.anchor {
        Some(anchor) => format!("nothing was changed; this host stays at {}", anchor.revision.short()),
        None => "nothing was changed; this host has not accepted any revision yet".to_owned(),
    })
}
