//! States of released versions: `/var/lib/moorline` as each of them wrote it, and what the engine said beside it. The
//! present version reads all of it and finds nothing to do.
//!
//! A release adds its own, once, from the tree that is released:
//!
//! ```text
//! cargo nextest run --test real_update --run-ignored only -E 'test(a_release_is_recorded)'
//! ```

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::support::{Lab, Run as _, Scratch, until};
use crate::{ended_well, moor};

/// What of a host is recorded. Settings are the replaying host's, and the reserve is only room.
const RECORDED: &str = "tar -C / --exclude=var/lib/moorline/reserve -cf - var/lib/moorline etc/moorline/age.key \
                        etc/moorline/allowed_signers";

fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/states")
}

fn versions() -> Vec<String> {
    let entries = fs::read_dir(recorded()).expect("there is a released version");
    let mut versions: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    versions.sort();
    versions
}

#[test]
#[ignore = "it records the state of this version, once per release"]
fn a_release_is_recorded() {
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    let stack = "services:\n  app:\n    image: lab/db:1\n    stop_grace_period: 1s\n    volumes: ['data:/data']\n    \
                 networks: [inner]\n    configs: [{ source: rendered, target: /etc/rendered }]\nvolumes: { data: {} }\n\
                 networks: { inner: {} }\nconfigs: { rendered: { content: 'password=${RENDERED}' } }\n";
    lab.fleet.write("stacks/app/compose.yaml", stack);
    lab.host_yaml("[web, app]");
    lab.secrets("web:\n  TOKEN: a-token\napp:\n  RENDERED: a-password\n");
    let (vps, _door) = moor(&mut lab, &engine);
    // A second revision leaves more behind than the first.
    lab.fleet.write("stacks/app/compose.yaml", stack.replace("password=", "secret="));
    let second = lab.publish("second");
    until("the second revision runs", || {
        let status: Json = serde_json::from_str(&vps.exec(&["moorline", "status", "--json"]).stdout).ok()?;
        let last = &status["last_run"];
        (last["revision"] == *second && last["outcomes"].as_array().is_some_and(Vec::is_empty)).then_some(())
    });
    ended_well(&vps);
    vps.systemctl(&["stop", "moorline.service", "moorline-courier.service"]);

    let place = recorded().join(env!("CARGO_PKG_VERSION"));
    fs::create_dir_all(&place).unwrap();
    let mut tar = engine.docker_command();
    tar.args(["exec", "alpha", "sh", "-c", RECORDED]);
    fs::write(place.join("state.tar"), tar.output().expect("docker answers").stdout).unwrap();
    let ask = |path: &str| -> Json {
        let url = format!("http://engine/{path}");
        let said = vps.exec(&["curl", "--silent", "--globoff", "--unix-socket", "/run/docker.sock", &url]).succeeds();
        serde_json::from_str(&said).unwrap()
    };
    let filter = "%7B%22label%22%3A%5B%22com.docker.compose.project%22%5D%7D";
    let (info, version) = (ask("info"), ask("version"));
    let mut answers = json!({
        "version": { "ApiVersion": version["ApiVersion"], "MinAPIVersion": version["MinAPIVersion"], "Version": version["Version"] },
        "info": { "SecurityOptions": info["SecurityOptions"], "DockerRootDir": info["DockerRootDir"] },
        "containers/json": ask(&format!("containers/json?all=true&filters={filter}")),
    });
    for network in ["web_default", "app_inner"] {
        answers[format!("networks/{network}")] = ask(&format!("networks/{network}"));
    }
    let compose = vps.exec(&["docker", "compose", "version", "--short"]).succeeds();
    let recorded = json!({ "compose": compose.trim(), "engine": answers });
    fs::write(place.join("engine.json"), serde_json::to_string_pretty(&recorded).unwrap() + "\n").unwrap();
}

#[test]
fn every_released_version_has_its_state_recorded() {
    let changes = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("CHANGELOG.md")).unwrap();
    let released = changes.lines().filter_map(|line| line.strip_prefix("## ")?.split_whitespace().next());
    let released: Vec<&str> = released.filter(|word| word.starts_with(|first: char| first.is_ascii_digit())).collect();
    assert!(released.contains(&"0.1.0"), "{released:?}");
    for version in released {
        assert!(versions().iter().any(|recorded| recorded == version), "tests/states/{version} is missing");
    }
}

#[test]
fn on_the_state_of_every_released_version_this_one_finds_nothing_to_do() {
    for version in versions() {
        let scratch = Scratch::new();
        let place = recorded().join(&version);
        let state = place.join("state.tar");
        scratch
            .command("busybox")
            .args(["tar", "-x", "-C"])
            .arg(scratch.directory("host"))
            .arg("-f")
            .arg(state)
            .run()
            .succeeds();
        let recorded: Json = serde_json::from_slice(&fs::read(place.join("engine.json")).unwrap()).unwrap();
        let socket = scratch.join("engine.sock");
        answer(UnixListener::bind(&socket).unwrap(), recorded["engine"].clone());
        let compose = format!("#!/bin/sh\necho {}\n", recorded["compose"].as_str().unwrap());
        let compose = scratch.write("docker-compose", compose);
        fs::set_permissions(&compose, fs::Permissions::from_mode(0o755)).unwrap();
        let etc = scratch.join("host/etc/moorline");
        let settings = format!(
            "host = \"alpha\"\nremote = \"ssh://git@git.example.org/fleet.git\"\n\n[engine]\nsocket = \"{}\"\ncompose = \
             \"{}\"\n\n[paths]\netc = \"{}\"\n",
            socket.display(),
            compose.display(),
            etc.display()
        );
        fs::write(etc.join("agent.toml"), settings).unwrap();

        // At the places where hosts have them, since they stand in what was recorded. First as after a boot.
        let script = "mount --bind \"$1/var/lib\" /var/lib && mount -t tmpfs tmpfs /run && for verb in secrets 'plan --json' \
                      'reconcile --json' 'plan --json' 'status --json'; do \"$2\" --config \"$1/etc/moorline/agent.toml\" \
                      $verb >\"$3\" 2>\"$3.log\" || { cat \"$3\" \"$3.log\"; exit 1; }; echo \"=== $verb\"; cat \"$3\"; done";
        let mut replay = scratch.command("unshare");
        replay
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(scratch.join("host"))
            .arg(env!("CARGO_BIN_EXE_moorline"));
        let said = replay.arg(scratch.join("said")).run().succeeds();
        let part = |verb: &str, nth: usize| -> Json {
            let part = said.split("=== ").filter_map(|part| part.strip_prefix(verb)).nth(nth).expect("it was asked");
            serde_json::from_str(part).unwrap_or_else(|error| panic!("{version}: {verb}: {error}: {part}"))
        };
        for nth in [0, 1] {
            let plan = part("plan --json\n", nth);
            assert_eq!(plan["plans"][0]["steps"], json!([]), "{version}: {plan}");
        }
        let report = part("reconcile --json\n", 0);
        assert_eq!((&report["end"], &report["outcomes"]), (&json!("converged"), &json!([])), "{version}: {report}");
        let status = part("status --json\n", 0);
        assert_eq!(status["stacks"].as_object().map(serde_json::Map::len), Some(2), "{version}: {status}");
        assert!(said.contains("web: its files are in memory"), "{version}: {said}");
    }
}

/// Answers as the engine did, for as long as the test lives. What nobody recorded is not there.
fn answer(listener: UnixListener, answers: Json) {
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let answers = answers.clone();
            std::thread::spawn(move || serve(client, &answers));
        }
    });
}

fn serve(mut client: UnixStream, answers: &Json) -> Option<()> {
    let mut asked = BufReader::new(client.try_clone().ok()?);
    loop {
        let (mut line, mut header, mut length) = (String::new(), String::new(), 0);
        asked.read_line(&mut line).ok().filter(|read| *read > 0)?;
        while asked.read_line(&mut header).ok()? > 2 {
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            header.clear();
        }
        std::io::copy(&mut asked.by_ref().take(length), &mut std::io::sink()).ok()?;
        let path = line.split(' ').nth(1)?.split('?').next()?.trim_start_matches('/');
        let path =
            path.split_once('/').filter(|(version, _)| version.starts_with("v1.")).map_or(path, |(_, rest)| rest);
        let (status, body) = match answers.get(path) {
            Some(answer) => ("200 OK", answer.to_string()),
            None => ("404 Not Found", json!({ "message": format!("no such thing: {path}") }).to_string()),
        };
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        client.write_all(&[head.as_bytes(), body.as_bytes()].concat()).ok()?;
    }
}
