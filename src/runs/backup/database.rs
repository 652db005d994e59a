//! `restore --database`: the dump of a service, from a snapshot into its running container.

use jiff::Timestamp;

use crate::decide::backup::load::{self, Roles, Way};
use crate::decide::fault::{Code, Fault};
use crate::model::backup::Dump;
use crate::runs::backup::known::{Known, known};
use crate::runs::backup::scratch::{self, Taken};
use crate::runs::backup::sources::plan;
use crate::world::World;
use crate::world::restic::Logins;
use crate::world::restic::order::{Progress, Snapshot};

/// What a person wants back.
#[derive(Debug)]
pub struct Wanted {
    /// The stack.
    pub stack: String,
    /// `latest`, or the beginning of an id.
    pub snapshot: String,
    /// The service whose dump it is.
    pub service: String,
    /// The name of the repository; the first one without.
    pub repository: Option<String>,
}

/// What a person must know before the database is replaced.
#[derive(Debug)]
pub struct Question {
    /// The snapshot that the dump is taken from.
    pub snapshot: Snapshot,
    /// When the newest snapshot was made in which nothing is missing: what was written since then is lost.
    pub newest: Option<Timestamp>,
    /// The dumps.
    pub dumps: Vec<String>,
}

/// What was done.
#[derive(Debug)]
pub struct Loaded {
    /// The snapshot's id.
    pub snapshot: String,
    /// The files that were loaded, in order.
    pub files: Vec<String>,
}

/// Loads the dump of a service into its running container. `agrees` is asked once everything is known, and before
/// anything is written.
pub async fn load(
    world: &impl World,
    wanted: &Wanted,
    agrees: &mut dyn FnMut(&Question) -> bool,
    hear: &mut dyn FnMut(&str, Progress),
) -> Result<Loaded, Fault> {
    let known = known(world)?;
    let _lock = world.lock_backup()?;
    world.sweep_drills().await?;
    let (dumps, logins) = dumps(world, &known, wanted)?;
    let container = world.running(&wanted.stack, &wanted.service).await?;
    let repository = known.repository(wanted.repository.as_deref())?;
    let snapshots = scratch::list(world, &known, repository).await?;
    let snapshot = choose(&snapshots, &world.settings().host, wanted)?;
    let newest = scratch::newest(&snapshots, &world.settings().host, &wanted.stack).map(|newest| newest.time);
    let names = dumps.iter().map(|dump| dump.to.clone()).collect();
    let stack = &wanted.stack;
    let taken = Taken { repository, stack, snapshot: &snapshot.id, path: Some(scratch::dumps_of(stack)) };
    let bytes = scratch::measure(world, &known, &taken).await?.bytes;
    scratch::admit(world, &format!("the dump of {}", wanted.service), bytes, bytes).await?;
    if !agrees(&Question { snapshot: snapshot.clone(), newest, dumps: names }) {
        return Err(Fault::new(Code::UsageInvalid, "the database was not replaced")
            .at("nothing was changed")
            .hint(format!("type `{stack}` when asked, or add `--yes` where nobody can be asked")));
    }
    // A deploy that replaced the container in the middle would leave half a database.
    let _run = world.lock_run("restore")?;
    let directory = world.open_scratch(stack)?.join("restored");
    let loading = Loading { world, known: &known, logins: &logins, container: &container };
    let loaded = loading.all(&taken, &dumps, &directory, hear).await;
    // Nothing of the database stays on this disk, whatever happened.
    world.sweep_drills().await?;
    Ok(Loaded { snapshot: snapshot.id.clone(), files: loaded? })
}

/// The dumps of a service that a running container can take, and what they log in with.
fn dumps(world: &impl World, known: &Known, wanted: &Wanted) -> Result<(Vec<Dump>, Logins), Fault> {
    let refused = |sentence: String| Fault::new(Code::UsageInvalid, sentence).at("nothing was changed");
    let Wanted { stack, service, snapshot, .. } = wanted;
    let stacks = known.stacks(Some(stack))?;
    let (mut found, mut others, mut logins) = (Vec::new(), Vec::new(), Logins::new());
    for (stack, applied) in stacks {
        let plan = plan(world, stack, applied);
        logins.extend(known.logins(&plan)?);
        let of_service: (Vec<Dump>, Vec<Dump>) = plan.dumps.into_iter().partition(|dump| dump.service == *service);
        (found, others) = of_service;
    }
    if found.is_empty() {
        let names: Vec<String> = others.into_iter().map(|dump: Dump| dump.service).collect();
        return Err(refused(format!("`{service}` of {stack} has no dump")).hint(match names.is_empty() {
            true => "docs/backups.md#dumps".to_owned(),
            false => format!("these have one: {}", names.join(", ")),
        }));
    }
    match found.iter().find(|dump| !matches!(load::way(dump), Way::Server(_))) {
        Some(dump) => {
            let path = scratch::dumps_of(stack).join(&dump.to);
            let by_hand = load::by_hand(dump).unwrap_or_default();
            Err(refused(format!("dump {} cannot be loaded into `{service}` while it runs", dump.to)).hint(format!(
                "`moorline restore {stack} {snapshot} --path {} --to DIR`; then {by_hand}",
                path.display()
            )))
        }
        None => Ok((found, logins)),
    }
}

fn choose<'a>(snapshots: &'a [Snapshot], host: &str, wanted: &Wanted) -> Result<&'a Snapshot, Fault> {
    let unknown = |sentence: String| Fault::new(Code::RestoreRefused, sentence).hint("`moorline snapshots` lists them");
    let Wanted { stack, snapshot, .. } = wanted;
    if snapshot == "latest" {
        let newest = scratch::newest(snapshots, host, stack);
        return newest.ok_or_else(|| unknown(format!("there is no snapshot of {stack} in which nothing is missing")));
    }
    let mut found = snapshots.iter().filter(|found| found.id.starts_with(snapshot) && found.label == *stack);
    match (found.next(), found.next()) {
        (Some(found), None) => Ok(found),
        (None, _) => Err(unknown(format!("there is no snapshot {snapshot} of {stack}"))),
        (Some(_), Some(_)) => Err(unknown(format!("several snapshots begin with {snapshot}"))),
    }
}

struct Loading<'a, W> {
    world: &'a W,
    known: &'a Known,
    logins: &'a Logins,
    container: &'a str,
}

impl<W: World> Loading<'_, W> {
    async fn all(
        &self,
        taken: &Taken<'_>,
        dumps: &[Dump],
        directory: &std::path::Path,
        hear: &mut dyn FnMut(&str, Progress),
    ) -> Result<Vec<String>, Fault> {
        let restored = scratch::fill(self.world, self.known, taken, directory, hear).await?;
        if let Some(lost) = scratch::losses(&restored).into_iter().next() {
            return Err(Fault::new(Code::BackupDamaged, lost.sentence).at("nothing was changed"));
        }
        let files = self.world.files(directory)?;
        let of_all: Vec<(&Dump, Vec<String>)> =
            dumps.iter().map(|dump| (dump, scratch::of_dump(dump, &files))).collect();
        for (dump, files) in &of_all {
            let missing = |why| Fault::new(Code::RestoreRefused, why).at("nothing was changed");
            load::is_whole(dump, files).map_err(missing)?;
        }
        let secrets: Vec<&str> = self.known.secrets.values().collect();
        let mut loaded = Vec::new();
        for (dump, files) in &of_all {
            let password = dump.password.as_ref().and_then(|name| self.logins.get(name));
            for load in load::loads(dump, files) {
                let from = directory.join(&load.from);
                let done = self.world.load(self.container, &load, (&from, Roles::AsTheyAre), password, &secrets).await;
                done.map_err(|fault| half(&loaded, &load.from, fault))?;
                loaded.push(load.from);
            }
        }
        Ok(loaded)
    }
}

/// A load that broke off leaves a database that is neither what it was nor what it is to be.
fn half(loaded: &[String], failed: &str, fault: Fault) -> Fault {
    let before = match loaded.is_empty() {
        true => "nothing was loaded before it".to_owned(),
        false => format!("loaded before it: {}", loaded.join(", ")),
    };
    Fault { code: if fault.code == Code::DrillFailed { Code::StepFailed } else { fault.code }, ..fault }
        .at(format!("what {failed} is about may be there in part or not at all; {before}"))
        .hint("load it again, or an older snapshot: `moorline snapshots`")
}
