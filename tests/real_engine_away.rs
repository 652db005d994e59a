//! A real engine that goes away at each question of a real deploy: killed and started again, before it heard the question
//! and after it did what was asked; or frozen for longer than anybody waits. That says nothing about a stack: it is tried
//! again, and the next run ends with what is desired.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::wait::within;
use support::{Change, Lane, Lanes, Proxy, Question, Side, until};

/// How many hosts meet the same crash, each at a question of its own.
const LANES: usize = 6;

/// A lane whose agent and plugin ask the engine through a proxy.
struct Watched<'lanes> {
    lane: Lane<'lanes>,
    proxy: Arc<Proxy>,
}

fn watched(shared: &Lanes, number: usize) -> Watched<'_> {
    let lane = shared.lane(number);
    let socket = lane.log("docker.sock");
    let proxy = Arc::new(Proxy::start(socket.clone(), &shared.engine.socket));
    let settings = lane.host.etc().join("agent.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let (from, to) = (shared.engine.socket.display().to_string(), socket.display().to_string());
    fs::write(&settings, text.replace(&format!("\"{from}\""), &format!("\"{to}\""))).unwrap();
    Watched { lane, proxy }
}

fn all(shared: &Lanes, count: usize) -> Vec<Watched<'_>> {
    thread::scope(|scope| {
        let began: Vec<_> = (0..count).map(|number| scope.spawn(move || watched(shared, number))).collect();
        began.into_iter().map(|lane| lane.join().unwrap()).collect()
    })
}

/// What an undisturbed deploy asks.
fn questions(watched: &mut Watched<'_>, change: Change) -> Vec<Question> {
    let before = watched.lane.prepare(change);
    watched.proxy.count();
    let ran = watched.lane.host.moorline(&["reconcile"]);
    let questions = watched.proxy.questions();
    assert_eq!(watched.lane.recovers(&before), Vec::<String>::new(), "undisturbed: {ran}");
    let by_plugin = questions.iter().filter(|question| question.by_plugin).count();
    println!("{change:?}: {} questions, {by_plugin} of them by the plugin", questions.len());
    questions
}

/// The question at which the engine goes away.
#[derive(Clone, Debug)]
struct Point {
    change: Change,
    number: usize,
    side: Side,
    line: String,
}

/// Each question once before it is heard; those that change something once more after it was done.
fn points(change: Change, questions: &[Question]) -> Vec<Point> {
    let point = |number: usize, side| Point { change, number, side, line: questions[number - 1].line.clone() };
    let changes = |number: &usize| {
        !questions[number - 1].line.starts_with("GET") && !questions[number - 1].line.starts_with("HEAD")
    };
    let before = (1..=questions.len()).map(|number| point(number, Side::Before));
    before.chain((1..=questions.len()).filter(changes).map(|number| point(number, Side::After))).collect()
}

/// How the engine comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    /// It is started again at once, while the run still asks.
    Restarted,
    /// It is started again when the run has given up.
    Down,
    /// It is frozen for so long.
    Frozen(Duration),
}

/// Lets the engine go away for all lanes at once, each at its own point. Returns how many of them met it, and what was
/// wrong afterwards.
fn together(shared: &Lanes, lanes: &mut [Watched<'_>], points: &[Point], away: Away) -> (usize, Vec<String>) {
    let befores: Vec<_> = thread::scope(|scope| {
        let began: Vec<_> = lanes
            .iter_mut()
            .zip(points)
            .map(|(watched, point)| scope.spawn(|| watched.lane.prepare(point.change)))
            .collect();
        began.into_iter().map(|before| before.join().unwrap()).collect()
    });
    let ended = AtomicUsize::new(0);
    let lanes = &lanes[..points.len()];
    let (met, ran) = thread::scope(|scope| {
        let runs: Vec<_> = lanes
            .iter()
            .zip(points)
            .map(|(watched, point)| {
                watched.proxy.hold(point.number, point.side);
                let ended = &ended;
                scope.spawn(move || {
                    let ran = watched.lane.host.moorline(&["reconcile"]);
                    ended.fetch_add(1, Ordering::SeqCst);
                    ran
                })
            })
            .collect();
        let held = || lanes.iter().filter(|watched| watched.proxy.is_reached()).count();
        until("every run is held or has ended", || {
            (held() + ended.load(Ordering::SeqCst) >= lanes.len()).then_some(())
        });
        let met: Vec<bool> = lanes.iter().map(|watched| watched.proxy.is_reached()).collect();
        let release = || lanes.iter().for_each(|watched| watched.proxy.release());
        let come_back = || {
            shared.engine.resume();
            lanes.iter().for_each(|watched| watched.proxy.come_back());
        };
        let all_ended = || (ended.load(Ordering::SeqCst) == lanes.len()).then_some(());
        match away {
            Away::Restarted | Away::Down => {
                shared.engine.kill();
                lanes.iter().for_each(|watched| watched.proxy.go_away());
                release();
                if away == Away::Down {
                    until("the runs give up", all_ended);
                }
                come_back();
            }
            Away::Frozen(time) => {
                shared.engine.pause();
                release();
                let began = Instant::now();
                within(time + Duration::from_secs(10), "the time is over", || (began.elapsed() > time).then_some(()));
                shared.engine.unpause();
            }
        }
        within(Duration::from_secs(150), "the runs end", all_ended);
        (met, runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>())
    });
    until("the foreign container is back", || {
        let found = shared.engine.ask("/containers/foreign/json")?;
        (found["State"]["Running"] == true).then_some(())
    });
    let broken: Vec<Vec<String>> = thread::scope(|scope| {
        let checks: Vec<_> = lanes
            .iter()
            .zip(points)
            .zip(befores.iter().zip(&ran))
            .zip(&met)
            .map(|(((watched, point), (before, ran)), met)| {
                scope.spawn(move || {
                    let (hindered, failed) = watched.lane.failures();
                    let mut broken = Vec::new();
                    let words = ran.stderr.lines().find(|line| line.starts_with("error")).unwrap_or_default();
                    println!(
                        "{:?} {:?} {:?} {} {}: met: {met}, {:?}, hindered {hindered}, failed {failed}: {words}",
                        away, point.change, point.side, point.number, point.line, ran.code
                    );
                    if *met && failed > 0 && point.change != Change::Broken {
                        broken.push(format!("a verdict against the stack: {ran}"));
                    }
                    broken.extend(watched.lane.recovers(before));
                    broken.into_iter().map(|what| format!("{away:?} {point:?}: {what}")).collect()
                })
            })
            .collect();
        checks.into_iter().map(|check| check.join().unwrap()).collect()
    });
    (met.iter().filter(|met| **met).count(), broken.concat())
}

/// Every point once, or every so-manieth of them.
fn every(away: &[Away], change: Change, nth: usize, of: usize) {
    let shared = Lanes::new();
    let mut lanes = all(&shared, LANES);
    let questions = questions(&mut lanes[0], change);
    let points: Vec<Point> = points(change, &questions).into_iter().skip(nth).step_by(of).collect();
    let (mut met, mut broken) = (0, Vec::new());
    for (number, points) in points.chunks(LANES).enumerate() {
        let (of_these, wrong) = together(&shared, &mut lanes, points, away[number % away.len()]);
        met += of_these;
        broken.extend(wrong);
    }
    println!("the engine went away {met} times of {}, {} violations of I1-I9", points.len(), broken.len());
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(met * 10 >= points.len() * 9, "most points must be met");
}

#[test]
fn the_engine_can_be_killed_at_every_second_question_of_a_deploy() {
    every(&[Away::Down, Away::Restarted], Change::Version, 0, 2);
}

#[test]
fn the_engine_can_be_killed_at_every_other_question_of_a_deploy() {
    every(&[Away::Restarted, Away::Down], Change::Version, 1, 2);
}

#[test]
fn the_engine_can_be_killed_on_the_way_back_to_what_worked() {
    every(&[Away::Restarted, Away::Down], Change::Broken, 0, 4);
}

#[test]
fn an_engine_that_is_frozen_at_any_question_is_waited_for() {
    every(&[Away::Frozen(Duration::from_secs(5))], Change::Version, 0, 1);
}

#[test]
fn an_engine_that_is_frozen_for_longer_than_the_agent_waits_is_no_verdict() {
    let shared = Lanes::new();
    let mut lanes = all(&shared, 16);
    let questions = questions(&mut lanes[0], Change::Version);
    let points: Vec<Point> =
        points(Change::Version, &questions).into_iter().filter(|point| point.side == Side::Before).collect();
    let points: Vec<Point> =
        (0..lanes.len()).map(|number| points[points.len() * number / lanes.len()].clone()).collect();
    let (met, broken) = together(&shared, &mut lanes, &points, Away::Frozen(Duration::from_secs(130)));
    println!("the engine was frozen at {met} questions, {} violations of I1-I9", broken.len());
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(met * 10 >= points.len() * 9, "most points must be met");
}
