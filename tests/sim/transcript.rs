//! Writes down what happens to a host, so that a person can read it and a test can compare it.

use std::fmt::Write as _;

use moorline::decide::event::Level;
use moorline::decide::report;
use moorline::model::{Report, State};

use super::golden::same_as_golden;
use super::world::Sim;

/// A scenario: what was done to a host, and what it said and did.
pub struct Transcript<'sim> {
    sim: &'sim Sim,
    name: &'static str,
    text: String,
}

impl<'sim> Transcript<'sim> {
    /// `intent` is what the scenario must show.
    pub fn new(sim: &'sim Sim, name: &'static str, intent: &str) -> Self {
        Self { sim, name, text: format!("# {intent}\n") }
    }

    /// A sentence about what happens outside.
    pub fn note(&mut self, what: &str) -> &mut Self {
        let _ = write!(self.text, "\n* {what}\n");
        self
    }

    /// One run, with everything that it said, and the host after it.
    #[track_caller]
    pub fn run(&mut self) -> Report {
        match self.try_run() {
            Some(report) => report,
            None => panic!("nothing cuts this run"),
        }
    }

    /// One run that may die.
    pub fn try_run(&mut self) -> Option<Report> {
        self.text.push_str("\n$ moorline reconcile\n");
        let ended = self.sim.try_run();
        let mut said = String::new();
        let plan = ended.as_ref().map(|report| report.plan.to_string()).unwrap_or_default();
        plan.lines().for_each(|line| _ = writeln!(said, "  {line}"));
        for event in self.sim.said().iter().filter(|event| event.level() != Level::Debug) {
            let level = match event.level() {
                Level::Error => "error",
                Level::Warning => "warning",
                _ => "info",
            };
            let _ = writeln!(said, "  {level}: {}", event.message());
        }
        if let Some(report) = &ended {
            for note in &report.notes {
                let _ = writeln!(said, "  note: {note}");
            }
            if let Some(fault) = &report.fault {
                let _ = writeln!(said, "  fault: {}: {}", fault.code, fault.sentence);
                fault.places.iter().for_each(|place| _ = writeln!(said, "    {place}"));
                fault.because.iter().for_each(|cause| _ = writeln!(said, "    because: {cause}"));
                fault.hint.iter().for_each(|hint| _ = writeln!(said, "    hint: {hint}"));
                let _ = writeln!(said, "    next to move: {}", fault.mover);
            }
            let _ = writeln!(said, "  exit {}", report::exit(report));
        } else {
            let _ = writeln!(said, "  killed after {} effects", self.sim.effects());
        }
        for message in &self.sim.host().outbox {
            let _ = writeln!(said, "  outbox: {} {}: {}", message.monitor, message.status.word(), message.text);
        }
        self.sim.host().outbox.clear();
        self.text.push_str(&self.named(&said));
        let host = self.host();
        self.text.push_str(&host);
        ended
    }

    /// The containers as the engine shows them.
    fn host(&self) -> String {
        let host = self.sim.host();
        let observed = host.engine.observe(host.time().as_second());
        let mut text = String::new();
        for container in &observed.containers {
            let health = container.health.map(|health| format!(", {health}")).unwrap_or_default();
            let state = match container.state {
                State::Running => "running".to_owned(),
                other => other.to_string(),
            };
            let id = container.id.trim_start_matches('0');
            let _ = writeln!(text, "  | {} #{id} {} {state}{health}", container.name, container.image);
        }
        if text.is_empty() {
            text.push_str("  | no container\n");
        }
        text
    }

    /// Commits by their order instead of their names, which change with every byte of a scenario.
    fn named(&self, text: &str) -> String {
        let mut named = text.to_owned();
        for (number, revision) in self.sim.repository().commits().iter().enumerate() {
            let name = format!("revision-{}", number + 1);
            named = named.replace(revision.as_str(), &name).replace(revision.short(), &name);
        }
        named
    }

    /// Compares the whole with `tests/runs/<name>.txt`.
    #[track_caller]
    pub fn compare(&self) {
        same_as_golden(&format!("tests/runs/{}.txt", self.name), &self.text);
    }
}
