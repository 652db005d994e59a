//! `moorline restore`: a snapshot, or a part of it, into an empty directory, or to where the stack has its data.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;
use serde_json::json;

use super::progress::Progress;
use super::{Host, block_on_work, restore_database, show};
use crate::decide::fault::{Code, Fault};
use crate::runs::backup::database;
use crate::runs::backup::in_place::{self, Course};
use crate::runs::backup::restore::{self, Far, Wanted};
use crate::world::restic::order::Restored;
use crate::world::{Real, person};

/// The exit code when something of the snapshot could not be restored.
const PARTIAL: u8 = 3;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The stack
    stack: String,
    /// The beginning of a snapshot's id, or `latest`
    snapshot: String,
    /// A path in the snapshot, such as /volumes/data; all of it without this
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// A directory that is empty or not there yet; or where the same restore ended early, which then goes on
    #[arg(long, value_name = "DIR", required_unless_present_any = ["in_place", "database"], conflicts_with = "in_place")]
    to: Option<PathBuf>,
    /// Put it where the stack has its data; the stack is stopped meanwhile, and the old data is kept beside
    #[arg(long)]
    in_place: bool,
    /// Load the dump of this service into its running container, in the place of what is there
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["to", "path", "in_place", "from_host"])]
    database: Option<String>,
    /// Do not ask before what is there is replaced
    #[arg(long, conflicts_with = "to")]
    yes: bool,
    /// The backup repository, if there are several
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// The host that made the snapshot, for `latest`; this one without
    #[arg(long, value_name = "HOST")]
    from_host: Option<String>,
    /// Print what was restored as JSON
    #[arg(long)]
    json: bool,
}

pub fn restore(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    if let Some(service) = &arguments.database {
        let wanted = database::Wanted {
            stack: arguments.stack.clone(),
            snapshot: arguments.snapshot.clone(),
            service: service.clone(),
            repository: arguments.repository.clone(),
        };
        return restore_database::restore(host, &wanted, arguments.yes, arguments.json);
    }
    let world = host.world()?;
    world.set_up()?;
    let Some(to) = &arguments.to else { return in_place(&world, arguments) };
    let to = std::path::absolute(to).map_err(|error| {
        Fault::new(Code::RestoreRefused, format!("{} cannot be used", to.display())).caused_by(&error)
    })?;
    let wanted = Wanted {
        stack: arguments.stack.clone(),
        snapshot: arguments.snapshot.clone(),
        path: arguments.path.clone(),
        to: to.clone(),
        repository: arguments.repository.clone(),
        from_host: arguments.from_host.clone(),
    };
    let mut progress = Progress::new("restored");
    let mut hear = |stack: &str, far: Far| progress.show_with(stack, far.progress, &reused(far.reused));
    let restored = block_on_work(&world, restore::restore(&*world, wanted, &mut hear));
    progress.end();
    let restored = restored?;
    match arguments.json {
        true => show::json(&json!({ "version": 1, "restored": restored }))?,
        false => show::text(&as_text(&restored, &to))?,
    }
    Ok(if restored.lost.is_empty() { 0 } else { PARTIAL })
}

fn in_place(world: &Rc<Real>, arguments: &Arguments) -> Result<u8, Fault> {
    let wanted = in_place::Wanted {
        stack: arguments.stack.clone(),
        snapshot: arguments.snapshot.clone(),
        path: arguments.path.clone(),
        repository: arguments.repository.clone(),
        from_host: arguments.from_host.clone(),
        owner: person::who_types(),
    };
    let mut progress = Progress::new("restored");
    let mut hear = |stack: &str, far: Far| progress.show_with(stack, far.progress, &reused(far.reused));
    let mut agrees = |course: &Course| {
        let question = format!("{}Type the name of the stack to go on: ", intended(course));
        match arguments.yes || person::types(&question, &wanted.stack) {
            true => Ok(()),
            false => {
                Err(Fault::new(Code::RestoreRefused, "nobody agreed to it").at("nothing was changed").hint("--yes"))
            }
        }
    };
    let work = in_place::in_place(&**world, &wanted, &mut agrees, &mut hear);
    let course = block_on_work(world, work);
    progress.end();
    let Course { restore, left, .. } = course?;
    if arguments.json {
        show::json(&json!({ "version": 1, "restored": restore, "left": left }))?;
        return Ok(0);
    }
    let mut text =
        format!("snapshot {} is in place, and {} was started\n", show::short(&restore.snapshot), restore.stack);
    for one in &restore.moves {
        text.push_str(&format!("  {}; the old data: {}\n", one.live.display(), one.aside.display()));
    }
    left.iter().for_each(|left| text.push_str(&format!("  left as it was: {left}\n")));
    text.push_str("the old data is never removed by moorline: do that when you are sure\n");
    show::text(&text)?;
    Ok(0)
}

/// What a person agrees to.
fn intended(course: &Course) -> String {
    let restore = &course.restore;
    let goes_on = if course.goes_on { "a restore that was cut goes on: " } else { "" };
    let mut text =
        format!("{goes_on}{} is stopped, and snapshot {} comes to\n", restore.stack, show::short(&restore.snapshot));
    for one in &restore.moves {
        text.push_str(&format!("  {}; what is there now becomes {}\n", one.live.display(), one.aside.display()));
    }
    course.left.iter().for_each(|left| text.push_str(&format!("  left as it is: {left}\n")));
    text
}

/// What was there already, if there was anything.
fn reused(bytes: u64) -> String {
    if bytes > 0 { format!(" ({} were there already)", show::size(bytes)) } else { String::new() }
}

fn as_text(restored: &Restored, to: &Path) -> String {
    let (id, files, bytes) = (show::short(&restored.id), restored.files, show::size(restored.bytes));
    let reused = reused(restored.reused_bytes);
    let to = to.display();
    let mut text = format!("snapshot {id}: {files} files, {bytes}{reused}, restored to {to} and read back\n");
    for lost in &restored.lost.first {
        text.push_str(&format!("  LOST {lost}\n"));
    }
    if restored.lost.count > 0 {
        text.push_str(&format!(
            "{} could not be restored; `restic check --read-data` says more, and the same command tries these again\n",
            restored.lost.count
        ));
    }
    text
}
