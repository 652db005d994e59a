//! Requests through a real Traefik while a service is replaced: with `start-first` none is lost.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use support::lab::TRAEFIK;
use support::{Habit, Image, Lab, Load, Ran, Run as _, Tally, until};

const PORT: u16 = 8000;
const NAME: &str = "app.example.org";
const START_FIRST: &str = "x-moorline: { strategy: start-first, drain: 4s }";
const STOP_FIRST: &str = "x-moorline: { strategy: stop-first }";

fn stack(image: &str, strategy: &str) -> String {
    format!(
        "services:\n  app:\n    image: {image}\n    {strategy}\n    expose: ['80']\n    networks: [edge]\n    \
         labels:\n      traefik.enable: 'true'\n      traefik.http.routers.app.rule: Host(`{NAME}`)\n      \
         traefik.http.routers.app.entryPoints: web\nnetworks:\n  edge: {{ external: true }}\nx-moorline: {{ deploy: \
         {{ health_timeout: 15s }} }}\n"
    )
}

/// A host with Traefik, and the first version behind it.
#[track_caller]
fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.engine.image("traefik:v3.7.15", &Image::traefik());
    for version in 1..=3 {
        lab.engine.image(&format!("lab/app:{version}"), &Image::app(version, "sleep 2; touch /run/ready"));
    }
    lab.engine.image("lab/app:never", &Image::app(9, "echo never"));
    lab.host_yaml("[traefik, app]");
    lab.fleet.write("stacks/traefik/compose.yaml", TRAEFIK.replace("'80:80'", &format!("'127.0.0.1:{PORT}:80'")));
    let ran = reconcile(&mut lab, &stack("lab/app:1", START_FIRST), "first");
    assert!(ran.is_success(), "{ran}");
    lab
}

/// Publishes the stack and reconciles, however that ends.
#[track_caller]
fn reconcile(lab: &mut Lab, text: &str, message: &str) -> Ran {
    lab.fleet.write("stacks/app/compose.yaml", text);
    lab.publish(message);
    lab.host.moorline(&["courier", "--once"]).succeeds();
    lab.host.command_beside(&lab.engine, &["reconcile"]).run()
}

/// Twelve workers: four keep their connection, four do not, and of four a request is in flight most of the time.
fn habits() -> Vec<Habit> {
    let habit = |path: &str, keeps, is_slow| Habit { path: path.into(), keeps, is_slow };
    let kinds = [habit("/version", true, false), habit("/version", false, false), habit("/cgi-bin/slow", false, true)];
    kinds.into_iter().flat_map(|kind| vec![kind; 4]).collect()
}

/// The requests that were sent while this was deployed, and a little before and after.
#[track_caller]
fn under_load(lab: &mut Lab, text: &str, message: &str) -> (Ran, Tally) {
    let load = Load::of(&lab.engine, PORT, NAME, habits());
    load.goes_on_for(300);
    let ran = reconcile(lab, text, message);
    // What is wrong after a deploy shows itself soon.
    load.goes_on_for(300);
    let tally = load.end();
    println!("{message}: {tally}");
    (ran, tally)
}

#[test]
fn no_request_is_lost_while_the_new_container_comes_first() {
    let mut lab = lab();
    let (mut requests, mut lost) = (0, 0);
    for version in [2, 3, 1] {
        let image = format!("lab/app:{version}");
        let (ran, tally) = under_load(&mut lab, &stack(&image, START_FIRST), &format!("start-first to {image}"));
        assert!(ran.is_success(), "{ran}");
        for answer in [version.to_string(), format!("slow {version}")] {
            assert!(tally.bodies.contains_key(&answer), "the new version serves: {tally}");
        }
        requests += tally.requests();
        lost += tally.failures();
    }
    let before = lab.containers("app");
    let (ran, tally) =
        under_load(&mut lab, &stack("lab/app:never", START_FIRST), "start-first to one that never is healthy");
    assert!(ran.stderr.contains("error[rolled-back]"), "{ran}");
    assert_eq!(lab.containers("app"), before, "the same container serves");
    assert!(!tally.bodies.keys().any(|body| body.contains('9')), "nobody was led to it: {tally}");
    requests += tally.requests();
    lost += tally.failures();
    println!("{lost} of {requests} requests lost while four versions were deployed start-first");
    assert_eq!(lost, 0);
    assert!(requests >= 2000, "{requests}");

    // What the same costs as Compose does it.
    let (ran, _) = under_load(&mut lab, &stack("lab/app:1", STOP_FIRST), "another strategy is no other container");
    assert!(ran.is_success(), "{ran}");
    let (ran, tally) = under_load(&mut lab, &stack("lab/app:2", STOP_FIRST), "stop-first to lab/app:2");
    assert!(ran.is_success(), "{ran}");
    assert!(tally.failures() > 0, "a load that loses nothing here would show nothing above");
}

#[test]
fn what_compose_does_by_hand_after_a_handover_changes_nothing_and_routes_stay() {
    let mut lab = lab();
    let ran = reconcile(&mut lab, &stack("lab/app:2", START_FIRST), "second");
    assert!(ran.is_success(), "{ran}");
    let before = lab.containers("app");
    let said = lab.engine.compose(&lab.host.stack("app"), &["--progress", "plain", "up", "-d"]);
    assert_eq!(lab.containers("app"), before, "{said}");
    let load = Load::of(&lab.engine, PORT, NAME, habits());
    load.goes_on_for(100);
    let tally = load.end();
    assert_eq!(tally.failures(), 0, "{tally}");
    let routes = lab.host.command_beside(&lab.engine, &["routes"]).run().succeeds();
    assert!(routes.contains("http://app-app-2:80"), "{routes}");
    // A person removes it: the next container has another name, and the route follows.
    lab.engine.docker(&["rm", "-f", "app-app-2"]).succeeds();
    let ran = lab.host.command_beside(&lab.engine, &["reconcile"]).run();
    assert!(ran.is_success(), "{ran}");
    until("the route leads there", || {
        let load = Load::of(&lab.engine, PORT, NAME, habits());
        load.goes_on_for(20);
        (load.end().failures() == 0).then_some(())
    });
}
