//! From the accepted tip to the tree that this host should run: reads the ring, and says what it waits for.

use crate::decide::downgrade;
use crate::decide::fault::{Code, Fault};
use crate::decide::fleet::{self, Mistake};
use crate::decide::report::Draft;
use crate::decide::ring::seal::{self, Offered};
use crate::decide::ring::{Answer, Heading, Question, answer};
use crate::decide::trust::{Verified, VerifiedTree};
use crate::model::{Ledger, Revision, Ring, RingPointer, Tree};
use crate::runs::accept::{self, Trust};
use crate::world::World;

/// What this host should run, and the ring that says so.
#[derive(Debug)]
pub struct Deployed {
    /// The tree.
    pub tree: VerifiedTree,
    /// The ring, as it stands at the tip.
    pub ring: Ring,
    /// Every accepted revision, newest first; read only if the host moves.
    pub path: Option<Vec<Revision>>,
}

/// The tree that this host should run: the one its ring points at, or the one before while it waits for a wave or for
/// the end of a freeze. The ring is read from the tip. `at` is a revision to plan for instead.
pub fn deployed(
    world: &impl World,
    ledger: &mut Ledger,
    draft: &mut Draft,
    verified: &Verified,
    tip_tree: VerifiedTree,
    trust: Trust,
    at: Option<&Revision>,
) -> Result<Deployed, Fault> {
    let tip = verified.tip().clone();
    let ring = ring_at(world, &tip_tree, &tip)?;
    draft.ring = Some(ring.name.clone());
    let before = ledger.clone();
    let accepted = accept_seal(world, ledger, &ring, &tip_tree);
    if trust == Trust::Advance && *ledger != before {
        // Also a halt must be remembered, or the file before it could return and end it.
        world.persist(ledger)?;
    }
    let before = ledger.clone();
    let target = match (at, &ring.pointer) {
        (Some(at), _) => at.clone(),
        (None, RingPointer::Follow(_)) => tip.clone(),
        (None, RingPointer::Commit(commit)) => commit.clone(),
    };
    draft.revision = Some(target.clone());
    accepted?;
    if let (Some(reason), None) = (&ring.halt, at) {
        return Err(halted(&ring.name, reason, "nothing was changed"));
    }
    let tree = if target == tip { tip_tree.clone() } else { admit(world, ledger, verified, &target)? };
    if at.is_some() {
        return Ok(Deployed { tree, ring, path: None });
    }
    let moves = ledger.released().is_some_and(|released| *released != target)
        || downgrade::might_matter(&ledger.applied, &target);
    let path = if moves { Some(path(world, ledger, verified)?) } else { None };
    let tree = match path.as_deref().and_then(|path| waits(world, ledger, &ring, &tip_tree, &target, path)) {
        None => {
            ledger.released = Some(target);
            ledger.pending = None;
            tree
        }
        Some((answer, released)) => {
            if let Answer::Wait(pending, waiting) = answer {
                draft.notes.push(waiting.sentence(&ring.name));
                draft.waiting = Some(waiting);
                ledger.pending = Some(pending);
            }
            draft.revision = Some(released.clone());
            admit(world, ledger, verified, &released)?
        }
    };
    if trust == Trust::Advance && *ledger != before {
        world.persist(ledger)?;
    }
    Ok(Deployed { tree, ring, path })
}

/// The order to wait, with the revision that runs meanwhile; none when the host moves.
fn waits(
    world: &impl World,
    ledger: &Ledger,
    ring: &Ring,
    tip_tree: &Tree,
    target: &Revision,
    path: &[Revision],
) -> Option<(Answer, Revision)> {
    let settings = world.settings();
    // After a rewritten history nobody vouches any more for what ran before it, so it cannot be kept running.
    let released = ledger.released().filter(|released| path.contains(released))?;
    let hosts = fleet::hosts_of_ring(tip_tree, &ring.name);
    let question = Question {
        ring,
        host: &settings.host,
        hosts: &hosts,
        target,
        released: Some(released),
        heading: heading(path, released, target),
        pending: ledger.pending.as_ref(),
        now: world.now(),
        interval: settings.interval,
    };
    match answer(&question) {
        Answer::Go => None,
        wait => Some((wait, released.clone())),
    }
}

/// Where `target` lies on an accepted path, newest first, seen from `from`.
pub fn heading(path: &[Revision], from: &Revision, target: &Revision) -> Heading {
    let place = |wanted: &Revision| path.iter().position(|revision| revision == wanted);
    match (place(from), place(target)) {
        (Some(from), Some(target)) if target > from => Heading::Back,
        _ => Heading::Forward,
    }
}

/// Every accepted revision, newest first.
pub fn path(world: &impl World, ledger: &Ledger, verified: &Verified) -> Result<Vec<Revision>, Fault> {
    let first = first(ledger, verified);
    let history = world.history(verified.tip(), Some(&first))?;
    Ok(history.commits.into_iter().map(|commit| commit.revision).collect())
}

fn first(ledger: &Ledger, verified: &Verified) -> Revision {
    ledger.anchor.as_ref().map_or_else(|| verified.first().clone(), |anchor| anchor.first.clone())
}

/// The files of a revision that must be accepted, also if it is older than what was verified in this run: then it must
/// be on the same path, and not older than the first one.
fn admit(world: &impl World, ledger: &Ledger, verified: &Verified, revision: &Revision) -> Result<VerifiedTree, Fault> {
    if verified.accepts(revision) {
        return accept::admit(world, verified, revision, ledger);
    }
    let whole = accept::verify(world, ledger, verified.tip(), Some(&first(ledger, verified)))?;
    accept::admit(world, &whole, revision, ledger)
}

/// Says that the ring is halted, if a newer tip that can be believed says so. A run asks before it touches a stack, since
/// pulling images takes minutes in which somebody may have had reason to halt.
pub fn unless_halted(world: &impl World, ledger: &Ledger, draft: &Draft) -> Result<(), Fault> {
    let Some(tip) = world.newer_tip(draft.tip.as_ref()) else { return Ok(()) };
    let until = ledger.anchor.as_ref().map(|anchor| &anchor.revision);
    // What is wrong with the newer tip is the business of the next run.
    let read = accept::verify(world, ledger, &tip, until)
        .and_then(|verified| accept::admit(world, &verified, &tip, ledger))
        .and_then(|tree| ring_at(world, &tree, &tip));
    match read {
        Ok(Ring { name, halt: Some(reason), .. }) => {
            Err(halted(&name, &reason, "it was halted during this run, which changed nothing after that"))
        }
        _ => Ok(()),
    }
}

fn halted(ring: &str, reason: &str, place: &str) -> Fault {
    Fault::new(Code::Halted, format!("ring {ring} is halted: {reason}"))
        .at(place)
        .hint(format!("a commit that removes `halt` from rings/{ring}.yaml ends it"))
}

fn ring_at(world: &impl World, tree: &Tree, tip: &Revision) -> Result<Ring, Fault> {
    let settings = world.settings();
    let invalid = |found: Vec<Mistake>| fleet::spec_invalid(found, tip.short());
    let name = fleet::ring_of(tree, &settings.host).map_err(invalid)?;
    fleet::ring(tree, &name, &settings.branch).map_err(invalid)
}

fn accept_seal(world: &impl World, ledger: &mut Ledger, ring: &Ring, tree: &Tree) -> Result<(), Fault> {
    let bytes = |path: &str| tree.get(path).map(|file| file.bytes.as_slice());
    let path = fleet::ring_path(&ring.name);
    let offered = Offered {
        ring,
        file: bytes(&path).unwrap_or_default(),
        signature: bytes(&fleet::ring_signature_path(&ring.name)),
        signers: bytes("signers/allowed_signers").unwrap_or_default(),
        at: world.now().as_second(),
    };
    match seal::check(&offered, ledger.seal.as_ref()) {
        Ok(seal) => {
            ledger.seal = seal;
            Ok(())
        }
        Err(flaw) => Err(Fault::new(flaw.code(), format!("{path} does not count on this host"))
            .because(flaw.to_string())
            .at(match &ledger.released {
                Some(released) => format!("nothing was changed; this host stays at {}", released.short()),
                None => "nothing was changed".to_owned(),
            })
            .hint(format!("`ssh-keygen -Y sign -n {} -f KEY {path}`; docs/promotion.md", seal::NAMESPACE))),
    }
}
