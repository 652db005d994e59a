//! What people do to a fleet, and what a host makes of it, as text.

use crate::fleet::{HOST, RING, SECRETS, SHOP, WEB, fleet, secrets, settled};
use crate::sim::{Sealing, Signer, Transcript, seal_as};
use moorline::model::{Report, RunEnd, State};

/// The fault's code and the exit code.
fn ended(report: &Report) -> (&str, u8) {
    (report.fault.as_ref().map_or("", |fault| fault.code.as_str()), moorline::decide::report::exit(report))
}

#[test]
fn a_first_run_brings_everything_up_and_a_second_one_only_looks() {
    let sim = fleet();
    sim.commit();
    let mut transcript = Transcript::new(&sim, "first_run", "must bring up every stack in waves, then do nothing");
    transcript.note("the first commit is fetched").run();
    transcript.note("five minutes later").run();
    assert_eq!(
        sim.asked(),
        ["ledger", "tip", "plugin stamp", "memory", "edited", "observe", "ledger", "report", "page", "post"]
    );
    transcript.compare();
}

#[test]
fn a_new_image_replaces_its_own_service_and_no_other() {
    let sim = settled();
    let mut transcript = Transcript::new(&sim, "new_image", "must replace `app` alone, after its new image is here");
    sim.edit(WEB, "app:1", "app:2").commit();
    transcript.note("`app` gets the image app:2").run();
    transcript.compare();
}

#[test]
fn a_commit_that_does_not_concern_this_host_changes_nothing_and_is_remembered() {
    let sim = settled();
    let mut transcript = Transcript::new(&sim, "other_host", "must accept the revision and plan nothing");
    sim.write("hosts/beta/host.yaml", "ring: canary\nstacks: []\n").commit();
    transcript.note("another host is added").run();
    transcript.run();
    assert_eq!(sim.asked().iter().filter(|asked| *asked == "model of web").count(), 0);
    transcript.compare();
}

#[test]
fn a_rotated_secret_replaces_exactly_its_users() {
    let sim = settled();
    let mut transcript = Transcript::new(&sim, "rotated_secret", "must replace `db`, the only user, and show no value");
    sim.write(SECRETS, secrets("another-db-password")).commit();
    transcript.note("DB_PASSWORD is rotated").run();
    transcript.compare();
}

#[test]
fn a_changed_file_replaces_the_service_that_mounts_it() {
    let sim = settled();
    let mut transcript = Transcript::new(&sim, "changed_file", "must replace `proxy`, which mounts the file");
    sim.write("stacks/web/files/proxy.conf", "listen 8080\n").commit();
    transcript.note("proxy.conf changes").run();
    transcript.compare();
}

#[test]
fn a_service_that_reloads_gets_a_signal_instead_of_a_new_container() {
    let sim = fleet();
    sim.edit(WEB, "    image: proxy:1\n", "    image: proxy:1\n    x-moorline: { reload: SIGHUP }\n").commit();
    sim.run();
    let mut transcript = Transcript::new(&sim, "reload", "must send SIGHUP to `proxy` and leave its container alone");
    sim.write("stacks/web/files/proxy.conf", "listen 8080\n").commit();
    transcript.note("proxy.conf changes").run();
    assert_eq!(sim.host().engine.signals, [("web/proxy".to_owned(), "SIGHUP".to_owned())]);
    transcript.compare();
}

#[test]
fn a_removed_service_goes_and_a_removed_stack_goes_but_volumes_stay() {
    let sim = settled();
    let mut transcript = Transcript::new(&sim, "removed", "must remove what is no longer declared, and no volume");
    sim.edit(SHOP, "  init:\n    image: init:1\n", "");
    sim.edit(SHOP, "    depends_on:\n      init: { condition: service_completed_successfully }\n", "").commit();
    transcript.note("service `init` leaves the stack `shop`").run();
    sim.edit(HOST, "[web, shop]", "[shop]")
        .edit(SECRETS, "web:\n", "shop:\n")
        .write(SECRETS, secrets_without_web())
        .commit();
    transcript.note("stack `web` leaves the host").run();
    transcript.run();
    assert!(sim.host().engine.volumes.contains("web_data"));
    transcript.compare();
}

fn secrets_without_web() -> String {
    crate::sim::seal(&[(
        "all",
        &[("SHARED", "canary-shared"), ("KUMA", "https://kuma.example.org/api/push/canary-push-token")],
    )])
}

#[test]
fn a_changed_network_brings_the_whole_stack_up() {
    let sim = settled();
    let mut transcript = Transcript::new(&sim, "changed_network", "must use one `up` for the whole stack `shop`");
    sim.edit(
        SHOP,
        "configs:\n  settings:",
        "networks:\n  default: { driver_opts: { com.docker.network.driver.mtu: '1400' } }\nconfigs:\n  settings:",
    )
    .commit();
    transcript.note("the default network of `shop` gets an option").run();
    transcript.compare();
}

#[test]
fn a_ring_pins_an_older_revision_and_a_promotion_moves_it() {
    let sim = fleet();
    let first = sim.commit();
    sim.run();
    let mut transcript = Transcript::new(&sim, "promotion", "must stay at the pinned revision until the ring moves");
    sim.write(RING, format!("commit: {first}\n")).edit(WEB, "app:1", "app:2");
    let second = sim.commit();
    transcript.note("the ring is pinned to revision-1, and `app` gets app:2").run();
    sim.write(RING, format!("commit: {second}\n")).commit();
    transcript.note("revision-2 is promoted").run();
    sim.write(RING, format!("commit: {first}\n")).commit();
    transcript.note("revision-1 is promoted: the way back").run();
    transcript.compare();
}

#[test]
fn a_ring_that_names_a_commit_outside_of_the_accepted_history_is_refused() {
    let sim = settled();
    let first = sim.host().tip.clone();
    let aside = sim.commit_on(first.as_ref(), Signer::Operator);
    let mut transcript =
        Transcript::new(&sim, "ring_outside", "must refuse a commit that is not on the first-parent path");
    sim.host().tip = first;
    sim.write(RING, format!("commit: {aside}\n")).commit();
    let report = transcript.note("the ring names a commit of another branch").run();
    assert_eq!(ended(&report), ("revision-not-accepted", 13));
    transcript.compare();
}

#[test]
fn a_halt_stops_a_ring_and_its_end_lets_it_go_on() {
    let sim = settled();
    let mut transcript =
        Transcript::new(&sim, "halt", "must change nothing while the ring is halted, with exit code 4");
    sim.write(RING, "follow: main\nhalt: the database is being moved\n").edit(WEB, "app:1", "app:2").commit();
    let report = transcript.note("the ring is halted, and `app` gets app:2").run();
    assert_eq!(ended(&report), ("halted", 4));
    sim.write(RING, "follow: main\n").commit();
    transcript.note("the halt is taken out").run();
    transcript.compare();
}

#[test]
fn a_hold_shows_the_plan_and_touches_nothing_until_it_expires() {
    let sim = settled();
    let mut transcript = Transcript::new(&sim, "hold", "must plan but not act while held, with exit code 4");
    sim.edit(WEB, "app:1", "app:2").commit();
    sim.hold(5);
    let report = transcript.note("alice holds the host for 5 minutes; `app` gets app:2").run();
    assert_eq!(ended(&report), ("held", 4));
    sim.host().clock += 5 * 60_000;
    transcript.note("5 minutes later").run();
    transcript.compare();
}

#[test]
fn a_hold_is_reported_also_when_there_is_nothing_to_do() {
    let sim = settled();
    sim.hold(5);
    assert_eq!(ended(&sim.run()), ("held", 4));
}

#[test]
fn what_nobody_may_sign_is_refused_and_the_anchor_stays() {
    let sim = settled();
    let anchor = sim.remembered().anchor;
    let good = sim.host().tip.clone();
    let containers = sim.host().engine.containers.len();
    let mut transcript = Transcript::new(&sim, "refused", "must change nothing, say why, and keep the anchor");
    let cases = [
        (Signer::Nobody, "an unsigned commit", "commit-unsigned"),
        (Signer::Stranger, "a commit signed by a stranger", "signer-unknown"),
        (Signer::Stolen, "a commit with the signature of another one", "signature-bad"),
    ];
    for (signer, what, code) in cases {
        sim.host().tip.clone_from(&good);
        sim.edit(WEB, "app:1", "app:2").commit_as(signer);
        let report = transcript.note(what).run();
        assert_eq!(ended(&report), (code, 13), "{what}");
        sim.edit(WEB, "app:2", "app:1");
    }
    let aside = sim.commit_on(None, Signer::Operator);
    let report = transcript.note("a new history, signed by the operator").run();
    assert_eq!(ended(&report), ("history-rewound", 13), "{aside}");
    assert_eq!(sim.remembered().anchor, anchor);
    assert_eq!(sim.host().engine.containers.len(), containers);
    assert_eq!(sim.host().reports.len(), 5);
    sim.host().tip = good;
    transcript.note("the good branch is back").run();
    transcript.compare();
}

#[test]
fn mistakes_in_the_repository_are_named_with_their_places() {
    let sim = settled();
    let mut transcript =
        Transcript::new(&sim, "mistakes", "must name file and line, change nothing, and go on after a fix");
    let cases: [(&str, &str, &str, &str); 5] = [
        ("`host.yaml` is not YAML", HOST, "stacks: [web, shop]", "stacks: [web, shop"),
        ("a stack that is not there", HOST, "[web, shop]", "[web, shop, wiki]"),
        ("a ring that is not there", HOST, "ring: canary", "ring: canaries"),
        ("a variable that nothing sets", WEB, "DOMAIN: ${DOMAIN}", "DOMAIN: ${DOMIAN}"),
        ("an image without a tag", WEB, "image: app:1", "image: app"),
    ];
    for (what, path, from, to) in cases {
        sim.edit(path, from, to).commit();
        let report = transcript.note(what).run();
        assert!(["spec-invalid", "stack-refused"].contains(&ended(&report).0), "{what}");
        sim.edit(path, to, from);
    }
    let host = sim.repository().read(HOST);
    sim.remove("hosts/alpha").write("hosts/alfa/host.yaml", host.clone()).commit();
    assert_eq!(ended(&transcript.note("the host is not in the repository").run()), ("spec-invalid", 1));
    sim.remove("hosts/alfa").write(HOST, host).write(SECRETS, secrets("canary-db-password")).commit();
    transcript.note("all is as before").run();
    transcript.compare();
}

#[test]
fn a_sops_file_that_cannot_be_believed_stops_the_run() {
    let sim = settled();
    let mut transcript = Transcript::new(&sim, "secrets", "must open all or nothing, with exit code 12");
    let sections: crate::sim::Sections<'_> = &[
        ("all", &[("SHARED", "canary-shared"), ("KUMA", "https://kuma.example.org/api/push/canary-push-token")]),
        ("web", &[("DB_PASSWORD", "canary-db-password"), ("API_TOKEN", "canary-api-token")]),
    ];
    sim.write(SECRETS, seal_as(sections, Sealing { key: crate::sim::BETA_KEY, honest: true })).commit();
    assert_eq!(ended(&transcript.note("it is sealed for beta only").run()), ("secrets-sealed", 12));
    sim.write(SECRETS, seal_as(sections, Sealing { key: crate::sim::ALPHA_KEY, honest: false })).commit();
    assert_eq!(ended(&transcript.note("its MAC is that of other content").run()), ("secrets-damaged", 12));
    sim.host().age_key = None;
    assert_eq!(ended(&transcript.note("the host has lost its key").run()), ("key-missing", 12));
    transcript.compare();
}

#[test]
fn a_new_host_waits_until_its_key_is_let_in_and_no_longer() {
    let sim = fleet();
    let sections: crate::sim::Sections<'_> = &[
        ("all", &[("SHARED", "canary-shared"), ("KUMA", "https://kuma.example.org/api/push/canary-push-token")]),
        ("web", &[("DB_PASSWORD", "canary-db-password"), ("API_TOKEN", "canary-api-token")]),
    ];
    sim.write(SECRETS, seal_as(sections, Sealing { key: crate::sim::BETA_KEY, honest: true })).commit();
    let mut transcript = Transcript::new(&sim, "enrolment", "must wait with the key to enrol, and go on by itself");
    let report = transcript.note("its file is sealed for the operator only, and nobody named its key").run();
    assert_eq!((ended(&report), report.end), (("awaiting-enrolment", 12), RunEnd::AwaitingEnrolment));
    assert_eq!(ended(&transcript.note("five minutes later").run()), ("awaiting-enrolment", 12));
    let own = crate::sim::ALPHA_KEY.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    sim.write("hosts/alpha/recipient", format!("{own}\n")).commit();
    let forgotten = transcript.note("it was named, but nobody ran `sops updatekeys`").run();
    assert_eq!(ended(&forgotten), ("secrets-sealed", 12));
    sim.write("hosts/alpha/recipient", "age1another\n").commit();
    assert_eq!(ended(&transcript.note("another key was named").run()), ("awaiting-enrolment", 12));
    sim.write("hosts/alpha/recipient", format!("{own}\n")).write(SECRETS, secrets("canary-db-password")).commit();
    assert_eq!(ended(&transcript.note("its key is let in").run()), ("", 0));
    sim.write("hosts/alpha/recipient", "age1another\n");
    sim.write(SECRETS, seal_as(sections, Sealing { key: crate::sim::BETA_KEY, honest: true })).commit();
    let lost = transcript.note("a host that ran before does not wait: this is a mistake").run();
    assert_eq!(ended(&lost), ("secrets-sealed", 12));
    transcript.compare();
}

#[test]
fn an_image_that_cannot_be_pulled_leaves_everything_untouched() {
    let sim = settled();
    let mut transcript = Transcript::new(&sim, "pull_failed", "must touch nothing of any stack, and try again");
    sim.edit(WEB, "app:1", "app:2").edit(SHOP, "shop:1", "shop:2").commit();
    sim.host().engine.refuse("app:2");
    let report = transcript.note("`app` and `shop` get new images, of which app:2 cannot be had").run();
    assert_eq!(ended(&report), ("step-failed", 1));
    sim.host().engine.offer("app:2", crate::sim::Behaviour::Healthy);
    transcript.note("the registry has it again").run();
    transcript.compare();
}

#[test]
fn a_service_that_does_not_become_healthy_sends_its_stack_back_and_no_other() {
    let sim = settled();
    let mut transcript =
        Transcript::new(&sim, "gate_failed", "must roll `web` back, skip its later waves, and go on with `shop`");
    sim.edit(WEB, "app:1", "app:bad")
        .edit(WEB, "proxy:1\n", "proxy:1\n    command: [x]\n")
        .edit(SHOP, "shop:1", "shop:2")
        .commit();
    let report = transcript.note("`app` gets an image that is not healthy").run();
    assert_eq!(ended(&report), ("rolled-back", 1));
    sim.edit(WEB, "app:bad", "app:loop").commit();
    assert_eq!(ended(&transcript.note("one that crashes again and again").run()), ("rolled-back", 1));
    sim.edit(WEB, "app:loop", "app:slow")
        .edit(WEB, "services:", "x-moorline: { deploy: { health_timeout: 30s } }\nservices:")
        .commit();
    assert_eq!(ended(&transcript.note("one that comes to no verdict").run()), ("rolled-back", 1));
    sim.edit(WEB, "app:slow", "app:2").commit();
    transcript.note("a good one").run();
    transcript.run();
    transcript.compare();
}

#[test]
fn a_one_shot_that_fails_keeps_what_depends_on_it_from_starting() {
    let sim = fleet();
    sim.edit(SHOP, "init:1", "init:bad").commit();
    let mut transcript = Transcript::new(&sim, "one_shot", "must not start `shop` after `init` ended with 3");
    assert_eq!(ended(&transcript.note("the first commit is fetched").run()), ("gate-failed", 1));
    transcript.compare();
}

#[test]
fn what_is_not_there_is_a_fault_that_says_who_moves_next() {
    let sim = fleet();
    let mut transcript = Transcript::new(&sim, "missing", "must change nothing and name the one who moves next");
    assert_eq!(ended(&transcript.note("the courier has fetched nothing").run()), ("repository-missing", 1));
    sim.commit();
    sim.host().engine_answers = false;
    assert_eq!(ended(&transcript.note("the engine is away").run()), ("engine-away", 1));
    sim.host().engine_answers = true;
    sim.run();
    let good = sim.host().ledger.clone();
    sim.host().ledger = good.as_ref().map(|bytes| bytes[..bytes.len() / 2].to_vec());
    let damaged = sim.host().ledger.clone();
    assert_eq!(ended(&transcript.note("the ledger is damaged").run()), ("ledger-damaged", 1));
    assert_eq!(sim.host().ledger, damaged);
    sim.host().ledger = good;
    let tip = sim.host().tip.clone().expect("a tip");
    sim.commit();
    sim.repository().lose(&tip);
    assert_eq!(ended(&transcript.note("an object of the clone is lost").run()), ("repository-damaged", 1));
    transcript.compare();
}

#[test]
fn a_full_disk_is_said_and_mended_by_the_next_run() {
    let sim = fleet();
    sim.commit();
    sim.host().disk_is_full = true;
    let mut transcript = Transcript::new(&sim, "full_disk", "must not act on what it could not write down");
    assert_eq!(ended(&transcript.note("the disk is full").run()), ("state-unwritable", 1));
    sim.host().disk_is_full = false;
    transcript.note("there is room again").run();
    transcript.compare();
}

#[test]
fn after_a_reboot_the_files_in_memory_are_written_again() {
    let sim = settled();
    let mut transcript =
        Transcript::new(&sim, "reboot", "must write memory first, then start what could not start without");
    sim.reboot();
    transcript.note("the host was switched off and on").run();
    transcript.run();
    transcript.compare();
}

#[test]
fn what_was_changed_by_hand_is_put_back() {
    let sim = settled();
    let mut transcript = Transcript::new(&sim, "drift", "must name what was found, and put it back");
    sim.host().engine.by_hand("web", "app", Some(State::Exited(137)));
    transcript.note("somebody stops `app`").run();
    sim.host().engine.remove("web", "proxy");
    transcript.note("somebody removes `proxy`").run();
    transcript.run();
    transcript.compare();
}

#[test]
fn a_new_plugin_is_planned_and_settles() {
    let sim = settled();
    let mut transcript = Transcript::new(&sim, "new_plugin", "must let Compose decide once, and then be quiet");
    sim.host().plugin = "2.41.0".into();
    transcript.note("the Compose plugin is upgraded").run();
    transcript.run();
    transcript.compare();
}

#[test]
fn the_order_to_stop_ends_the_run_between_two_steps() {
    let sim = fleet();
    sim.commit();
    let mut transcript = Transcript::new(&sim, "stop", "must finish the step in flight and skip the others");
    sim.stop_after(22);
    assert_eq!(ended(&transcript.note("SIGTERM comes before `db` is brought up").run()), ("stopped", 1));
    transcript.note("the service is started again").run();
    transcript.compare();
}

#[test]
fn a_service_of_a_failed_deploy_that_is_taken_back_is_removed() {
    let sim = settled();
    let mut transcript =
        Transcript::new(&sim, "failed_addition", "must remove the service that only the failed deploy had");
    sim.edit(WEB, "services:\n", "services:\n  extra:\n    image: app:bad\n").commit();
    transcript.note("a service is added, and is not healthy").run();
    sim.edit(WEB, "services:\n  extra:\n    image: app:bad\n", "services:\n").commit();
    transcript.note("it is taken back").run();
    transcript.compare();
}

#[test]
fn a_stack_whose_first_deploy_failed_is_removed_when_it_is_no_longer_declared() {
    let sim = fleet();
    sim.edit(SHOP, "shop:1", "app:bad").commit();
    let mut transcript = Transcript::new(&sim, "failed_stack", "must leave nothing of a stack that never worked");
    transcript.note("the first deploy of `shop` fails").run();
    sim.edit(HOST, "[web, shop]", "[web]").commit();
    transcript.note("it is taken back").run();
    assert!(!sim.host().engine.containers.iter().any(|container| container.project == "shop"));
    transcript.compare();
}

#[test]
fn the_order_to_stop_during_a_gate_is_no_failure_of_the_service() {
    let sim = fleet();
    sim.commit();
    for effects in 0.. {
        let stopped = sim.fork();
        let report = stopped.stop_after(effects).run();
        if report.fault.is_none() {
            break;
        }
        assert_eq!(ended(&report), ("stopped", 1), "asked to stop after {effects}");
        let report = stopped.run();
        assert_eq!(ended(&report), ("", 0), "asked to stop after {effects}");
    }
}
