//! Services that start first, on a real engine with the real Compose plugin: what is left is what Compose would leave.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use serde_json::Value as Json;
use support::{Engine, Image, Lab, Ran, until};

const READY: &str = "sleep 2; touch /run/ready";

fn images(engine: &Engine) {
    engine.image("lab/app:1", &Image::app(1, READY));
    engine.image("lab/app:2", &Image::app(2, READY));
    engine.image("lab/app:never", &Image::app(3, "echo never"));
}

/// The stack `web` with this image and these fields.
fn stack(image: &str, more: &str) -> String {
    format!(
        "services:\n  app:\n    image: {image}\n    x-moorline: {{ strategy: start-first, drain: 2s }}\n    expose: \
         ['80']\n    labels: {{ traefik.enable: 'true' }}\n    stop_grace_period: 5s\n    {more}\nx-moorline: {{ deploy: \
         {{ health_timeout: 8s }} }}\n"
    )
}

/// The containers of `app`: name and image, sorted.
fn containers(lab: &Lab) -> Vec<(String, String)> {
    let project = ["ps", "-a", "--filter", "label=com.docker.compose.service=app", "--format", "{{.Names}} {{.Image}}"];
    let listed = lab.engine.docker(&project).succeeds();
    let pair = |line: &str| line.split_once(' ').map(|(name, image)| (name.to_owned(), image.to_owned()));
    let mut all: Vec<_> = listed.lines().filter_map(pair).collect();
    all.sort();
    all
}

fn named(names: &[(&str, &str)]) -> Vec<(String, String)> {
    names.iter().map(|(name, image)| ((*name).to_owned(), (*image).to_owned())).collect()
}

fn last_run(lab: &Lab) -> Json {
    lab.host.status()["last_run"].clone()
}

/// Writes the stack, publishes it, and reconciles, however that ends.
fn reconcile(lab: &mut Lab, text: &str, message: &str) -> Ran {
    lab.fleet.write("stacks/web/compose.yaml", text);
    lab.publish(message);
    lab.host.moorline(&["courier", "--once"]).succeeds();
    lab.host.moorline(&["reconcile"])
}

/// Fails unless an operator's `docker compose up -d` finds nothing to do.
#[track_caller]
fn is_what_compose_would_leave(lab: &Lab) {
    let directory = lab.host.stack("web");
    let before = lab.engine.docker(&["ps", "-aq", "--no-trunc"]).succeeds();
    let said = lab.engine.compose(&directory, &["--progress", "plain", "up", "-d"]);
    assert!(said.is_success(), "{said}");
    assert_eq!(lab.engine.docker(&["ps", "-aq", "--no-trunc"]).succeeds(), before, "{said}");
    let format = ["ps", "--format", "{{.Label \"com.docker.compose.config-hash\"}}"];
    let labels = lab.engine.docker(&format).succeeds();
    let hash = lab.engine.compose(&directory, &["config", "--hash", "app"]).succeeds();
    let hash = hash.split_whitespace().last().expect("name and hash");
    assert!(labels.lines().all(|label| label == hash), "{labels} {hash}");
    assert!(lab.host.moorline(&["plan"]).succeeds().contains("nothing to do"));
}

#[test]
fn what_starts_first_is_left_as_compose_would_leave_it_with_one_container_and_with_three() {
    let mut lab = Lab::new();
    images(&lab.engine);
    lab.fleet.write("stacks/web/compose.yaml", stack("lab/app:1", ""));
    lab.deploy("first");
    let first = lab.containers("web")["app"].clone();
    assert_eq!(containers(&lab), named(&[("web-app-1", "lab/app:1")]));
    let ran = reconcile(&mut lab, &stack("lab/app:2", ""), "second");
    assert!(ran.is_success(), "{ran}");
    assert_eq!(containers(&lab), named(&[("web-app-2", "lab/app:2")]));
    is_what_compose_would_leave(&lab);
    // The old one ended by its own signal, and only after the new one was healthy.
    let events = ["events", "--since", "10m", "--until", "0s", "--format", "{{.Action}} {{.Actor.ID}}"];
    // `0s` is the beginning of this second, so the last events may come a moment later.
    let events = until("the engine tells of the old one's end", || {
        let events = lab.engine.docker(&events).succeeds();
        events.contains(&format!("destroy {first}")).then_some(events)
    });
    let at = |word: &str| events.lines().position(|line| line.starts_with(word)).unwrap_or_else(|| panic!("{events}"));
    let stopped = at(&format!("kill {first}"));
    let healthy = events.lines().enumerate().filter(|(_, line)| line.starts_with("health_status: healthy"));
    let healthy: Vec<usize> = healthy.filter(|(_, line)| !line.ends_with(&first)).map(|(at, _)| at).collect();
    assert!(healthy.first().is_some_and(|healthy| *healthy < stopped), "{events}");
    assert!(!events.contains(&format!("oom {first}")));

    // More of them come as Compose adds them, and are then replaced all at once.
    let ran = reconcile(&mut lab, &stack("lab/app:2", "scale: 3"), "three");
    assert!(ran.is_success(), "{ran}");
    assert_eq!(containers(&lab).len(), 3);
    assert!(containers(&lab).contains(&("web-app-2".into(), "lab/app:2".into())), "scaling replaces nothing");
    let ran = reconcile(&mut lab, &stack("lab/app:1", "scale: 3"), "three others");
    assert!(ran.is_success(), "{ran}");
    let after = containers(&lab);
    assert_eq!(after.len(), 3);
    assert!(after.iter().all(|(_, image)| image == "lab/app:1"), "{after:?}");
    is_what_compose_would_leave(&lab);
    assert_eq!(lab.engine.docker(&["ps", "-aq", "--filter", "status=exited"]).succeeds(), "");
}

#[test]
fn a_version_that_never_gets_healthy_goes_and_what_served_was_never_touched() {
    let mut lab = Lab::new();
    images(&lab.engine);
    lab.fleet.write("stacks/web/compose.yaml", stack("lab/app:1", ""));
    lab.deploy("first");
    let before = lab.containers("web");
    let inspected = lab.engine.inspect("web-app-1");
    let ran = reconcile(&mut lab, &stack("lab/app:never", ""), "never healthy");
    assert!(ran.stderr.contains("error[rolled-back]"), "{ran}");
    assert_eq!(lab.containers("web"), before);
    let again = lab.engine.inspect("web-app-1");
    assert_eq!(again["State"]["StartedAt"], inspected["State"]["StartedAt"]);
    assert_eq!(again["State"]["Pid"], inspected["State"]["Pid"]);
    let report = last_run(&lab);
    assert_eq!(report["rollbacks"][0]["undisturbed"], Json::from(vec!["app"]), "{report:#}");
    assert_eq!(report["evidence"][0]["container"], "web-app-2", "{report:#}");
    assert!(ran.stderr.contains("app served all the time"), "{ran}");
    let directory = lab.host.stack("web");
    let said = lab.engine.compose(&directory, &["--progress", "plain", "up", "-d"]);
    assert_eq!(lab.containers("web"), before, "{said}");
}

#[test]
fn an_image_with_a_volume_of_its_own_is_never_beside_itself() {
    let mut lab = Lab::new();
    images(&lab.engine);
    lab.engine.image("lab/app:data", &Image::app(4, READY).change("VOLUME /data"));
    lab.fleet.write("stacks/web/compose.yaml", stack("lab/app:1", ""));
    lab.deploy("first");
    let before = lab.containers("web");
    let ran = reconcile(&mut lab, &stack("lab/app:data", ""), "data");
    assert!(ran.stderr.contains("its image lab/app:data keeps data in a volume at /data"), "{ran}");
    assert_eq!(lab.containers("web"), before);
    // What need not stay may be there twice.
    let ran = reconcile(&mut lab, &stack("lab/app:data", "tmpfs: [/data]"), "memory");
    assert!(ran.is_success(), "{ran}");
    assert_eq!(lab.engine.docker(&["volume", "ls", "-q"]).succeeds(), "");
}

#[test]
fn a_handover_that_is_killed_is_finished_or_undone_by_the_next_run() {
    let mut lab = Lab::new();
    images(&lab.engine);
    lab.fleet.write("stacks/web/compose.yaml", stack("lab/app:1", ""));
    lab.deploy("first");
    let (mut from, mut to) = ("lab/app:1", "lab/app:2");
    for moment in ["created", "healthy", "draining"] {
        let old = lab.containers("web")["app"].clone();
        lab.fleet.write("stacks/web/compose.yaml", stack(to, ""));
        lab.publish(moment);
        lab.host.moorline(&["courier", "--once"]).succeeds();
        let mut agent = lab.host.command(&["reconcile"]);
        agent.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut agent = agent.spawn().unwrap();
        let is_new = |id: &&str| !id.is_empty() && *id != old;
        until(moment, || {
            let all = ["ps", "-aq", "--no-trunc", "--filter", "label=com.docker.compose.service=app"];
            let all = lab.engine.docker(&all).succeeds();
            let new = all.lines().find(is_new)?;
            let healthy = lab.engine.inspect(new)["State"]["Health"]["Status"] == "healthy";
            let journal = std::fs::read_to_string(lab.host.state().join("journal.json")).unwrap_or_default();
            match moment {
                "created" => Some(()),
                "healthy" => healthy.then_some(()),
                _ => journal.contains("\"drain\"").then_some(()),
            }
        });
        agent.kill().unwrap();
        agent.wait().unwrap();
        assert_eq!(containers(&lab).len(), 2, "{moment}: {:?}", containers(&lab));
        assert_eq!(lab.engine.inspect(&old)["State"]["Status"], "running", "{moment}");
        let ran = lab.host.moorline(&["reconcile"]);
        assert!(ran.is_success(), "{moment}: {ran}");
        let left = containers(&lab);
        assert_eq!((left.len(), left[0].1.as_str()), (1, to), "{moment}: {left:?}");
        is_what_compose_would_leave(&lab);
        std::mem::swap(&mut from, &mut to);
    }
}
