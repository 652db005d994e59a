//! What must hold for every fleet: order never matters, nothing declared is taken down, nothing shows a secret.

use std::fmt::Write as _;

use moorline::decide::event::Event;
use moorline::decide::fault::{Code, Fault};
use moorline::model::State;
use moorline::runs::preview;

use futures_util::FutureExt as _;

use crate::fleet::{CANARIES, HOST, SECRETS, SHOP, WEB, fleet, secrets, settled};
use crate::sim::{BETA_KEY, Sealing, Sections, Signer, Sim, seal, seal_as};
use crate::world_after::left;

/// The containers and files of a host, whatever the order in which they were made; stacks do not see each other.
fn containers(sim: &Sim) -> String {
    let all = left(sim);
    all.split_once("settled").map_or(all.as_str(), |(before, _)| before).to_owned()
}

#[test]
fn the_order_of_stacks_variables_services_and_secrets_never_matters() {
    let straight = settled();
    let sim = fleet();
    sim.edit(HOST, "[web, shop]", "[shop, web]");
    let web = sim.repository().read(WEB);
    let (services, rest) = web.split_once("volumes:\n  data:").expect("as written");
    let mut blocks = blocks(services.trim_start_matches("services:\n"));
    blocks.reverse();
    sim.write(
        WEB,
        format!(
            "secrets:{}services:\n{}volumes:\n  data:\n",
            rest.split_once("secrets:").expect("as written").1,
            blocks.concat()
        ),
    );
    sim.write(
        SECRETS,
        seal(&[
            ("web", &[("API_TOKEN", "canary-api-token"), ("DB_PASSWORD", "canary-db-password")]),
            ("all", &[("KUMA", "https://kuma.example.org/api/push/canary-push-token"), ("SHARED", "canary-shared")]),
        ]),
    );
    sim.commit();
    let report = sim.run();
    assert!(report.fault.is_none(), "{:?}", report.fault);
    let of = |text: &str| -> Vec<String> {
        // The Compose file itself is another text, and with it the digest of the inputs.
        let lines = text.lines().filter(|line| line.contains("-1 ") || line.starts_with("networks"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(of(&containers(&straight)), of(&containers(&sim)));
    let again = straight.fork();
    again.edit(HOST, "[web, shop]", "[shop, web]").commit();
    assert_eq!(again.run().plan.to_string(), "nothing to do\n", "another order of the stacks is no change");
}

/// The services of a Compose file, each with its lines.
fn blocks(services: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    for line in services.lines() {
        let begins = line.starts_with("  ") && !line.starts_with("   ");
        if begins {
            blocks.push(String::new());
        }
        if let Some(block) = blocks.last_mut() {
            let _ = writeln!(block, "{line}");
        }
    }
    blocks
}

#[test]
fn the_order_of_commits_that_do_not_touch_each_other_never_matters() {
    let changes: [&dyn Fn(&Sim); 3] =
        [&|sim| _ = sim.edit(WEB, "app:1", "app:2"), &|sim| _ = sim.edit(SHOP, "shop:1", "shop:2"), &|sim| {
            _ = sim.write(SECRETS, secrets("another-db-password"));
        }];
    let mut ends = Vec::new();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for run_between in [true, false] {
            let sim = settled();
            for change in order {
                changes[change](&sim);
                sim.commit();
                if run_between {
                    sim.run();
                }
            }
            sim.run();
            ends.push(containers(&sim));
        }
    }
    assert!(ends.iter().all(|end| *end == ends[0]));
}

/// Everything that a commit or a person can do to a fleet, many times in many orders.
#[test]
fn nothing_declared_is_ever_taken_down_and_nothing_foreign_is_touched() {
    let deeds: [(&str, &dyn Fn(&Sim)); 10] = [
        ("a new image", &|sim| swap(sim, WEB, "app:1", "app:2")),
        ("a bad image", &|sim| swap(sim, WEB, "app:2", "app:bad")),
        ("a good image", &|sim| swap(sim, WEB, "app:bad", "app:1")),
        ("a secret", &|sim| _ = sim.write(SECRETS, secrets("another-db-password"))),
        ("a stack goes", &|sim| swap(sim, HOST, "[web, shop]", "[web]")),
        ("a stack comes", &|sim| swap(sim, HOST, "[web]", "[web, shop]")),
        ("a mistake", &|sim| swap(sim, SHOP, "image: shop:1", "image: shop")),
        ("a mistake mended", &|sim| swap(sim, SHOP, "image: shop\n", "image: shop:1\n")),
        ("stopped by hand", &|sim| sim.host().engine.by_hand("web", "db", Some(State::Exited(137)))),
        ("a reboot", &|sim| _ = sim.reboot()),
    ];
    for seed in 1..60_usize {
        let sim = settled();
        let mut chance = seed;
        let mut story = Vec::new();
        for _ in 0..8 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (name, deed) = deeds[(chance >> 33) % deeds.len()];
            story.push(name);
            deed(&sim);
            sim.commit();
            let cut = (chance >> 40) % 20;
            let before = names(&sim);
            let lives = sim.cut_after(cut).try_run().is_some();
            story.push(if lives { "ran" } else { "killed" });
            let declared = sim.repository().read(HOST);
            for name in before {
                let stack_is_declared = name.starts_with("web") || declared.contains("shop]");
                assert!(!stack_is_declared || names(&sim).contains(&name), "seed {seed}: {name} is gone: {story:?}");
            }
            assert!(sim.host().engine.volumes.contains("web_data"), "seed {seed}: {story:?}");
        }
        // What was killed again and again waits for a person.
        sim.retry();
        swap(&sim, WEB, "app:bad", "app:2");
        swap(&sim, SHOP, "image: shop\n", "image: shop:1\n");
        sim.commit();
        let report = sim.run();
        assert!(report.fault.is_none(), "seed {seed}: {story:?}: {:?}", report.fault);
        assert_eq!(sim.run().plan.to_string(), "nothing to do\n", "seed {seed}: {story:?}");
    }
}

fn swap(sim: &Sim, path: &str, from: &str, to: &str) {
    let text = sim.repository().read(path);
    sim.write(path, text.replace(from, to));
}

fn names(sim: &Sim) -> Vec<String> {
    sim.host().engine.containers.iter().map(|container| container.name.clone()).collect()
}

/// Everything that a run shows or stores outside of memory.
fn shown(sim: &Sim) -> String {
    let mut text = String::new();
    for event in sim.said().iter() {
        let _ = writeln!(text, "{} {:?} {event:?}", event.message(), event.fields());
    }
    let host = sim.host();
    for bytes in host.ledger.iter().chain(host.reports.values()) {
        text.push_str(&String::from_utf8_lossy(bytes));
    }
    for files in host.directories.values() {
        files.values().for_each(|file| text.push_str(&String::from_utf8_lossy(&file.bytes)));
    }
    for container in &host.engine.containers {
        let _ = writeln!(text, "{} {:?}", container.definition, container.labels);
    }
    for message in &host.outbox {
        let _ = writeln!(text, "{} {message:?}", message.text);
    }
    text
}

#[track_caller]
fn assert_no_canary(text: &str, what: &str) {
    for canary in CANARIES {
        assert!(!text.contains(canary), "{what}: {canary} is shown:\n{}", around(text, canary));
    }
}

fn around(text: &str, canary: &str) -> String {
    text.lines().filter(|line| line.contains(canary)).map(|line| line.chars().take(400).collect::<String>()).collect()
}

#[test]
fn nothing_that_a_run_shows_or_stores_holds_a_secret() {
    let sim = fleet();
    sim.commit();
    sim.run();
    let used: Vec<_> = sim.host().secrets.values().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    assert!(used.iter().any(|value| value.contains(CANARIES[0])), "the secrets are really used: {used:?}");
    assert_no_canary(&shown(&sim), "a first run");
    let story: [(&str, &dyn Fn()); 6] = [
        ("a rotation", &|| _ = sim.write(SECRETS, secrets("canary-shared"))),
        ("a bad image", &|| _ = sim.edit(WEB, "app:1", "app:bad")),
        ("a secret in a label", &|| {
            _ = sim.edit(WEB, "app:bad", "app:1").edit(
                WEB,
                "    secrets: [api_token]\n",
                "    labels: { a: \"x${API_TOKEN}\" }\n    secrets: [api_token]\n",
            );
        }),
        ("a secret in a command", &|| {
            _ = sim.edit(WEB, "labels: { a: \"x${API_TOKEN}\" }", "command: [\"${API_TOKEN}\"]");
        }),
        ("a secret as an image", &|| _ = sim.edit(WEB, "image: app:1", "image: \"app:${API_TOKEN}\"")),
        ("a secret as the name of a volume", &|| {
            _ = sim.edit(WEB, "volumes:\n  data:", "volumes:\n  data: { name: \"${SHARED}\" }");
        }),
    ];
    for (what, change) in story {
        change();
        sim.commit();
        sim.run();
        assert_no_canary(&shown(&sim), what);
        let draft = preview::plan_here(&sim, None).now_or_never().expect("in memory");
        assert_no_canary(&format!("{draft:?}"), what);
        if let Ok(draft) = draft {
            assert_no_canary(&draft.plan.to_string(), what);
        }
    }
}

#[test]
fn a_secret_in_the_environment_of_a_container_is_shown_by_name_only() {
    let sim = fleet();
    sim.edit(WEB, "      DOMAIN: ${DOMAIN}", "      DOMAIN: ${DOMAIN}\n      TOKEN: ${API_TOKEN}").commit();
    let report = sim.run();
    assert_eq!(report.notes, ["secret TOKEN stands in the environment of web/app, which is on disk"]);
    let rotated: Sections<'_> = &[
        ("all", &[("SHARED", "canary-shared"), ("KUMA", "https://kuma.example.org/api/push/canary-push-token")]),
        ("web", &[("DB_PASSWORD", "canary-db-password"), ("API_TOKEN", "canary-shared-2")]),
    ];
    sim.write(SECRETS, seal(rotated)).commit();
    let report = sim.run();
    let text = report.plan.to_string();
    assert!(text.contains("app environment.TOKEN: (secret API_TOKEN) -> (another value)"), "{text}");
    let json = serde_json::to_string(&report).expect("a report can be written");
    assert_no_canary(&json, "the report");
    // The one place where it may stand, because the stack asked for it.
    assert!(
        sim.host().engine.containers.iter().any(|container| container.definition.to_string().contains(CANARIES[2]))
    );
}

#[test]
fn no_fault_about_secrets_shows_one() {
    for (key, honest) in [(BETA_KEY, true), (crate::sim::ALPHA_KEY, false)] {
        let sim = settled();
        let sections: Sections<'_> = &[("all", &[("KUMA", "canary-push-token"), ("SHARED", "canary-shared")])];
        sim.write(SECRETS, seal_as(sections, Sealing { key, honest })).commit();
        let report = sim.run();
        assert!(report.fault.is_some());
        assert_no_canary(&shown(&sim), "a SOPS file that cannot be believed");
    }
}

#[test]
fn debug_output_of_what_holds_secrets_shows_none() {
    use moorline::decide::{digest::DigestKey, fleet, render, sops};
    use moorline::model::{Tree, tree::File};
    use moorline::world::World as _;

    let sim = settled();
    let files = [HOST, SECRETS, WEB, SHOP, "moorline.yaml", "stacks/web/files/proxy.conf"];
    let tree: Tree =
        files.iter().map(|path| ((*path).to_owned(), File::plain(sim.repository().read(path).into_bytes()))).collect();
    let spec = fleet::read(&tree, "alpha").expect("valid");
    let identities = sim.identities().expect("a key");
    let sealed = spec.sealed.as_ref().expect("a SOPS file");
    let document = sops::decrypt(&sealed.bytes, sops::Format::Yaml, &identities).expect("sealed for alpha");
    let secrets = render::Secrets::read(&document).expect("of the right shape");
    let key = DigestKey::new(vec![7; 32]);
    let inputs = render::inputs(&spec, &secrets, &key);
    let mut text = format!("{spec:?} {secrets:?} {inputs:?} {key:?}");
    for inputs in &inputs {
        let model = sim.model(inputs, &key).now_or_never().expect("in memory").expect("valid");
        let desired = render::stack(inputs, &model, sim.settings(), &key).expect("allowed");
        let _ = write!(text, "{model:?} {desired:?}");
    }
    let url = sim.push_url("reconcile").expect("learned");
    let _ = write!(text, "{url:?} {:?}", sim.host().outbox);
    assert_no_canary(&text, "Debug");
}

#[test]
fn every_refusal_is_announced_and_reported_and_the_report_can_be_read_again() {
    let sim = settled();
    sim.commit_as(Signer::Nobody);
    let report = sim.run();
    let stored = sim.host().reports.last_key_value().map(|(_, bytes)| bytes.clone()).expect("written");
    let read: moorline::model::Report = serde_json::from_slice(&stored).expect("a report");
    assert_eq!(read, report);
    assert_eq!(sim.host().outbox.last().expect("announced").status.word(), "down");
    let refused = sim.said().iter().any(|event| matches!(event, Event::RevisionRefused { .. }));
    assert!(refused);
}

#[test]
fn a_fault_prints_as_one_paragraph_and_a_hint() {
    let fault = Fault::new(Code::EngineAway, "the Docker Engine does not answer")
        .at("nothing was changed")
        .hint("systemctl status docker");
    assert_eq!(
        fault.to_string(),
        "error[engine-away]: the Docker Engine does not answer\n  nothing was changed\n\nhint: systemctl status docker"
    );
}

#[test]
fn a_report_says_which_identity_opened_which_file_also_when_nothing_moved() {
    let sim = settled();
    let recipient = |key: &str| key.lines().find_map(|line| line.strip_prefix("# public key: ")).map(str::to_owned);
    let (old, new) = (sim.host().age_key.clone().expect("a key"), BETA_KEY.to_owned());
    let expected = recipient(&old).expect("age-keygen wrote it");
    // As while a key is rotated: the file is sealed for the second identity only.
    sim.host().age_key = Some(format!("{new}\n{old}"));
    sim.write("stacks/web/files/proxy.conf", "other content\n").commit();
    for occasion in ["a new revision", "nothing moved"] {
        let opened = sim.run().opened;
        assert_eq!(opened.len(), 1, "{occasion}");
        assert_eq!(opened[0].path, SECRETS, "{occasion}");
        assert_eq!(opened[0].recipient, expected, "{occasion}");
    }
}
