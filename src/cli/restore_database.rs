//! `moorline restore --database`: a dump into the running container of its service.

use serde_json::json;

use super::progress::Progress;
use super::{Host, block_on_work, show};
use crate::decide::fault::Fault;
use crate::runs::backup::database::{self, Question, Wanted};
use crate::world::{World, person};

pub fn restore(host: &Host, wanted: &Wanted, sure: bool, as_json: bool) -> Result<u8, Fault> {
    let world = host.world()?;
    world.set_up()?;
    let mut progress = Progress::new("restored");
    let mut hear = |stack: &str, at| progress.show(stack, at);
    let now = world.now();
    let mut agrees = |question: &Question| {
        let question = as_question(wanted, question, now);
        match sure {
            true => {
                show::trouble(&format!("{question}\n"));
                true
            }
            false => person::types(&format!("{question}\nType `{}` to go on: ", wanted.stack), &wanted.stack),
        }
    };
    let loaded = block_on_work(&world, database::load(&*world, wanted, &mut agrees, &mut hear));
    progress.end();
    let loaded = loaded?;
    match as_json {
        true => show::json(&json!({ "version": 1, "snapshot": loaded.snapshot, "loaded": loaded.files }))?,
        false => {
            let files = loaded.files.join(", ");
            let (id, service) = (show::short(&loaded.snapshot), &wanted.service);
            show::text(&format!("snapshot {id}: {files} loaded into `{service}`\n"))?;
        }
    }
    Ok(0)
}

fn as_question(wanted: &Wanted, question: &Question, now: jiff::Timestamp) -> String {
    let Wanted { stack, service, .. } = wanted;
    let (id, made) = (show::short(&question.snapshot.id), show::ago(question.snapshot.time, now));
    let newest = match question.newest {
        Some(newest) => format!("The newest snapshot of {stack} was made {}", show::ago(newest, now)),
        None => format!("There is no whole snapshot of {stack}"),
    };
    format!(
        "{} goes into `{service}` of {stack} as it was in snapshot {id}, made {made}.\nWhat is in its databases now is \
         replaced. {newest}: what was written since is lost,\nunless you type `moorline backup {stack}` first.",
        question.dumps.join(", ")
    )
}
