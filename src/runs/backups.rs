//! What of this host is backed up: the stacks as they should be, each with what goes into its snapshots.

use crate::decide::{backup, compose};
use crate::model::backup::StackBackup;
use crate::model::{Desired, DesiredStack, HostSpec, Settings};

/// What goes into the snapshots of each stack, in the order of `host.yaml`.
pub fn plans(desired: &Desired, settings: &Settings) -> Vec<StackBackup> {
    let of_stack = |stack: &DesiredStack| {
        // A stack with mistakes there is refused before it comes to this.
        let extension = compose::Extension::read(&stack.model.extension).unwrap_or_default();
        backup::choose(&stack.name, &stack.model, &extension.backup, &settings.stack_directory(&stack.name))
    };
    desired.stacks.iter().map(of_stack).collect()
}

/// What a person should know who believes that all of this host is backed up; nothing when it makes no backups.
pub fn notes(desired: &Desired, spec: &HostSpec, settings: &Settings) -> Vec<String> {
    match spec.backups {
        None => Vec::new(),
        Some(_) => plans(desired, settings).iter().flat_map(backup::notes).collect(),
    }
}
