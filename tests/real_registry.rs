//! Images from a real registry with a login: the login comes from the sealed file and stays off every disk.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

use moorline::world::ledger;

mod support;

use support::lab::WEB;
use support::misbehaving::{self, Manners};
use support::{Image, Lab, Misbehaving, Registry, Run as _, search_for_canary};

/// The proxy of [`Misbehaving`], not a test.
#[test]
#[ignore = "a process that other tests start"]
fn a_registry_that_misbehaves_serves_when_it_is_told_to() {
    misbehaving::serve();
}

/// As clients keep a login.
fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn an_image_is_pulled_with_the_login_of_the_sealed_file_and_a_wrong_login_touches_nothing() {
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    let registry = Registry::start(&engine, true);
    registry.login(Registry::PASSWORD).succeeds();
    registry.push("lab/web:1", "team/web:1");
    let pinned = registry.push("lab/db:1", "team/db:1");
    let reference = format!("{}/team/web:1", registry.address());
    lab.engine.docker(&["rmi", &reference, &format!("{}/team/db:1", registry.address())]).succeeds();
    registry.logout();
    lab.engine.docker(&["rmi", "-f", "lab/db:1", "lab/web:1"]).succeeds();

    let address = registry.address();
    let login = |password: &str| {
        format!(
            "web:\n  TOKEN: x\nregistries:\n  {address}:\n    username: {}\n    password: {password}\n",
            Registry::USER
        )
    };
    lab.fleet.write("stacks/web/compose.yaml", WEB.replace("lab/web:1", &reference).replace("lab/db:1", &pinned));
    lab.secrets(&login("wrong-password-88"));
    lab.publish("wrong login");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("error[image-denied]: pull of web failed"), "{ran}");
    assert!(!ran.said().contains("wrong-password-88"), "{ran}");
    assert!(lab.containers("web").is_empty());

    lab.secrets(&login(Registry::PASSWORD));
    lab.deploy("right login");
    assert_eq!(lab.exec("web", "web", &["cat", "/www/message"]), "hello");
    let lasting = [lab.host.state(), lab.host.etc(), lab.engine.data_root.clone(), lab.engine.client_config()];
    let encoded = base64_of(&format!("{}:{}", Registry::USER, Registry::PASSWORD));
    let hits = search_for_canary(&lasting, &["wrong-password-88", Registry::PASSWORD, &encoded]);
    assert!(hits.is_empty(), "{hits:#?}");

    // Registry away: nothing is pulled for what is here already.
    drop(registry);
    lab.fleet.write("hosts/alpha/notes.txt", "a commit that touches no stack");
    assert!(lab.deploy("offline").contains("nothing to do"));
}

/// A lab whose `web` comes from a registry behind a proxy, as version 1 of `team/web`.
fn lab_with(registry: &Registry<'_>, proxy: &Misbehaving, lab: &mut Lab) -> String {
    let pushed = |version: u32| {
        let local = format!("made/web:{version}");
        lab.engine.image(&local, &Image::web().file("/www/version", format!("{version}\n")));
        registry.push(&local, &format!("team/web:{version}"));
        lab.engine.docker(&["rmi", "-f", &local, &format!("{}/team/web:{version}", registry.address())]).succeeds();
    };
    (1..=3).for_each(pushed);
    let reference = format!("{}/team/web", proxy.address());
    let settings = lab.host.etc().join("agent.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, text.replace("[engine]\n", "[engine]\npull_timeout = \"8s\"\n")).unwrap();
    lab.fleet.write("stacks/web/compose.yaml", WEB.replace("lab/web:1", &format!("{reference}:1")));
    lab.deploy("version 1");
    reference
}

#[test]
fn a_registry_that_misbehaves_touches_nothing_that_runs_and_says_who_moves_next() {
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    let mut registry = Registry::start(&engine, false);
    let proxy = Misbehaving::before(&registry, &engine);
    let reference = lab_with(&registry, &proxy, &mut lab);
    let running = lab.containers("web");
    lab.fleet.write("stacks/web/compose.yaml", WEB.replace("lab/web:1", &format!("{reference}:2")));
    lab.publish("version 2");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let fails = |manners: &str, code: &str| {
        let began = std::time::Instant::now();
        let ran = lab.host.moorline(&["reconcile"]);
        assert_eq!(ran.code, Some(1), "{manners}: {ran}");
        assert!(ran.stderr.contains(&format!("error[{code}]: pull of web failed")), "{manners}: {ran}");
        assert_eq!(lab.containers("web"), running, "{manners}");
        println!("{manners}: {code} after {:.1} s", began.elapsed().as_secs_f64());
        assert!(began.elapsed().as_secs() < 30, "{manners} took {:?}", began.elapsed());
    };
    for (manners, code) in [
        (Manners::Broken, "image-unavailable"),
        (Manners::Slow, "image-unavailable"),
        (Manners::Truncated, "image-unavailable"),
        (Manners::Silent, "image-unavailable"),
    ] {
        proxy.be(manners);
        fails(&format!("{manners:?}"), code);
    }
    registry.stop();
    proxy.be(Manners::Honest);
    fails("away", "image-unavailable");
    registry.resume();

    proxy.be(Manners::ForgedLayer);
    fails("ForgedLayer", "image-refused");

    // Asked for patience once, it is asked again in the same run.
    proxy.be(Manners::BusyOnce);
    lab.host.moorline(&["retry", "web"]).succeeds();
    assert_eq!(lab.exec("web", "web", &["cat", "/www/version"]), "2");
    assert_ne!(lab.containers("web")["web"], running["web"]);
    assert_eq!(lab.containers("web")["db"], running["db"]);
}

#[test]
fn a_tag_that_moved_is_refused_unless_it_may_and_a_forged_manifest_always() {
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    let registry = Registry::start(&engine, false);
    let proxy = Misbehaving::before(&registry, &engine);
    let reference = lab_with(&registry, &proxy, &mut lab);
    let running = lab.containers("web");
    let compose = |version: &str, more: &str| WEB.replace("lab/web:1", &format!("{reference}{version}")) + more;

    // By digest, the engine compares what it gets.
    let pinned = registry.push("lab/db:1", "team/pinned:1");
    let digest = pinned.split_once('@').unwrap().1;
    proxy.be(Manners::ForgedManifest);
    let by_digest = WEB.replace("lab/db:1", &format!("{}/team/pinned@{digest}", proxy.address()));
    lab.fleet.write("stacks/web/compose.yaml", by_digest.replace("lab/web:1", &format!("{reference}:1")));
    lab.publish("a pinned image");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert!(ran.stderr.contains("error[image-refused]: pull of web failed"), "{ran}");
    assert_eq!(lab.containers("web"), running);
    proxy.be(Manners::Honest);

    // Version 2 runs, and somebody pushes another image as version 1.
    lab.fleet.write("stacks/web/compose.yaml", compose(":2", ""));
    lab.deploy("version 2");
    let running = lab.containers("web");
    lab.engine.docker(&["rmi", &format!("{reference}:1")]).succeeds();
    lab.engine.image("made/evil:1", &Image::web().file("/www/version", "evil\n"));
    registry.push("made/evil:1", "team/web:1");
    lab.engine.docker(&["rmi", "-f", &format!("{}/team/web:1", registry.address())]).succeeds();
    lab.fleet.write("stacks/web/compose.yaml", compose(":1", ""));
    lab.publish("back to version 1");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert!(ran.stderr.contains("error[image-moved]: pull of web failed"), "{ran}");
    assert!(ran.stderr.contains("is not the image that ran here under this name"), "{ran}");
    assert_eq!(lab.containers("web"), running);
    // No network mends this: also a person's run does not ask again at once, as it does after what passes.
    let ran = lab.host.moorline(&["reconcile"]);
    assert!(ran.stderr.contains("error[deploy-waiting]") && !ran.stderr.contains("error[image-moved]"), "{ran}");
    assert_eq!(lab.containers("web"), running);
    let floating = compose(":1", "").replace("x-moorline: { deploy", "x-moorline: { images: floating, deploy");
    lab.fleet.write("stacks/web/compose.yaml", floating);
    lab.deploy("the tag may move");
    assert_eq!(lab.exec("web", "web", &["cat", "/www/version"]), "evil");
}

#[test]
fn images_that_nothing_needs_are_removed_and_nobody_elses_are() {
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    let registry = Registry::start(&engine, false);
    let proxy = Misbehaving::before(&registry, &engine);
    let reference = lab_with(&registry, &proxy, &mut lab);
    for version in [2, 3] {
        lab.fleet.write("stacks/web/compose.yaml", WEB.replace("lab/web:1", &format!("{reference}:{version}")));
        lab.deploy("the next version");
    }
    // A person made a container from version 2, and has an image of their own.
    lab.engine.docker(&["create", "--name", "theirs", &format!("{reference}:2")]).succeeds();
    lab.engine.image("theirs/image:1", &Image::idle());
    let has = |image: &str| lab.engine.docker(&["image", "inspect", image]).is_success();
    assert!(has(&format!("{reference}:1")), "kept for a week");

    let mut ledger = ledger::read(&lab.host.state()).unwrap();
    assert_eq!(ledger.images.len(), 3);
    let digest = ledger.images[&format!("{reference}:3")].digest.clone().unwrap();
    assert!(digest.starts_with(&format!("{reference}@sha256:")), "{digest}");
    let status = lab.host.status();
    for services in [&status["services"], &status["last_run"]["services"]] {
        let web = services.as_array().unwrap().iter().find(|service| service["service"] == "web").unwrap();
        assert_eq!(web["digest"], digest.as_str());
    }
    // A run that was killed before it could write down what it had pulled.
    let two = ledger.images.remove(&format!("{reference}:2")).unwrap();
    ledger.pulling.insert(format!("{reference}:2"));
    ledger::write_but_hold(&lab.host.state(), &ledger).unwrap();
    lab.host.moorline(&["reconcile"]).succeeds();
    let mut ledger = ledger::read(&lab.host.state()).unwrap();
    assert_eq!(ledger.images[&format!("{reference}:2")].id, two.id);
    for version in [1, 2] {
        let image = ledger.images.get_mut(&format!("{reference}:{version}")).unwrap();
        assert!(image.unused_since.is_some(), "{image:?}");
        image.unused_since = Some("2026-01-01T00:00:00Z".parse().unwrap());
    }
    ledger::write_but_hold(&lab.host.state(), &ledger).unwrap();
    let plan = lab.host.moorline(&["plan"]).succeeds();
    assert!(plan.contains(&format!("{reference}:1 is not needed any more and will be removed")), "{plan}");
    assert!(has(&format!("{reference}:1")), "a plan changes nothing");
    lab.host.moorline(&["reconcile"]).succeeds();
    assert!(!has(&format!("{reference}:1")), "it was pulled by moorline and is needed by nothing");
    assert!(has(&format!("{reference}:2")), "a container was made from it");
    assert!(has(&format!("{reference}:3")) && has("theirs/image:1") && has("lab/web:1"));
    assert_eq!(lab.exec("web", "web", &["cat", "/www/version"]), "3");
}

/// A small file system over the engine's data. Dropping it takes it away.
struct Small(std::path::PathBuf);

impl Small {
    fn over(directory: &std::path::Path) -> Self {
        let options = ["-t", "tmpfs", "-o", "size=600m", "tmpfs"];
        std::process::Command::new("mount").args(options).arg(directory).run().succeeds();
        Self(directory.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let ended = std::process::Command::new("umount").arg("-l").arg(&self.0).run();
        assert!(ended.code.is_some(), "{ended}");
    }
}

#[test]
fn a_pull_of_unknown_size_ends_before_the_disk_is_full() {
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    let registry = Registry::start(&engine, false);
    let proxy = Misbehaving::before(&registry, &engine);
    registry.push("lab/db:1", "team/db:1");
    engine.stop();
    let small = Small::over(&engine.data_root);
    engine.resume();
    let image = format!("{}/team/db:1", proxy.address());
    lab.fleet.write("stacks/web/compose.yaml", format!("services: {{ db: {{ image: \"{image}\" }} }}\n"));
    lab.secrets("");
    lab.publish("first");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    // Nothing says how large the layer is, and it comes a byte at a time.
    proxy.be(Manners::SlowAndUnsaid);
    let mut reconcile = lab.host.command(&["reconcile"]);
    reconcile.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let running = reconcile.spawn().unwrap();
    let begun = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("GetImageBlob");
    support::until("the layer is on its way", || {
        let found = std::fs::read_dir(engine.scratch().join("tmp")).unwrap().flatten().any(|entry| begun(&entry));
        found.then_some(())
    });
    // Somebody else takes the space meanwhile.
    std::fs::write(small.0.join("filler"), vec![7; 120 << 20]).unwrap();
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("error[space-short]") && said.contains("MiB are missing of the 512 MiB"), "{said}");
    assert!(said.contains("docker image prune"), "{said}");
    // It comes back by itself.
    std::fs::remove_file(small.0.join("filler")).unwrap();
    proxy.be(Manners::Honest);
    lab.host.moorline(&["reconcile"]).succeeds();
    engine.stop();
}
