//! Secrets on a real host: they reach the container, and nothing that lasts or prints.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::path::PathBuf;

use support::{Image, Lab, Run as _, search_for_canary};

const CANARIES: &[&str] = &["canary-file-7f31", "canary-config-9a22", "canary-push-token", "canary-login-5d10"];
const IN_ENVIRONMENT: &str = "canary-environment-4c77";

const STACK: &str = "\
services:
  app:
    image: lab/db:1
    stop_grace_period: 1s
    secrets: [file]
    configs: [{ source: rendered, target: /etc/rendered }]
    environment: { EXPOSED: '${EXPOSED}' }
secrets:
  file: { environment: FILE_SECRET }
configs:
  rendered: { content: \"user=app cost=$$5 password=${CONFIG_SECRET}\\n\" }
";

fn lab() -> Lab {
    let lab = Lab::new();
    let url = lab.push.monitor("canary-push-token");
    lab.host_yaml("[app]");
    lab.fleet.write("stacks/app/compose.yaml", STACK);
    let secrets = format!(
        "all:\n  KUMA: {url}\napp:\n  FILE_SECRET: canary-file-7f31\n  CONFIG_SECRET: canary-config-9a22\n  \
         EXPOSED: {IN_ENVIRONMENT}\nregistries:\n  registry.example.org:\n    username: bot\n    password: canary-login-5d10\n"
    );
    lab.fleet.write("hosts/alpha/secrets.sops.yaml", lab.host.seal(&secrets));
    lab
}

#[test]
fn secrets_reach_the_container_and_nothing_that_lasts_or_prints() {
    let mut lab = lab();
    lab.publish("first");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let mut printed = lab.host.moorline(&["plan"]).said();
    printed += &lab.host.moorline(&["--verbose", "reconcile"]).said();
    assert_eq!(lab.exec("app", "app", &["cat", "/run/secrets/file"]), "canary-file-7f31");
    assert_eq!(lab.exec("app", "app", &["cat", "/etc/rendered"]), "user=app cost=$5 password=canary-config-9a22");
    assert_eq!(lab.exec("app", "app", &["sh", "-c", "echo $EXPOSED"]), IN_ENVIRONMENT);

    // A second generation, a run that fails, and everything that can be asked.
    lab.fleet.write("stacks/app/compose.yaml", STACK.replace("user=app", "user=two"));
    lab.publish("second");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    printed += &lab.host.moorline(&["plan", "--json"]).said();
    printed += &lab.host.moorline(&["reconcile", "--json"]).said();
    lab.fleet.write("stacks/app/compose.yaml", STACK.replace("lab/db:1", "127.0.0.1:9/none:1"));
    lab.publish("third");
    printed += &lab.host.moorline(&["courier", "--once"]).said();
    printed += &lab.host.moorline(&["--verbose", "reconcile"]).said();
    for verb in [&["status"][..], &["status", "--json"], &["runs", "--json"], &["runs", "show"], &["doctor", "--json"]]
    {
        printed += &lab.host.moorline(verb).said();
    }
    let inspected = lab.engine.docker(&["inspect", "app-app-1"]).said();

    for canary in CANARIES.iter().chain([&IN_ENVIRONMENT]) {
        assert!(!printed.contains(canary), "{canary} was printed:\n{printed}");
    }
    for canary in CANARIES {
        assert!(!inspected.contains(canary), "{canary} is in docker inspect");
    }
    assert!(printed.contains("secret EXPOSED stands in the environment of app/app, which is on disk"), "{printed}");
    // The repository holds it sealed; the engine's root has what the stack asked for, and only that.
    let lasting: Vec<PathBuf> = vec![lab.host.state(), lab.engine.data_root.clone(), lab.fleet.path()];
    let hits = search_for_canary(&lasting, CANARIES);
    assert!(hits.is_empty(), "{hits:#?}");
    let hits = search_for_canary(&[lab.host.state()], &[IN_ENVIRONMENT]);
    assert!(hits.is_empty(), "{hits:#?}");
    // Where they are is memory.
    let mut stat = lab.engine.scratch().command("busybox");
    let kind = stat.args(["stat", "-f", "-c", "%t"]).arg(lab.host.run_directory()).run().succeeds();
    assert_eq!(kind, "858458f6", "the run directory must be ramfs");
}

#[test]
fn odd_values_arrive_exactly_as_they_were_sealed() {
    let mut lab = Lab::new();
    let values = [
        "it's \"quoted\"",
        "$HOME ${X} $$ `id`",
        "back\\slash \\n \\",
        "  spaces  ",
        "# no comment # here",
        "a=b=c",
        "line one\nline two\n",
        "tab\tend",
        "ünïcödé ☃",
        "'",
        "\"",
        "'\\",
        "%{}[]!&*|>?:,",
        "trailing\\'",
        "$",
        "\r",
    ];
    let mut stack = String::from("services:\n  app:\n    image: lab/db:1\n    stop_grace_period: 1s\n    secrets: [");
    let names: Vec<String> = (0..values.len()).map(|number| format!("v{number}")).collect();
    stack += &names.join(", ");
    stack += "]\n    environment:\n";
    for name in &names {
        stack += &format!("      E_{name}: ${{{}}}\n", name.to_uppercase());
    }
    stack += "secrets:\n";
    let mut secrets = String::from("app:\n");
    for (name, value) in names.iter().zip(values) {
        stack += &format!("  {name}: {{ environment: {} }}\n", name.to_uppercase());
        secrets += &format!("  {}: {}\n", name.to_uppercase(), serde_json::to_string(value).unwrap());
    }
    lab.host_yaml("[app]");
    lab.secrets(&secrets);
    lab.fleet.write("stacks/app/compose.yaml", stack);
    lab.deploy("odd");
    let environment = &lab.engine.inspect("app-app-1")["Config"]["Env"];
    for (name, value) in names.iter().zip(values) {
        let file = lab.host.run_directory().join("secrets/app");
        let found =
            std::fs::read_dir(file).unwrap().find_map(|entry| std::fs::read(entry.unwrap().path().join(name)).ok());
        assert_eq!(found.as_deref(), Some(value.as_bytes()), "{name} as a file");
        let expected = serde_json::json!(format!("E_{name}={value}"));
        assert!(environment.as_array().unwrap().contains(&expected), "{expected} in {environment:#}");
    }
    // And by the hand of a person too: the same `.env`, so the same project.
    let before = lab.containers("app");
    lab.engine.compose(&lab.host.stack("app"), &["up", "-d"]).succeeds();
    assert_eq!(lab.containers("app"), before);
}

#[test]
fn after_a_reboot_the_files_in_memory_come_back() {
    let mut lab = Lab::new();
    lab.deploy("first");
    lab.engine.docker(&["kill", "web-web-1", "web-db-1"]).succeeds();
    let mut umount = lab.engine.scratch().command("busybox");
    umount.arg("umount").arg(lab.host.run_directory()).run().succeeds();
    let report = lab.host.moorline(&["reconcile", "--json"]).succeeds();
    assert!(report.contains("\"cause\": \"memory-empty\""), "{report}");
    assert_eq!(lab.exec("web", "web", &["cat", "/run/secrets/token"]), "canary-token-1");
    assert!(lab.host.moorline(&["reconcile"]).succeeds().contains("nothing to do"));
}

#[test]
fn a_file_belongs_to_the_user_that_the_long_form_names() {
    use std::os::unix::fs::MetadataExt as _;
    let mut lab = Lab::new();
    let stack = |uid: u32, mode: &str| {
        let long = format!("{{ source: own, target: own, uid: \"{uid}\", gid: \"2000\", mode: {mode} }}");
        format!(
            "services:\n  app:\n    image: lab/db:1\n    user: \"1000:1000\"\n    stop_grace_period: 1s\n    \
             secrets: [{long}, everyones]\n    configs: [{{ source: rendered, uid: \"1000\", mode: 0400 }}]\n\
             secrets:\n  own: {{ environment: OWN }}\n  everyones: {{ environment: OWN }}\n\
             configs:\n  rendered: {{ content: \"password=${{OWN}}\" }}\n"
        )
    };
    lab.host_yaml("[app]");
    lab.secrets("app:\n  OWN: canary-own\n");
    lab.fleet.write("stacks/app/compose.yaml", stack(1000, "0400"));
    lab.deploy("first");
    let read = |lab: &Lab, user: &str, path: &str| {
        let directory = lab.host.stack("app");
        lab.engine.compose(&directory, &["exec", "-T", "-u", user, "app", "cat", path])
    };
    assert_eq!(read(&lab, "1000", "/run/secrets/own").succeeds(), "canary-own");
    assert_eq!(read(&lab, "1000", "/rendered").succeeds(), "password=canary-own");
    for path in ["/run/secrets/own", "/rendered"] {
        assert!(!read(&lab, "1001:2000", path).is_success(), "another user reads {path}");
    }
    assert_eq!(read(&lab, "1001", "/run/secrets/everyones").succeeds(), "canary-own");
    let found = |lab: &Lab, name: &str| {
        let below = std::fs::read_dir(lab.host.run_directory().join("secrets/app")).unwrap();
        let files = below.filter_map(|entry| std::fs::metadata(entry.unwrap().path().join(name)).ok());
        files.map(|file| (file.uid(), file.gid(), file.mode() & 0o7777)).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(found(&lab, "own"), [(1000, 2000, 0o400)].into());
    assert_eq!(found(&lab, "rendered"), [(1000, 0, 0o400)].into());
    assert_eq!(found(&lab, "everyones"), [(0, 0, 0o444)].into());

    // Another owner is another file, and so another container.
    let before = lab.containers("app");
    lab.fleet.write("stacks/app/compose.yaml", stack(1001, "0440"));
    lab.deploy("second");
    assert_ne!(lab.containers("app"), before);
    assert!(found(&lab, "own").contains(&(1001, 2000, 0o440)));
    assert!(!read(&lab, "1000", "/run/secrets/own").is_success());
    assert_eq!(read(&lab, "1001", "/run/secrets/own").succeeds(), "canary-own");
    assert!(lab.host.moorline(&["reconcile"]).succeeds().contains("nothing to do"));
}

#[test]
fn a_file_belongs_to_its_user_also_where_the_engine_remaps_users() {
    use std::os::unix::fs::MetadataExt as _;
    let mut lab = Lab::new();
    let run = lab.host.run_directory();
    let ramfs = |lab: &Lab| {
        std::fs::create_dir_all(&run).unwrap();
        let mut mount = lab.engine.scratch().command("busybox");
        mount.args(["mount", "-t", "ramfs", "-o", "mode=0755", "lab"]).arg(&run).run().succeeds();
    };
    ramfs(&lab);
    lab.engine.resume_remapped();
    lab.engine.image("lab/db:1", &Image::idle().healthy());
    lab.host_yaml("[app]");
    lab.secrets("app:\n  OWN: canary-own\n");
    let stack = "services:\n  app:\n    image: lab/db:1\n    user: \"1000:1000\"\n    stop_grace_period: 1s\n    \
                 secrets: [{ source: own, target: own, uid: \"1000\", gid: \"2000\", mode: 0400 }, everyones]\n\
                 secrets:\n  own: { environment: OWN }\n  everyones: { environment: OWN }\n";
    lab.fleet.write("stacks/app/compose.yaml", stack);
    lab.deploy("first");
    let read = |user: &str, path: &str| {
        lab.engine.compose(&lab.host.stack("app"), &["exec", "-T", "-u", user, "app", "cat", path])
    };
    assert_eq!(read("1000", "/run/secrets/own").succeeds(), "canary-own");
    assert!(!read("1001:2000", "/run/secrets/own").is_success(), "another user reads it");
    assert_eq!(read("1001", "/run/secrets/everyones").succeeds(), "canary-own");
    let owners = || {
        let below = std::fs::read_dir(run.join("secrets/app")).unwrap().flat_map(|entry| {
            std::fs::read_dir(entry.unwrap().path()).unwrap().map(|file| file.unwrap().metadata().unwrap())
        });
        below.map(|file| (file.uid(), file.gid(), file.mode() & 0o7777)).collect::<std::collections::BTreeSet<_>>()
    };
    let shifted = [(231_072, 231_072, 0o444), (232_072, 233_072, 0o400)].into();
    assert_eq!(owners(), shifted);

    // After a reboot the engine is not there to be asked.
    lab.engine.docker(&["rm", "-f", "app-app-1"]).succeeds();
    lab.engine.stop();
    lab.engine.scratch().command("busybox").arg("umount").arg(&run).run().succeeds();
    ramfs(&lab);
    lab.host.moorline(&["secrets"]).succeeds();
    assert_eq!(owners(), shifted);
}

#[test]
fn after_a_reboot_secrets_come_back_before_the_engine_and_without_a_network() {
    let mut lab = Lab::new();
    lab.deploy("first");
    let run = lab.host.run_directory();
    let mounts = lab.engine.inspect("web-web-1")["Mounts"].clone();
    let mounted = mounts.as_array().unwrap().iter().find(|mount| mount["Destination"] == "/run/secrets/token");
    let file = PathBuf::from(mounted.unwrap()["Source"].as_str().unwrap());
    lab.engine.docker(&["stop", "-t", "0", "web-web-1", "web-db-1"]).succeeds();
    lab.engine.stop();
    let mut umount = lab.engine.scratch().command("busybox");
    umount.arg("umount").arg(&run).run().succeeds();
    // What an engine makes that was there first.
    std::fs::create_dir_all(&file).unwrap();
    lab.server.go_away();

    let said = lab.host.moorline(&["secrets"]).succeeds();
    assert!(said.contains("web: its files are in memory"), "{said}");
    assert!(!said.contains("canary"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "canary-token-1");
    let mut stat = lab.engine.scratch().command("busybox");
    let kind = stat.args(["stat", "-f", "-c", "%t"]).arg(&run).run().succeeds();
    assert_eq!(kind, "858458f6", "the run directory must be ramfs");

    // A directory in the place of a file, this time in memory; and one with something in it is named.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir_all(file.join("theirs")).unwrap();
    let said = lab.host.moorline(&["secrets"]).fails();
    assert!(said.contains(&file.display().to_string()), "{said}");
    std::fs::remove_dir(file.join("theirs")).unwrap();
    lab.host.moorline(&["secrets"]).succeeds();
    lab.host.moorline(&["secrets"]).succeeds();

    lab.engine.resume();
    lab.engine.docker(&["start", "web-db-1", "web-web-1"]).succeeds();
    assert_eq!(lab.exec("web", "web", &["cat", "/run/secrets/token"]), "canary-token-1");
    let report = lab.host.moorline(&["reconcile", "--json"]).succeeds();
    assert!(!report.contains("memory-empty") && !report.contains("\"write\""), "{report}");
    assert!(lab.host.moorline(&["reconcile"]).succeeds().contains("nothing to do"));
}

#[test]
fn an_older_secret_stays_in_memory_for_as_long_as_a_container_mounts_it() {
    let mut lab = Lab::new();
    lab.deploy("first");
    let secrets = lab.host.run_directory().join("secrets");
    let values = || {
        let files = search_for_canary(&[&secrets], &["canary-token-"]).into_iter();
        files.map(|hit| std::fs::read_to_string(hit.path).unwrap()).collect::<std::collections::BTreeSet<_>>()
    };
    let mounts = lab.engine.inspect("web-web-1")["Mounts"].clone();
    let mounted = mounts.as_array().unwrap().iter().find(|mount| mount["Destination"] == "/run/secrets/token");
    let bind = format!("{}:/token:ro", mounted.unwrap()["Source"].as_str().unwrap());
    // One that runs and one that is stopped, both made by a person.
    lab.engine.docker(&["run", "-d", "--name", "runs", "-v", &bind, "lab/db:1"]).succeeds();
    lab.engine.docker(&["create", "--name", "stopped", "-v", &bind, "lab/db:1"]).succeeds();
    for (token, left) in [(2, &["canary-token-1", "canary-token-2"][..]), (3, &["canary-token-1", "canary-token-3"])] {
        lab.secrets(&format!("web:\n  TOKEN: canary-token-{token}\n"));
        lab.deploy("rotated");
        assert_eq!(lab.exec("web", "web", &["cat", "/run/secrets/token"]), format!("canary-token-{token}"));
        assert_eq!(values(), left.iter().map(ToString::to_string).collect());
    }
    assert_eq!(lab.engine.docker(&["exec", "runs", "cat", "/token"]).succeeds(), "canary-token-1");
    lab.engine.docker(&["rm", "-f", "runs"]).succeeds();
    lab.fleet.write("hosts/alpha/notes.txt", "one");
    lab.deploy("the stopped one is left");
    assert!(values().contains("canary-token-1"));
    lab.engine.docker(&["rm", "stopped"]).succeeds();
    lab.fleet.write("hosts/alpha/notes.txt", "two");
    lab.publish("nobody is left");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let said = lab.host.moorline(&["--verbose", "reconcile"]).said();
    assert!(said.contains("secrets forgotten: 1 that no container uses"), "{said}");
    assert_eq!(values(), [String::from("canary-token-3")].into());
    assert!(lab.host.moorline(&["reconcile"]).succeeds().contains("nothing to do"));
}
