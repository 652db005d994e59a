//! How one version of moorline follows another: what the anchor does first, and what the keeper does last.

use jiff::SignedDuration;

use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::report::Draft;
use crate::decide::succession::event::ReleaseEvent;
use crate::decide::succession::{self, Start, Verdict};
use crate::model::Report;
use crate::model::release::{Offer, Release, Succession};
use crate::runs::accept::Trust;
use crate::runs::prepare;
use crate::world::World;
use crate::world::release::Arrival;

/// What the process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It is the keeper: it tries new versions, and records what becomes of them.
    Keeper,
    /// Something else. It takes things as they are.
    Other,
}

/// Who this process goes on as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follower {
    /// Itself: the package's program, or the version that it has become already.
    Itself,
    /// This version, which was verified.
    Release(Release),
    /// Nobody: it was asked to stop.
    Nobody,
}

/// Whether a service goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It does.
    Stay,
    /// It makes way: the anchor has to look anew who is to run.
    Make,
}

/// The anchor's part, before anything else: finds out who is to run, and tries what is on trial. Whatever is wrong with
/// another version, this one goes on.
pub async fn begin(world: &impl World, part: Part) -> Follower {
    if world.own_release().is_some() {
        return Follower::Itself;
    }
    let state = match world.succession() {
        Ok(state) => state,
        Err(fault) => return stay(world, fault),
    };
    if state == Succession::default() {
        return Follower::Itself;
    }
    if part == Part::Other {
        return follow(world, &state, part);
    }
    match start(world, &state).await {
        Ok(Some(state)) => follow(world, &state, part),
        Ok(None) => Follower::Nobody,
        Err(fault) => stay(world, fault),
    }
}

/// Records a start of the keeper, and carries out a trial. None when it was asked to stop.
async fn start(world: &impl World, state: &Succession) -> Result<Option<Succession>, Fault> {
    let (next, start) = succession::start(state, &world.own_version(), &world.boot(), world.now());
    keep(world, state, &next)?;
    let Start::Try(release) = start else { return Ok(Some(next)) };
    world.say(Event::Release(ReleaseEvent::TrialBegan { release: release.clone() }));
    let verdict = match world.verify_release(&release) {
        Ok(()) => world.try_release(&release).await,
        Err(fault) => Verdict::Refused(one_line(&fault)),
    };
    let ended = succession::tried(&next, &verdict, world.now());
    keep(world, &next, &ended)?;
    match verdict {
        Verdict::Passed => world.say(Event::Release(ReleaseEvent::TrialPassed { release })),
        Verdict::Doubtful(because) => world.say(Event::Release(ReleaseEvent::TrialDoubted { release, because })),
        Verdict::Refused(_) => {}
        Verdict::Interrupted => return Ok(None),
    }
    Ok(Some(ended))
}

fn follow(world: &impl World, state: &Succession, part: Part) -> Follower {
    let Some(release) = succession::runs(state) else { return Follower::Itself };
    match world.verify_release(release) {
        Ok(()) => Follower::Release(release.clone()),
        Err(fault) => {
            if part == Part::Keeper {
                give_up(world, state, &fault);
            }
            stay(world, fault)
        }
    }
}

/// Records that the chosen version cannot run any more.
pub fn give_up(world: &impl World, state: &Succession, fault: &Fault) {
    if let Err(fault) = world.keep_succession(&succession::lost(state, one_line(fault))) {
        stay(world, fault);
    }
}

fn stay(world: &impl World, fault: Fault) -> Follower {
    world.say(Event::Release(ReleaseEvent::Damaged { fault: Box::new(fault) }));
    Follower::Itself
}

/// Writes the record if it has changed, and tells of a version that was refused.
fn keep(world: &impl World, before: &Succession, next: &Succession) -> Result<(), Fault> {
    if next == before {
        return Ok(());
    }
    world.keep_succession(next)?;
    if next.refused.is_some() && next.refused != before.refused {
        let fault = succession::fault(next, world.now()).map(Box::new);
        fault.into_iter().for_each(|fault| world.say(Event::Release(ReleaseEvent::Refused { fault })));
    }
    Ok(())
}

/// Notes what the repository names for this host. A record that cannot be believed begins anew: the repository says again
/// what is to run.
pub fn note(world: &impl World, offer: Option<&Offer>) -> Result<(), Fault> {
    let state = match world.succession() {
        Ok(state) => state,
        Err(fault) => {
            world.begin_succession_anew(&succession::anew(&world.own_version(), one_line(&fault)))?;
            world.succession()?
        }
    };
    if offer.is_none() && state == Succession::default() {
        return Ok(());
    }
    let mut next = succession::name(&state, offer, world.now());
    if world.own_release().is_none() {
        next.package = world.own_version();
    }
    keep(world, &state, &next)
}

/// Whether this process is a version on trial.
pub fn is_on_trial(world: &impl World) -> bool {
    let Some(own) = world.own_release() else { return false };
    let Ok(state) = world.succession() else { return false };
    let is_own = |release: &Release| release.directory() == own;
    state.trial.is_some_and(|trial| is_own(&trial.release)) && !state.chosen.as_ref().is_some_and(is_own)
}

/// The run of a version on trial: it looks at everything and writes nothing, so that whoever comes back finds what it
/// left. Whatever it would do counts against it.
pub async fn look_only(world: &impl World, draft: &mut Draft) -> Result<(), Fault> {
    let mut ledger = world.ledger()?;
    draft.digests = ledger.digests();
    prepare::prepare(world, &mut ledger, draft, Trust::LookOnly, None).await?;
    if let Some(hold) = ledger.held(world.now()) {
        return Err(Fault::new(Code::Held, hold.to_string()));
    }
    match draft.plan.steps.len() {
        0 if draft.put_off.is_empty() => Ok(()),
        steps => Err(succession::acts(steps)),
    }
}

/// What a person should know about the version that should run.
pub fn concern(world: &impl World) -> Option<Fault> {
    let state = world.succession().ok().filter(|state| *state != Succession::default())?;
    succession::fault(&state, world.now())
}

/// Which version runs here, for `doctor`; or what is wrong with another one.
pub fn examine(world: &impl World) -> Result<String, Fault> {
    let state = world.succession()?;
    match succession::fault(&state, world.now()) {
        Some(fault) => Err(fault),
        None => Ok(succession::runs_text(&state, &world.own_version())),
    }
}

/// Who was to run when a service began.
pub fn who_runs(world: &impl World) -> Option<Release> {
    succession::runs(&world.succession().ok()?).cloned()
}

/// Whether another one is to run by now.
pub fn is_superseded(world: &impl World, began_as: Option<&Release>) -> bool {
    world.succession().is_ok_and(|state| succession::runs(&state) != began_as)
}

/// The keeper's part, after a run: answers a doubt, and puts what was named on trial if it has come and is what the
/// repository says. Only after a run that had nothing to do.
pub fn go_on(
    world: &impl World,
    report: &Report,
    began_as: Option<&Release>,
    lived: SignedDuration,
) -> Result<Way, Fault> {
    let state = world.succession()?;
    if state == Succession::default() {
        return Ok(Way::Stay);
    }
    let is_still = succession::is_still(report);
    let mut next = succession::answer(&state, is_still, world.now());
    if is_still {
        next = succession::lived(&next, lived);
    }
    keep(world, &state, &next)?;
    if !is_still || world.backup_is_on() {
        return Ok(Way::Stay);
    }
    if succession::runs(&next) != began_as {
        return Ok(Way::Make);
    }
    let Some(offer) = succession::due_at(&next, world.now()) else {
        world.forget_releases(&succession::needed(&next))?;
        return Ok(Way::Stay);
    };
    match world.install_release(offer)? {
        Arrival::Missing => Ok(Way::Stay),
        Arrival::Wrong(because) => {
            let wrong = succession::wrong(&next, because, world.now());
            keep(world, &next, &wrong)?;
            let fault = succession::fault(&wrong, world.now()).map(Box::new);
            fault.into_iter().for_each(|fault| world.say(Event::Release(ReleaseEvent::Unfetched { fault })));
            Ok(Way::Stay)
        }
        Arrival::Installed => {
            keep(world, &next, &succession::put_on_trial(&next, &offer.release))?;
            Ok(Way::Make)
        }
    }
}

/// The courier's part: fetches what is named and has not come. None when there is nothing to fetch.
pub async fn fetch(world: &impl World) -> Option<Result<Release, Fault>> {
    let state = world.succession().ok()?;
    let offer = succession::due_at(&state, world.now()).filter(|_| state.trial.is_none())?;
    if world.has_arrived(offer) {
        return None;
    }
    Some(world.fetch_release(offer).await.map(|()| offer.release.clone()))
}

/// A person wants what was refused to be tried again. Whether there was anything.
pub fn retry(world: &impl World) -> Result<Option<Release>, Fault> {
    let state = world.succession()?;
    let Some(refused) = &state.refused else { return Ok(None) };
    world.keep_succession(&succession::retry(&state))?;
    Ok(Some(refused.release.clone()))
}

fn one_line(fault: &Fault) -> String {
    let first = fault.because.first().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{}{first}", fault.sentence)
}
