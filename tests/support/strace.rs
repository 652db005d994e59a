//! Moments of a process, named by the system calls that it makes: seen in one run, and used to end another one there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Just before a process makes the `nth` call of this name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    pub call: String,
    pub nth: usize,
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.call, self.nth)
    }
}

impl Moment {
    /// Options of strace that end the process with SIGKILL at this moment.
    pub fn kill(&self) -> [String; 4] {
        let (call, nth) = (&self.call, self.nth);
        ["-e".into(), format!("trace={call}"), "-e".into(), format!("inject={call}:signal=KILL:when={nth}")]
    }
}

/// Whether the process that this log is of was killed. strace writes it down last.
pub fn was_killed(log: &Path) -> bool {
    fs::read_to_string(log).unwrap_or_default().contains("+++ killed by SIGKILL +++")
}

/// The moments of a run in their order, and which of them concern a file whose path contains `marked`: those just
/// before such a call, and those just after.
///
/// With several threads, strace counts for each of them; then a moment is the first one at which any thread has made so
/// many calls.
pub fn moments(log: &Path, threads: bool, marked: &str) -> Vec<(Moment, bool)> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut most: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all: Vec<(Moment, bool)> = Vec::new();
    let mut was_marked = false;
    for line in text.lines() {
        let (thread, line) = match line.split_once(' ').filter(|_| threads) {
            Some((thread, rest)) => (thread, rest.trim_start()),
            None => ("", line),
        };
        let Some((call, arguments)) = line.split_once('(') else { continue };
        if !call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let count = counts.entry((thread, call)).or_default();
        *count += 1;
        let known = most.entry(call).or_default();
        if count <= known {
            continue;
        }
        *known = *count;
        let is_marked = !marked.is_empty() && arguments.contains(marked);
        all.push((Moment { call: call.to_owned(), nth: *count }, is_marked || was_marked));
        was_marked = is_marked;
    }
    all
}

/// So many of these moments: all that are marked, if there is room, and others evenly between them.
pub fn spread(moments: &[(Moment, bool)], count: usize) -> Vec<Moment> {
    let evenly = |from: &[usize], count: usize| -> Vec<usize> {
        let count = count.min(from.len());
        (0..count).map(|number| from[from.len() * (2 * number + 1) / (2 * count)]).collect()
    };
    let of = |wanted: bool| -> Vec<usize> {
        moments.iter().enumerate().filter(|(_, (_, marked))| *marked == wanted).map(|(at, _)| at).collect()
    };
    let mut chosen: BTreeSet<usize> = evenly(&of(true), count).into_iter().collect();
    let left = count - chosen.len();
    chosen.extend(evenly(&of(false), left));
    chosen.into_iter().map(|at| moments[at].0.clone()).collect()
}
