//! The first half of every run: from the tip to the plan. Changes nothing but the anchor.

use std::collections::BTreeMap;

use crate::decide::digest::DigestKey;
use crate::decide::drift::Edited;
use crate::decide::fault::{Code, Fault};
use crate::decide::fleet::Mistake;
use crate::decide::plan::{self, Circumstances};
use crate::decide::render::{self, Secrets};
use crate::decide::report::Draft;
use crate::decide::sops::{self, Format};
use crate::decide::start_first::Names;
use crate::decide::{compose, delivery, downgrade, drift, fleet, onboarding, policy, seen, standstill};
use crate::model::host::HostSpec;
use crate::model::report::Opened;
use crate::model::tree::Tree;
use crate::model::{Applied, Desired, DesiredStack, Inputs, Ledger, Model, Observed, Plan, Revision};
use crate::runs::accept::{Trust, accept, admit};
use crate::runs::backup::account;
use crate::runs::networks;
use crate::runs::put_off::{PutOff, put_off};
use crate::runs::ring::{self, Deployed};
use crate::runs::{publish, routes, succession};
use crate::world::{Plugin, World};

/// Everything that is needed to carry a plan out.
#[derive(Debug)]
pub struct Prepared {
    /// What should be.
    pub desired: Desired,
    /// The opened secrets.
    pub secrets: Secrets,
    /// The Compose plugin.
    pub plugin: Plugin,
    /// What the stacks are made from.
    pub inputs: Vec<Inputs>,
    /// What the repository says about this host.
    pub spec: HostSpec,
    /// This host's key for digests.
    pub key: DigestKey,
    /// What failed before, or only goes forward, and is not brought to what is desired in this run.
    pub put_off: PutOff,
    /// Files of stacks that are not as they were written.
    pub edited: BTreeMap<String, Vec<Edited>>,
    /// The same for what Traefik is told, with every secret of this host taken out.
    pub edited_routes: Vec<Edited>,
}

impl Prepared {
    /// The revision that a stack comes from.
    pub fn revision_of(&self, stack: &str) -> Option<Revision> {
        self.put_off.kept.get(stack).or(self.desired.revision.as_ref()).cloned()
    }
}

/// Whether nothing moved since the last converged run: then one look at the engine is enough. Nothing is fetched,
/// opened, rendered or started for it.
pub async fn is_settled(world: &impl World, ledger: &Ledger, draft: &mut Draft) -> Result<bool, Fault> {
    let Some(settled) = &ledger.settled else { return Ok(false) };
    let Some(anchor) = &ledger.anchor else { return Ok(false) };
    // Whatever was in flight when a run was killed is looked at, and its intent taken away.
    if ledger.pending.is_some() || world.intent()?.is_some() || !world.unfinished_restores()?.is_empty() {
        return Ok(false);
    }
    let version = ledger.applied.values().next().map_or("", |applied| applied.plugin.as_str());
    let same = world.tip()? == settled.tip
        && anchor.revision == settled.tip
        && settled.agent == env!("CARGO_PKG_VERSION")
        && world.plugin_stamp(version)? == settled.plugin
        && world.without_memory(&settled.stacks).is_empty()
        && world.edited(&settled.stacks)?.is_empty()
        && publish::is_as_left(world, ledger)?;
    if !same {
        return Ok(false);
    }
    let observed = world.observe().await?;
    let as_left = settled
        .stacks
        .iter()
        .all(|stack| ledger.applied.get(stack).is_some_and(|applied| applied.snapshot == observed.snapshot(stack)));
    // What a look would change must be written down, or the next one draws a wrong conclusion.
    if !as_left || seen::look(&ledger.seen, &ledger.applied, &observed) != ledger.seen {
        return Ok(false);
    }
    draft.tip = Some(settled.tip.clone());
    draft.signer = Some(anchor.signer.clone());
    draft.trust = anchor.trust;
    draft.accepted = Some(anchor.at);
    draft.expect_change_within = settled.expect_change_within;
    draft.ring = Some(settled.ring.clone());
    draft.revision = Some(settled.revision.clone());
    draft.stacks.clone_from(&settled.stacks);
    draft.notes.clone_from(&settled.notes);
    draft.opened.clone_from(&settled.opened);
    draft.observed = observed;
    Ok(true)
}

/// Verifies, reads, opens, renders, looks and plans. `at` is a revision to plan for instead of the ring's.
pub async fn prepare(
    world: &impl World,
    ledger: &mut Ledger,
    draft: &mut Draft,
    trust: Trust,
    at: Option<&Revision>,
) -> Result<Prepared, Fault> {
    let verified = accept(world, ledger, draft, trust)?;
    let tip_tree = admit(world, &verified, verified.tip(), ledger)?;
    draft.expect_change_within = standstill::expected_change(&tip_tree);
    let Deployed { tree, ring, path } = ring::deployed(world, ledger, draft, &verified, tip_tree, trust, at)?;
    let spec = fleet::read(&tree, &world.settings().host).map_err(|found| spec_invalid(found, tree.revision()))?;
    draft.stacks = spec.stacks.iter().map(|stack| stack.name.clone()).collect();
    draft.notes.extend(spec.notes.iter().cloned());

    let key = digest_key(world, trust)?;
    let (secrets, opened) = open(world, &spec).map_err(|fault| match ledger.applied.is_empty() {
        true => unless_enrolled(world, &tree, fault),
        false => fault,
    })?;
    draft.opened.extend(opened);
    if trust == Trust::Advance {
        remember_push_urls(world, &spec, &secrets);
        // Nor is a version that cannot be noted.
        if let Err(fault) = succession::note(world, spec.agent.as_ref()) {
            draft.remarks.push(fault.sentence);
        }
        // An account that cannot be kept is told to its monitor; it keeps nobody from a deploy.
        if let Err(fault) = account::expect(world, &spec) {
            draft.remarks.push(fault.sentence);
        }
    }
    let inputs = render::inputs(&spec, &secrets, &key);

    let plugin = world.plugin().await?;
    draft.observed = world.observe().await?;
    note_seen(world, ledger, &draft.observed, trust)?;
    let revision = Some(tree.revision().clone());
    let mut desired = desire(world, &inputs, ledger, &draft.observed, &plugin, &key, revision).await?;
    routes::refuse_mistakes(world.settings(), &inputs, &desired, &key)?;
    draft.notes.extend(policy::admit(&desired, &spec, world.settings())?);
    draft.notes.extend(delivery::exposed_notes(&desired));
    draft.notes.extend(account::notes(&desired, &spec, world.settings()));
    let left = downgrade::left(&desired, &ledger.applied, &ring, path.as_deref());
    if trust == Trust::Advance && desired.stacks.iter().any(|stack| !stack.secrets.is_empty()) {
        ledger.remap = world.remap().await?;
        desired.stacks.iter_mut().for_each(|stack| delivery::shift(stack, ledger.remap));
    }
    draft.put_off.extend(downgrade::fault(&left, &ring.name));
    let mut put_off = put_off(world, &mut desired, ledger, draft, &key, left)?;
    let attached = networks::look(world, &desired, ledger, draft, &mut put_off).await?;
    let edited = edited(world, &desired, ledger, &put_off)?;
    let names = Names::new(&draft.observed, &ledger.begun);
    let routed = desired.stacks.iter().filter_map(|stack| match ledger.applied.get(&stack.name) {
        applied if put_off.alone.contains(&stack.name) => {
            applied.map(|applied| (stack.name.as_str(), applied.digest.as_str(), &applied.model))
        }
        _ => Some((stack.name.as_str(), stack.digest.as_str(), &stack.model)),
    });
    let (due, mut edited_routes) = publish::due(world, &inputs, routed, ledger, &key, &names)?;
    drift::hide(&mut edited_routes, &secrets.values().collect::<Vec<_>>());
    let circumstances = Circumstances {
        routes: due,
        edited: edited.clone(),
        attached,
        left_alone: put_off.alone.clone(),
        plugin: plugin.version.clone(),
        ..Circumstances::default()
    };
    draft.plan = make_plan(world, &desired, &draft.observed, ledger, circumstances).await?;
    Ok(Prepared { desired, secrets, plugin, inputs, spec, key, put_off, edited, edited_routes })
}

/// Writes down who runs, before anything is decided: a run that is held or cut would not come to it.
fn note_seen(world: &impl World, ledger: &mut Ledger, observed: &Observed, trust: Trust) -> Result<(), Fault> {
    let seen = seen::look(&ledger.seen, &ledger.applied, observed);
    if seen == ledger.seen {
        return Ok(());
    }
    ledger.seen = seen;
    match trust {
        Trust::Advance => world.persist(ledger),
        Trust::LookOnly => Ok(()),
    }
}

/// Whoever only looks makes no key: before the first run there is nothing to compare digests with.
fn digest_key(world: &impl World, trust: Trust) -> Result<DigestKey, Fault> {
    match (world.digest_key()?, trust) {
        (Some(key), _) => Ok(key),
        (None, Trust::Advance) => world.make_digest_key(),
        (None, Trust::LookOnly) => Ok(DigestKey::new(vec![0; 32])),
    }
}

/// Opens the host's SOPS file, all or nothing, and says which identity did it.
pub fn open(world: &impl World, spec: &HostSpec) -> Result<(Secrets, Option<Opened>), Fault> {
    let Some(sealed) = &spec.sealed else {
        return Ok((Secrets::default(), None));
    };
    let identities = world.identities()?;
    let document = Format::of_path(&sealed.path)
        .and_then(|format| sops::decrypt(&sealed.bytes, format, &identities))
        .map_err(|error| fleet::sealed_fault(&error, &sealed.path, &identities.recipients()))?;
    let opened = Opened { path: sealed.path.clone(), recipient: document.opened_by().to_owned() };
    let secrets = Secrets::read(&document).map_err(|mistake| spec_mistake(Mistake::new(&sealed.path, mistake)))?;
    Ok((secrets, Some(opened)))
}

/// Says of a new host's file that cannot be opened that its key was not let in yet, if that is why.
fn unless_enrolled(world: &impl World, tree: &Tree, fault: Fault) -> Fault {
    let own = world.identities().map(|identities| identities.recipients()).unwrap_or_default();
    let host = &world.settings().host;
    fleet::or_awaits(fault, onboarding::recipient(tree, host), &own, host)
}

fn remember_push_urls(world: &impl World, spec: &HostSpec, secrets: &Secrets) {
    let monitors = [
        ("reconcile", &spec.monitors.reconcile),
        ("backup", &spec.monitors.backup),
        ("check", &spec.monitors.check),
        ("drill", &spec.monitors.drill),
    ];
    for (monitor, name) in monitors {
        world.remember_push_url(monitor, name.as_ref().and_then(|name| secrets.shared(name)));
    }
}

/// What should be. Compose is asked only about stacks whose inputs changed.
pub async fn desire(
    world: &impl World,
    inputs: &[Inputs],
    ledger: &Ledger,
    observed: &Observed,
    plugin: &Plugin,
    key: &DigestKey,
    revision: Option<Revision>,
) -> Result<Desired, Fault> {
    let mut stacks = Vec::new();
    let mut refused = Vec::new();
    for inputs in inputs {
        let applied = ledger.applied.get(&inputs.stack);
        let model = model(world, inputs, applied, observed, plugin, key).await?;
        match render::stack(inputs, &model, world.settings(), key) {
            Ok(stack) => stacks.push(stack),
            Err(reasons) => refused
                .extend(reasons.into_iter().map(|reason| format!("stacks/{}/compose.yaml: {reason}", inputs.stack))),
        }
    }
    if !refused.is_empty() {
        let what = revision.map_or_else(|| "this directory".into(), |revision| revision.short().to_owned());
        return Err(stack_refused(refused, &what));
    }
    Ok(Desired { host: world.settings().host.clone(), revision, stacks })
}

async fn model(
    world: &impl World,
    inputs: &Inputs,
    applied: Option<&Applied>,
    observed: &Observed,
    plugin: &Plugin,
    key: &DigestKey,
) -> Result<Model, Fault> {
    match applied {
        Some(applied) if plan::is_settled(&inputs.digest, Some(applied), observed, &inputs.stack, &plugin.version) => {
            Ok(applied.model.clone())
        }
        _ => world.model(inputs, key).await,
    }
}

/// Files that somebody edited, in the directories that hold what was last written and may be put right.
fn edited(
    world: &impl World,
    desired: &Desired,
    ledger: &Ledger,
    put_off: &PutOff,
) -> Result<BTreeMap<String, Vec<Edited>>, Fault> {
    let is_written =
        |stack: &&DesiredStack| ledger.attempted.contains_key(&stack.name) && !put_off.alone.contains(&stack.name);
    let names: Vec<String> = desired.stacks.iter().filter(is_written).map(|stack| stack.name.clone()).collect();
    world.edited(&names)
}

async fn make_plan<'a>(
    world: &impl World,
    desired: &Desired,
    observed: &Observed,
    ledger: &'a Ledger,
    circumstances: Circumstances<'a>,
) -> Result<Plan, Fault> {
    let names: Vec<String> = desired.stacks.iter().map(|stack| stack.name.clone()).collect();
    let mut circumstances = Circumstances {
        applied: Some(&ledger.applied),
        attempted: Some(&ledger.attempted),
        begun: Some(&ledger.begun),
        seen: Some(&ledger.seen),
        without_memory: world.without_memory(&names),
        ..circumstances
    };
    let first = plan::plan(desired, observed, &circumstances);
    if first.steps.is_empty() {
        return Ok(first);
    }
    // Only a plan that acts needs images, so only then is the engine asked about them.
    let acting = |stack: &&DesiredStack| first.steps.iter().any(|step| step.stack == stack.name);
    let images = desired.stacks.iter().filter(acting).flat_map(|stack| compose::images(&stack.model)).collect();
    circumstances.missing_images = world.missing_images(&images).await?;
    Ok(plan::plan(desired, observed, &circumstances))
}

fn spec_invalid(mistakes: Vec<Mistake>, revision: &Revision) -> Fault {
    fleet::spec_invalid(mistakes, revision.short())
}

fn spec_mistake(mistake: Mistake) -> Fault {
    fleet::spec_invalid(vec![mistake], "the SOPS file")
}

fn stack_refused(reasons: Vec<String>, what: &str) -> Fault {
    let mut fault =
        Fault::new(Code::StackRefused, format!("{} in {what} cannot be carried out", counted(reasons.len())));
    fault.places = reasons;
    fault.at("nothing was changed")
}

fn counted(number: usize) -> String {
    match number {
        1 => "1 thing".into(),
        more => format!("{more} things"),
    }
}
