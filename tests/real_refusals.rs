//! What a person reads when something is wrong: each mistake on real neighbours, its whole text compared.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use support::lab::WEB;
use support::{Lab, Mood, Run as _, Signer, Signing, seal};

/// The text with what changes from run to run replaced by words.
fn settled(lab: &Lab, text: &str, names: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (value, name) in names {
        text = text.replace(value, name).replace(&value[..8.min(value.len())], name);
    }
    text.replace(&lab.host.recipient, "THIS-HOST")
        .replace(&lab.host.etc().display().to_string(), "/etc/moorline")
        .replace(&lab.engine.socket.display().to_string(), "/docker.sock")
        .lines()
        .filter(|line| !line.starts_with("info: ") && !line.starts_with("warning: ") && !line.starts_with("error: "))
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
        .trim()
        .to_owned()
}

/// Publishes what was written, runs, and expects this exit code and this text; nothing may have changed.
#[track_caller]
fn is_refused(lab: &mut Lab, code: i32, names: &[(&str, &str)], expected: &str) {
    let before = (lab.containers("web"), lab.host.status()["anchor"].clone());
    let revision = lab.publish("mistake");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(code), "{ran}");
    let names: Vec<(&str, &str)> = names.iter().copied().chain([(revision.as_str(), "REVISION")]).collect();
    assert_eq!(settled(lab, &ran.stderr, &names), expected.trim());
    assert_eq!(lab.containers("web"), before.0, "containers were touched");
    if code == 13 {
        assert_eq!(lab.host.status()["anchor"], before.1, "the anchor moved");
    }
}

#[test]
fn mistakes_in_the_repository_are_named_with_file_and_line() {
    let mut lab = Lab::new();
    lab.deploy("first");

    lab.fleet.write("hosts/alpha/host.yaml", "ring: canary\nstacks: [web\n");
    is_refused(
        &mut lab,
        1,
        &[],
        "error[spec-invalid]: 1 mistake in REVISION\n  hosts/alpha/host.yaml:2:9: unclosed bracket '['\n\n\
         hint: `moorline check` finds these before you merge",
    );

    lab.host_yaml("[webb]");
    is_refused(
        &mut lab,
        1,
        &[],
        "error[spec-invalid]: 1 mistake in REVISION\n  \
         hosts/alpha/host.yaml:3: stack `webb` has no stacks/webb/compose.yaml (did you mean `web`?)\n\n\
         hint: `moorline check` finds these before you merge",
    );

    lab.host_yaml("[web]");
    lab.fleet.write("stacks/web/compose.yaml", WEB.replace("${MESSAGE}", "${MESAGE}"));
    is_refused(
        &mut lab,
        1,
        &[],
        "error[spec-invalid]: 1 mistake in REVISION\n  \
         stacks/web/compose.yaml:4: `${MESAGE}` is not in hosts/alpha/host.yaml or hosts/alpha/secrets.sops.yaml\n\n\
         hint: `moorline check` finds these before you merge",
    );

    lab.fleet.write("stacks/web/compose.yaml", WEB.replace("image: lab/db:1", "image: lab/db:1\n    prots: []"));
    is_refused(
        &mut lab,
        1,
        &[],
        "error[compose-refused]: compose does not accept stacks/web/compose.yaml\n  \
         because: validating stacks/web/compose.yaml: services.db additional properties 'prots' not allowed\n  nothing was changed\n\n\
         hint: `docker compose config` in stacks/web shows the same",
    );

    lab.fleet
        .write("stacks/web/compose.yaml", WEB.replace("image: lab/db:1", "image: lab/db:1\n    command: ['${TOKEN}']"));
    is_refused(
        &mut lab,
        1,
        &[],
        "error[stack-refused]: 1 thing in REVISION cannot be carried out\n  \
         stacks/web/compose.yaml: services.db.command.0 holds a secret, which may not stand there\n  nothing was changed",
    );

    lab.fleet.write("stacks/web/compose.yaml", WEB);
    lab.fleet.remove("hosts/alpha/host.yaml");
    is_refused(
        &mut lab,
        1,
        &[],
        "error[spec-invalid]: 1 mistake in REVISION\n  hosts/alpha/host.yaml: this file is missing\n\n\
         hint: `moorline check` finds these before you merge",
    );
}

#[test]
fn secrets_that_cannot_be_opened_or_were_altered_change_nothing() {
    let mut lab = Lab::new();
    lab.deploy("first");
    let good = lab.host.seal("all:\n  KUMA: http://127.0.0.1:9/x\nweb:\n  TOKEN: canary-token-1\n");

    let mallory = "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq";
    let other = support::Scratch::new();
    let key = other.join("key");
    other.command("age-keygen").arg("-o").arg(&key).run().succeeds();
    let stranger = other.command("age-keygen").arg("-y").arg(&key).run().succeeds();
    assert_ne!(stranger, mallory);
    let secrets = "all:\n  KUMA: http://127.0.0.1:9/x\nweb:\n  TOKEN: canary-token-1\n";
    lab.fleet.write("hosts/alpha/secrets.sops.yaml", seal(secrets, &[&stranger]));
    is_refused(
        &mut lab,
        12,
        &[(&stranger, "STRANGER")],
        "error[secrets-sealed]: hosts/alpha/secrets.sops.yaml: the file cannot be opened with this host's key: it is \
         sealed for STRANGER; this host is THIS-HOST\n  nothing was changed\n\n\
         hint: add THIS-HOST to .sops.yaml, then `sops updatekeys hosts/alpha/secrets.sops.yaml`",
    );

    // Two values changed places: each is still sealed with the right key, but not for its name.
    let altered = good.replacen("unencrypted_suffix: _unencrypted", "unencrypted_suffix: _other", 1).replacen(
        "TOKEN: ENC[",
        "TOKEN_OTHER: ENC[",
        1,
    );
    lab.fleet.write(
        "hosts/alpha/secrets.sops.yaml",
        altered.replace("TOKEN_OTHER", "TOKEN").replace("type:str]\n", "type:str]\n    MORE: in clear\n"),
    );
    let ran = {
        lab.publish("altered");
        lab.host.moorline(&["courier", "--once"]).succeeds();
        lab.host.moorline(&["reconcile"])
    };
    assert_eq!(ran.code, Some(12), "{ran}");
    assert!(ran.stderr.contains("error[secrets-damaged]: hosts/alpha/secrets.sops.yaml: "), "{ran}");
    assert!(!ran.said().contains("canary-token"), "{ran}");
}

#[test]
fn history_that_is_not_signed_is_refused_and_the_host_stays() {
    let mut lab = Lab::new();
    let first = lab.publish("first");
    lab.host.converges();
    let before = lab.containers("web");
    let mallory = Signer::new("mallory");
    lab.fleet.write("stacks/web/compose.yaml", WEB.replace("hello", "evil"));

    let cases: [(&str, &dyn Fn(&mut Lab) -> String, String); 2] = [
        (
            "unsigned",
            &|lab| lab.fleet.commit(Signing::Unsigned, "unsigned"),
            "error[commit-unsigned]: commit REVISION is not signed\n  \
             because: every commit after FIRST needs the signature of an allowed signer, also the ones between\n  \
             nothing was changed; this host stays at FIRST\n\n\
             hint: sign it (`git rebase --exec 'git commit --amend --no-edit -S' REVISION^`) and push again"
                .to_owned(),
        ),
        (
            "stranger",
            &|lab| lab.fleet.commit(Signing::By(&mallory), "stranger"),
            "error[signer-unknown]: commit REVISION is signed by MALLORY, which is not an allowed signer\n  \
             because: signers/allowed_signers of FIRST does not list that key\n  \
             nothing was changed; this host stays at FIRST\n\n\
             hint: if they may deploy here, add their key to signers/allowed_signers in a commit of its own, signed by \
             someone who already may, and let them sign after it"
                .to_owned(),
        ),
    ];
    for (name, commit, expected) in cases {
        lab.fleet.reset(&first);
        let revision = commit(&mut lab);
        lab.fleet.force_push();
        lab.host.moorline(&["courier", "--once"]).succeeds();
        let ran = lab.host.moorline(&["reconcile"]);
        assert_eq!(ran.code, Some(13), "{name}: {ran}");
        let fingerprint = mallory.fingerprint();
        let names = [(fingerprint.as_str(), "MALLORY"), (&revision, "REVISION"), (&first, "FIRST")];
        assert_eq!(settled(&lab, &ran.stderr, &names), expected, "{name}");
        assert_eq!(lab.host.status()["anchor"]["revision"], first);
        assert_eq!(lab.containers("web"), before);
    }

    // A good commit on top does not launder the bad one below it.
    lab.fleet.commit(Signing::By(&lab.alice), "innocent, on top");
    lab.fleet.force_push();
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(13), "{ran}");
    assert!(ran.stderr.contains("error[signer-unknown]"), "{ran}");

    // The way back: the branch without the bad commits. They were never accepted, so nothing is rewound.
    lab.fleet.reset(&first);
    lab.fleet.force_push();
    assert!(lab.host.converges().contains("nothing to do"));
}

#[test]
fn history_that_goes_back_is_refused() {
    let mut lab = Lab::new();
    let first = lab.publish("first");
    lab.host.converges();
    let second = lab.publish("second");
    lab.host.converges();
    lab.fleet.reset(&first);
    lab.fleet.force_push();
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(13), "{ran}");
    let names = [(first.as_str(), "FIRST"), (&second, "SECOND")];
    assert_eq!(
        settled(&lab, &ran.stderr, &names),
        "error[history-rewound]: commit FIRST does not descend from SECOND, the last revision accepted here\n  \
         because: the branch was force-pushed, or an old copy is being served\n  \
         nothing was changed; this host stays at SECOND\n\n\
         hint: restore the branch, or accept the new history with `moorline trust --anchor FIRST`"
    );
    // A fresh clone does not help an attacker: the anchor is not in it.
    std::fs::remove_dir_all(lab.host.state().join("courier/repo.git")).unwrap();
    lab.host.moorline(&["courier", "--once"]).succeeds();
    assert_eq!(lab.host.moorline(&["reconcile"]).code, Some(13));

    // Nobody there to ask means no; a person who says so, and why, is the way back.
    let unsure = lab.host.moorline(&["trust", "--anchor", &first, "--reason", "test"]);
    assert_eq!(unsure.code, Some(2), "{unsure}");
    assert_eq!(lab.host.moorline(&["reconcile"]).code, Some(13));
    lab.host.moorline(&["trust", "--anchor", &first, "--reason", "second was a mistake", "--yes"]).succeeds();
    assert!(lab.host.moorline(&["trust"]).succeeds().contains("on this host: second was a mistake"));
    lab.host.moorline(&["reconcile"]).succeeds();
    let third = lab.publish("third");
    lab.host.converges();
    assert_eq!(lab.host.status()["anchor"]["revision"], third);
}

#[test]
fn a_missing_engine_or_plugin_is_named_with_its_fix() {
    let mut lab = Lab::new();
    lab.deploy("first");
    lab.fleet.write("stacks/web/compose.yaml", format!("{WEB}\n"));
    lab.publish("a new tip");
    lab.host.moorline(&["courier", "--once"]).succeeds();

    let toml = lab.host.etc().join("agent.toml");
    let good = std::fs::read_to_string(&toml).unwrap();
    let plugin = lab.engine.plugin().display().to_string();
    std::fs::write(&toml, good.replace(&plugin, "/nonexistent/docker-compose")).unwrap();
    let ran = lab.host.moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert_eq!(
        settled(&lab, &ran.stderr, &[]),
        "error[plugin-missing]: the Compose plugin is not installed\n  \
         because: looked for /nonexistent/docker-compose\n  nothing was changed\n\n\
         hint: install `docker-compose-plugin` from Docker's package repository, or name the file as `compose` in agent.toml"
    );

    let old = lab.engine.scratch().write("old-compose", "#!/bin/sh\necho 2.26.1-4\n");
    let mut chmod = lab.engine.scratch().command("busybox");
    chmod.args(["chmod", "+x"]).arg(&old).run().succeeds();
    std::fs::write(&toml, good.replace(&plugin, &old.display().to_string())).unwrap();
    let ran = lab.host.moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(
        ran.stderr.contains("error[plugin-missing]: the Compose plugin 2.26.1-4 is too old: 2.32 is needed"),
        "{ran}"
    );

    std::fs::write(&toml, good).unwrap();
    lab.engine.stop();
    let ran = lab.host.moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("error[engine-away]: the Docker Engine at "), "{ran}");
    assert!(ran.stderr.contains("hint: systemctl status docker"), "{ran}");
    // The status says so too, and still shows what is known.
    let status = lab.host.moorline(&["status"]).succeeds();
    assert!(status.contains("the services are those of the last run") && status.contains("anchor"), "{status}");
    lab.engine.resume();
    assert_eq!(lab.host.moorline(&["reconcile"]).code, Some(0));
}

#[test]
fn a_push_url_that_answers_with_a_page_is_named_and_the_message_is_kept() {
    let mut lab = Lab::new();
    lab.publish("first");
    lab.host.converges();
    lab.push.behave(Mood::page());
    let ran = lab.host.moorline(&["courier", "--once"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("error[push-refused]"), "{ran}");
    assert!(!ran.said().contains("api/push"), "the URL is a secret: {ran}");
    lab.push.behave(Mood::Kuma);
    lab.host.moorline(&["courier", "--once"]).succeeds();
    assert_eq!(lab.push.beats("alpha").len(), 1);
}
