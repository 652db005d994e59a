//! Plans without a run: on a host, or for a directory that is not even committed. Changes nothing.

use std::collections::BTreeMap;

use crate::decide::digest::DigestKey;
use crate::decide::fault::{Code, Fault};
use crate::decide::plan::{self, Circumstances};
use crate::decide::report::Draft;
use crate::decide::traefik::due::{self, Found};
use crate::decide::traefik::publish;
use crate::decide::{compose, delivery, fleet, policy, render};
use crate::model::{Ledger, Observed, Revision, Tree};
use crate::runs::accept::Trust;
use crate::runs::backup::account;
use crate::runs::{images, prepare, routes};
use crate::world::World;

/// What a run on this host would do now, or if its ring pointed at `at`.
pub async fn plan_here(world: &impl World, at: Option<&Revision>) -> Result<Draft, Fault> {
    let mut draft = Draft::begin(&world.settings().host, "plan", world.now(), std::process::id());
    let mut ledger = world.ledger()?;
    let due = images::due(&ledger, world.now());
    if at.is_none() && prepare::is_settled(world, &ledger, &mut draft).await? {
        draft.notes.extend(due);
        return Ok(draft);
    }
    prepare::prepare(world, &mut ledger, &mut draft, Trust::LookOnly, at).await?;
    draft.notes.extend(due);
    Ok(draft)
}

/// What a first run on an empty host would do with this directory. Needs the Compose plugin, but no engine, no key and
/// no signature: sealed secrets are only known by name.
pub async fn plan_directory(world: &impl World, tree: &Tree) -> Result<Draft, Fault> {
    let host = &world.settings().host;
    let mut draft = Draft::begin(host, "plan", world.now(), std::process::id());
    let spec = fleet::read(tree, host).map_err(|found| fleet::spec_invalid(found, "this directory"))?;
    let key = DigestKey::new(vec![0; 32]);
    let secrets = render::Secrets::sealed(&spec)
        .map_err(|error| Fault::new(Code::SecretsDamaged, "the SOPS file cannot be read").caused_by(&error))?;
    let inputs = render::inputs(&spec, &secrets, &key);
    let plugin = world.plugin().await?;
    let nothing = Observed::default();
    let desired = prepare::desire(world, &inputs, &Ledger::default(), &nothing, &plugin, &key, None).await?;
    let unused = policy::admit(&desired, &spec, world.settings())?;
    let told = routes::told(world.settings(), &inputs, &desired, &key);
    let circumstances = Circumstances {
        routes: due::due(&publish::shares(&told, &key), None, &Found::new(), &key),
        applied: Some(&BTreeMap::new()),
        missing_images: desired.stacks.iter().flat_map(|stack| compose::images(&stack.model)).collect(),
        plugin: plugin.version,
        ..Circumstances::default()
    };
    draft.plan = plan::plan(&desired, &nothing, &circumstances);
    draft.ring = Some(spec.ring.clone());
    draft.notes.extend(unused);
    draft.notes.extend(delivery::exposed_notes(&desired));
    draft.notes.extend(account::notes(&desired, &spec, world.settings()));
    draft.notes.splice(0..0, spec.notes);
    Ok(draft)
}
