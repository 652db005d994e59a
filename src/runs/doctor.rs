//! Looks at everything that a host needs, each with its fix. Changes nothing.

use crate::decide::fault::Fault;
use crate::decide::trust::AllowedSigners;
use crate::world::World;
use crate::world::examine::Examine;

/// One thing that was looked at.
#[derive(Debug)]
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// What was found, or what is wrong.
    pub result: Result<String, Fault>,
}

/// Looks at everything; one failure does not end it.
pub async fn examine(world: &(impl World + Examine)) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |what, result| findings.push(Finding { what, result });
    add("git", world.git_version().await);
    add("ssh", world.ssh_version().await);
    add("engine", world.engine_version().await);
    add("compose plugin", world.plugin().await.map(|plugin| plugin.version));
    add("state", world.state_is_writable());
    add("memory", world.memory_is_safe());
    add("age key", world.identities().map(|identities| identities.recipients().join(", ")));
    add("allowed signers", signers(world));
    add("git server", world.reachable().await);
    add("repository", world.tip().map(|tip| format!("tip {}", tip.short())));
    add(
        "ledger",
        world.ledger().map(|ledger| match ledger.anchor {
            Some(anchor) => format!("anchor {}", anchor.revision.short()),
            None => "no revision accepted yet".into(),
        }),
    );
    findings
}

fn signers(world: &impl World) -> Result<String, Fault> {
    let bytes = world.local_signers()?;
    match AllowedSigners::parse(&bytes) {
        Ok(_) => Ok("readable".into()),
        Err(flaw) => {
            Err(Fault::new(crate::decide::fault::Code::SignersInvalid, "the list of allowed signers cannot be used")
                .because(flaw.to_string())
                .hint("`man ssh-keygen` has the format, below ALLOWED SIGNERS"))
        }
    }
}
