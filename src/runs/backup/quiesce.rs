//! Makes the containers of a stack stand while its files are read, and lets them go on: at the end, however it ends, or
//! at the beginning of whatever comes next.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::decide::compose;
use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::model::backup::{Going, StackBackup, Standing, Stood};
use crate::model::{Container, Health, Model, State};
use crate::world::World;
use crate::world::restic::order::Turn;

/// How long a backup waits for the end of a run.
const PATIENCE: Duration = Duration::from_mins(15);
/// How long it waits for an engine that is being started again.
const RESTART: Duration = Duration::from_secs(60);
/// How long health checks get to pass again.
const RECOVERY: Duration = Duration::from_secs(60);
/// How often it looks.
const PACE: Duration = Duration::from_secs(1);

/// Who holds the run lock, which keeps runs from starting what a backup stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunLock {
    /// Nobody that we know of: it is taken for as long as containers stand.
    Free,
    /// The run that asks for the snapshot.
    Ours,
}

/// Anything that is held until it is dropped.
trait Held {}
impl<T> Held for T {}

/// The containers of one stack.
pub struct Quiescence<'w, W> {
    world: &'w W,
    plan: &'w StackBackup,
    model: &'w Model,
    run_lock: RunLock,
    lock: Option<Box<dyn Held + 'w>>,
    standing: Option<Standing>,
}

impl<'w, W: World> Quiescence<'w, W> {
    /// Nothing is touched yet.
    pub fn new(world: &'w W, plan: &'w StackBackup, model: &'w Model, run_lock: RunLock) -> Self {
        Self { world, plan, model, run_lock, lock: None, standing: None }
    }

    /// Does what a job asks for.
    pub async fn turn(&mut self, turn: Turn) -> Result<(), Fault> {
        match turn {
            Turn::Stand => self.stand().await,
            Turn::GoOn => self.go_on().await,
        }
    }

    async fn stand(&mut self) -> Result<(), Fault> {
        if self.run_lock == RunLock::Free {
            self.lock = Some(Box::new(wait_for_lock(self.world, &self.plan.stack).await?));
        }
        let observed = self.world.observe().await?;
        let containers: Vec<&Container> = observed.of(&self.plan.stack).collect();
        let standing = Standing {
            stack: self.plan.stack.clone(),
            how: self.plan.quiesce,
            going: Going::Down,
            since: self.world.now(),
            waves: waves(self.plan, self.model, &containers),
        };
        // On disk before the first one stands: from here on, whoever comes next sees to it that they go on.
        self.world.note_standing(&standing)?;
        let containers = standing.waves.iter().map(Vec::len).sum();
        self.world.say(Event::ContainersStood { stack: standing.stack.clone(), containers });
        make_stand(self.world, self.standing.insert(standing)).await?;
        // From here on nothing is on its way to a stand any more; what is on disk need not say so.
        self.standing.iter_mut().for_each(|standing| standing.going = Going::Up);
        Ok(())
    }

    /// Lets them go on if they stand. The first container that does not is named, and all others go on nevertheless.
    pub async fn go_on(&mut self) -> Result<(), Fault> {
        let Some(standing) = &self.standing else { return Ok(()) };
        let mut gone_on = let_go_on(self.world, standing).await;
        let patience = self.world.now() + RESTART;
        while self.world.now() < patience
            && !self.world.stopping()
            && gone_on.as_ref().is_err_and(|fault| fault.code == Code::EngineAway)
        {
            self.world.wait(PACE).await;
            gone_on = let_go_on(self.world, standing).await;
        }
        // What the engine was not there for is tried again by the next run.
        self.standing = None;
        self.lock = None;
        gone_on
    }
}

/// The running containers of the services that use what is read, in the order in which they start.
fn waves(plan: &StackBackup, model: &Model, containers: &[&Container]) -> Vec<Vec<Stood>> {
    let writers: BTreeSet<String> = plan.writers.iter().cloned().collect();
    let of_wave = |wave: &BTreeSet<String>| {
        let runs = |container: &&&Container| wave.contains(&container.service) && container.state == State::Running;
        let stood = |container: &&Container| Stood { id: container.id.clone(), name: container.name.clone() };
        containers.iter().filter(runs).map(stood).collect()
    };
    let waves: Vec<Vec<Stood>> = compose::waves(model, &writers).iter().map(of_wave).collect();
    waves.into_iter().filter(|wave| !wave.is_empty()).collect()
}

async fn wait_for_lock<W: World>(world: &W, stack: &str) -> Result<impl Sized, Fault> {
    let patience = world.now() + PATIENCE;
    let mut waits = false;
    loop {
        match world.lock_run("backup") {
            Err(fault) if fault.code == Code::LockHeld && world.now() < patience && !world.stopping() => {
                if !waits {
                    world.say(Event::BackupWaits { stack: stack.to_owned(), fault: Box::new(fault) });
                }
                waits = true;
                world.wait(PACE).await;
            }
            Err(fault) => return Err(fault.at(format!("no snapshot of {stack} was written: a run was in the way"))),
            Ok(lock) => return Ok(lock),
        }
    }
}

async fn make_stand(world: &impl World, standing: &Standing) -> Result<(), Fault> {
    for wave in standing.waves.iter().rev() {
        futures_util::future::try_join_all(wave.iter().map(|one| world.make_stand(one, standing.how))).await?;
    }
    Ok(())
}

async fn let_go_on(world: &impl World, standing: &Standing) -> Result<(), Fault> {
    let is_away = |done: &Result<(), Fault>| done.as_ref().is_err_and(|fault| fault.code == Code::EngineAway);
    if standing.going == Going::Down {
        // The engine may be about to stop one that still runs: started now, it would end a moment later.
        let stands = make_stand(world, standing).await;
        if is_away(&stands) {
            return stands;
        }
    }
    // If this cannot be written, those that run again would be stopped and started once more after a kill, no worse.
    let _ = world.note_standing(&Standing { going: Going::Up, ..standing.clone() });
    let mut first = Ok(());
    for wave in &standing.waves {
        let all = futures_util::future::join_all(wave.iter().map(|one| world.let_go_on(one, standing.how))).await;
        first = all.into_iter().fold(first, Result::and);
        if is_away(&first) {
            return first;
        }
    }
    recover_health(world, standing).await?;
    world.forget_standing()?;
    world.say(Event::ContainersWentOn { stack: standing.stack.clone() });
    first
}

/// The checks of a container that stood may have failed for it. No run looks before they had the time to pass again: it
/// would say that the service is not well.
async fn recover_health(world: &impl World, standing: &Standing) -> Result<(), Fault> {
    let patience = world.now() + RECOVERY;
    while world.now() < patience && !world.stopping() {
        let observed = world.observe().await?;
        let stood = |container: &Container| standing.waves.iter().flatten().any(|one| one.id == container.id);
        if !observed.of(&standing.stack).any(|one| stood(one) && one.health == Some(Health::Unhealthy)) {
            break;
        }
        world.wait(PACE).await;
    }
    Ok(())
}

/// Lets go on what a backup left standing that was killed. Whoever calls this holds the run lock, so no backup is in the
/// middle of it. Returns the stack.
///
/// A container that the engine refuses to start is no reason to stop here: the run that comes next finds it standing
/// still and sees to it.
pub async fn undo(world: &impl World) -> Result<Option<String>, Fault> {
    let Some(standing) = world.standing()? else { return Ok(None) };
    match let_go_on(world, &standing).await {
        Err(fault) if fault.code == Code::StepFailed => {}
        done => done?,
    }
    Ok(Some(standing.stack))
}

/// The same for whoever does not hold the run lock.
pub async fn recover(world: &impl World) -> Result<(), Fault> {
    let Some(standing) = world.standing()? else { return Ok(()) };
    let _lock = wait_for_lock(world, &standing.stack).await?;
    undo(world).await.map(drop)
}
