//! Tells a story to a host in memory, and holds the host against the reference after every part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use moorline::decide::event::Event;
use moorline::model::tree::File;
use moorline::model::{Report, State};

use crate::fleet::{self, CANARY, EVIL, Fleet, IMAGES, SERVICES, STACKS, Version};
use crate::happening::{Change, Deed, Ends, Happening, Trouble};
use crate::reference::{Commit, Orders, Reference, glance, runs};
use crate::sim::{Behaviour, Host, Signer, Sim};

const MINUTE: i64 = 60_000;

/// A broken rule: its name, and what was seen.
#[derive(Debug)]
pub struct Breach {
    pub rule: &'static str,
    pub seen: String,
}

type Checked = Result<(), Breach>;

fn breach<T>(rule: &'static str, seen: impl Into<String>) -> Result<T, Breach> {
    Err(Breach { rule, seen: seen.into() })
}

fn check(holds: bool, rule: &'static str, seen: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { breach(rule, seen()) }
}

/// How much happened, so that stories which became tame are noticed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub runs: usize,
    pub kills: usize,
    pub converged: usize,
    pub refused: usize,
    pub went_back: usize,
    pub held: usize,
    pub waits: usize,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.kills += other.kills;
        self.converged += other.converged;
        self.refused += other.refused;
        self.went_back += other.went_back;
        self.held += other.held;
        self.waits += other.waits;
    }
}

/// The host, and what must be remembered of the story to judge what comes next.
struct Story {
    sim: Sim,
    reference: Reference,
    foreign: Vec<String>,
    volumes: BTreeSet<String>,
    /// Until when, in milliseconds, the host and its stacks are held.
    held: Option<i64>,
    held_stacks: [Option<i64>; 2],
    /// The ledger as it was before it was damaged.
    ledger: Option<Option<Vec<u8>>>,
    refuses: bool,
    /// What the last run brought the stacks to, if it converged and nothing but commits happened since.
    settled: Option<[Option<Version>; 2]>,
    /// Whether really nothing happened since.
    nothing_since: bool,
    /// How often a version that cannot work was brought up since it was committed, or since a person said `retry`.
    tries: [usize; 2],
    kills: usize,
    /// Stacks at which somebody laid hands in the middle of a run: it may have seemed to fail.
    excused: [bool; 2],
    /// Whether the last run was cut, or could not write: whom it brought up, nobody has noted.
    unseen: bool,
    tally: Tally,
}

/// Tells a whole story: the happenings, and what comes of them once nothing disturbs the host any more.
pub fn tell(happenings: &[Happening]) -> Result<Tally, Breach> {
    let told = catch_unwind(AssertUnwindSafe(|| {
        let mut story = Story::begin();
        for happening in happenings {
            story.happens(*happening)?;
        }
        story.end()?;
        Ok(story.tally)
    }));
    told.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        breach("nothing panics", text)
    })
}

impl Story {
    fn begin() -> Self {
        let sim = fleet::host();
        let fleet = Fleet::first();
        fleet.write(&sim, "");
        let revision = sim.commit();
        let commit = Commit { revision, parent: None, signed: true, fleet };
        let foreign = glance(&sim.host(), |project| project == "wiki");
        Self {
            reference: Reference { commits: vec![commit], ..Reference::default() },
            foreign,
            volumes: BTreeSet::new(),
            held: None,
            held_stacks: [None; 2],
            ledger: None,
            refuses: false,
            settled: None,
            nothing_since: false,
            tries: [0; 2],
            kills: 0,
            excused: [false; 2],
            unseen: false,
            tally: Tally::default(),
            sim,
        }
    }

    fn happens(&mut self, happening: Happening) -> Checked {
        let settled = self.nothing_since;
        let only_words = matches!(happening, Happening::Clock(_) | Happening::Release | Happening::Registry { .. });
        let commits = matches!(
            happening,
            Happening::Commit(_) | Happening::Rewind(_) | Happening::Rewrite(..) | Happening::Evil(_)
        );
        match happening {
            Happening::Run { .. } => {}
            _ if only_words => {}
            _ if commits => self.nothing_since = false,
            _ => (self.nothing_since, self.settled) = (false, None),
        }
        match happening {
            Happening::Commit(change) => self.commit(self.reference.branch, change),
            Happening::Evil(kind) => self.evil(kind),
            Happening::Rewind(back) => {
                let path = self.reference.path(self.reference.branch);
                self.fetch(path[back.min(path.len() - 1)]);
            }
            Happening::Rewrite(back, change) => {
                let path = self.reference.path(self.reference.branch);
                self.commit(path[back.min(path.len() - 1)], change);
            }
            Happening::Run { by_timer, ends, trouble } => return self.run(by_timer, ends, trouble),
            // Only what was seen to work has a name that is remembered.
            Happening::Hand(_, Deed::Rename) if !settled => {}
            Happening::Hand(service, deed) => hand(&mut self.sim.host(), service, deed),
            Happening::Engine { answers } => self.sim.host().engine_answers = answers,
            Happening::Registry { refuses } => {
                let mut host = self.sim.host();
                self.refuses = refuses.is_some();
                match refuses {
                    Some(image) => host.engine.refuse(IMAGES[image]),
                    None => offer_all(&mut host),
                }
            }
            Happening::Disk { full } => self.sim.host().disk_is_full = full,
            // Whom a run brought up that was cut before it noted so, and an orderly shutdown then ends with 0, looks like a
            // one-shot for good (docs/deploys.md). The power is cut instead.
            Happening::Reboot { in_order: true } if !self.unseen => _ = self.sim.reboot_in_order(),
            Happening::Reboot { .. } => _ = self.sim.reboot(),
            Happening::Clock(minutes) => {
                let mut host = self.sim.host();
                host.clock += minutes * MINUTE;
                host.engine.clock_was_set(minutes * 60);
            }
            Happening::Hold(stack, minutes) if self.ledger.is_none() => {
                let until = Some(self.sim.host().clock + minutes * MINUTE);
                match stack {
                    None => {
                        self.sim.hold(minutes);
                        self.held = until;
                    }
                    Some(stack) => {
                        self.sim.hold_stack(STACKS[stack], minutes);
                        self.held_stacks[stack] = until;
                    }
                }
            }
            Happening::Release if self.ledger.is_none() => self.release(),
            Happening::Retry if self.ledger.is_none() => {
                self.sim.retry();
                (self.tries, self.kills) = ([0; 2], 0);
            }
            Happening::DamagedLedger if self.ledger.is_none() => {
                let mut host = self.sim.host();
                if let Some(bytes) = host.ledger.clone() {
                    host.ledger = Some(bytes[..bytes.len() / 2].to_vec());
                    self.ledger = Some(Some(bytes));
                }
            }
            Happening::DamagedCopy => self.sim.host().amiss = vec!["ledger.json is damaged".to_owned()],
            _ => {}
        }
        Ok(())
    }

    fn release(&mut self) {
        let mut ledger = self.sim.remembered();
        (ledger.hold, ledger.stack_holds) = (None, BTreeMap::new());
        self.sim.host().ledger = Some(serde_json::to_vec(&ledger).expect("a ledger can be written"));
        (self.held, self.held_stacks) = (None, [None; 2]);
    }

    /// A commit of the operators, which the courier fetches.
    fn commit(&mut self, parent: usize, change: Change) {
        let path = self.reference.path(parent);
        let before = self.reference.commits[parent].fleet;
        let fleet = change.of(before, &path);
        let pinned = match fleet.ring {
            fleet::Ring::Pinned(commit) => self.reference.commits[commit].revision.to_string(),
            _ => String::new(),
        };
        fleet.write(&self.sim, &pinned);
        let above = self.reference.commits[parent].revision.clone();
        let revision = self.sim.commit_on(Some(&above), Signer::Operator);
        self.reference.commits.push(Commit { revision, parent: Some(parent), signed: true, fleet });
        self.reference.branch = self.reference.commits.len() - 1;
        self.fetch(self.reference.branch);
    }

    /// A commit that must not be believed, on top of the operators' newest.
    fn evil(&mut self, kind: usize) {
        let parent = self.reference.branch;
        let mut fleet = Change::Web(true).of(self.reference.commits[parent].fleet, &[parent]);
        fleet.ring = fleet::Ring::Follows;
        fleet.web.iter_mut().for_each(|web| web.app = fleet::App::Evil);
        fleet.write(&self.sim, "");
        let above = self.reference.commits[parent].revision.clone();
        let signer = [Signer::Nobody, Signer::Stranger, Signer::Stolen][kind];
        let revision = self.sim.commit_on(Some(&above), signer);
        self.reference.commits.push(Commit { revision, parent: Some(parent), signed: false, fleet });
        self.fetch(self.reference.commits.len() - 1);
    }

    fn fetch(&mut self, tip: usize) {
        self.reference.tip = tip;
        self.sim.host().tip = Some(self.reference.commits[tip].revision.clone());
        (self.tries, self.kills) = ([0; 2], 0);
    }

    fn run(&mut self, by_timer: bool, ends: Ends, trouble: Option<(usize, Trouble)>) -> Checked {
        self.tally.runs += 1;
        let mut before = Before::of(&self.sim.host());
        before.befallen = matches!(trouble, Some((_, Trouble::Hand(..))));
        let orders = self.reference.orders();
        let accepts = self.reference.accepts_tip();
        match ends {
            Ends::ByItself => {}
            Ends::Killed(effects) => _ = self.sim.cut_after(effects),
            Ends::Stopped(effects) => _ = self.sim.stop_after(effects),
        }
        if let Some((effects, trouble)) = trouble {
            self.sim.befalls_after(effects, move |host| match trouble {
                Trouble::EngineAway => host.engine_answers = false,
                Trouble::DiskFull => host.disk_is_full = true,
                Trouble::Hand(service, deed) => hand(host, service, deed),
            });
        }
        if let Some((_, Trouble::Hand(service, _))) = trouble {
            self.excused[SERVICES[service].0] = true;
        }
        self.unseen = !matches!(ends, Ends::ByItself)
            || self.sim.host().disk_is_full
            || matches!(trouble, Some((_, Trouble::DiskFull)));
        let ended = self.sim.try_run_as(if by_timer { "timer" } else { "reconcile" });
        if let Orders::Deploy(fleet) = orders {
            let now = self.sim.host().clock;
            for stack in 0..2 {
                if !self.is_held(stack, now) {
                    self.reference.begun(stack, fleet.stack(stack));
                }
            }
        }
        let stopped = matches!(ends, Ends::Stopped(effects) if self.sim.effects() >= effects);
        self.always(&before, orders, accepts)?;
        let result = match &ended {
            None => {
                self.tally.kills += 1;
                self.kills += 1;
                (self.settled, self.nothing_since) = (None, false);
                Ok(())
            }
            Some(report) => self.lived(report, &before, orders, accepts, trouble.is_some() || stopped),
        };
        self.count_tries(&before, orders)?;
        if let Some(ledger) = self.ledger.take() {
            check(self.sim.host().ledger == before.ledger, "a damaged ledger is left as it is", String::new)?;
            self.sim.host().ledger = ledger;
        }
        result
    }

    fn is_held(&self, stack: usize, at: i64) -> bool {
        [self.held, self.held_stacks[stack]].into_iter().flatten().any(|until| until > at)
    }

    /// What holds however a run ends.
    fn always(&mut self, before: &Before, orders: Orders, accepts: bool) -> Checked {
        let host = self.sim.host();
        let wiki = glance(&host, |project| project == "wiki");
        check(wiki == self.foreign, "nothing of others is touched", || format!("{wiki:?}"))?;
        check(host.engine.networks.contains("wiki_default"), "nothing of others is touched", || "network".into())?;
        let lost = self.volumes.iter().find(|volume| !host.engine.volumes.contains(*volume));
        check(lost.is_none(), "volumes are never removed", || format!("{lost:?}"))?;
        self.volumes.extend(host.engine.volumes.iter().cloned());
        let evil = host.engine.images.contains(EVIL)
            || host
                .directories
                .values()
                .flat_map(BTreeMap::values)
                .any(|file| String::from_utf8_lossy(&file.bytes).contains(EVIL));
        check(!evil, "what nobody may sign is never applied", || EVIL.into())?;
        let missing = host.engine.containers.iter().find(|one| !host.engine.images.contains(&one.image));
        let missing = missing.filter(|one| one.project != "wiki").map(|one| one.image.clone());
        check(missing.is_none(), "images in use are never removed", || format!("{missing:?}"))?;
        for (stack, name) in STACKS.into_iter().enumerate() {
            let held = self.is_held(stack, host.clock);
            let untouched = held || matches!(orders, Orders::None(_)) || self.ledger.is_some();
            let now = glance(&host, |project| project == name);
            if untouched && !before.befallen {
                let rule = if held { "what is held is not touched" } else { "without orders nothing is touched" };
                check(before.containers[stack] == now, rule, || format!("{:?} -> {now:?}", before.containers[stack]))?;
                let directory = host.directories.get(name);
                check(before.directories.get(name) == directory, rule, || format!("the directory of {name}"))?;
            }
            self.tally.held += usize::from(held);
        }
        drop(host);
        self.check_anchor(before, accepts)?;
        self.check_secrets()
    }

    fn check_anchor(&mut self, before: &Before, accepts: bool) -> Checked {
        if self.ledger.is_some() {
            return Ok(());
        }
        let anchor = self.sim.remembered().anchor.map(|anchor| anchor.revision);
        let known = self.reference.anchor.map(|anchor| self.reference.commits[anchor].revision.clone());
        let tip = &self.reference.commits[self.reference.tip].revision;
        if accepts && anchor.as_ref() != Some(tip) && !before.befallen {
            let host = self.sim.host();
            let untouched = before.containers == STACKS.map(|stack| glance(&host, |project| project == stack));
            let rule = "the anchor is on disk before anything is applied";
            check(untouched && before.directories == host.directories, rule, || format!("{anchor:?}"))?;
        }
        if anchor == known {
            return Ok(());
        }
        check(accepts && anchor.as_ref() == Some(tip), "the anchor only moves to a signed tip", || {
            format!("{known:?} -> {anchor:?}")
        })?;
        self.reference.anchor = Some(self.reference.tip);
        Ok(())
    }

    /// No secret stands on what is a disk, or was said.
    fn check_secrets(&self) -> Checked {
        let rule = "no secret is shown or stored";
        for event in self.sim.said().iter() {
            let shown = format!("{} {:?}", event.message(), event.fields());
            check(!shown.contains(CANARY), rule, || shown.clone())?;
        }
        let host = self.sim.host();
        let last = host.reports.values().next_back();
        for bytes in host.ledger.iter().chain(last).chain(&host.page).chain(&host.journal) {
            let text = String::from_utf8_lossy(bytes);
            check(!text.contains(CANARY), rule, || text.clone().into_owned())?;
        }
        for (path, file) in host.directories.values().flatten() {
            check(!String::from_utf8_lossy(&file.bytes).contains(CANARY), rule, || path.clone())?;
        }
        for container in &host.engine.containers {
            let shown = format!("{} {:?}", container.definition, container.labels);
            check(!shown.contains(CANARY), rule, || shown.clone())?;
        }
        let texts = host.drift.iter().chain(host.outbox.iter().map(|message| &message.text));
        texts.into_iter().try_for_each(|text| check(!text.contains(CANARY), rule, || text.clone()))
    }

    /// What holds after a run that came to its end.
    fn lived(&mut self, report: &Report, before: &Before, orders: Orders, accepts: bool, disturbed: bool) -> Checked {
        let code = report.fault.as_ref().map_or("", |fault| fault.code.as_str());
        let seen = || format!("{code}: {}", report.summary);
        let mut host = self.sim.host();
        let disk_is_full = host.disk_is_full || before.disk_is_full;
        let lost = self.sim.said().iter().any(|event| matches!(event, Event::ReportLost { .. }));
        let written = host.reports.contains_key(&report.run);
        check(written || (lost && disk_is_full), "every run leaves a report", || report.run.clone())?;
        let told = host.push_urls.is_empty() || !host.outbox.is_empty();
        check(told, "every run is announced", seen)?;
        host.outbox.clear();
        let engine_away = !host.engine_answers || !before.engine_answers;
        let now = host.clock;
        drop(host);
        let undisturbed = !disk_is_full && !engine_away && !disturbed;
        self.tally.converged += usize::from(code.is_empty());
        self.tally.went_back += usize::from(!report.rollbacks.is_empty());
        if self.ledger.is_some() {
            (self.settled, self.nothing_since) = (None, false);
            return check(code == "ledger-damaged", "a damaged ledger is said", seen);
        }
        if accepts && !disk_is_full {
            let moved = self.reference.anchor == Some(self.reference.tip);
            check(moved, "a signed tip is accepted", seen)?;
        }
        let fleet = match orders {
            Orders::Deploy(fleet) => fleet,
            Orders::None(expected) => {
                self.tally.refused += 1;
                (self.settled, self.nothing_since) = (None, false);
                let person = report.fault.as_ref().is_some_and(|fault| fault.mover == "person");
                let said = person && expected.is_none_or(|expected| expected == code);
                return check(!undisturbed || said, "what is not done is said", seen);
            }
        };
        let empty = report.plan.steps.is_empty() && report.outcomes.is_empty() && code.is_empty();
        check(!self.nothing_since || empty || !undisturbed, "nothing changes when nothing changed", || {
            format!("{}\n{}", seen(), report.plan)
        })?;
        let held = self.held.is_some_and(|until| until > before.clock);
        let calm = undisturbed && !held && !self.refuses;
        if calm {
            self.check_reruns(fleet, before)?;
            for stack in 0..2 {
                if !self.is_held(stack, before.clock) && !self.excused[stack] {
                    self.check_stack(stack, fleet.stack(stack), report)?;
                }
            }
        }
        let converged = calm && code.is_empty() && now > before.clock;
        self.settled = converged.then(|| [fleet.stack(0), fleet.stack(1)]);
        self.nothing_since = converged;
        if converged {
            for stack in 0..2 {
                self.reference.worked(stack, fleet.stack(stack));
            }
            self.excused = [false; 2];
        }
        Ok(())
    }

    /// A stack after a run that nothing disturbed: desired, or last good.
    fn check_stack(&self, stack: usize, desired: Option<Version>, report: &Report) -> Checked {
        let host = self.sim.host();
        let name = STACKS[stack];
        let seen = || format!("{:?}: {:#?}", report.fault, glance(&host, |project| project == name));
        let Some(desired) = desired else {
            let nothing = !host.engine.containers.iter().any(|container| container.project == name);
            return check(nothing, "a stack that is not declared goes", seen);
        };
        if report.fault.is_none() {
            check(desired.works(), "what does not work is said", seen)?;
            return check(runs(&host, stack, desired), "a converged stack is what is desired", seen);
        }
        let mut good = self.reference.good[stack].iter();
        let known = good.any(|version| runs(&host, stack, *version));
        check(known || !self.reference.proven[stack], "each stack is desired or last good", seen)
    }

    /// A one-shot that finished is run again only when it changed.
    fn check_reruns(&self, fleet: Fleet, before: &Before) -> Checked {
        let Some([_, Some(was)]) = self.settled else { return Ok(()) };
        let Some(wanted) = fleet.stack(1) else { return Ok(()) };
        let reruns = self.sim.host().engine.reruns - before.reruns;
        check(reruns == 0 || wanted.runs_init_anew(was), "a one-shot is not run again without a change", || {
            format!("{was:?} -> {wanted:?}: {reruns} times")
        })
    }

    /// What cannot work is brought up twice; kills, which come to no verdict, may make it five times.
    fn count_tries(&mut self, before: &Before, orders: Orders) -> Checked {
        let Orders::Deploy(fleet) = orders else { return Ok(()) };
        let host = self.sim.host();
        for (stack, name) in STACKS.into_iter().enumerate() {
            let Some(version) = fleet.stack(stack).filter(|version| !version.works()) else { continue };
            let broken = version.shape()[0].1.clone();
            let of_it = |(service, image): &&(String, String)| service.starts_with(name) && *image == broken;
            self.tries[stack] += usize::from(host.engine.created[before.created..].iter().any(|made| of_it(&made)));
            let most = if self.kills > 0 { 5 } else { 2 };
            check(self.tries[stack] <= most, "what fails is tried twice", || format!("{version:?}"))?;
        }
        Ok(())
    }

    /// Nothing disturbs the host any more: within a few runs it comes to what the reference says, and stays there.
    fn end(&mut self) -> Checked {
        {
            let mut host = self.sim.host();
            (host.engine_answers, host.disk_is_full) = (true, false);
            offer_all(&mut host);
            if let Some(ledger) = self.ledger.take() {
                host.ledger = ledger;
            }
            let holds = self.held.iter().chain(self.held_stacks.iter().flatten());
            host.clock = holds.copied().chain([host.clock]).max().expect("the clock");
        }
        self.refuses = false;
        let orders = self.reference.orders();
        let mut last = None;
        for _ in 0..6 {
            self.sim.host().clock += 121 * MINUTE;
            self.run(true, Ends::ByItself, None)?;
            let report = self.last_report();
            let code = report.fault.as_ref().map(|fault| (fault.code.clone(), fault.mover.clone()));
            let waits_for_person = code.as_ref().is_some_and(|(_, mover)| mover == "person");
            let same = last.as_ref() == Some(&code) && report.outcomes.is_empty();
            if code.is_none() || (waits_for_person && same) {
                return self.ended(orders, &report);
            }
            last = Some(code);
        }
        breach("the host comes to rest", format!("{last:?}"))
    }

    fn ended(&mut self, orders: Orders, report: &Report) -> Checked {
        let seen = || format!("{:?}", report.fault);
        let Orders::Deploy(fleet) = orders else {
            self.tally.waits += 1;
            return check(report.fault.is_some(), "what is not done is said", seen);
        };
        let versions = [fleet.stack(0), fleet.stack(1)];
        let excused = self.excused.contains(&true) || self.kills >= 5;
        if versions.into_iter().flatten().all(Version::works) && !excused {
            check(report.fault.is_none(), "what works is deployed in the end", seen)?;
        }
        if report.fault.is_some() {
            self.tally.waits += 1;
            return Ok(());
        }
        self.happens(Happening::QUIET)
    }

    fn last_report(&self) -> Report {
        let said = self.sim.said();
        let ended = said.iter().find_map(|event| match event {
            Event::RunEnded { report } => Some(report.as_ref().clone()),
            _ => None,
        });
        ended.expect("every run ends with a report")
    }
}

/// The host before a run.
struct Before {
    containers: [Vec<String>; 2],
    directories: BTreeMap<String, BTreeMap<String, File>>,
    ledger: Option<Vec<u8>>,
    created: usize,
    reruns: usize,
    clock: i64,
    engine_answers: bool,
    disk_is_full: bool,
    befallen: bool,
}

impl Before {
    fn of(host: &Host) -> Self {
        Self {
            containers: STACKS.map(|stack| glance(host, |project| project == stack)),
            directories: host.directories.clone(),
            ledger: host.ledger.clone(),
            created: host.engine.created.len(),
            reruns: host.engine.reruns,
            clock: host.clock,
            engine_answers: host.engine_answers,
            disk_is_full: host.disk_is_full,
            befallen: false,
        }
    }
}

fn offer_all(host: &mut Host) {
    for image in IMAGES {
        let behaviour = if image.starts_with("app") { Behaviour::Healthy } else { Behaviour::Runs };
        host.engine.offer(image, behaviour);
    }
}

fn hand(host: &mut Host, service: usize, deed: Deed) {
    let (stack, service) = SERVICES[service];
    let project = STACKS[stack];
    let now = host.time().as_second();
    let of = |one: &&crate::sim::Instance| one.project == project && one.service == service;
    let facts = |one: &crate::sim::Instance| (one.id.clone(), one.name.clone(), one.state(now));
    let found: Vec<_> = host.engine.containers.iter().filter(of).map(facts).collect();
    let [(id, name, state)] = found.as_slice() else { return };
    match deed {
        Deed::Stop => host.engine.by_hand(project, service, Some(State::Exited(137))),
        Deed::Pause if *state == State::Running => host.engine.by_hand(project, service, Some(State::Paused)),
        Deed::Pause => {}
        Deed::Remove => host.engine.remove(project, service),
        Deed::Rename => host.engine.rename(id, "precious"),
        Deed::HalfRename(_) if *name != format!("{project}-{service}-1") => {}
        Deed::HalfRename(old) => host.engine.half_rename(project, service, old),
        Deed::EditFile | Deed::RemoveFile => {
            let Some(files) = host.directories.get_mut("web") else { return };
            match deed {
                Deed::EditFile => _ = files.insert("files/app.conf".into(), File::plain("edited\n")),
                _ => _ = files.remove("files/app.conf"),
            }
        }
    }
}
