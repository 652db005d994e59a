//! `restore --in-place`: a snapshot comes back where the stack has its data. It is restored beside that while the stack
//! runs; then the containers are stopped, directories change places, and the containers are started. The old data stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::decide::fault::{Code, Fault};
use crate::decide::{backup, compose};
use crate::model::backup::{InPlace, Move, Repository, Stage};
use crate::model::{Applied, Hold, State};
use crate::runs::backup::known::{Known, known};
use crate::runs::backup::restore::{Far, fetch};
use crate::runs::backup::sources::{plan, sources};
use crate::world::World;
use crate::world::in_place::Hands;
use crate::world::restic::order::{Line, Restore, Snapshot, Task};

/// How long a run of the keeper is waited for.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
const AGAIN: Duration = Duration::from_secs(2);
/// The longest hold there is.
const HOLD: Duration = Duration::from_secs(24 * 3600);

/// What a person wants back.
#[derive(Debug)]
pub struct Wanted {
    /// The stack.
    pub stack: String,
    /// `latest`, or the beginning of an id.
    pub snapshot: String,
    /// One volume or directory of it; all without one.
    pub path: Option<PathBuf>,
    /// The name of the repository; the first one without.
    pub repository: Option<String>,
    /// The host whose snapshot it is, if that is another one.
    pub from_host: Option<String>,
    /// Who wants it.
    pub owner: String,
}

/// What will be done, for whoever has to agree; and what was done.
#[derive(Debug)]
pub struct Course {
    /// The restore.
    pub restore: InPlace,
    /// What stays as it is, and why.
    pub left: Vec<String>,
    /// Whether one that was cut goes on.
    pub goes_on: bool,
}

/// Restores a snapshot in place, or finishes one that was cut. `agrees` is asked before anything is touched.
pub async fn in_place(
    world: &(impl World + Hands),
    wanted: &Wanted,
    agrees: &mut dyn FnMut(&Course) -> Result<(), Fault>,
    hear: &mut dyn FnMut(&str, Far),
) -> Result<Course, Fault> {
    let known = known(world)?;
    let _backup = world.lock_backup()?;
    let begun = world.unfinished_restores()?.into_iter().find(|restore| restore.stack == wanted.stack);
    let mut course = match begun {
        Some(restore) => Course { restore: same(restore, wanted)?, left: Vec::new(), goes_on: true },
        None => choose(world, &known, wanted).await?,
    };
    agrees(&course)?;
    if !course.goes_on {
        for one in &course.restore.moves {
            world.clear_beside(&one.beside, &course.restore.snapshot)?;
        }
        world.note_restore(&course.restore)?;
    }
    if let Some(hold) = &course.restore.hold {
        world.hold_stack(&wanted.stack, Some(hold))?;
    }
    if course.restore.phase == Stage::Beside {
        if let Err(fault) = beside(world, &known, &course.restore, hear).await {
            return Err(undone(world, &course.restore, fault));
        }
        let _run = match run_lock(world).await {
            Ok(lock) => lock,
            Err(fault) => return Err(undone(world, &course.restore, fault)),
        };
        course.restore.stopped = running(world, &known, &wanted.stack).await?;
        course.restore.phase = Stage::Switching;
        world.note_restore(&course.restore)?;
        switch(world, &course.restore).await?;
    } else {
        let _run = run_lock(world).await?;
        switch(world, &course.restore).await?;
    }
    Ok(course)
}

/// The one that was cut, if it is the one that is wanted now.
fn same(restore: InPlace, wanted: &Wanted) -> Result<InPlace, Fault> {
    let is_same = restore.asked == wanted.snapshot || restore.snapshot.starts_with(&wanted.snapshot);
    if is_same && restore.path == wanted.path {
        return Ok(restore);
    }
    Err(Fault::new(Code::RestoreUnfinished, format!("another restore of {} is not finished", wanted.stack))
        .at("nothing was changed")
        .hint(format!("`{}` finishes it first", backup::in_place_command(&restore))))
}

async fn choose(world: &(impl World + Hands), known: &Known, wanted: &Wanted) -> Result<Course, Fault> {
    let stack = &wanted.stack;
    let stacks = known.stacks(Some(stack))?;
    let applied: &Applied = stacks.get(stack).copied().ok_or_else(|| refused(format!("there is no stack {stack}")))?;
    let repository = known.repository(wanted.repository.as_deref())?;
    let snapshot = pick(listed(world, known, repository).await?, wanted, &world.settings().host)?;
    let since = world.now();
    let stamp = since.strftime("%Y%m%dT%H%M%SZ").to_string();
    let (mut moves, mut left) = (Vec::new(), Vec::new());
    for source in sources(world, &plan(world, stack, applied), applied).await? {
        let is_wanted = wanted.path.as_ref().is_none_or(|path| *path == source.to);
        if source.to == Path::new("/fleet") || !is_wanted {
            continue;
        }
        let of = source.to.clone();
        let live = if source.below.as_os_str().is_empty() { source.from } else { source.from.join(&source.below) };
        if !snapshot.paths.iter().any(|path| Path::new(path) == of) {
            left.push(format!("{} is not in this snapshot", of.display()));
        } else if backup::is_read_only(&applied.model, &live) {
            left.push(format!("{} is only read by the stack: it comes from the fleet repository", of.display()));
        } else if !world.can_move(&live)? {
            left.push(format!("{} is no directory", of.display()));
        } else {
            let name = live.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let beside = live.with_file_name(format!("{name}.moorline-restore"));
            let aside = live.with_file_name(format!("{name}.before-{stamp}"));
            moves.push(Move { of, live, beside, aside });
        }
    }
    if moves.is_empty() {
        let what = wanted.path.as_ref().map_or_else(|| "anything".into(), |path| path.display().to_string());
        let refused = refused(format!("{stack} has no place for {what} of snapshot {}", short(&snapshot.id)));
        let known = snapshot.paths.join(" ");
        return Err(left
            .into_iter()
            .fold(refused, Fault::because)
            .hint(format!("the snapshot has {known}; `--to DIR`")));
    }
    let now = known.ledger.held(since).is_some() || known.ledger.held_stacks(since).any(|(held, _)| held == stack);
    let reason = format!("restore of snapshot {} in place", short(&snapshot.id));
    let hold = (!now).then(|| Hold { owner: wanted.owner.clone(), reason, since, until: since + HOLD });
    let restore = InPlace {
        stack: stack.clone(),
        repository: repository.name.clone(),
        asked: wanted.snapshot.clone(),
        snapshot: snapshot.id,
        path: wanted.path.clone(),
        since,
        hold,
        phase: Stage::Beside,
        moves,
        stopped: Vec::new(),
    };
    Ok(Course { restore, left, goes_on: false })
}

async fn listed(world: &impl World, known: &Known, repository: &Repository) -> Result<Vec<Snapshot>, Fault> {
    let mut snapshots = Vec::new();
    let mut heard = |line: Line| {
        if let Line::Snapshot(snapshot) = line {
            snapshots.push(snapshot);
        }
    };
    world.work(repository, &known.access(repository)?, Task::Snapshots, &mut heard).await?;
    Ok(snapshots)
}

/// The snapshot that a person means.
fn pick(snapshots: Vec<Snapshot>, wanted: &Wanted, here: &str) -> Result<Snapshot, Fault> {
    let host = wanted.from_host.as_deref().unwrap_or(here);
    let (stack, asked) = (&wanted.stack, &wanted.snapshot);
    let mut found: Vec<Snapshot> = snapshots
        .into_iter()
        .filter(|snapshot| snapshot.label == *stack)
        .filter(|snapshot| if asked == "latest" { snapshot.host == host } else { snapshot.id.starts_with(asked) })
        .collect();
    if asked != "latest" && found.len() > 1 {
        return Err(refused(format!("several snapshots begin with {asked}")));
    }
    let none = || refused(format!("there is no snapshot {asked} of {stack}")).hint("`moorline snapshots` lists them");
    found.pop().ok_or_else(none)
}

/// Restores everything beside what is there. What is lost ends it: half of the data is no data.
async fn beside(
    world: &(impl World + Hands),
    known: &Known,
    restore: &InPlace,
    hear: &mut dyn FnMut(&str, Far),
) -> Result<(), Fault> {
    let repository = known.repository(Some(&restore.repository))?;
    for one in &restore.moves {
        if world.is_beside(&one.beside) {
            continue;
        }
        let task = Restore {
            host: world.settings().host.clone(),
            label: restore.stack.clone(),
            snapshot: restore.snapshot.clone(),
            path: Some(one.of.clone()),
            to: one.beside.clone(),
        };
        let restored = fetch(world, known, repository, task, hear).await?;
        if restored.lost.count > 0 {
            let what = format!("{} of {} cannot be restored", restored.lost.count, one.of.display());
            let fault = restored.lost.first.iter().fold(Fault::new(Code::BackupDamaged, what), |fault, lost| {
                if fault.because.len() < 10 { fault.because(lost.clone()) } else { fault }
            });
            return Err(fault.hint("`restore --to DIR` restores what is left; or take another snapshot or repository"));
        }
    }
    Ok(())
}

/// Nothing was touched: what was set for the restore is taken back, and what was restored beside stays for the next try.
fn undone(world: &(impl World + Hands), restore: &InPlace, fault: Fault) -> Fault {
    let release = || {
        if restore.hold.is_some() {
            world.hold_stack(&restore.stack, None)?;
        }
        world.forget_restore(&restore.stack)
    };
    let stack = &restore.stack;
    match release() {
        Ok(()) => fault.at(format!("nothing of {stack} was changed; the same command goes on where this one ended")),
        Err(second) => fault.at(format!("nothing of {stack} was changed; it is still held: {}", second.sentence)),
    }
}

/// Waits until no run of the keeper is under way.
async fn run_lock(world: &impl World) -> Result<impl Sized, Fault> {
    let until = world.now() + PATIENCE;
    loop {
        match world.lock_run("restore") {
            Err(fault) if fault.code == Code::LockHeld && world.now() < until => world.wait(AGAIN).await,
            taken => return taken,
        }
    }
}

/// The containers of the stack that use its data and run, in the order in which they depend on one another.
async fn running(world: &impl World, known: &Known, stack: &str) -> Result<Vec<(String, String)>, Fault> {
    let stacks = known.stacks(Some(stack))?;
    let Some(applied) = stacks.values().next() else { return Ok(Vec::new()) };
    let writers = plan(world, stack, applied).writers.into_iter().collect();
    let observed = world.observe().await?;
    let mut found = Vec::new();
    for wave in compose::waves(&applied.model, &writers) {
        let of_wave = observed.of(stack).filter(|container| wave.contains(&container.service));
        let runs = of_wave.filter(|one| matches!(one.state, State::Running | State::Restarting | State::Paused));
        found.extend(runs.map(|container| (container.id.clone(), container.name.clone())));
    }
    Ok(found)
}

/// Stops, puts in place, starts. What cannot be put in place is taken back, and the old data serves again.
async fn switch(world: &(impl World + Hands), restore: &InPlace) -> Result<(), Fault> {
    let moved = async {
        world.stop_containers(&restore.stopped).await?;
        restore.moves.iter().try_for_each(|one| world.switch(one))
    };
    if let Err(fault) = moved.await {
        restore.moves.iter().rev().try_for_each(|one| world.switch_back(one))?;
        world.start_containers(&restore.stopped).await?;
        return Err(undone(world, restore, fault));
    }
    let started = world.start_containers(&restore.stopped).await;
    // The data is in place: whatever does not start is a matter of the keeper now, and must not be kept from it.
    if restore.hold.is_some() {
        world.hold_stack(&restore.stack, None)?;
    }
    world.forget_restore(&restore.stack)?;
    started.map_err(|fault| fault.at("the snapshot is in place").hint("moorline reconcile"))
}

fn refused(sentence: String) -> Fault {
    Fault::new(Code::RestoreRefused, sentence).at("nothing was changed")
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
