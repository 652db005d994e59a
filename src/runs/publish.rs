//! Tells Traefik the routes of the stacks that passed their gates, and sees that it serves them; or puts back what it
//! served before.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::decide::digest::DigestKey;
use crate::decide::drift::Edited;
use crate::decide::fault::{Code, Fault};
use crate::decide::redact;
use crate::decide::report::Draft;
use crate::decide::start_first::Names;
use crate::decide::traefik::due::{self, Due, Found};
use crate::decide::traefik::host::STACK;
use crate::decide::traefik::publish::{self, FILE, Publication, RouterState, State as Route};
use crate::model::ledger::{Published, Standing};
use crate::model::{Action, Applied, Cause, DesiredStack, Inputs, Ledger, Model, Secret, State};
use crate::runs::deploy::STOPPED;
use crate::runs::generation::{Generation, generation, version, versions};
use crate::runs::prepare::Prepared;
use crate::world::World;

/// How long Traefik may take. It collects changes for two seconds (`providersThrottleDuration`), and may be told to do so
/// for longer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How many lines of its log are looked through for a reason.
const LINES: usize = 200;

/// Whether what was to be published stands where Traefik reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It does, and Traefik, if it runs, was seen to serve it. Or there is no Traefik, and nobody to be told.
    Given,
    /// It does not: Traefik is held, or the routes need what a later stack of this run brings.
    NotGiven,
}

/// Publishes one generation: `stack` as it is `now` (nothing when it goes), all others as they were last applied, with
/// their servers at the containers with these names. Returns when Traefik was seen to serve it. If it does not, what it
/// served before is back when this returns.
pub async fn publish(
    world: &impl World,
    prepared: &Prepared,
    stack: &str,
    now: Option<&DesiredStack>,
    ledger: &mut Ledger,
    draft: &mut Draft,
    names: &Names,
) -> Result<Word, Fault> {
    let versions = versions(world, prepared, ledger, Some((stack, now)))?;
    // A host without a Traefik, or one whose Traefik comes later and tells all routes at once.
    let of = |serial| generation(world.settings(), &versions, &prepared.key, names, serial);
    let serial = serial(ledger);
    let Some(mut next) = of(serial) else { return Ok(Word::Given) };
    if let Some(hold) = draft.held.get(STACK) {
        draft.remarks.push(format!("the routes of {stack} were not published: {hold}"));
        return unseen(world, ledger).map(|()| Word::NotGiven);
    }
    if !next.mistakes.is_empty() {
        return held_back(world, stack, &next, ledger, draft).map(|()| Word::NotGiven);
    }
    let found = world.routes()?;
    let published = ledger.routes.as_ref().filter(|published| published.marker == next.publication.marker);
    if published.is_some_and(|published| due::is_touched(FILE, published, &found, &prepared.key)) {
        // Traefik may have read the edited file with this very marker, or sees another directory: it proves nothing now.
        next = of(serial + 1).unwrap_or(next);
    }
    let bad_before = match &next.api {
        Ok(api) => bad_routers(world.traefik_says(api).await.ok(), &next),
        Err(_) => BTreeSet::new(),
    };
    write(world, &prepared.key, ledger, &next, &found, draft)?;
    match prove(world, prepared, stack, &next, &bad_before, draft).await {
        Ok(standing) => note(world, &prepared.key, ledger, &next, standing, &found).map(|()| Word::Given),
        // The next run goes on from what it finds.
        Err(fault) if fault.code == Code::Stopped => Err(fault),
        Err(fault) => {
            let former = names.clone().led_back(stack);
            Err(put_back(world, prepared, ledger, draft, &next, &former, fault).await)
        }
    }
}

/// What must be published for these stacks to have their routes, and the files that somebody else touched.
pub fn due<'a>(
    world: &impl World,
    inputs: &[Inputs],
    stacks: impl Iterator<Item = (&'a str, &'a str, &'a Model)>,
    ledger: &Ledger,
    key: &DigestKey,
    names: &Names,
) -> Result<(Due, Vec<Edited>), Fault> {
    let one = |(name, digest, model)| version(world, inputs, ledger, key, name, digest, model);
    let versions = stacks.map(one).collect::<Result<Vec<_>, _>>()?;
    let Some(generation) = generation(world.settings(), &versions, key, names, serial(ledger)) else {
        return Ok(Default::default());
    };
    let shares = publish::shares(&generation.told, key);
    if shares.is_empty() && ledger.routes.is_none() {
        return Ok(Default::default());
    }
    let found = world.routes()?;
    let published = ledger.routes.as_ref();
    let edited = due::edited(published, &found, key, &world.settings().stack_directory(STACK));
    Ok((due::due(&shares, published, &found, key), edited))
}

/// Whether the routes are as the last run left them. Asks nobody.
pub fn is_as_left(world: &impl World, ledger: &Ledger) -> Result<bool, Fault> {
    let Some(published) = &ledger.routes else { return Ok(true) };
    let Some(key) = world.digest_key()? else { return Ok(false) };
    Ok(due::is_as_left(published, &world.routes()?, &key))
}

/// Puts the routes of what was last applied back into memory, before Traefik is started. Asks nobody.
pub fn restore(world: &impl World, ledger: &Ledger, key: &DigestKey) -> Result<(), Fault> {
    if ledger.routes.is_none() {
        return Ok(());
    }
    let applied = ledger.applied.iter();
    let one =
        |(name, applied): (&String, &Applied)| version(world, &[], ledger, key, name, &applied.digest, &applied.model);
    let versions = applied.map(one).collect::<Result<Vec<_>, _>>()?;
    let names = Names::remembered(ledger);
    let Some(generation) = generation(world.settings(), &versions, key, &names, serial(ledger)) else {
        return Ok(());
    };
    put(world, &generation.publication, &world.routes()?)
}

/// Takes everything away that Traefik was told: it is gone itself.
pub fn forget(world: &impl World, ledger: &mut Ledger) -> Result<(), Fault> {
    let Some(published) = ledger.routes.take() else { return Ok(()) };
    for path in world.routes()?.keys().filter(|path| due::is_ours(path, &published)) {
        world.put_route(path, None)?;
    }
    Ok(())
}

/// A route may need what another stack of the same revision brings, and that one comes later. Then both are published
/// together. Traefik serves what it served before.
fn held_back(
    world: &impl World,
    stack: &str,
    next: &Generation,
    ledger: &mut Ledger,
    draft: &mut Draft,
) -> Result<(), Fault> {
    let mine = draft.plan.steps.iter().rposition(|step| step.stack == stack).map_or(0, |last| last + 1);
    let more = draft.plan.steps.iter().skip(mine);
    if more.into_iter().any(|step| matches!(step.action, Action::Publish { .. })) {
        return unseen(world, ledger);
    }
    let sentence = format!("the routes of {stack} do not fit to those of the other stacks as they are now");
    let fault = Fault::new(Code::RouteRefused, sentence).at("Traefik serves what it served before");
    Err(next.mistakes.iter().fold(fault, Fault::because))
}

/// The next run publishes again.
fn unseen(world: &impl World, ledger: &mut Ledger) -> Result<(), Fault> {
    ledger.routes.get_or_insert_default().standing = Standing::Written;
    world.persist(ledger)
}

/// Writes the files that are others than they should be; a kill in the middle is seen in the ledger.
fn write(
    world: &impl World,
    key: &DigestKey,
    ledger: &mut Ledger,
    next: &Generation,
    found: &Found,
    draft: &Draft,
) -> Result<(), Fault> {
    let digests = next.publication.digests(key);
    if next.publication.files.keys().any(|path| there(found, path) != there(&next.publication.files, path)) {
        let published = ledger.routes.get_or_insert_default();
        (published.begun, published.serial) = (Some(digests), next.serial);
        world.persist(ledger)?;
    }
    // What a person put there was written down before, and it may keep Traefik from reading anything.
    let is_drift = |cause: &Cause| matches!(cause, Cause::FileEdited { .. });
    let saved = draft.plan.steps.iter().any(|step| {
        step.stack == STACK && matches!(step.action, Action::Publish { .. }) && step.causes.iter().any(is_drift)
    });
    let ours = ledger.routes.clone().unwrap_or_default();
    for path in found.keys().filter(|path| saved && !due::is_ours(path, &ours)) {
        world.put_route(path, None)?;
    }
    put(world, &next.publication, found)
}

fn there<'a>(files: &'a Found, path: &str) -> Option<&'a Vec<u8>> {
    files.get(path).map(Secret::expose)
}

fn serial(ledger: &Ledger) -> u32 {
    ledger.routes.as_ref().map_or(0, |published| published.serial)
}

/// What routes refer to comes first, the routes themselves last and at once.
fn put(world: &impl World, publication: &Publication, found: &Found) -> Result<(), Fault> {
    let (last, first): (Vec<_>, Vec<_>) = publication.files.iter().partition(|(path, _)| path.as_str() == FILE);
    for (path, content) in first.into_iter().chain(last) {
        if there(found, path) != Some(content.expose()) {
            world.put_route(path, Some(content))?;
        }
    }
    Ok(())
}

/// The routers that Traefik did not serve before.
fn bad_routers(rawdata: Option<serde_json::Value>, next: &Generation) -> BTreeSet<(String, String)> {
    let Some(rawdata) = rawdata else { return BTreeSet::new() };
    let judged = publish::judge(&rawdata, &next.told.definitions, &next.publication.marker);
    let bad = judged.routers.into_iter().filter(|router| matches!(router.state, Route::Disabled(_)));
    bad.map(|router| (router.protocol, router.name)).collect()
}

/// Asks Traefik until it has read this generation, and whether it serves every route of it that it could serve before.
async fn prove(
    world: &impl World,
    prepared: &Prepared,
    stack: &str,
    next: &Generation,
    bad_before: &BTreeSet<(String, String)>,
    draft: &mut Draft,
) -> Result<Standing, Fault> {
    let containers = world.look(STACK, std::slice::from_ref(&next.proxy)).await?;
    if !containers.iter().any(|container| container.state == State::Running) {
        let sentence = "the routes were written, but Traefik does not run: nobody has seen that it serves them";
        draft.faults.push(Fault::new(Code::TraefikSilent, sentence).hint(format!("docker compose -p {STACK} ps -a")));
        return Ok(Standing::Written);
    }
    let silent = |why: &String| Fault::new(Code::TraefikSilent, why.clone());
    let api = next.api.as_ref().map_err(silent)?;
    let began = world.now();
    loop {
        let answer = world.traefik_says(api).await;
        if let Ok(rawdata) = &answer {
            let judged = publish::judge(rawdata, &next.told.definitions, &next.publication.marker);
            let is_to_blame = |router: &RouterState| {
                let known = (router.protocol.clone(), router.name.clone());
                router.state != Route::Enabled && (router.stack == stack || !bad_before.contains(&known))
            };
            let bad: Vec<&RouterState> = judged.routers.iter().filter(|router| is_to_blame(router)).collect();
            match (judged.loaded, bad.as_slice()) {
                (true, []) => return Ok(Standing::InForce),
                (true, bad) => return Err(not_served(stack, bad)),
                (false, _) => {}
            }
        }
        if world.stopping() {
            return Err(Fault::new(Code::Stopped, STOPPED));
        }
        if world.now().duration_since(began).unsigned_abs() > PATIENCE {
            return Err(match answer {
                Err(fault) => fault,
                Ok(_) => not_read(world, prepared, stack, next).await,
            });
        }
        world.wait(ASK_EVERY).await;
    }
}

fn not_served(stack: &str, bad: &[&RouterState]) -> Fault {
    let count = if bad.len() == 1 { "a route".to_owned() } else { format!("{} routes", bad.len()) };
    let fault = Fault::new(Code::RouteRefused, format!("Traefik does not serve {count} of {stack}"));
    bad.iter().fold(fault, |fault, router| {
        let why = match &router.state {
            Route::Disabled(why) if !why.is_empty() => why.join("; "),
            Route::Absent => "Traefik does not have it".to_owned(),
            _ => "Traefik does not say why".to_owned(),
        };
        fault.because(format!("{}: router `{}`: {why}", router.place, router.name))
    })
}

/// Its API says nothing when it cannot read a file; only its log does.
async fn not_read(world: &impl World, prepared: &Prepared, stack: &str, next: &Generation) -> Fault {
    let said = world.last_words(STACK, std::slice::from_ref(&next.proxy), LINES).await.unwrap_or_default();
    let secrets: Vec<&str> = prepared.secrets.values().collect();
    let lines = said.iter().flat_map(|words| redact::last_lines(words.text.expose(), LINES, &secrets));
    // What it said about files that are gone is of the past.
    let there: Vec<String> = world.routes().unwrap_or_default().into_keys().map(|path| format!("/{path}:")).collect();
    let errors = lines.filter(|line| there.iter().any(|path| line.contains(path)));
    let errors: Vec<String> = errors.map(|line| without_colours(&line)).collect();
    let fault = Fault::new(Code::RouteRefused, format!("Traefik did not read the routes of {stack}"));
    match errors.last() {
        Some(line) => fault.because(line).hint(format!("docker compose -p {STACK} logs")),
        None => fault
            .because("it says nothing about them in its log; it may watch a directory that is gone")
            .hint(format!("docker compose -p {STACK} restart")),
    }
}

/// Traefik colours its log even where nobody looks. Whoever made the line printable has left `[31m` of that.
fn without_colours(line: &str) -> String {
    let mut parts = line.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| match part.split_once('m') {
        Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => plain + rest,
        _ => plain + "[" + part,
    })
}

/// Puts back what was served before a generation that failed, and adds to the fault how that went.
async fn put_back(
    world: &impl World,
    prepared: &Prepared,
    ledger: &mut Ledger,
    draft: &mut Draft,
    failed: &Generation,
    names: &Names,
    fault: Fault,
) -> Fault {
    let former = versions(world, prepared, ledger, None)
        .map(|versions| generation(world.settings(), &versions, &prepared.key, names, failed.serial));
    let former = match former {
        Ok(former) => former.filter(|former| former.mistakes.is_empty()),
        Err(why) => return fault.because(format!("what was there before could not be put back: {}", why.sentence)),
    };
    let Some(former) = former.filter(|former| former.publication.marker != failed.publication.marker) else {
        // There is nothing else: this is what all stacks say, or the first that Traefik was ever told.
        let noted =
            world.routes().and_then(|found| note(world, &prepared.key, ledger, failed, Standing::Written, &found));
        return noted.err().map_or(fault.clone(), |why| fault.because(why.sentence));
    };
    let back = async {
        let found = world.routes()?;
        write(world, &prepared.key, ledger, &former, &found, draft)?;
        // Whoever does not answer now need not be waited for twice.
        let standing = match fault.code {
            Code::TraefikSilent => Standing::Written,
            _ => prove(world, prepared, "", &former, &bad_routers(None, &former), draft).await?,
        };
        note(world, &prepared.key, ledger, &former, standing, &found)?;
        Ok::<Standing, Fault>(standing)
    };
    match back.await {
        Ok(Standing::InForce) => fault.because("the routes before are back, and Traefik serves them"),
        Ok(Standing::Written) => {
            fault.because("the routes before were written back; nobody has seen that Traefik serves them")
        }
        Err(why) => fault.because(format!("and the routes before did not come back: {}", why.sentence)),
    }
}

/// Removes what is not needed any more and remembers what is there now.
fn note(
    world: &impl World,
    key: &DigestKey,
    ledger: &mut Ledger,
    generation: &Generation,
    standing: Standing,
    found: &Found,
) -> Result<(), Fault> {
    let before = ledger.routes.clone().unwrap_or_default();
    let files = generation.publication.digests(key);
    for path in found.keys().filter(|path| due::is_ours(path, &before) && !files.contains_key(*path)) {
        world.put_route(path, None)?;
    }
    let shares = publish::shares(&generation.told, key).into_iter();
    let stacks = shares.map(|(stack, share)| (stack, share.digest)).collect();
    let marker = generation.publication.marker.clone();
    let published = Published { marker, files, stacks, standing, serial: generation.serial, begun: None };
    if before == published {
        return Ok(());
    }
    ledger.routes = Some(published);
    world.persist(ledger)
}
