//! The example fleet repository is valid; damaged copies of it are refused with the whole text in
//! `tests/cli/check/*.txt`.
//!
//! `MOORLINE_UPDATE=1` writes these texts anew. Read what changed before you commit it: people see it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use moorline::decide::sops::{self, Format, Identities};
use moorline::decide::trust::AllowedSigners;

#[path = "sim/golden.rs"]
mod golden;
#[path = "support/tools.rs"]
#[allow(dead_code, reason = "this binary needs one tool of the lab")]
mod tools;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn example() -> std::path::PathBuf {
    root().join("repo-layout-example")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn moorline(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moorline"));
    command.args(arguments).current_dir(directory);
    command
}

/// What a person sees: the command, what it printed, and the exit code.
fn transcript(arguments: &[&str], output: &Output) -> String {
    let said = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("utf-8");
    let code = output.status.code().expect("an exit code");
    format!("$ moorline {}\n{}{}exit {code}\n", arguments.join(" "), said(&output.stdout), said(&output.stderr))
}

fn compare(golden: &str, seen: &str) {
    golden::same_as_golden(&format!("tests/cli/{golden}"), seen);
}

/// Runs a verb on a copy of the example, after `damage` was done to it.
fn on_a_copy(golden: &str, arguments: &[&str], damage: impl FnOnce(&Path)) {
    let scratch = tempfile::tempdir().unwrap();
    copy(&example(), scratch.path());
    damage(scratch.path());
    let output = moorline(scratch.path(), arguments).output().unwrap();
    compare(golden, &transcript(arguments, &output));
}

fn edit(root: &Path, path: &str, from: &str, to: &str) {
    let path = root.join(path);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{}: {from:?} is not there", path.display());
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn the_example_is_valid() {
    on_a_copy("check/valid.txt", &["check"], |_| {});
}

#[test]
fn what_a_service_lacks_is_advice_and_no_mistake() {
    for (golden, arguments) in [("check/advice.txt", &["check"][..]), ("check/advice-json.txt", &["check", "--json"])] {
        on_a_copy(golden, arguments, |root| {
            let stack = "stacks/zitadel/compose.yaml";
            edit(root, stack, "    restart: unless-stopped\n    logging: *logging\n    command:", "    command:");
            let start = "    healthcheck:\n      test: [CMD, pg_isready, --username=postgres]\n      interval: 10s\n";
            edit(root, stack, &format!("{start}      timeout: 5s\n      retries: 5\n      start_period: 1m\n"), "");
            edit(root, "stacks/traefik/compose.yaml", "    restart: unless-stopped\n", "    restart: \"no\"\n");
        });
    }
}

#[test]
fn one_host_of_the_example_is_valid() {
    on_a_copy("check/one-host.txt", &["check", ".", "--host", "bravo"], |_| {});
}

#[test]
fn a_first_run_of_the_example_is_planned_without_host_key_and_engine() {
    let scratch = tempfile::tempdir().unwrap();
    let plugins = scratch.path().join(".docker/cli-plugins");
    fs::create_dir_all(&plugins).unwrap();
    std::os::unix::fs::symlink(tools::tool("docker-compose"), plugins.join("docker-compose")).unwrap();
    let arguments = ["plan", "--dir", ".", "--host", "alpha"];
    let output = moorline(&example(), &arguments).env("HOME", scratch.path()).output().unwrap();
    compare("plan/example.txt", &transcript(&arguments, &output));
}

#[test]
fn the_demo_keys_open_the_secrets_and_no_other_key_does() {
    let key = |name: &str| {
        let text = fs::read_to_string(example().join("demo-keys").join(format!("{name}.age"))).unwrap();
        Identities::parse(&text).unwrap()
    };
    for (host, other) in [("alpha", "bravo"), ("bravo", "alpha")] {
        let sealed = fs::read(example().join(format!("hosts/{host}/secrets.sops.yaml"))).unwrap();
        for name in [host, "operator"] {
            let document = sops::decrypt(&sealed, Format::Yaml, &key(name)).unwrap();
            let sections: Vec<&str> = document.root().entries().map(|(name, _)| name).collect();
            assert_eq!(sections, ["all", "nextcloud", "zitadel"]);
        }
        assert!(sops::decrypt(&sealed, Format::Yaml, &key(other)).is_err());
        let recipient = fs::read_to_string(example().join(format!("hosts/{host}/recipient"))).unwrap();
        assert_eq!(key(host).recipients(), [recipient.trim()]);
    }
}

#[test]
fn the_demo_signer_is_the_one_who_may_sign() {
    let list = fs::read(example().join("signers/allowed_signers")).unwrap();
    let signers = AllowedSigners::parse(&list).unwrap();
    let public = fs::read_to_string(example().join("demo-keys/signer.pub")).unwrap();
    let line = format!("demo@example.org {public}");
    let demo = AllowedSigners::parse(line.as_bytes()).unwrap();
    assert_eq!(signers.entries().len(), 1);
    assert_eq!(signers.entries()[0].key, demo.entries()[0].key);
}

#[test]
fn bad_yaml_is_named_with_its_line() {
    on_a_copy("check/bad-yaml.txt", &["check"], |root| {
        edit(root, "hosts/alpha/host.yaml", "stacks: [traefik, nextcloud, zitadel]", "stacks: [traefik, nextcloud");
        edit(root, "stacks/nextcloud/compose.yaml", "  redis:\n", "  redis: {\n");
    });
}

#[test]
fn an_unknown_stack_is_named_and_a_near_one_offered() {
    on_a_copy("check/unknown-stack.txt", &["check"], |root| {
        edit(root, "hosts/alpha/host.yaml", "traefik, nextcloud, zitadel", "traefik, nextclud, wordpress");
        edit(root, "hosts/alpha/host.yaml", "needs: { nextcloud: [traefik], zitadel: [traefik] }", "needs: {}");
    });
}

#[test]
fn an_unset_variable_is_named_with_file_and_line() {
    on_a_copy("check/unset-variable.txt", &["check"], |root| {
        edit(root, "hosts/alpha/host.yaml", "  ACME_EMAIL: hostmaster@example.org\n", "");
        edit(root, "stacks/nextcloud/compose.yaml", "environment: DB_PASSWORD", "environment: DB_PASWORD");
    });
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    on_a_copy("check/unknown-key.txt", &["check"], |root| {
        edit(root, "hosts/alpha/host.yaml", "monitors:", "monitor:");
    });
}

#[test]
fn a_host_that_is_not_there_is_named() {
    on_a_copy("check/missing-host.txt", &["check", "--host", "bravi"], |_| {});
}

#[test]
fn a_ring_that_is_not_there_is_named_where_it_is_used() {
    on_a_copy("check/missing-ring.txt", &["check"], |root| {
        edit(root, "hosts/bravo/host.yaml", "ring: production", "ring: produktion");
    });
}

#[test]
fn a_ring_without_a_pointer_or_with_a_short_one_is_refused() {
    on_a_copy("check/ring-pointer.txt", &["check"], |root| {
        edit(root, "rings/canary.yaml", "follow: main", "follow: next");
        edit(root, "rings/production.yaml", &format!("\"{}\"", "0".repeat(40)), "4b7a90d2");
    });
}

#[test]
fn mistakes_in_versions_of_moorline_are_named_with_their_lines() {
    on_a_copy("check/agent.txt", &["check"], |root| {
        let path = root.join("moorline.yaml");
        let digest = "3f9a1c07".repeat(8);
        let agent = format!(
            "agent:\n  canari:\n    version: 0.2.0\n    url: https://releases.example.org/0.2.0/moorline\n    sha256: \
             \"{digest}\"\n  all:\n    version: v0.2\n    url: http://releases.example.org/moorline\n    sha256: \
             \"{}\"\n",
            digest.to_uppercase(),
        );
        fs::write(&path, fs::read_to_string(&path).unwrap() + &agent).unwrap();
    });
}

#[test]
fn waves_freezes_and_promotions_that_could_never_come_true_are_named() {
    on_a_copy("check/ring-rules.txt", &["check"], |root| {
        edit(root, "rings/canary.yaml", "follow: main", "follow: main\nwaves: [{ percent: 100, after: 0m }]");
        edit(root, "rings/production.yaml", "percent: 100", "percent: 90");
        edit(root, "rings/production.yaml", "Europe/Berlin", "Europe/Belgrad");
        edit(root, "moorline.yaml", "order: [canary, production]", "order: [canari, production, production]");
        edit(root, "moorline.yaml", "bravo: http", "bravi: http");
        edit(root, "moorline.yaml", "soak: 24h", "soak: a day");
    });
}

#[test]
fn a_ring_that_must_be_signed_and_is_not_is_named() {
    on_a_copy("check/ring-unsigned.txt", &["check"], |root| {
        edit(root, "rings/production.yaml", "# sequence: 1\n# signed: required", "sequence: 1\nsigned: required");
    });
    on_a_copy("check/ring-unsigned-whole.txt", &["check"], |root| {
        edit(
            root,
            "rings/production.yaml",
            "# ring: production\n# sequence: 1\n# signed",
            "ring: production\nsequence: 1\nsigned",
        );
    });
}

#[test]
fn a_floating_tag_is_refused() {
    on_a_copy("check/floating-tag.txt", &["check"], |root| {
        edit(root, "stacks/traefik/compose.yaml", "traefik:v3.7.15", "traefik:latest");
        edit(root, "stacks/nextcloud/compose.yaml", "redis:7.4.5-alpine", "redis");
        edit(root, "stacks/zitadel/compose.yaml", "    image: ghcr.io/zitadel/zitadel:v3.2.1\n", "    build: .\n");
    });
}

#[test]
fn a_service_that_cannot_stand_beside_itself_does_not_start_first() {
    on_a_copy("check/start-first.txt", &["check"], |root| {
        let nextcloud = "  nextcloud:\n    <<: *nextcloud\n";
        let strategy = format!("{nextcloud}    x-moorline: {{ strategy: start-first }}\n");
        edit(root, "stacks/nextcloud/compose.yaml", nextcloud, &strategy);
        let network = "    networks: [edge, inside]\n";
        edit(
            root,
            "stacks/zitadel/compose.yaml",
            network,
            &format!("{network}    container_name: zitadel\n    ports: [\"127.0.0.1:8081:8080\"]\n"),
        );
        edit(root, "stacks/zitadel/compose.yaml", "drain: 20s", "drain: 20 seconds");
        edit(root, "stacks/traefik/compose.yaml", "x-moorline: { reload: watch }", "x-moorline: { drain: 5s }");
    });
}

#[test]
fn plaintext_in_a_sops_file_is_named_but_not_shown() {
    on_a_copy("check/plaintext.txt", &["check"], |root| {
        let path = root.join("hosts/alpha/secrets.sops.yaml");
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| match line.trim_start().starts_with("DB_ADMIN_PASSWORD:") {
            true => "    DB_ADMIN_PASSWORD: hunter2",
            false => line,
        });
        fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
        fs::write(root.join("stacks/zitadel/extra.sops.env"), "TOKEN=hunter2\n").unwrap();
        fs::write(root.join("stacks/zitadel/extra.sops.json"), "{\"token\": \"hunter2\"}\n").unwrap();
        fs::write(root.join("stacks/zitadel/extra.sops"), "hunter2\n").unwrap();
        fs::write(root.join("hosts/bravo/secrets.sops.yaml"), "all: {KUMA_RECONCILE: hunter2}\n").unwrap();
    });
}

/// Seals a file with real `sops` for somebody. Elsewhere: the rules of the repository are not for it.
fn seal(root: &Path, path: &str, plain: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join(Path::new(path).file_name().unwrap());
    fs::write(&file, plain).unwrap();
    let mut sops = Command::new(tools::tool("sops"));
    sops.args(["encrypt", "--in-place", "--age", OPERATOR]).arg(&file).current_dir(scratch.path());
    assert!(sops.status().unwrap().success());
    fs::copy(file, root.join(path)).unwrap();
}

#[test]
fn one_value_in_clear_among_sealed_ones_is_named_in_every_format() {
    on_a_copy("check/one-in-clear.txt", &["check"], |root| {
        seal(root, "stacks/zitadel/a.sops.json", "{\"sealed\": \"x\"}");
        edit(root, "stacks/zitadel/a.sops.json", "{", "{\"nested\": {\"added\": \"hunter2\"},");
        seal(root, "stacks/zitadel/b.sops.env", "SEALED=x\n");
        edit(root, "stacks/zitadel/b.sops.env", "SEALED", "ADDED=hunter2\nSEALED");
        seal(root, "stacks/zitadel/c.sops", "x\n");
        let sealed = fs::read_to_string(root.join("stacks/zitadel/c.sops")).unwrap();
        let value = sealed.split('"').find(|part| part.starts_with("ENC[")).unwrap();
        edit(root, "stacks/zitadel/c.sops", value, "hunter2");
    });
}

#[test]
fn a_second_file_of_secrets_is_named() {
    on_a_copy("check/two-files.txt", &["check"], |root| {
        fs::copy(root.join("hosts/alpha/secrets.sops.yaml"), root.join("hosts/alpha/secrets.sops.json")).unwrap();
        edit(root, ".sops.yaml", "^hosts/alpha/.*\\.sops\\.yaml$", "^hosts/alpha/");
    });
}

#[test]
fn a_file_that_is_sealed_for_another_host_is_refused() {
    on_a_copy("check/sealed-for-another.txt", &["check"], |root| {
        let hosts = root.join("hosts");
        fs::copy(hosts.join("bravo/secrets.sops.yaml"), hosts.join("alpha/secrets.sops.yaml")).unwrap();
    });
}

#[test]
fn a_push_url_and_a_recipient_that_are_missing_are_named() {
    on_a_copy("check/missing-secrets.txt", &["check"], |root| {
        edit(root, "hosts/alpha/host.yaml", "KUMA_RECONCILE", "KUMA_RUN");
        fs::remove_file(root.join("hosts/bravo/recipient")).unwrap();
        fs::remove_file(root.join(".sops.yaml")).unwrap();
    });
}

#[test]
fn signers_that_nobody_could_follow_are_refused() {
    on_a_copy("check/signers.txt", &["check"], |root| {
        fs::write(root.join("signers/allowed_signers"), "alice@example.org ssh-ed25519 AAAA\n").unwrap();
    });
}

#[test]
fn signers_among_whom_nobody_may_sign_commits_are_refused() {
    on_a_copy("check/signers-nobody.txt", &["check"], |root| {
        edit(root, "signers/allowed_signers", "namespaces=\"git\"", "namespaces=\"file\"");
    });
}

#[test]
fn names_and_sizes_that_every_host_refuses_are_named() {
    on_a_copy("check/odd-files.txt", &["check"], |root| {
        fs::write(root.join("stacks/traefik/a:b"), "").unwrap();
        fs::write(root.join("stacks/traefik/COMPOSE.yaml"), "").unwrap();
        fs::create_dir(root.join("STACKS")).unwrap();
        fs::write(root.join("STACKS/one"), "").unwrap();
        fs::write(root.join("STACKS/two"), "").unwrap();
    });
}

#[test]
fn keys_and_values_of_x_moorline_that_are_unknown_are_refused() {
    on_a_copy("check/x-moorline.txt", &["check"], |root| {
        edit(root, "stacks/traefik/compose.yaml", "health_timeout: 2m", "health_timeout: 2 min");
        edit(root, "stacks/traefik/compose.yaml", "reload: watch", "relaod: watch");
        edit(root, "stacks/nextcloud/compose.yaml", "secrets: files-only", "secret: files-only");
        edit(root, "stacks/zitadel/compose.yaml", "health_timeout: 10m", "health_timeout: soon");
    });
}

#[test]
fn every_mistake_is_named_at_once() {
    on_a_copy("check/many.txt", &["check"], |root| {
        edit(root, "moorline.yaml", "version: 1", "version: 2");
        edit(root, "hosts/alpha/host.yaml", "ring: canary", "ring: canary\ncolour: blue");
        edit(root, "hosts/bravo/host.yaml", "nextcloud, zitadel", "nextclud, Zitadel, traefik");
        edit(root, "hosts/bravo/host.yaml", "needs: { nextcloud: [traefik], zitadel: [traefik] }", "needs: {}");
        edit(root, "hosts/bravo/host.yaml", "DOMAIN: bravo.example.org", "DOMAIN: 1.10\n  COMPOSE_FILE: other.yaml");
        edit(root, "stacks/traefik/compose.yaml", "traefik:v3.7.15", "traefik");
        edit(root, "stacks/traefik/compose.yaml", "email=${ACME_EMAIL}", "email=${ACME_EMIAL}");
        fs::remove_file(root.join("signers/allowed_signers")).unwrap();
    });
}

#[test]
fn a_symbolic_link_is_refused() {
    on_a_copy("check/symlink.txt", &["check"], |root| {
        std::os::unix::fs::symlink("/etc/shadow", root.join("stacks/traefik/dynamic/zitadel.link")).unwrap();
    });
}

#[test]
fn labels_that_ask_for_nothing_and_backups_that_never_go_are_noted() {
    on_a_copy("check/notes.txt", &["check"], |root| {
        edit(
            root,
            "stacks/nextcloud/compose.yaml",
            "    shm_size: 256m\n",
            "    labels: { traefik.http.routers.db.rule: Host(`db`) }\n",
        );
        edit(
            root,
            "hosts/alpha/host.yaml",
            "    - { name: box, url: \"sftp://u123456-sub1@u123456-sub1.your-storagebox.de:23/alpha\", key: BACKUP_SSH_KEY }\n",
            "",
        );
        edit(root, "hosts/alpha/host.yaml", "  keep: { daily: 7, weekly: 4, monthly: 6 }\n", "");
    });
}

#[test]
fn what_backups_could_never_do_is_named_with_file_and_line() {
    on_a_copy("check/backups.txt", &["check"], |root| {
        let box_ = "sftp://u123456-sub1@u123456-sub1.your-storagebox.de:23/alpha";
        edit(root, "hosts/alpha/host.yaml", box_, "sftp://u1:word@backup.example.org/alpha");
        edit(
            root,
            "hosts/alpha/host.yaml",
            "url: /srv/backup/alpha }",
            "url: /srv/../alpha, password: DISK_PASSWORD }",
        );
        edit(root, "hosts/alpha/host.yaml", "at: \"03:00\"", "at: \"3 am\"");
        edit(root, "hosts/alpha/host.yaml", "zone: Europe/Berlin", "zone: Europe/Bonn\n  budget: 30h");
        let more = "\nbackup:\n  repositories:\n    - { name: far, url: \"sftp://b@far.example.org/b\", password: P }\n    \
                    - { name: far, url: \"rest:https://me:secret@rest.example.org/b\" }\n    \
                    - { name: disk, url: /srv/backup, password: DISK_PASSWORD, login: L }\n    \
                    - { name: plain, url: \"ftp://far.example.org\" }\n    \
                    - { name: other, url: /srv/other, password: DISK_PASSWORD }\n  \
                    at: \"04:00\"\n  limits: { upload: fast }\n\nmonitors:";
        edit(root, "hosts/bravo/host.yaml", "\nmonitors:", more);
        edit(root, "stacks/traefik/compose.yaml", "volumes: [acme]", "volumes: [acne]");
        let dumps = "dumps: [{ service: bd, kind: postgres, password: DB_PASS }]\n    volumes: [html, html]";
        edit(root, "stacks/nextcloud/compose.yaml", "dumps: [{ service: db, kind: postgres }]", dumps);
        edit(root, "stacks/zitadel/compose.yaml", "kind: postgres", "kind: postgres, path: /x");
    });
}

#[test]
fn what_traefik_would_not_understand_is_named_with_file_line_and_label() {
    on_a_copy("check/traefik.txt", &["check", "--host", "alpha"], |root| {
        edit(root, "stacks/nextcloud/compose.yaml", "routers.nextcloud.rule", "routers.nextcloud.rul");
        edit(root, "stacks/zitadel/compose.yaml", "server.port: \"8080\"", "server.prt: \"8080\"");
        edit(root, "stacks/traefik/dynamic/middlewares.yaml", "stsSeconds: 15552000", "stsSeconds: half a year");
        edit(root, "stacks/traefik/dynamic/dashboard.yaml", "entryPoints: [traefik]", "entryPoints: traefik");
        fs::write(root.join("stacks/traefik/dynamic/old.toml"), "[http]\n").unwrap();
        fs::write(root.join("stacks/traefik/dynamic/typo.yml"), "htpt: {}\n").unwrap();
        let template = "http: {routers: {a: {rule: 'Host(`{{ env \"DOMAIN\" }}`)', service: a}}}\n";
        fs::write(root.join("stacks/traefik/dynamic/template.yaml"), template).unwrap();
    });
}

#[test]
fn names_that_traefik_would_not_find_or_find_twice_are_named() {
    on_a_copy("check/traefik-names.txt", &["check", "--host", "alpha"], |root| {
        let nextcloud = "stacks/nextcloud/compose.yaml";
        edit(root, nextcloud, "middlewares: nextcloud-dav", "middlewares: nextcloud-dev, auth@consul");
        edit(root, nextcloud, "Host(`cloud.${DOMAIN}`)", "Host(`cloud.${DOMAIN}`");
        let more = "traefik.http.routers.nextcloud.entrypoints: websecured\n      \
                    traefik.http.routers.nextcloud.tls.certresolver: lets-encrypt\n      \
                    traefik.http.services.nextcloud.loadbalancer.serverstransport: slow@file\n      traefik.enable:";
        edit(root, nextcloud, "traefik.enable:", more);
        edit(root, "stacks/traefik/compose.yaml", "middlewares=security-headers@file", "middlewares=headers@file");
        edit(root, "stacks/zitadel/compose.yaml", "networks: [edge, inside]", "networks: [inside]");
        let zitadel = "http:\n  routers:\n    zitadel: { rule: 'Host(`id.${DOMAIN}`)', service: zitadel@docker }\n";
        fs::write(root.join("stacks/traefik/dynamic/zitadel.yaml"), zitadel).unwrap();
    });
}

#[test]
fn the_routes_of_the_example_are_shown_without_a_host() {
    on_a_copy("routes/example.txt", &["routes", "--dir", ".", "--host", "alpha"], |_| {});
    on_a_copy("routes/json.txt", &["routes", "--dir", ".", "--host", "bravo", "--json"], |root| {
        edit(root, "hosts/bravo/host.yaml", "traefik, nextcloud, zitadel", "traefik, zitadel");
        edit(root, "hosts/bravo/host.yaml", "nextcloud: [traefik], ", "");
    });
}

#[test]
fn routes_of_every_protocol_are_shown_with_all_that_they_pass() {
    on_a_copy("routes/many.txt", &["routes", "--dir", ".", "--host", "alpha"], |root| {
        let text = "http:\n  routers:\n    blue-green:\n      rule: Host(`www.${DOMAIN}`)\n      service: both\n      \
                    middlewares: [operators-only]\n  services:\n    both: { weighted: { services: [{ name: blue }, { name: zitadel@docker }] } }\n    \
                    blue: { loadBalancer: { servers: [{ url: 'http://192.0.2.1:80' }, { url: 'http://192.0.2.2:80' }] } }\n\
                    tcp:\n  routers:\n    ssh: { rule: 'HostSNI(`*`)', entryPoints: [web], service: ssh }\n  \
                    services:\n    ssh: { loadBalancer: { servers: [{ address: '192.0.2.3:22' }] } }\n";
        fs::write(root.join("stacks/traefik/dynamic/more.yaml"), text).unwrap();
    });
}

#[test]
fn routes_of_a_checkout_with_mistakes_are_not_shown() {
    on_a_copy("routes/mistake.txt", &["routes", "--dir", ".", "--host", "alpha"], |root| {
        edit(root, "stacks/nextcloud/compose.yaml", "middlewares: nextcloud-dav", "middlewares: nextcloud-dev");
    });
}

/// The recipient of somebody who is not in the example.
const NEWCOMER: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
const OPERATOR: &str = "age19as6l3zjd6zffcy002km92wcqfv3mwvqctg27l9qver98jnefehq6raqrk";
const BRAVO: &str = "age1phhmrjxstegjhxfyuhhedz7t8pngqnsmw5ggzs7a8862ktkl6qfqfqedkw";

#[test]
fn recipients_that_differ_from_the_rule_are_named_with_the_command() {
    on_a_copy("check/recipients.txt", &["check"], |root| {
        // alpha got a new operator and the key of bravo, and nobody ran `sops updatekeys`.
        edit(root, ".sops.yaml", OPERATOR, &format!("{OPERATOR}\n      - {NEWCOMER}\n      - {BRAVO}"));
        // An operator left bravo.
        let rules = fs::read_to_string(root.join(".sops.yaml")).unwrap();
        let at = rules.rfind(&format!("      - {OPERATOR}")).unwrap();
        fs::write(root.join(".sops.yaml"), &rules[..at]).unwrap();
    });
}

#[test]
fn a_rule_that_would_lock_the_host_out_is_named() {
    on_a_copy("check/locked-out.txt", &["check"], |root| {
        edit(root, ".sops.yaml", &format!("      - {BRAVO}\n"), "");
        edit(root, ".sops.yaml", "^hosts/alpha/", "^hosts/alfa/");
    });
}

#[test]
fn every_sops_file_of_a_host_is_looked_at_not_only_the_one_that_runs_read() {
    on_a_copy("check/other-files.txt", &["check"], |root| {
        edit(root, ".sops.yaml", "^hosts/alpha/.*\\.sops\\.yaml$", "^hosts/alpha/");
        fs::create_dir(root.join("hosts/alpha/files")).unwrap();
        fs::copy(root.join("hosts/bravo/secrets.sops.yaml"), root.join("hosts/alpha/files/more.sops.yaml")).unwrap();
        fs::write(root.join("hosts/alpha/files/tls.key.sops"), "hunter2\n").unwrap();
    });
}

#[test]
fn a_rule_that_cannot_be_read_is_noted_and_not_guessed() {
    on_a_copy("check/unknown-rule.txt", &["check"], |root| {
        edit(root, ".sops.yaml", "^hosts/alpha/", "^(?!stacks)hosts/alpha/");
    });
}

#[test]
fn a_file_that_no_agent_of_this_version_can_read_is_refused() {
    on_a_copy("check/post-quantum.txt", &["check"], |root| {
        let alpha = fs::read_to_string(root.join("hosts/alpha/recipient")).unwrap();
        let path = "hosts/alpha/secrets.sops.yaml";
        for (number, recipient) in [alpha.trim(), OPERATOR].into_iter().enumerate() {
            edit(root, path, recipient, &format!("age1pq1{}{number}", "q".repeat(1900)));
            edit(root, ".sops.yaml", recipient, &format!("age1pq1{}{number}", "q".repeat(1900)));
        }
        fs::write(root.join("hosts/bravo/recipient"), "age1yubikey1qqqqqqqqqq\n").unwrap();
    });
}

#[test]
fn what_looks_like_a_secret_in_clear_is_named_but_not_shown() {
    let token = format!("glpat-{}", "hunter2".repeat(3));
    on_a_copy("check/clear.txt", &["check"], |root| {
        let vars = format!("vars:\n  GITLAB: {token}\n  SMTP_PASSWORD: hunter2");
        edit(root, "hosts/alpha/host.yaml", "vars:", &vars);
        let variables = "POSTGRES_PASSWORD_FILE: /run/secrets/db_password\n    \
                         SMTP_PASSWORD: ${SMTP_PASSWORD}\n    ADMIN_TOKEN: hunter2\n    ALLOW_EMPTY_PASSWORD: \"yes\"";
        let before = "POSTGRES_PASSWORD_FILE: /run/secrets/db_password";
        edit(root, "stacks/nextcloud/compose.yaml", before, variables);
        fs::write(root.join("stacks/nextcloud/.env"), "MAIL_API_KEY=hunter2\nMAIL_TOKEN=\n").unwrap();
        let begin = format!("-----BEGIN {} KEY-----", "PRIVATE");
        fs::write(root.join("stacks/traefik/dynamic/tls.pem"), format!("# hunter2\n{begin}\nhunter2\n")).unwrap();
    });
    let text = fs::read_to_string(root().join("tests/cli/check/clear.txt")).unwrap();
    assert!(!text.contains("hunter2"));
}
