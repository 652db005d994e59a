//! kill -9 at any instant of a real deploy on a real engine: the agent at every step and between, the Compose plugin while
//! it works. The next run ends with what is desired or with what worked, the one after it has nothing to do, and nobody
//! has to move.
//!
//! Where to kill is read off a run that nobody disturbs: the system calls that it makes, in their order. Only a kill that
//! ended the process counts.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Mutex;

use support::strace::{Moment, moments, spread, was_killed};
use support::{Change, Lane, Lanes};

/// How many hosts are deployed to at a time.
const LANES: usize = 4;

/// What the agent does that others can see: files, names, children, sockets.
const AGENT: &str = "trace=openat,write,rename,renameat,renameat2,fsync,unlink,unlinkat,sendto,writev,connect,clone3,vfork,symlinkat,mkdir,fchmod";

/// What the plugin does that others can see.
const PLUGIN: &str = "trace=openat,write,read,connect,socket,epoll_ctl";

/// Which call of the plugin in a run, and when in it. The agent has no such number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kill {
    change: Change,
    child: Option<usize>,
    moment: Moment,
}

impl std::fmt::Display for Kill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.child {
            None => write!(f, "{:?}: agent at {}", self.change, self.moment),
            Some(child) => write!(f, "{:?}: child {child} at {}", self.change, self.moment),
        }
    }
}

/// Where a lane's plugin finds what is to happen to it.
fn orders(lane: &Lane<'_>) -> PathBuf {
    lane.log("orders")
}

/// Puts in the plugin's place one that does what its orders say: `trace`, or `kill CHILD CALL NTH`, where the calls of the
/// plugin are counted from 1 in each run.
fn give_orders_to_plugin(lane: &Lane<'_>) {
    let real = support::tools::tool("docker-compose");
    let strace = support::tools::tool("strace");
    let orders = orders(lane);
    let wrapper = lane.log("plugin");
    let script = format!(
        "#!/bin/sh\n[ -e {orders} ] || exec {real} \"$@\"\nread what child call nth <{orders}\n\
         number=$(($(cat {orders}.count) + 1)); echo $number >{orders}.count\n\
         case $what in\n\
         trace) exec {strace} -f -qq -e '{PLUGIN}' -o {orders}.$number {real} \"$@\" ;;\n\
         esac\n\
         [ $number = $child ] || exec {real} \"$@\"\n\
         exec {strace} -f -o {orders}.log -e trace=$call -e inject=$call:signal=KILL:when=$nth {real} \"$@\"\n",
        orders = orders.display(),
        real = real.display(),
        strace = strace.display(),
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let settings = lane.host.etc().join("agent.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replace(&real.display().to_string(), &wrapper.display().to_string())).unwrap();
    // Another file of the plugin is another plugin; that is settled first.
    lane.host.moorline(&["reconcile"]).succeeds();
}

fn order(lane: &Lane<'_>, what: &str) {
    let orders = orders(lane);
    fs::write(orders.with_added_extension("count"), "0").unwrap();
    fs::remove_file(orders.with_added_extension("log")).ok();
    fs::write(orders, what).unwrap();
}

/// The kills of the agent in one kind of deploy, which `lane` makes undisturbed.
fn of_the_agent(lane: &mut Lane<'_>, change: Change, count: usize) -> Vec<Kill> {
    let before = lane.prepare(change);
    let log = lane.log("trace");
    let ran = lane.traced(&["-s", "200", "-e", AGENT], &log);
    assert!(ran.is_success() || change == Change::Broken, "{ran}");
    assert_eq!(lane.recovers(&before), Vec::<String>::new(), "undisturbed: {ran}");
    // A step begins when its intent is renamed to this, and ends when that is removed.
    let all = moments(&log, false, "/journal.json\")");
    let boundaries = all.iter().filter(|(_, marked)| *marked).count();
    println!("{change:?}: the agent makes {} calls, {boundaries} at a step's beginning or end", all.len());
    assert!((4..count).contains(&boundaries), "every step's beginning and end is one of the kills");
    spread(&all, count).into_iter().map(|moment| Kill { change, child: None, moment }).collect()
}

/// The kills of the plugin in one kind of deploy. It is called several times; what replaces containers gets most.
fn of_the_plugin(lane: &mut Lane<'_>, change: Change, count: usize) -> Vec<Kill> {
    let before = lane.prepare(change);
    order(lane, "trace");
    let ran = lane.host.moorline(&["reconcile"]);
    fs::remove_file(orders(lane)).unwrap();
    assert!(ran.is_success() || change == Change::Broken, "{ran}");
    assert_eq!(lane.recovers(&before), Vec::<String>::new(), "undisturbed: {ran}");
    let calls = fs::read_to_string(orders(lane).with_added_extension("count")).unwrap().trim().parse().unwrap();
    let all: Vec<(usize, Vec<(Moment, bool)>)> = (1..=calls)
        .map(|child| (child, moments(&orders(lane).with_added_extension(child.to_string()), true, "")))
        .collect();
    let lengths: Vec<usize> = all.iter().map(|(_, moments)| moments.len()).collect();
    println!("{change:?}: the plugin is called {calls} times and makes {lengths:?} calls");
    let whole: usize = lengths.iter().sum();
    let mut chosen = Vec::new();
    for (child, moments) in all {
        let share = (count * moments.len()).div_ceil(whole);
        let of_child = spread(&moments, share).into_iter();
        chosen.extend(of_child.map(|moment| Kill { change, child: Some(child), moment }));
    }
    chosen
}

/// Kills the process there; whether it was killed.
fn happens(kill: &Kill, lane: &Lane<'_>) -> bool {
    match kill.child {
        None => {
            let log = lane.log("kill");
            let options = kill.moment.kill();
            let ran = lane.traced(&options.each_ref().map(String::as_str), &log);
            was_killed(&log) && ran.code.is_none()
        }
        Some(child) => {
            order(lane, &format!("kill {child} {} {}", kill.moment.call, kill.moment.nth));
            let ran = lane.host.moorline(&["reconcile"]);
            fs::remove_file(orders(lane)).unwrap();
            let killed = was_killed(&orders(lane).with_added_extension("log"));
            if killed {
                assert!(ran.code.is_some(), "the agent lives: {ran}");
            }
            killed
        }
    }
}

/// Carries out every kill on one of the lanes, and looks at what is left. A run makes a few calls more or less than the
/// one before; a kill that comes too late is made earlier instead.
fn sweep(lanes: &mut [Lane<'_>], kills: Vec<Kill>) {
    let wanted = kills.len();
    let used: Mutex<BTreeSet<Kill>> = Mutex::new(kills.iter().cloned().collect());
    let queue = Mutex::new(VecDeque::from(kills));
    let violations = Mutex::new(Vec::new());
    let count = Mutex::new(0_usize);
    std::thread::scope(|scope| {
        for lane in lanes {
            scope.spawn(|| {
                let lane = lane;
                loop {
                    let Some(kill) = queue.lock().unwrap().pop_front() else { return };
                    let before = lane.prepare(kill.change);
                    let hit = happens(&kill, lane);
                    let (left, broken) = (lane.in_flight_words(), lane.right_after(&before));
                    let broken = [broken, lane.recovers(&before)].concat();
                    println!("{kill}: {}, {left}", if hit { "killed" } else { "too late" });
                    violations.lock().unwrap().extend(broken.into_iter().map(|what| format!("{kill}: {what}")));
                    if hit {
                        *count.lock().unwrap() += 1;
                    } else {
                        let earlier = earlier(&kill, &mut used.lock().unwrap());
                        queue.lock().unwrap().push_back(earlier);
                    }
                }
            });
        }
    });
    let (count, violations) = (count.into_inner().unwrap(), violations.into_inner().unwrap());
    println!("{count} kills, {} violations of I1-I9", violations.len());
    assert!(violations.is_empty(), "{violations:#?}");
    assert_eq!(count, wanted, "every kill must have hit");
}

/// The same kill at an earlier call of this name, if there is one that is not made anyway.
fn earlier(kill: &Kill, used: &mut BTreeSet<Kill>) -> Kill {
    let at = |nth| Kill { moment: Moment { nth, ..kill.moment.clone() }, ..kill.clone() };
    let latest = (2 * kill.moment.nth / 3).max(1);
    let earlier = (1..=latest).rev().map(at).find(|kill| !used.contains(kill)).unwrap_or_else(|| at(latest));
    used.insert(earlier.clone());
    earlier
}

/// So many kills of each kind of deploy, by turns.
fn kills(
    lanes: &mut [Lane<'_>],
    counts: &[(Change, usize)],
    of: impl Fn(&mut Lane<'_>, Change, usize) -> Vec<Kill> + Sync,
) -> Vec<Kill> {
    // Each kind is looked at on a lane of its own.
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (lane, (change, count)) in lanes.iter_mut().zip(counts) {
            let (found, of) = (&found, &of);
            scope.spawn(move || found.lock().unwrap().extend(of(lane, *change, *count)));
        }
    });
    found.into_inner().unwrap()
}

fn sweeps(counts: &[(Change, usize)], plugin: bool) {
    let shared = Lanes::new();
    let mut lanes: Vec<Lane<'_>> = std::thread::scope(|scope| {
        let lane = |number| {
            scope.spawn({
                let shared = &shared;
                move || shared.lane(number)
            })
        };
        let began: Vec<_> = (0..LANES).map(lane).collect();
        began.into_iter().map(|lane| lane.join().unwrap()).collect()
    });
    let kills = match plugin {
        true => {
            lanes.iter().for_each(give_orders_to_plugin);
            kills(&mut lanes, counts, of_the_plugin)
        }
        false => kills(&mut lanes, counts, of_the_agent),
    };
    sweep(&mut lanes, kills);
}

#[test]
fn the_agent_can_be_killed_while_it_deploys_another_version() {
    sweeps(&[(Change::Version, 55)], false);
}

#[test]
fn the_agent_can_be_killed_while_it_changes_secrets_and_services() {
    sweeps(&[(Change::Secret, 28), (Change::Service, 28)], false);
}

#[test]
fn the_agent_can_be_killed_in_its_first_deploy_and_while_it_repairs() {
    sweeps(&[(Change::First, 32), (Change::Drift, 24)], false);
}

#[test]
fn the_agent_can_be_killed_while_it_goes_back_to_what_worked() {
    sweeps(&[(Change::Broken, 55)], false);
}

#[test]
fn the_plugin_can_be_killed_while_it_deploys() {
    sweeps(&[(Change::Version, 40), (Change::First, 34), (Change::Service, 26)], true);
}

#[test]
fn the_plugin_can_be_killed_while_it_repairs() {
    sweeps(&[(Change::Drift, 25), (Change::Secret, 25)], true);
}

#[test]
fn the_plugin_can_be_killed_on_the_way_back() {
    sweeps(&[(Change::Broken, 50)], true);
}
