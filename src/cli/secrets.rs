//! `moorline secrets`: puts back the files in memory after a reboot, before the engine starts.

use super::{Host, show};
use crate::decide::fault::Fault;
use crate::runs::boot::{self, Restored};
use crate::world::World;

pub fn secrets(host: &Host) -> Result<u8, Fault> {
    let world = host.world()?;
    world.set_up()?;
    let _lock = world.lock_run("secrets")?;
    show::text(&as_text(&boot::restore(&*world)?))?;
    Ok(0)
}

fn as_text(restored: &Restored) -> String {
    let mut text = String::new();
    for stack in &restored.stacks {
        text.push_str(&format!("{stack}: its files are in memory\n"));
    }
    for (stack, why) in &restored.left {
        text.push_str(&format!("{stack}: left for the next run, since {why}\n"));
    }
    if text.is_empty() {
        text.push_str("nothing was applied on this host yet\n");
    }
    text
}
