//! Versions of moorline: what is named is fetched, verified, tried and runs; and whatever goes wrong, and whenever the
//! process dies, one of the two versions keeps the host as its ring says.

use moorline::decide::fault::Code;
use moorline::model::release::{Release, Succession};
use moorline::model::{Report, RunEnd};
use moorline::runs::reconcile::reconcile;
use moorline::runs::succession::{self, Follower, Part, Way};
use moorline::world::release::Releases as _;

use crate::fleet::{WEB, settled};
use crate::sim::{Manners, Sim};

const URL: &str = "https://releases.example.org/moorline";

fn release(version: &str) -> Release {
    Release { version: version.into(), sha256: format!("{:0>64}", version.replace('.', "")) }
}

/// Names a version for all rings, in a signed commit, and serves its program.
fn name(sim: &Sim, version: &str) {
    let Release { version, sha256 } = release(version);
    let file =
        format!("version: 1\nagent:\n  all: {{ version: {version}, url: {URL}/{version}, sha256: '{sha256}' }}\n");
    sim.write("moorline.yaml", file);
    sim.commit();
    sim.host().served.insert(format!("{URL}/{version}"), sha256);
}

/// A host that settled, and whose next commit names a version with these manners.
fn named(version: &str, manners: Manners) -> Sim {
    let sim = settled();
    sim.host().manners.insert(version.into(), manners);
    name(&sim, version);
    sim
}

/// One life of the keeper, of as many runs: as systemd starts it, through every handing over. The courier fetches between
/// two runs. The reports, and who it is in the end.
async fn keeper(sim: &Sim, runs: usize) -> (Vec<Report>, Option<String>) {
    let mut reports = Vec::new();
    let mut as_anchor = true;
    let mut began_as = None;
    while reports.len() < runs {
        if as_anchor {
            *sim.own.borrow_mut() = None;
            match succession::begin(sim, Part::Keeper).await {
                Follower::Release(release) => *sim.own.borrow_mut() = Some(release.directory()),
                Follower::Itself => {}
                Follower::Nobody => break,
            }
            began_as = succession::who_runs(sim);
        }
        let report = reconcile(sim, "timer").await;
        let way = succession::go_on(sim, &report, began_as.as_ref(), jiff::SignedDuration::ZERO);
        as_anchor = way.is_ok_and(|way| way == Way::Make);
        reports.push(report);
        sim.host().clock += 60_000;
        // The courier is another process, which nothing here ends.
        let fetched = succession::fetch(sim).await;
        drop(fetched);
    }
    (reports, sim.own_release())
}

fn live(sim: &Sim, runs: usize) -> (Vec<Report>, Option<String>) {
    sim.try_work(keeper(sim, runs)).expect("nothing cuts this life")
}

fn state(sim: &Sim) -> Succession {
    sim.succession().expect("it can be read")
}

#[test]
fn a_named_version_is_fetched_and_tried_and_runs() {
    let sim = named("0.2.0", Manners::Works);
    let (reports, own) = live(&sim, 4);
    assert_eq!(own, Some(release("0.2.0").directory()));
    assert!(reports.iter().all(|report| report.end == RunEnd::Converged && report.outcomes.is_empty()));
    let said: Vec<&str> = sim.said().iter().map(moorline::decide::event::Event::name).collect();
    assert!(said.contains(&"trial-began") && said.contains(&"trial-passed"), "{said:?}");
}

#[test]
fn a_host_without_an_entry_has_no_record() {
    let sim = settled();
    live(&sim, 2);
    assert_eq!(sim.host().succession, None);
}

#[test]
fn a_version_is_never_tried_before_stacks_are_what_they_should_be() {
    let sim = settled();
    sim.edit(WEB, "app:1", "app:2");
    name(&sim, "0.2.0");
    let (reports, own) = live(&sim, 1);
    assert_eq!((reports[0].end, own), (RunEnd::Converged, None));
    assert!(!reports[0].outcomes.is_empty(), "the stack changed");
    assert!(state(&sim).trial.is_none() && sim.host().installed.is_empty(), "and nothing else");
    assert_eq!(live(&sim, 3).1, Some(release("0.2.0").directory()));
}

#[test]
fn a_version_that_fails_or_would_act_is_refused_and_told_of_in_every_report() {
    for manners in [Manners::Fails, Manners::Acts] {
        let sim = named("0.2.0", manners);
        let (_, own) = live(&sim, 4);
        assert_eq!(own, None, "{manners:?}");
        let (reports, _) = live(&sim, 2);
        for report in reports {
            let fault = report.fault.expect("it is told");
            assert_eq!((report.end, fault.code.as_str()), (RunEnd::Degraded, Code::ReleaseRefused.name()));
        }
        let begun = |sim: &Sim| sim.asked().iter().filter(|asked| *asked == "begin a trial").count();
        live(&sim, 3);
        assert_eq!(begun(&sim), 0, "it is not tried again");
        sim.host().manners.clear();
        name(&sim, "0.2.1");
        let (reports, own) = live(&sim, 4);
        assert_eq!(own, Some(release("0.2.1").directory()));
        assert_eq!(reports.last().expect("some").fault, None);
    }
}

#[test]
fn a_doubt_counts_only_if_the_version_before_finds_nothing_to_do() {
    let sim = named("0.2.0", Manners::Acts);
    // The trial finds what somebody did meanwhile.
    live(&sim, 2);
    let begun = sim.try_work(succession::begin(&sim, Part::Keeper));
    assert_eq!(begun, Some(Follower::Itself));
    assert!(state(&sim).trial.is_some_and(|trial| trial.doubt.is_some()));
    sim.host().manners.clear();
    sim.edit(WEB, "app:1", "app:2");
    sim.commit();
    let (reports, own) = live(&sim, 4);
    assert!(!reports[0].outcomes.is_empty(), "the version before had something to do, too");
    assert_eq!(own, Some(release("0.2.0").directory()), "so it was tried once more");
}

#[test]
fn other_content_is_refused_and_asked_for_again() {
    let sim = named("0.2.0", Manners::Works);
    let url = format!("{URL}/0.2.0");
    let right = sim.host().served.insert(url.clone(), "something else".into()).expect("it was served");
    let (reports, own) = live(&sim, 3);
    assert_eq!(own, None);
    let fault = reports.last().and_then(|report| report.fault.clone()).expect("it is told");
    assert_eq!(fault.code, Code::ReleaseUnfetched.name());
    assert!(fault.hint.is_some_and(|hint| hint.contains("sha256sum")));
    assert!(sim.host().installed.is_empty());
    sim.host().served.insert(url, right);
    sim.host().clock += 3_600_000;
    assert_eq!(live(&sim, 4).1, Some(release("0.2.0").directory()));
}

#[test]
fn a_changed_program_or_a_damaged_record_leaves_the_host_with_the_packages() {
    for damage in ["program", "record"] {
        let sim = named("0.2.0", Manners::Works);
        live(&sim, 4);
        match damage {
            "program" => sim.host().installed.values_mut().for_each(|program| program.push('x')),
            _ => sim.host().succession = Some(b"{".to_vec()),
        }
        // The tip moves, so that the run reads the repository again.
        sim.commit();
        let (reports, own) = live(&sim, 1);
        assert_eq!(own, None, "{damage}");
        let fault = reports[0].fault.clone().expect("it is told");
        assert_eq!(fault.code, Code::ReleaseDamaged.name(), "{damage}");
        assert_eq!(live(&sim, 4).1, Some(release("0.2.0").directory()), "{damage}: it comes again");
    }
}

#[test]
fn a_version_that_does_not_live_after_its_trial_goes_back_to_the_one_before() {
    let sim = named("0.2.0", Manners::Works);
    live(&sim, 4);
    name(&sim, "0.3.0");
    assert_eq!(live(&sim, 4).1, Some(release("0.3.0").directory()));
    let start = || sim.try_work(succession::begin(&sim, Part::Keeper));
    *sim.own.borrow_mut() = None;
    let starts: Vec<_> = std::iter::repeat_with(start).take(5).flatten().collect();
    assert_eq!(starts.last(), Some(&Follower::Release(release("0.2.0"))), "{starts:?}");
    assert!(state(&sim).refused.is_some_and(|refused| refused.release == release("0.3.0")));
}

#[test]
fn a_newer_package_takes_over_when_nothing_is_named_any_more() {
    let sim = named("0.2.0", Manners::Works);
    live(&sim, 4);
    sim.write("moorline.yaml", "version: 1\n");
    sim.commit();
    assert_eq!(live(&sim, 2).1, Some(release("0.2.0").directory()), "the package is older");
    sim.host().package = "0.3.0".into();
    assert_eq!(live(&sim, 2).1, None);
}

/// Kills the life after each of its effects. Whoever comes back converges, and in the end the host is where it should be.
fn every_cut_ends_well(before: &Sim, end: Option<&Release>) {
    let uncut = before.fork();
    live(&uncut, 5);
    let effects = uncut.effects();
    assert!(effects > 5);
    for cut in 0..effects {
        for power_is_cut in [false, true] {
            let sim = before.fork();
            assert!(sim.cut_after(cut).try_work(keeper(&sim, 5)).is_none(), "there are more effects than {cut}");
            if power_is_cut {
                sim.host().boots += 1;
            }
            let how = format!("cut after {cut}, power {power_is_cut}");
            let (reports, _) = live(&sim, 6);
            let last = reports.last().expect("some");
            assert!(last.outcomes.is_empty() && only_a_version_is_amiss(last), "{how}: {:?}", last.fault);
            let own = sim.own_release();
            let is_refused = state(&sim).refused.is_some();
            match end {
                // A kill in the middle of a trial counts against the version; nothing else does.
                Some(release) => {
                    assert!(own == Some(release.directory()) || (own.is_none() && is_refused), "{how}: {own:?}");
                }
                None => assert!(own.is_none() && is_refused, "{how}: {own:?}"),
            }
            if power_is_cut && end.is_some() {
                assert_eq!(own, end.map(Release::directory), "{how}");
            }
        }
    }
}

/// Nothing is wrong but with a version.
fn only_a_version_is_amiss(report: &Report) -> bool {
    report.fault.as_ref().is_none_or(|fault| fault.code == Code::ReleaseRefused.name())
}

#[test]
fn a_self_update_can_be_killed_anywhere() {
    every_cut_ends_well(&named("0.2.0", Manners::Works), Some(&release("0.2.0")));
}

#[test]
fn the_way_back_can_be_killed_anywhere() {
    every_cut_ends_well(&named("0.2.0", Manners::Fails), None);
    every_cut_ends_well(&named("0.2.0", Manners::Acts), None);
}
