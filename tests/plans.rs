//! Plans as text: what should be, what is, and the plan that leads from one to the other, one file per case.
//!
//! A case in `tests/plan/*.txt` says what it must show, then gives three parts, each after a line with its name:
//! `desired` and `applied` as Compose models with what belongs to them, `observed` as one container per line. Below
//! `---` stands the plan. `MOORLINE_UPDATE=1` writes that part.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use moorline::decide::plan::{Circumstances, plan};
use moorline::model::ledger::{Begun, Handover};
use moorline::model::{Applied, Container, Desired, DesiredStack, Health, Model, Observed, Secret, Seen, State};
use serde::Deserialize;

/// One stack, as a case writes it.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct StackCase {
    /// Equal digests mean equal inputs.
    #[serde(default)]
    digest: String,
    model: Model,
    #[serde(default)]
    content: BTreeMap<String, String>,
    #[serde(default)]
    reloads: BTreeMap<String, String>,
}

/// What a case says besides.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Besides {
    missing_images: BTreeSet<String>,
    without_memory: BTreeSet<String>,
    plugin: Option<String>,
    /// Stacks whose last deploy did not end, with the services that it had.
    begun: BTreeMap<String, BTreeSet<String>>,
    /// Containers that a restart of the host or its engine stopped.
    cut: BTreeSet<String>,
    /// Services of those whose new containers may stand beside the old ones.
    handovers: BTreeMap<String, BTreeMap<String, Handover>>,
    /// The digests of what was written, where it is not what was applied.
    attempted: BTreeMap<String, String>,
}

/// The parts of a case.
struct Case {
    intent: String,
    parts: BTreeMap<String, String>,
    expected: String,
    given: String,
}

impl Case {
    fn read(text: &str) -> Self {
        let (given, expected) = text.split_once("---\n").unwrap_or((text, ""));
        let mut intent = String::new();
        let mut parts: BTreeMap<String, String> = BTreeMap::new();
        let mut part = String::new();
        for line in given.lines() {
            match (line.strip_prefix("# "), line.strip_suffix(':')) {
                (Some(said), _) => intent.push_str(said),
                (None, Some(name)) if ["desired", "applied", "observed", "besides"].contains(&name) => {
                    name.clone_into(&mut part);
                    parts.entry(part.clone()).or_default();
                }
                _ => {
                    let text = parts.get_mut(&part).expect("a part begins with its name");
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        Self { intent, parts, expected: expected.to_owned(), given: given.to_owned() }
    }

    fn part<T: serde::de::DeserializeOwned + Default>(&self, name: &str) -> T {
        let Some(text) = self.parts.get(name).filter(|text| !text.trim().is_empty()) else { return T::default() };
        serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn observed(&self) -> Observed {
        let lines = self.parts.get("observed").map(String::as_str).unwrap_or_default();
        let mut containers: Vec<Container> =
            lines.lines().filter(|line| !line.trim().is_empty()).map(container).collect();
        containers
            .sort_by(|one, two| (&one.project, &one.service, &one.name).cmp(&(&two.project, &two.service, &two.name)));
        Observed { life: String::new(), containers }
    }

    fn plan(&self) -> String {
        let observed = self.observed();
        let besides: Besides = self.part("besides");
        let desired = self.part::<BTreeMap<String, StackCase>>("desired");
        let applied = self.part::<BTreeMap<String, StackCase>>("applied");
        let mut attempted: BTreeMap<String, String> =
            applied.iter().map(|(name, stack)| (name.clone(), stack.digest.clone())).collect();
        attempted.extend(besides.attempted);
        let applied: BTreeMap<String, Applied> =
            applied.into_iter().map(|(name, stack)| (name.clone(), as_applied(&name, stack, &observed))).collect();
        let mut begun: BTreeMap<String, Begun> =
            besides.begun.into_iter().map(|(name, services)| (name, Begun { services, ..Begun::default() })).collect();
        let seen = Seen { cut: besides.cut, ..Seen::default() };
        for (name, handovers) in besides.handovers {
            begun.entry(name).or_default().handovers = handovers;
        }
        let circumstances = Circumstances {
            applied: Some(&applied),
            attempted: Some(&attempted),
            begun: Some(&begun),
            missing_images: besides.missing_images,
            without_memory: besides.without_memory,
            seen: Some(&seen),
            plugin: besides.plugin.unwrap_or_else(|| PLUGIN.into()),
            ..Circumstances::default()
        };
        let stacks = desired.into_iter().map(|(name, stack)| as_desired(name, stack)).collect();
        plan(&Desired { host: "alpha".into(), revision: None, stacks }, &observed, &circumstances).to_string()
    }
}

const PLUGIN: &str = "2.40.3";

fn as_desired(name: String, stack: StackCase) -> DesiredStack {
    DesiredStack {
        name,
        digest: stack.digest,
        files: BTreeMap::new(),
        environment: Secret::new(String::new()),
        secrets: Vec::new(),
        model: stack.model,
        content: stack.content,
        reloads: stack.reloads,
        health_timeout: Duration::from_secs(300),
        exposed: Vec::new(),
    }
}

/// After a run every service had the container `<project>-<service>-1` and it ran; what is observed now with the word
/// `was` in front of its state was so already then.
fn as_applied(name: &str, stack: StackCase, observed: &Observed) -> Applied {
    let snapshot = stack.model.services.keys().map(|service| {
        let there = observed.of(name).find(|container| container.service == *service);
        Container {
            id: format!("{name}-{service}-id"),
            config_hash: String::new(),
            state: there
                .filter(|container| container.config_hash == "was")
                .map_or(State::Running, |container| container.state),
            ..container(&format!("{name}/{service} running"))
        }
    });
    Applied {
        revision: "0000000000000000000000000000000000000000".parse().expect("a revision"),
        digest: stack.digest,
        snapshot: snapshot.collect(),
        model: stack.model,
        content: stack.content,
        reloads: stack.reloads,
        digests: BTreeMap::new(),
        plugin: PLUGIN.into(),
        at: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// `web/app running healthy`, `web/app exited(1)`; `web/app other running`: a container of another id; `web/app beside
/// running`: one of another id and number.
fn container(line: &str) -> Container {
    let mut words = line.split_whitespace().peekable();
    let (project, service) = words.next().and_then(|place| place.split_once('/')).expect("project/service");
    let other = words.next_if_eq(&"other").is_some();
    let beside = words.next_if_eq(&"beside").is_some();
    let was = words.next_if_eq(&"was").is_some();
    let state = words.next().expect("a state");
    let state = match state {
        "created" => State::Created,
        "running" => State::Running,
        "paused" => State::Paused,
        "restarting" => State::Restarting,
        _ => State::Exited(state.trim_start_matches("exited(").trim_end_matches(')').parse().expect("exited(code)")),
    };
    let health = words.next().map(|word| match word {
        "healthy" => Health::Healthy,
        "unhealthy" => Health::Unhealthy,
        _ => Health::Starting,
    });
    Container {
        id: format!(
            "{project}-{service}-{}",
            if other {
                "other"
            } else if beside {
                "beside"
            } else {
                "id"
            }
        ),
        name: format!("{project}-{service}-{}", if beside { 2 } else { 1 }),
        project: project.to_owned(),
        service: service.to_owned(),
        config_hash: if was { "was".into() } else { String::new() },
        image: String::new(),
        image_id: String::new(),
        state,
        health,
        networks: BTreeSet::new(),
        labels: BTreeMap::new(),
    }
}

fn cases() -> Vec<(String, Case)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan");
    let mut cases: Vec<(String, Case)> = std::fs::read_dir(directory)
        .expect("tests/plan")
        .map(|entry| {
            let path = entry.expect("readable").path();
            let text = std::fs::read_to_string(&path).expect("text");
            (path.display().to_string(), Case::read(&text))
        })
        .collect();
    cases.sort_by(|one, two| one.0.cmp(&two.0));
    cases
}

#[test]
fn every_plan_is_as_it_is_written() {
    let update = std::env::var_os("MOORLINE_UPDATE").is_some_and(|value| value == "1");
    let cases = cases();
    assert!(cases.len() >= 15, "the cases were found");
    let mut wrong = Vec::new();
    for (path, case) in &cases {
        let plan = case.plan();
        if update {
            std::fs::write(path, format!("{}---\n{plan}", case.given)).expect("writable");
        } else if plan != case.expected {
            wrong.push(format!("{path}\n# {}\nexpected:\n{}found:\n{plan}", case.intent, case.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_case_says_what_it_must_show() {
    for (path, case) in cases() {
        assert!(case.intent.starts_with("must "), "{path}");
    }
}

#[test]
fn every_step_has_a_cause() {
    for (path, case) in cases() {
        let plan = case.plan();
        let steps = plan.lines().filter(|line| line.contains(". ") && !line.contains("because")).count();
        let first_causes = plan.lines().zip(plan.lines().skip(1));
        let caused =
            first_causes.filter(|(step, cause)| !step.contains("because") && cause.contains("because")).count();
        assert_eq!(steps, caused, "{path}\n{plan}");
    }
}
