//! Everything that others read: forms of files, exit codes, faults, events, help. A change of one of them is seen here
//! first; `MOORLINE_UPDATE=1` writes the new text, and the changelog says so.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use moorline::decide::backup::event::BackupEvent;
use moorline::decide::doctor::{Check, Diagnosis, Eyes, Finding, Trouble};
use moorline::decide::event::{Event, Level};
use moorline::decide::fault::{Code, Fault};
use moorline::decide::succession::event::ReleaseEvent;
use moorline::model::backup::{Job, JobEnd, JobReport};
use moorline::model::ledger::{Begun, Handover, Lead, Published, PulledImage, Settled, Standing};
use moorline::model::policy::{Exception, Rule};
use moorline::model::report::{Evidence, FaultRecord, Opened, Rollback, ServiceStatus};
use moorline::model::ring::{Pending, Seal, SealedRing, Waiting, WaitingFor};
use moorline::model::{
    Action, Anchor, Applied, Cause, Container, Endpoint, Failure, Health, Hold, Ledger, Left, Model, Outcome, Plan,
    Release, Report, Revision, RunEnd, Seen, State, Step, Verdict,
};
use serde_json::{Value as Json, json};

#[path = "sim/golden.rs"]
mod golden;

use golden::same_as_golden;

fn revision(digit: char) -> Revision {
    digit.to_string().repeat(40).parse().expect("40 digits")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).expect("in range")
}

fn steps() -> Vec<Step> {
    let step = |action, causes| Step { stack: "web".into(), action, causes };
    let services = vec!["app".to_owned()];
    let service = || "app".to_owned();
    let text = |text: &str| text.to_owned();
    vec![
        step(Action::Pull { image: "app:2".into() }, vec![Cause::ImageMissing]),
        step(
            Action::Write { files: 3 },
            vec![Cause::NewStack, Cause::InputsChanged, Cause::OtherInputsWritten, Cause::MemoryEmpty],
        ),
        step(
            Action::Up { services: services.clone() },
            vec![
                Cause::NoContainer { service: service() },
                Cause::FieldChanged {
                    service: service(),
                    field: text("image"),
                    from: text("app:1"),
                    to: text("app:2"),
                },
                Cause::ContentChanged { service: service() },
                Cause::Drifted { service: service(), found: text("paused") },
                Cause::PluginChanged { from: text("2.40.3"), to: text("2.41.0") },
                Cause::DependsOn { service: service(), on: text("db") },
            ],
        ),
        step(Action::Snapshot, vec![Cause::SnapshotWanted]),
        step(
            Action::Rename { id: text("0123"), from: text("89ab89ab89ab_web-app-1"), to: text("web-app-1") },
            vec![Cause::HalfRenamed { service: service() }],
        ),
        step(
            Action::Discard { id: text("0123"), name: text("89ab89ab89ab_web-app-1") },
            vec![Cause::HalfRenamed { service: service() }],
        ),
        step(
            Action::Detach { id: text("0123"), name: text("traefik-traefik-1"), network: text("web_default") },
            vec![Cause::SharedDefinitionChanged { what: text("networks.default") }],
        ),
        step(
            Action::Attach {
                id: text("0123"),
                name: text("traefik-traefik-1"),
                network: text("web_default"),
                endpoint: Endpoint {
                    aliases: vec![text("traefik")],
                    ipv4_address: Some(text("10.0.0.5")),
                    ipv6_address: Some(text("fd00::5")),
                    driver_options: [(text("com.docker.network.endpoint.ifname"), text("edge0"))].into(),
                    gateway_priority: Some(1),
                },
            },
            vec![Cause::SharedDefinitionChanged { what: text("networks.default") }],
        ),
        step(Action::Write { files: 1 }, vec![Cause::VolumeDiverged { what: text("volumes.data") }]),
        step(
            Action::Restart { services: services.clone() },
            vec![Cause::NamespaceLost { service: service(), of: text("vpn") }],
        ),
        step(
            Action::Unpause { services: services.clone() },
            vec![Cause::Drifted { service: service(), found: text("paused") }],
        ),
        step(
            Action::Restart { services: services.clone() },
            vec![Cause::FileEdited { path: text("files/app.conf"), found: text("edited") }],
        ),
        step(Action::Up { services: services.clone() }, vec![Cause::DeployFailed { to: revision('1') }]),
        step(
            Action::StartFirst { services: services.clone() },
            vec![Cause::FieldChanged {
                service: service(),
                field: text("image"),
                from: text("app:1"),
                to: text("app:2"),
            }],
        ),
        step(
            Action::Route { services: services.clone(), to: Lead::New },
            vec![Cause::TakesOver { service: service() }],
        ),
        step(
            Action::Drain {
                services: services.clone(),
                containers: [(text("0123"), text("web-app-1"))].into(),
                wait: Duration::from_secs(10),
            },
            vec![Cause::TakesOver { service: service() }],
        ),
        step(
            Action::Withdraw { services: services.clone(), containers: [(text("4567"), text("web-app-2"))].into() },
            vec![Cause::HandoverCut { service: service() }],
        ),
        step(Action::UpWhole, vec![Cause::SharedDefinitionChanged { what: text("networks.default") }]),
        step(Action::Gate { services: services.clone(), timeout: Duration::from_secs(300) }, vec![Cause::AfterUp]),
        step(
            Action::Signal { services: services.clone(), signal: text("SIGHUP") },
            vec![Cause::ContentChanged { service: service() }],
        ),
        step(Action::Remove { services }, vec![Cause::ServiceNotDeclared { service: service() }]),
        step(Action::Down, vec![Cause::StackNotDeclared]),
    ]
}

fn handover() -> Handover {
    Handover { digest: "ab12".into(), old: BTreeMap::from([("0123".into(), "web-app-1".into())]), lead: Lead::Old }
}

fn opened() -> Opened {
    Opened { path: "hosts/alpha/secrets.sops.yaml".into(), recipient: "age1alpha".into() }
}

fn waiting() -> Waiting {
    let what = WaitingFor::Wave { number: 2, of: 3 };
    Waiting { revision: revision('1'), what, until: at(7200) }
}

fn before() -> moorline::model::backup::Before {
    moorline::model::backup::Before {
        state: "aaaa".into(),
        deploy: "bbbb".into(),
        at: at(3),
        snapshots: vec![moorline::model::backup::Taken { repository: "main".into(), snapshot: "1980cc6b".into() }],
    }
}

fn report() -> Report {
    let verdicts = [
        Verdict::Done,
        Verdict::Failed { fault: "gate-failed".into(), because: vec!["web-app-1 is unhealthy".into()] },
        Verdict::Skipped { because: "gate of web failed".into() },
    ];
    let outcome = |(step, verdict): (Step, Verdict)| Outcome { step, verdict, elapsed_ms: 12 };
    Report {
        version: 1,
        run: "20260101T000000.000Z-12".into(),
        host: "alpha".into(),
        agent: "0.1.0".into(),
        occasion: "tip".into(),
        began: at(0),
        ended: at(97),
        end: RunEnd::Degraded,
        summary: "degraded at 22222222: app of web did not become healthy".into(),
        tip: Some(revision('1')),
        signer: Some("operator@example.org SHA256:x".into()),
        trust: moorline::model::Warrant::Forge,
        ring: Some("canary".into()),
        revision: Some(revision('2')),
        waiting: Some(waiting()),
        opened: vec![opened()],
        plan: Plan { steps: steps() },
        outcomes: steps().into_iter().zip(verdicts).map(outcome).collect(),
        evidence: vec![Evidence {
            stack: "web".into(),
            service: "app".into(),
            container: "web-app-1".into(),
            image: "app:2".into(),
            state: State::Exited(3),
            exit_code: Some(3),
            log: vec!["cannot log in with (secret)".into()],
        }],
        rollbacks: vec![Rollback {
            stack: "web".into(),
            from: Some(revision('2')),
            to: revision('1'),
            serving_after_ms: Some(2100),
            undisturbed: vec!["app".into()],
        }],
        snapshots: BTreeMap::from([("web".to_owned(), before())]),
        services: vec![ServiceStatus {
            stack: "web".into(),
            service: "app".into(),
            container: "web-app-1".into(),
            image: "app:2".into(),
            digest: Some("app@sha256:4567".into()),
            state: State::Exited(3),
            health: Some(Health::Unhealthy),
        }],
        notes: vec!["a note".into()],
        fault: Some(FaultRecord {
            code: "gate-failed".into(),
            sentence: "app of web did not become healthy".into(),
            places: vec!["nothing else was changed".into()],
            because: vec!["web-app-1 is unhealthy".into()],
            hint: Some("docker compose -p web logs".into()),
            mover: "person".into(),
        }),
    }
}

fn ledger() -> Ledger {
    let services: BTreeMap<String, Json> = BTreeMap::from([("app".to_owned(), json!({ "image": "app:1" }))]);
    let container = Container {
        id: "0123".into(),
        name: "web-app-1".into(),
        project: "web".into(),
        service: "app".into(),
        config_hash: "89ab".into(),
        image: "app:1".into(),
        image_id: "sha256:cdef".into(),
        state: State::Running,
        health: None,
        networks: BTreeSet::from(["web_default".to_owned()]),
        labels: BTreeMap::from([("moorline.content".to_owned(), "4567".to_owned())]),
    };
    let applied = Applied {
        revision: revision('2'),
        digest: "aaaa".into(),
        model: Model { services, ..Model::default() },
        content: BTreeMap::from([("app".to_owned(), "4567".to_owned())]),
        reloads: BTreeMap::from([("proxy".to_owned(), "89ab".to_owned())]),
        snapshot: vec![container],
        digests: BTreeMap::from([("sha256:cdef".to_owned(), "app@sha256:0123".to_owned())]),
        plugin: "2.40.3".into(),
        at: at(97),
    };
    let settled = Settled {
        tip: revision('1'),
        revision: revision('2'),
        ring: "canary".into(),
        stacks: vec!["web".into()],
        notes: vec!["a note".into()],
        expect_change_within: Some(Duration::from_secs(2_592_000)),
        opened: vec![opened()],
        agent: "0.1.0".into(),
        plugin: "2.40.3 1 1.1".into(),
    };
    let hold = Hold { owner: "alice".into(), reason: "looking".into(), since: at(0), until: at(3600) };
    let failure = Failure {
        digest: "bbbb".into(),
        revision: Some(revision('3')),
        begun: 2,
        failed: 1,
        hindered: 0,
        because: vec!["app of web did not become healthy".into()],
        at: at(97),
        next: Some(at(127)),
        left: Left::RolledBack,
    };
    Ledger {
        anchor: Some(Anchor {
            revision: revision('1'),
            first: revision('0'),
            signer: "operator@example.org SHA256:x".into(),
            trust: moorline::model::Warrant::Forge,
            at: at(0),
        }),
        attempted: BTreeMap::from([("web".to_owned(), "bbbb".to_owned())]),
        applied: BTreeMap::from([("web".to_owned(), applied)]),
        begun: BTreeMap::from([(
            "web".to_owned(),
            Begun {
                services: BTreeSet::from(["app".to_owned(), "extra".to_owned()]),
                handovers: BTreeMap::from([("app".to_owned(), handover())]),
                ..Begun::default()
            },
        )]),
        seen: Seen {
            life: "boot+12".into(),
            running: BTreeSet::from(["0123".to_owned()]),
            cut: BTreeSet::from(["4567".to_owned()]),
        },
        settled: Some(settled),
        released: Some(revision('2')),
        pending: Some(Pending { revision: revision('1'), waited_ms: 60_000, counted: at(60) }),
        seal: Some(Seal {
            keys: BTreeSet::from(["SHA256:y".to_owned()]),
            rings: BTreeMap::from([("canary".to_owned(), SealedRing { sequence: 7, digest: "eeee".into() })]),
        }),
        remap: moorline::model::Remap { uid: 231_072, gid: 231_072 },
        images: BTreeMap::from([(
            "app:1".to_owned(),
            PulledImage {
                id: "sha256:cdef".into(),
                digest: Some("app@sha256:0123".into()),
                at: at(5),
                unused_since: Some(at(97)),
                removed: true,
            },
        )]),
        pulling: BTreeSet::from(["app:2".to_owned()]),
        failures: BTreeMap::from([("web".to_owned(), failure.clone())]),
        before: BTreeMap::from([("web".to_owned(), before())]),
        repairs: BTreeMap::from([("web".to_owned(), failure)]),
        routes: Some(Published {
            marker: "moorline-gen-0123456789abcdef".into(),
            files: BTreeMap::from([("moorline.routes.yaml".to_owned(), "ffff".to_owned())]),
            stacks: BTreeMap::from([("web".to_owned(), "abcd".to_owned())]),
            standing: Standing::InForce,
            serial: 2,
            begun: Some(BTreeMap::from([("moorline.routes.yaml".to_owned(), "0000".to_owned())])),
        }),
        hold: Some(hold.clone()),
        stack_holds: BTreeMap::from([("web".to_owned(), hold)]),
        unknown: BTreeMap::from([("of-a-newer-version".to_owned(), json!({ "kept": true }))]),
    }
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("a contract can be written") + "\n"
}

#[test]
fn a_report_has_its_form_and_can_be_read_again() {
    let text = pretty(&report());
    same_as_golden("tests/contract/report.v1.json", &text);
    assert_eq!(serde_json::from_str::<Report>(&text).expect("a report"), report());
    let mut newer: Json = serde_json::from_str(&text).expect("JSON");
    newer["of-a-newer-version"] = json!(1);
    assert_eq!(serde_json::from_value::<Report>(newer).expect("a newer report"), report());
}

#[test]
fn a_ledger_has_its_form_and_keeps_what_a_newer_version_wrote() {
    let text = pretty(&ledger());
    same_as_golden("tests/contract/ledger.v1.json", &text);
    let read: Ledger = serde_json::from_str(&text).expect("a ledger");
    assert_eq!(read, ledger());
    assert_eq!(pretty(&read), text);
}

#[test]
fn an_empty_ledger_and_the_ledger_of_an_older_version_are_read() {
    assert_eq!(serde_json::from_str::<Ledger>("{}").expect("a ledger"), Ledger::default());
    let mut older: Json = serde_json::to_value(ledger()).expect("JSON");
    for field in ["attempted", "begun", "settled", "released", "pending", "seal", "of-a-newer-version"] {
        older.as_object_mut().expect("a mapping").remove(field);
    }
    let read: Ledger = serde_json::from_value(older).expect("an older ledger");
    assert_eq!(read.anchor, ledger().anchor);
}

#[test]
fn exit_codes_stay_what_they_are() {
    let mut table: BTreeMap<u8, Vec<&str>> = BTreeMap::from([(0, vec!["(converged)"]), (3, vec!["(changes pending)"])]);
    for code in Code::ALL {
        table.entry(code.exit()).or_default().push(code.name());
    }
    let text: String = table.iter().map(|(exit, names)| format!("{exit:>3}  {}\n", names.join(" "))).collect();
    same_as_golden("tests/contract/exit_codes.txt", &text);
}

#[test]
fn every_fault_is_explained() {
    let mut text = String::from(
        "# Faults\n\nA run that cannot go on stops with one of these. The code is stable; the exit code is that of the command.\n\
         `next-run` means that the next run may find it mended; `person` means that somebody must change something.\n\n\
         <!-- Written from decide/fault.rs: MOORLINE_UPDATE=1 cargo test --test contracts -->\n\n",
    );
    for code in Code::ALL {
        let (name, mover, exit, meaning) = code.table();
        let _ = write!(text, "## {name}\n\n{meaning}.\n\nNext to move: {mover}. Exit code {exit}.\n\n");
    }
    same_as_golden("docs/faults.md", &text);
}

#[test]
fn every_check_of_the_doctor_is_explained() {
    let mut text = String::from(
        "# Doctor\n\n`moorline doctor` looks at everything that a host needs, and says for each thing that is wrong what to type. \
         It changes\nnothing, prints no secret, and works at any time: before the host is enrolled, with a broken `agent.toml`, without an engine.\n\n\
         | mark | `diagnosis` in JSON | |\n|---|---|---|\n\
         | `ok` | `fine` | as it should be |\n\
         | `-` | `idle` | does not concern this host |\n\
         | `?` | `unseen` | cannot be seen without root, or not before something else is mended |\n\
         | `weak` | `weak` | the host does its job; mend it all the same |\n\
         | `FAIL` | `broken` | the host cannot do its job, or not all of it: exit code 1 |\n\n\
         The fix that is printed names the very file, unit or address; below is what it comes to in general. `--json` has \
         `version`, `host`\nand `findings`: each with `check`, `diagnosis`, and `found`, or `sentence`, `because` and `fix`. \
         A check that looks at several things\nmay have several findings.\n\n\
         <!-- Written from decide/doctor/mod.rs: MOORLINE_UPDATE=1 cargo test --test contracts -->\n\n\
         | check | is well when | seen by | fix |\n|---|---|---|---|\n",
    );
    for check in Check::ALL {
        let (name, eyes, needs, fix) = check.table();
        let eyes = if eyes == Eyes::Root { "root" } else { "anybody" };
        let _ = writeln!(text, "| {name} | {needs} | {eyes} | {fix} |");
    }
    same_as_golden("docs/doctor.md", &text);
}

#[test]
fn findings_of_the_doctor_stay_what_they_are() {
    let because = vec!["the file is empty".to_owned()];
    let trouble = || Trouble { because: because.clone(), ..Trouble::new("it is not there", "`make it`") };
    let diagnoses = [
        Diagnosis::Fine("git version 2.47.3".into()),
        Diagnosis::Idle("tailscale is not installed".into()),
        Diagnosis::Unseen("cannot be seen without root".into()),
        Diagnosis::Weak(trouble()),
        Diagnosis::Broken(trouble()),
    ];
    let finding =
        |(diagnosis, check): (&Diagnosis, &Check)| Finding { check: *check, diagnosis: diagnosis.clone() }.as_json();
    let all: Vec<Json> = diagnoses.iter().zip(Check::ALL).map(finding).collect();
    let text = serde_json::to_string_pretty(&json!({ "version": 2, "host": "alpha", "findings": all })).expect("JSON");
    same_as_golden("tests/contract/doctor.json", &format!("{text}\n"));
}

/// Where the table of rules stands in docs/policy.md.
const RULES: [&str; 2] = ["<!-- rules: written from model/policy.rs -->\n", "<!-- end of rules -->\n"];

#[test]
fn every_rule_of_the_policy_is_explained() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policy.md");
    let document = std::fs::read_to_string(path).expect("docs/policy.md");
    let [begin, end] = RULES;
    let (before, rest) = document.split_once(begin).expect("the mark before the rules");
    let (_, after) = rest.split_once(end).expect("the mark after the rules");
    let mut table = String::from("| rule | what it is against | `value` of an exception |\n|---|---|---|\n");
    for rule in Rule::ALL {
        let (name, exception, value, meaning) = rule.table();
        let value = if exception == Exception::Never { "there are no exceptions" } else { value };
        writeln!(table, "| `{name}` | {meaning} | {value} |").expect("a string takes everything");
    }
    same_as_golden("docs/policy.md", &format!("{before}{begin}{table}{end}{after}"));
}

/// One of each. A new variant does not compile before it is added to [`is_listed`] and here.
fn events() -> Vec<Event> {
    let run = || "20260101T000000.000Z-12".to_owned();
    let fault = || Box::new(Fault::new(Code::FetchFailed, "the git server cannot be asked").because("timed out"));
    let refused = || Box::new(Fault::new(Code::CommitUnsigned, "commit 11111111 is not signed"));
    let ended = |verdict| Event::StepEnded { run: run(), step: steps().remove(0), verdict, elapsed_ms: 12 };
    let text = |text: &str| text.to_owned();
    vec![
        Event::ServiceStarted { verb: "run", host: text("alpha") },
        Event::ServiceStopped { verb: "run" },
        Event::TipFetched { revision: revision('1') },
        Event::FetchFailed { fault: fault() },
        Event::FetchRecovered { failures: 3 },
        Event::RunBegan { run: run(), occasion: text("tip") },
        Event::RevisionVerified { run: run(), revision: revision('1'), signer: text("operator@example.org"), count: 2 },
        Event::RevisionRefused { run: run(), fault: refused() },
        Event::PlanMade { run: run(), revision: Some(revision('2')), steps: 8 },
        ended(Verdict::Done),
        ended(Verdict::Failed { fault: text("step-failed"), because: vec![text("manifest unknown")] }),
        ended(Verdict::Skipped { because: text("pull of web failed") }),
        Event::PullProgressed { image: text("app:2"), done: 5 << 20, total: 20 << 20 },
        Event::SnapshotProgressed { run: run(), stack: text("web"), done: 5 << 20 },
        Event::SnapshotWaited {
            run: run(),
            stack: text("web"),
            until: at(300).to_string(),
            because: text("pid 12 runs `backup` since 2026-01-01T00:00:00Z"),
        },
        Event::ImageRemoved { run: run(), image: text("app:1") },
        Event::RunEnded { report: Box::new(report()) },
        Event::ReportLost { run: run(), fault: fault() },
        Event::HoldSet {
            owner: text("alice"),
            reason: text("looking"),
            until: at(3600).to_string(),
            stack: Some(text("web")),
        },
        Event::HoldReleased { owner: text("alice"), stack: None },
        Event::RunResumed { run: run(), step: steps().remove(0) },
        Event::StackRolledBack {
            run: run(),
            stack: text("web"),
            fault: Box::new(Fault::new(Code::RolledBack, "web rolled back to 11111111: app did not become healthy")),
            elapsed_ms: 2100,
        },
        Event::RollbackFailed {
            run: run(),
            stack: text("web"),
            fault: Box::new(Fault::new(Code::RollbackFailed, "web could not be rolled back to 11111111")),
        },
        Event::DriftSaved { run: run(), path: text("/var/lib/moorline/drift/20260101T000000.000Z.txt") },
        Event::ContainersStood { stack: text("web"), containers: 2 },
        Event::ContainersWentOn { stack: text("web") },
        Event::BackupWaits {
            stack: text("web"),
            fault: Box::new(Fault::new(Code::LockHeld, "another run holds /run/moorline/lock")),
        },
        Event::RetryOrdered { owner: text("alice"), stacks: vec![text("web")] },
        Event::AnchorMoved {
            owner: text("alice"),
            reason: text("a rewritten branch"),
            from: text("11111111"),
            revision: revision('2'),
        },
        Event::LedgerMended { amiss: vec![text("ledger.copy.json is missing")] },
        Event::SecretsRestored { stacks: vec![text("web"), text("db")], left: vec![text("shop")] },
        Event::SecretsForgotten { run: run(), generations: 2 },
        Event::PushSent { monitor: text("reconcile") },
        Event::PushFailed { monitor: text("reconcile"), fault: fault() },
        Event::StatusUnserved {
            fault: Box::new(Fault::new(Code::StatusUnserved, "the status page cannot be served at 100.64.0.1:9464")),
        },
        Event::Backup(BackupEvent::JobBegan {
            run: run(),
            job: Job::Backup,
            repository: text("box"),
            stack: Some(text("web")),
        }),
        job(JobEnd::Done, None, None),
        job(JobEnd::Done, None, Some(3)),
        job(JobEnd::Partial, None, None),
        job(JobEnd::Failed, Some(Code::BackupFull), None),
        job(JobEnd::Failed, Some(Code::Stopped), None),
        Event::Backup(BackupEvent::NightEnded { exit: Some(0) }),
        Event::Backup(BackupEvent::NightFailed {
            fault: Box::new(Fault::new(Code::BackupFailed, "a night could not be begun")),
        }),
        Event::Release(ReleaseEvent::Fetched { release: release() }),
        Event::Release(ReleaseEvent::Unfetched {
            fault: Box::new(Fault::new(Code::ReleaseUnfetched, "moorline 0.2.0 (3f9a1c07) cannot be had")),
        }),
        Event::Release(ReleaseEvent::TrialBegan { release: release() }),
        Event::Release(ReleaseEvent::TrialPassed { release: release() }),
        Event::Release(ReleaseEvent::TrialDoubted { release: release(), because: text("it would carry out 2 steps") }),
        Event::Release(ReleaseEvent::Refused {
            fault: Box::new(Fault::new(Code::ReleaseRefused, "moorline 0.2.0 (3f9a1c07) did not pass its trial")),
        }),
        Event::Release(ReleaseEvent::Damaged {
            fault: Box::new(Fault::new(Code::ReleaseDamaged, "agent.json cannot be read")),
        }),
    ]
}

fn release() -> Release {
    Release { version: "0.2.0".into(), sha256: "3f9a1c07".repeat(8) }
}

fn job(end: JobEnd, code: Option<Code>, recovered: Option<u32>) -> Event {
    let (is_whole, fault) = (end == JobEnd::Done, code.map(|code| Fault::new(code, "no room is left on the storage")));
    let partial = (end == JobEnd::Partial).then(|| "/volumes/data/x: permission denied".to_owned());
    let report = JobReport {
        job: Job::Backup,
        repository: "box".into(),
        stack: Some("web".into()),
        began: at(0),
        ended: at(40),
        end,
        problems: fault.iter().map(|fault| fault.sentence.clone()).chain(partial).collect(),
        snapshot: is_whole.then(|| "1980cc6b".to_owned()),
        files: 1200,
        bytes: 38 << 20,
        bytes_added: 2 << 20,
    };
    let (run, fault) = ("20260101T000000.000Z-12".to_owned(), fault.map(Box::new));
    Event::Backup(BackupEvent::JobEnded { run, report: Box::new(report), fault, recovered })
}

fn is_listed(event: &Event) -> bool {
    match event {
        Event::ServiceStarted { .. }
        | Event::ServiceStopped { .. }
        | Event::TipFetched { .. }
        | Event::FetchFailed { .. }
        | Event::FetchRecovered { .. }
        | Event::RunBegan { .. }
        | Event::RevisionVerified { .. }
        | Event::RevisionRefused { .. }
        | Event::PlanMade { .. }
        | Event::StepEnded { .. }
        | Event::PullProgressed { .. }
        | Event::SnapshotProgressed { .. }
        | Event::SnapshotWaited { .. }
        | Event::ImageRemoved { .. }
        | Event::RunEnded { .. }
        | Event::ReportLost { .. }
        | Event::HoldSet { .. }
        | Event::HoldReleased { .. }
        | Event::AnchorMoved { .. }
        | Event::LedgerMended { .. }
        | Event::RunResumed { .. }
        | Event::StackRolledBack { .. }
        | Event::RollbackFailed { .. }
        | Event::DriftSaved { .. }
        | Event::ContainersStood { .. }
        | Event::ContainersWentOn { .. }
        | Event::BackupWaits { .. }
        | Event::RetryOrdered { .. }
        | Event::SecretsRestored { .. }
        | Event::SecretsForgotten { .. }
        | Event::PushSent { .. }
        | Event::PushFailed { .. }
        | Event::StatusUnserved { .. }
        | Event::Backup(
            BackupEvent::JobBegan { .. }
            | BackupEvent::JobEnded { .. }
            | BackupEvent::NightEnded { .. }
            | BackupEvent::NightFailed { .. },
        )
        | Event::Release(
            ReleaseEvent::Fetched { .. }
            | ReleaseEvent::Unfetched { .. }
            | ReleaseEvent::TrialBegan { .. }
            | ReleaseEvent::TrialPassed { .. }
            | ReleaseEvent::TrialDoubted { .. }
            | ReleaseEvent::Refused { .. }
            | ReleaseEvent::Damaged { .. },
        ) => true,
    }
}

#[test]
fn every_event_is_explained() {
    let mut text = String::from(
        "# Events\n\nEvery line that moorline logs is one of these. The journal carries the fields in upper case.\n\
         error: a person must move; warning: the next run may mend it; info: something changed or ended; debug: only with `--verbose`.\n\n\
         <!-- Written from decide/event.rs: MOORLINE_UPDATE=1 cargo test --test contracts -->\n\n\
         | event | level | fields | example |\n|---|---|---|---|\n",
    );
    let mut names = BTreeSet::new();
    for event in events() {
        assert!(is_listed(&event));
        assert!(names.insert(event.name()), "{} twice", event.name());
        let level = match event.level() {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
        };
        let fields: Vec<String> = event
            .fields()
            .into_iter()
            .filter(|(name, _)| *name != "event")
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        let _ = writeln!(text, "| `{}` | {level} | {} | {} |", event.name(), fields.join(" "), event.message());
    }
    same_as_golden("docs/events.md", &text);
}

#[test]
fn every_verb_explains_itself() {
    let verbs: [&[&str]; 34] = [
        &[],
        &["run"],
        &["courier"],
        &["reconcile"],
        &["plan"],
        &["status"],
        &["runs"],
        &["runs", "show"],
        &["routes"],
        &["check"],
        &["diff"],
        &["promote"],
        &["host"],
        &["host", "new"],
        &["host", "enroll"],
        &["host", "remove"],
        &["cloud-init"],
        &["hold"],
        &["release"],
        &["retry"],
        &["backup"],
        &["snapshots"],
        &["restore"],
        &["prune"],
        &["check-backups"],
        &["doctor"],
        &["drill"],
        &["trust"],
        &["secrets"],
        &["key"],
        &["key", "generate"],
        &["key", "show"],
        &["completions"],
        &["man"],
    ];
    for verb in verbs {
        let ended = Command::new(env!("CARGO_BIN_EXE_moorline")).args(verb).arg("--help").output().expect("it starts");
        assert!(ended.status.success(), "{verb:?}");
        let name = if verb.is_empty() { "moorline".to_owned() } else { verb.join("-") };
        same_as_golden(&format!("tests/cli/help/{name}.txt"), &String::from_utf8_lossy(&ended.stdout));
    }
    let ended = Command::new(env!("CARGO_BIN_EXE_moorline")).arg("--help").output().expect("it starts");
    let listed = String::from_utf8_lossy(&ended.stdout)
        .lines()
        .filter(|line| line.starts_with("  ") && !line.trim_start().starts_with('-'))
        .count();
    assert!(listed >= 12, "every verb is in the list");
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for arguments in [
        &["nothing"][..],
        &["hold"],
        &["plan", "--at", "abc"],
        &["plan", "--at", "HEAD"],
        &["man", "host", "nothing"],
        &[],
    ] {
        let ended = Command::new(env!("CARGO_BIN_EXE_moorline")).args(arguments).output().expect("it starts");
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}");
    }
}
