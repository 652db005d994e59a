//! Services whose new container stands beside the old one: when it takes over, when it goes, and what a kill leaves.

use moorline::model::{Action, Health, Report, RunEnd, State};
use serde_json::Value as Json;

use crate::cuts::{every_cut_converges, every_two_cuts_converge};
use crate::fleet::{SHOP, WEB, fleet};
use crate::sim::{Sim, Transcript};
use crate::traefik;

/// The fleet with `shop` behind a route and started first, after its first run.
#[track_caller]
fn shop() -> Sim {
    let sim = fleet();
    sim.edit(
        SHOP,
        "    image: shop:1\n",
        "    image: app:1\n    x-moorline: { strategy: start-first, drain: 5s }\n    expose: ['80']\n    labels: { \
         traefik.enable: 'true' }\n",
    );
    sim.commit();
    let report = sim.run();
    assert!(report.fault.is_none(), "{:?}", report.fault);
    sim
}

/// The containers of `shop`: name, image, state.
fn containers(sim: &Sim) -> Vec<(String, String, State)> {
    let host = sim.host();
    let observed = host.engine.observe(host.time().as_second());
    observed.of("shop").filter(|container| container.service == "shop").map(seen).collect()
}

fn seen(container: &moorline::model::Container) -> (String, String, State) {
    (container.name.clone(), container.image.clone(), container.state)
}

fn code(report: &Report) -> &str {
    report.fault.as_ref().map_or("", |fault| fault.code.as_str())
}

/// At every moment of the last run, what was asked of the engine, as far as it concerns containers of `shop`.
fn deeds(sim: &Sim) -> Vec<String> {
    let is_deed = |asked: &String| {
        ["create", "start", "stop", "remove", "discard"].iter().any(|verb| asked.starts_with(verb))
            && asked.contains("shop-shop-") | asked.contains("shop/shop")
    };
    sim.asked().into_iter().filter(is_deed).collect()
}

#[test]
fn the_new_container_serves_before_the_old_one_is_stopped() {
    let sim = shop();
    let mut transcript =
        Transcript::new(&sim, "start_first", "must make the new container first, and stop the old one last");
    sim.edit(SHOP, "app:1", "app:2").commit();
    let report = transcript.note("`shop` gets a new image").run();
    assert_eq!(code(&report), "");
    assert_eq!(deeds(&sim), ["create another shop/shop", "start shop/shop", "stop shop-shop-1", "remove shop-shop-1"]);
    assert_eq!(containers(&sim), [("shop-shop-2".into(), "app:2".into(), State::Running)]);
    transcript.run();
    sim.edit(SHOP, "app:2", "app:bad").commit();
    let report = transcript.note("an image that is not healthy").run();
    assert_eq!(report.end, RunEnd::RolledBack);
    assert_eq!(report.rollbacks[0].undisturbed, ["shop"]);
    let places = &report.fault.expect("rolled back").places;
    assert!(places.iter().any(|place| place.starts_with("shop served all the time")), "{places:?}");
    // The same container as before, never stopped; and what it said is no evidence.
    assert_eq!(containers(&sim), [("shop-shop-2".into(), "app:2".into(), State::Running)]);
    assert!(!deeds(&sim).iter().any(|deed| deed.contains("shop-shop-2")), "{:?}", deeds(&sim));
    let said: Vec<&str> = report.evidence.iter().map(|evidence| evidence.container.as_str()).collect();
    assert_eq!(said, ["shop-shop-3"]);
    transcript.compare();
}

#[test]
fn a_handover_can_be_killed_anywhere_and_so_can_the_run_that_recovers() {
    let sim = shop();
    sim.edit(SHOP, "app:1", "app:2").commit();
    every_two_cuts_converge(&sim);
}

#[test]
fn a_handover_that_fails_can_be_killed_anywhere_and_what_served_goes_on() {
    let before = shop();
    let served = before.host().engine.observe(0).of("shop").find(|found| found.service == "shop").cloned();
    let served = served.expect("it runs");
    before.edit(SHOP, "app:1", "app:bad").commit();
    let uncut = before.fork();
    assert_eq!(code(&uncut.run()), "rolled-back");
    for effects in 0..uncut.effects() {
        let sim = before.fork();
        sim.cut_after(effects).try_run();
        // Twice, since one try may be left.
        sim.run();
        sim.run();
        let left = containers(&sim);
        assert_eq!(left, [("shop-shop-1".into(), "app:1".into(), State::Running)], "cut after {effects}");
        let id =
            sim.host().engine.observe(0).of("shop").find(|found| found.service == "shop").expect("there").id.clone();
        assert_eq!(id, served.id, "cut after {effects}: another container");
    }
}

#[test]
fn a_killed_handover_that_is_taken_back_or_overtaken_leaves_one_container_and_never_none() {
    let before = shop();
    before.edit(SHOP, "app:1", "app:2").commit();
    let uncut = before.fork();
    uncut.run();
    for next in ["app:1", "db:1"] {
        for effects in 0..uncut.effects() {
            let sim = before.fork();
            sim.cut_after(effects).try_run();
            sim.edit(SHOP, "app:2", next).commit();
            let report = sim.run();
            let how = format!("cut after {effects}, then {next}");
            assert_eq!(code(&report), "", "{how}");
            let left = containers(&sim);
            assert_eq!(left.len(), 1, "{how}: {left:?}");
            assert_eq!((left[0].1.as_str(), left[0].2), (next, State::Running), "{how}");
            let replaced = deeds(&sim).iter().any(|deed| deed == "create shop/shop");
            assert!(!replaced, "{how}: Compose replaced what served: {:?}", deeds(&sim));
            assert_eq!(sim.run().plan.to_string(), "nothing to do\n", "{how}");
        }
    }
}

#[test]
fn a_later_wave_that_fails_takes_the_service_back_start_first_too() {
    let sim = shop();
    sim.edit(SHOP, "services:\n", "services:\n  last:\n    image: db:1\n    depends_on: [shop]\n").commit();
    assert_eq!(code(&sim.run()), "");
    sim.edit(SHOP, "app:1", "app:2").edit(SHOP, "image: db:1", "image: app:bad").commit();
    let report = sim.run();
    assert_eq!(code(&report), "rolled-back");
    assert_eq!(containers(&sim), [("shop-shop-3".into(), "app:1".into(), State::Running)]);
    let expected = [
        "create another shop/shop",
        "start shop/shop",
        "stop shop-shop-1",
        "remove shop-shop-1",
        "create another shop/shop",
        "start shop/shop",
        "stop shop-shop-2",
        "remove shop-shop-2",
    ];
    assert_eq!(deeds(&sim), expected);
}

#[test]
fn what_drifted_is_put_right_as_usual_and_a_first_run_is_no_handover() {
    let sim = shop();
    sim.host().engine.by_hand("shop", "shop", Some(State::Exited(137)));
    let report = sim.run();
    assert_eq!(code(&report), "");
    assert!(!report.plan.steps.iter().any(|step| matches!(step.action, Action::StartFirst { .. })));
    assert_eq!(containers(&sim), [("shop-shop-1".into(), "app:1".into(), State::Running)]);
}

#[test]
fn the_order_to_stop_ends_a_drain_and_the_next_run_drains() {
    let before = shop();
    before.edit(SHOP, "app:1", "app:2").commit();
    let uncut = before.fork();
    uncut.run();
    let drains = uncut.asked().iter().filter(|asked| asked.as_str() == "stop shop-shop-1").count();
    assert_eq!(drains, 1);
    for effects in 0..uncut.effects() {
        let sim = before.fork();
        sim.stop_after(effects).try_run();
        assert_eq!(code(&sim.run()), "", "stopped after {effects}");
        assert_eq!(
            containers(&sim),
            [("shop-shop-2".into(), "app:2".into(), State::Running)],
            "stopped after {effects}"
        );
    }
}

#[test]
fn a_first_run_with_a_service_that_starts_first_can_be_killed_anywhere() {
    let sim = fleet();
    sim.edit(
        WEB,
        "    image: app:1\n",
        "    image: app:1\n    x-moorline: { strategy: start-first }\n    expose: ['80']\n    labels: { traefik.enable: \
         'true' }\n",
    );
    sim.commit();
    every_cut_converges(&sim);
}

/// A host with Traefik, and `web` behind it that starts first, after its first run.
#[track_caller]
fn routed() -> Sim {
    let sim = traefik::fleet();
    let strategy = "    image: app:1\n    x-moorline: { strategy: start-first, drain: 5s }\n";
    sim.edit(traefik::WEB, "    image: app:1\n", strategy).commit();
    traefik::well(&sim.run());
    sim
}

/// The containers that the route of `web` leads to, and whether each of them can answer.
fn led_to(sim: &Sim) -> Vec<(String, bool)> {
    let host = sim.host();
    let text = String::from_utf8(host.routes[traefik::FILE].clone()).expect("text");
    let observed = host.engine.observe(host.time().as_second());
    let answers = |name: &str| {
        let mut containers = observed.containers.iter();
        containers.any(|found| found.name == name && found.health == Some(Health::Healthy))
    };
    let file: Json = serde_yaml::from_str(&text).expect("YAML");
    let servers = file["http"]["services"]["web"]["loadBalancer"]["servers"].as_array().cloned().unwrap_or_default();
    let name = |server: &Json| server["url"].as_str()?.strip_prefix("http://")?.strip_suffix(":80").map(str::to_owned);
    servers.iter().filter_map(name).map(|name| (name.clone(), answers(&name))).collect()
}

#[track_caller]
fn somebody_answers(sim: &Sim, how: &str) {
    let led = led_to(sim);
    assert!(!led.is_empty() && led.iter().all(|(_, answers)| *answers), "{how}: {led:?}");
}

#[test]
fn the_route_moves_after_the_gate_and_before_the_drain_and_never_leads_to_nobody() {
    for image in ["app:2", "app:bad"] {
        let before = routed();
        assert_eq!(led_to(&before), [("web-app-1".to_owned(), true)]);
        before.edit(traefik::WEB, "image: app:1", &format!("image: {image}")).commit();
        let uncut = before.fork();
        uncut.run();
        let serves = if image == "app:2" { "web-app-2" } else { "web-app-1" };
        assert_eq!(led_to(&uncut), [(serves.to_owned(), true)]);
        for first in 0..uncut.effects() {
            let once = before.fork();
            once.cut_after(first).try_run();
            somebody_answers(&once, &format!("{image}, cut after {first}"));
            for second in (first % 3..).step_by(3) {
                let twice = once.fork();
                let ended = twice.cut_after(second).try_run().is_some();
                somebody_answers(&twice, &format!("{image}, cut after {first}, then after {second}"));
                if ended {
                    break;
                }
            }
            once.run();
            once.run();
            assert_eq!(led_to(&once), [(serves.to_owned(), true)], "{image}, cut after {first}");
        }
    }
}

#[test]
fn routes_follow_the_numbers_of_containers_and_a_settled_run_has_nothing_to_do() {
    let sim = routed();
    for (from, to) in [("app:1", "app:2"), ("app:2", "app:1")] {
        sim.edit(traefik::WEB, &format!("image: {from}"), &format!("image: {to}")).commit();
        traefik::well(&sim.run());
        assert_eq!(sim.run().plan.to_string(), "nothing to do\n");
    }
    assert_eq!(led_to(&sim), [("web-app-3".to_owned(), true)]);
    // Somebody removes it, and Compose begins to count anew.
    sim.host().engine.remove("web", "app");
    traefik::well(&sim.run());
    assert_eq!(led_to(&sim), [("web-app-1".to_owned(), true)]);
    assert_eq!(sim.run().plan.to_string(), "nothing to do\n");
    sim.reboot();
    traefik::well(&sim.run());
    somebody_answers(&sim, "after a reboot");
}

#[test]
fn a_route_that_traefik_does_not_take_leaves_the_old_container_serving() {
    let sim = routed();
    let served = sim.host().engine.observe(0).of("web").next().expect("it runs").id.clone();
    sim.host().traefik.stumbles_over = Some("Host(`other`)".into());
    sim.edit(traefik::WEB, "image: app:1", "image: app:2").edit(traefik::WEB, "Host(`web`)", "Host(`other`)").commit();
    let report = sim.run();
    assert_eq!(code(&report), "rolled-back", "{:?}", report.fault);
    assert_eq!(led_to(&sim), [("web-app-1".to_owned(), true)]);
    assert_eq!(sim.host().engine.observe(0).of("web").map(|found| found.id.clone()).collect::<Vec<_>>(), [served]);
    // While Traefik does not answer, nothing is taken away from anybody.
    sim.host().traefik.stumbles_over = None;
    sim.host().traefik.is_silent = true;
    sim.retry();
    assert_eq!(code(&sim.run()), "traefik-silent");
    let host = sim.host();
    let running = host.engine.observe(host.time().as_second()).of("web").count();
    drop(host);
    assert_eq!(running, 2, "both serve until somebody knows");
    sim.host().traefik.is_silent = false;
    traefik::well(&sim.run());
    assert_eq!(led_to(&sim), [("web-app-2".to_owned(), true)]);
}

#[test]
fn a_held_traefik_lets_no_handover_begin() {
    let sim = routed();
    sim.hold_stack("traefik", 60);
    sim.edit(traefik::WEB, "image: app:1", "image: app:2").commit();
    assert_eq!(code(&sim.run()), "held");
    assert_eq!(led_to(&sim), [("web-app-1".to_owned(), true)]);
    assert_eq!(sim.host().engine.observe(0).of("web").count(), 1);
}
