//! Routes: when Traefik is told of them, what happens when it does not serve one, and what people do to its files.

use moorline::model::{Report, State};

use crate::cuts::{every_cut_converges, every_two_cuts_converge};
use crate::sim::{Behaviour, Sim, seal};

const HOST: &str = "hosts/alpha/host.yaml";
const TRAEFIK: &str = "stacks/traefik/compose.yaml";
const DYNAMIC: &str = "stacks/traefik/dynamic/common.yaml";
pub const WEB: &str = "stacks/web/compose.yaml";
const SHOP: &str = "stacks/shop/compose.yaml";
pub const FILE: &str = "moorline.routes.yaml";
const SECRETS: &str = "hosts/alpha/secrets.sops.yaml";

const TRAEFIK_COMPOSE: &str = r#"services:
  traefik:
    image: traefik:3
    command:
      - --entryPoints.web.address=:80
      - --entryPoints.traefik.address=:8080
      - --api.insecure=true
      - --providers.file.directory=/d
    ports: [{ target: 8080, published: "8080", host_ip: 127.0.0.1 }]
    volumes: ["./dynamic:/d"]
    networks: [edge]
networks:
  edge: { name: edge }
"#;

const COMMON: &str =
    "http:\n  middlewares:\n    token: { headers: { customRequestHeaders: { X-Token: '${TOKEN}' } } }\n";

fn app(name: &str, image: &str) -> String {
    format!(
        "services:\n  app:\n    image: {image}\n    networks: [edge]\n    labels:\n      traefik.enable: \"true\"\n      \
         traefik.http.routers.{name}.rule: Host(`{name}`)\n      traefik.http.routers.{name}.entrypoints: web\n      \
         traefik.http.services.{name}.loadbalancer.server.port: \"80\"\nnetworks:\n  edge: {{ name: edge, external: true }}\n"
    )
}

/// A host with Traefik and two stacks behind it, before its first commit.
pub fn fleet() -> Sim {
    let sim = Sim::new();
    sim.write("moorline.yaml", "version: 1\n")
        .write("signers/allowed_signers", crate::sim::allowed_signers())
        .write("rings/canary.yaml", "follow: main\n")
        .write(HOST, "ring: canary\nstacks: [traefik, web, shop]\n")
        .write(SECRETS, seal(&[("traefik", &[("TOKEN", "canary-api-token")])]))
        .write(TRAEFIK, TRAEFIK_COMPOSE)
        .write(DYNAMIC, COMMON)
        .write(WEB, app("web", "app:1"))
        .write(SHOP, app("shop", "shop:1"));
    let mut host = sim.host();
    for (image, behaviour) in [
        ("traefik:3", Behaviour::Healthy),
        ("traefik:4", Behaviour::Healthy),
        ("app:1", Behaviour::Healthy),
        ("app:2", Behaviour::Healthy),
        ("app:bad", Behaviour::Unhealthy),
        ("shop:1", Behaviour::Runs),
    ] {
        host.engine.offer(image, behaviour);
    }
    drop(host);
    sim
}

#[track_caller]
fn settled() -> Sim {
    let sim = fleet();
    sim.commit();
    well(&sim.run());
    sim
}

#[track_caller]
pub fn well(report: &Report) {
    assert!(report.fault.is_none(), "{:#?}", report.fault);
}

#[track_caller]
fn settles(sim: &Sim) {
    let report = sim.run();
    well(&report);
    assert_eq!(report.plan.to_string(), "nothing to do\n");
    assert!(!sim.asked().contains(&"history".to_owned()), "{:?}", sim.asked());
}

/// The steps of a run, one line each.
fn steps(report: &Report) -> Vec<String> {
    report.outcomes.iter().map(|outcome| format!("{} {}", outcome.step.action.verb(), outcome.step.stack)).collect()
}

fn serves(sim: &Sim, name: &str) -> bool {
    sim.host().serves(&format!("Host(`{name}`)"))
}

fn is_safe(report: &Report) {
    let text = serde_json::to_string(report).unwrap();
    assert!(!text.contains("canary-api-token"), "{text}");
}

#[test]
fn a_route_appears_when_its_service_passed_its_gate_and_a_settled_run_asks_nobody() {
    let sim = fleet();
    sim.commit();
    let report = sim.run();
    well(&report);
    let steps = steps(&report);
    for stack in ["traefik", "web", "shop"] {
        let at = |verb: &str| steps.iter().position(|step| *step == format!("{verb} {stack}")).unwrap();
        assert!(at("gate") < at("publish"), "{steps:?}");
    }
    assert!(serves(&sim, "web") && serves(&sim, "shop"));
    assert_eq!(sim.host().routes.keys().collect::<Vec<_>>(), [FILE]);
    assert!(String::from_utf8_lossy(&sim.host().routes[FILE]).contains("canary-api-token"));
    is_safe(&report);
    settles(&sim);
    assert!(!sim.asked().contains(&"traefik".to_owned()));
}

#[test]
fn a_service_that_does_not_pass_its_gate_has_no_route() {
    let sim = settled();
    sim.write("stacks/new/compose.yaml", app("new", "app:bad"));
    sim.write(HOST, "ring: canary\nstacks: [traefik, web, shop, new]\n").commit();
    assert!(sim.run().fault.is_some());
    assert!(!serves(&sim, "new") && serves(&sim, "web"));
    sim.write("stacks/new/compose.yaml", app("new", "app:2")).commit();
    well(&sim.run());
    assert!(serves(&sim, "new"));
}

#[test]
fn a_route_is_gone_before_its_service_is() {
    let sim = settled();
    sim.write(HOST, "ring: canary\nstacks: [traefik, web]\n").commit();
    let report = sim.run();
    well(&report);
    let found = steps(&report);
    assert_eq!(found, ["publish shop", "down shop"]);
    assert!(!serves(&sim, "shop") && serves(&sim, "web"));
    settles(&sim);
    // One service of a stack.
    let two = app("web", "app:1").replace("networks:\n  edge: {", "  other:\n    image: shop:1\nnetworks:\n  edge: {");
    sim.write(WEB, two).commit();
    well(&sim.run());
    let other = app("web", "app:1").replace("  app:", "  other:").replace("app:1", "shop:1");
    sim.write(WEB, other).commit();
    let report = sim.run();
    well(&report);
    let found = steps(&report);
    let at = |step: &str| found.iter().position(|found| found == step).unwrap();
    assert!(at("publish web") < at("remove web"), "{found:?}");
    settles(&sim);
}

#[test]
fn a_failed_deploy_keeps_its_old_routes() {
    let sim = settled();
    sim.write(WEB, app("other", "app:bad")).commit();
    assert_eq!(sim.run().fault.unwrap().code, "rolled-back");
    assert!(serves(&sim, "web") && !serves(&sim, "other"));
}

#[test]
fn a_route_that_traefik_does_not_serve_is_undone_and_its_stack_rolled_back() {
    let sim = settled();
    let before = sim.host().routes.clone();
    sim.host().traefik.refuses.insert("other".into());
    sim.write(WEB, app("other", "app:2")).commit();
    let report = sim.run();
    let fault = report.fault.clone().unwrap();
    assert_eq!(fault.code, "rolled-back");
    let said = fault.to_string();
    for part in ["publish of web failed", "stacks/web/compose.yaml:7: router `other`: error parsing regexp", "are back"]
    {
        assert!(said.contains(part), "{said}");
    }
    is_safe(&report);
    assert_eq!(sim.host().routes, before);
    assert!(serves(&sim, "web"));
    assert!(sim.host().engine.containers.iter().any(|container| container.image == "app:1"));
    sim.write(WEB, app("web", "app:1")).commit();
    well(&sim.run());
    settles(&sim);
}

#[test]
fn a_generation_that_traefik_cannot_read_is_undone_with_the_line_of_its_log() {
    let sim = settled();
    let before = sim.host().routes.clone();
    sim.host().traefik.stumbles_over = Some("Host(`other`)".into());
    sim.write(WEB, app("other", "app:1")).commit();
    let report = sim.run();
    let said = report.fault.clone().unwrap().to_string();
    assert!(said.contains("did not read the routes of web"), "{said}");
    assert!(said.contains("field not found, node: Host(`other`)"), "{said}");
    assert_eq!(sim.host().routes, before);
    assert!(serves(&sim, "web"));
    is_safe(&report);
}

#[test]
fn what_a_person_did_to_the_files_is_written_down_and_undone() {
    let sim = settled();
    let before = sim.host().routes.clone();
    let edited = String::from_utf8(before[FILE].clone()).unwrap().replace("Host(`web`)", "Host(`mine`)");
    sim.host().routes.insert(FILE.into(), edited.into_bytes());
    sim.host().routes.insert("mine.yaml".into(), b"http: [".to_vec());
    sim.host().traefik_looks();
    let report = sim.run_by_timer();
    well(&report);
    assert_eq!(steps(&report), ["publish traefik"]);
    let plan = report.plan.to_string();
    assert!(plan.contains("dynamic/mine.yaml was found beside what moorline wrote"), "{plan}");
    assert!(plan.contains("dynamic/moorline.routes.yaml was found edited"), "{plan}");
    assert_eq!(sim.host().routes.keys().collect::<Vec<_>>(), [FILE]);
    assert!(serves(&sim, "web") && !serves(&sim, "mine"));
    let drift = sim.host().drift.concat();
    assert!(drift.contains("Host(`mine`)") && drift.contains("http: ["), "{drift}");
    assert!(!drift.contains("canary-api-token"), "{drift}");
    settles(&sim);
}

#[test]
fn a_cold_start_with_a_bad_file_repairs_itself() {
    let sim = settled();
    sim.host().routes.insert("bad.yaml".into(), b"http: [".to_vec());
    sim.host().engine.by_hand("traefik", "traefik", Some(State::Exited(1)));
    sim.host().traefik_looks();
    sim.host().engine.by_hand("traefik", "traefik", None);
    assert!(!serves(&sim, "web"));
    well(&sim.run_by_timer());
    assert!(serves(&sim, "web"));
    settles(&sim);
}

#[test]
fn after_a_reboot_the_routes_are_there_before_traefik_is() {
    let sim = settled();
    let before = sim.host().routes.clone();
    sim.reboot();
    assert!(sim.host().routes.is_empty());
    sim.begin();
    sim.host().engine_answers = false;
    moorline::runs::boot::restore(&sim).unwrap();
    sim.host().engine_answers = true;
    assert_eq!(sim.host().routes, before);
    well(&sim.run());
    settles(&sim);
    // And without that unit, the next run does it.
    sim.reboot();
    well(&sim.run());
    assert!(serves(&sim, "web"));
    settles(&sim);
}

#[test]
fn another_traefik_or_one_with_other_settings_is_seen_to_serve_the_routes_or_goes_back() {
    let sim = settled();
    sim.edit(TRAEFIK, "traefik:3", "traefik:4").commit();
    let report = sim.run();
    well(&report);
    assert!(steps(&report).contains(&"publish traefik".to_owned()));
    assert!(serves(&sim, "web"));
    // This one knows a word less.
    sim.host().engine.offer("traefik:2", Behaviour::Healthy);
    sim.host().traefik.stumbles_over = Some("customRequestHeaders".into());
    sim.edit(TRAEFIK, "traefik:4", "traefik:2").commit();
    let said = sim.run().fault.unwrap().to_string();
    assert!(said.contains("did not read the routes"), "{said}");
    sim.host().traefik.stumbles_over = None;
    well_or_waits(&sim);
    assert!(serves(&sim, "web"));
    let image =
        |sim: &Sim| sim.host().engine.containers.iter().find(|one| one.project == "traefik").unwrap().image.clone();
    assert_eq!(image(&sim), "traefik:4");
}

/// A run that touches nothing but what was put off.
fn well_or_waits(sim: &Sim) {
    let report = sim.run_by_timer();
    let code = report.fault.as_ref().map(|fault| fault.code.as_str());
    assert!(matches!(code, None | Some("deploy-waiting" | "deploy-refused")), "{:?}", report.fault);
}

#[test]
fn a_traefik_that_does_not_answer_is_for_the_next_run() {
    let sim = settled();
    sim.host().traefik.is_silent = true;
    sim.write(WEB, app("other", "app:1")).commit();
    let fault = sim.run().fault.unwrap();
    assert_eq!(fault.code, "traefik-silent");
    assert_eq!(fault.mover, "next-run");
    sim.host().traefik.is_silent = false;
    well(&sim.run());
    assert!(serves(&sim, "other") && !serves(&sim, "web"));
    settles(&sim);
}

#[test]
fn routes_that_need_one_another_are_published_together_whatever_the_order_of_stacks() {
    for order in ["[traefik, web, shop]", "[web, shop, traefik]"] {
        let sim = fleet();
        sim.write(HOST, format!("ring: canary\nstacks: {order}\n")).commit();
        let sim = sim;
        while sim.run().fault.is_some() {
            assert!(sim.host().engine.containers.len() < 3, "{order}");
        }
        let with = |name: &str| {
            let label = format!("traefik.http.routers.web.middlewares: {name}@file\n      traefik.enable");
            app("web", "app:1").replace("traefik.enable", &label)
        };
        sim.write(DYNAMIC, COMMON.replace("token:", "first:")).write(WEB, with("first")).commit();
        well(&sim.run());
        // The one goes and the other comes, in one commit.
        sim.write(DYNAMIC, COMMON.replace("token:", "second:")).write(WEB, with("second")).commit();
        well(&sim.run());
        assert!(serves(&sim, "web"), "{order}");
        settles(&sim);
    }
}

#[test]
fn a_mistake_that_traefik_would_hide_is_refused_before_anything_is_touched() {
    let sim = settled();
    let effects = |change: &dyn Fn(&Sim)| {
        let sim = sim.fork();
        change(&sim);
        sim.commit();
        let before = sim.host().routes.clone();
        let report = sim.run();
        let fault = report.fault.unwrap();
        assert_eq!(fault.code, "spec-invalid", "{fault}");
        assert_eq!(sim.host().routes, before);
        assert!(report.outcomes.is_empty());
        fault.to_string()
    };
    let said = effects(&|sim| _ = sim.write(DYNAMIC, "htpt: {}\n"));
    assert!(said.contains("stacks/traefik/dynamic/common.yaml:1"), "{said}");
    let said = effects(&|sim| _ = sim.edit(TRAEFIK, "./dynamic:/d", "./dynamic:/e"));
    assert!(said.contains("`./dynamic` is mounted at /e"), "{said}");
    let said = effects(&|sim| _ = sim.edit(TRAEFIK, "host_ip: 127.0.0.1", "host_ip: 192.0.2.1"));
    assert!(said.contains("could not see whether Traefik serves"), "{said}");
}

#[test]
fn a_held_traefik_is_told_nothing() {
    let sim = settled();
    let before = sim.host().routes.clone();
    sim.hold_stack("traefik", 10);
    sim.write(WEB, app("other", "app:1")).commit();
    assert_eq!(sim.run().fault.unwrap().code, "held");
    assert_eq!(sim.host().routes, before);
    sim.host().clock += 11 * 60_000;
    well(&sim.run());
    assert!(serves(&sim, "other"));
}

#[test]
fn a_host_that_gives_up_traefik_takes_its_files_away() {
    let sim = settled();
    sim.write(HOST, "ring: canary\nstacks: [web, shop]\n").remove("stacks/traefik").commit();
    well(&sim.run());
    assert!(sim.host().routes.is_empty());
    assert_eq!(sim.remembered().routes, None);
    settles(&sim);
}

#[test]
fn a_first_run_with_routes_can_be_killed_anywhere() {
    let sim = fleet();
    sim.commit();
    every_cut_converges(&sim);
}

#[test]
fn a_change_of_routes_can_be_killed_anywhere() {
    let sim = settled();
    sim.write(WEB, app("other", "app:2")).write(DYNAMIC, COMMON.replace("token:", "other:"));
    sim.write("stacks/traefik/dynamic/key.pem", "x").commit();
    every_cut_converges(&sim);
}

#[test]
fn a_change_of_middlewares_and_the_run_that_recovers_can_be_killed_anywhere() {
    let sim = settled();
    sim.write(DYNAMIC, COMMON.replace("token:", "other:")).write("stacks/traefik/dynamic/key.pem", "x").commit();
    every_two_cuts_converge(&sim);
}

#[test]
fn the_removal_of_a_route_can_be_killed_anywhere() {
    let sim = settled();
    sim.write(HOST, "ring: canary\nstacks: [traefik, web]\n").commit();
    every_cut_converges(&sim);
}

#[test]
fn the_repair_of_edited_routes_can_be_killed_anywhere() {
    let sim = settled();
    sim.host().routes.insert(FILE.into(), b"http: {}\n".to_vec());
    sim.host().routes.insert("mine.yaml".into(), b"http: {}\n".to_vec());
    every_cut_converges(&sim);
}
