//! Proves that the lab's neighbours are real and behave as other tests rely on.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]
#![forbid(unsafe_code)]

mod support;

use std::path::Path;
use std::time::Instant;

use support::http::{Response, Server};
use support::push_server::Release;
use support::{
    Beat, Engine, Fleet, GitServer, Image, Mood, PushServer, Registry, Run as _, Scratch, Signer, Signing, Status,
    search_for_canary, until,
};

mod engine {
    use super::*;

    #[test]
    fn an_engine_starts_runs_a_container_and_leaves_nothing_behind() {
        let engine = Engine::start();
        let (name, path) = (engine.scratch().name().to_owned(), engine.scratch().path().to_owned());
        engine.image("lab/web:1", &Image::web().healthy());
        engine
            .docker(&["run", "--detach", "--publish", "8080:80", "--env", "MESSAGE=moin", "--name", "web", "lab/web:1"])
            .succeeds();
        let page = until("the container serves", || engine.http_get(8080, "/"));
        assert_eq!(page, "lab/web:1");
        assert_eq!(engine.http_get(8080, "/message").as_deref(), Some("moin"));
        until("it becomes healthy", || (engine.inspect("web")["State"]["Health"]["Status"] == "healthy").then_some(()));
        let began = Instant::now();
        engine.docker(&["stop", "web"]).succeeds();
        assert!(began.elapsed().as_secs() < 8, "the container ignores SIGTERM");
        engine.docker(&["start", "web"]).succeeds();

        drop(engine);
        assert!(!path.exists());
        assert!(!Path::new("/run/netns").join(&name).exists());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
        assert!(!mounts.contains(&name), "{mounts}");
        let groups = std::fs::read_dir("/sys/fs/cgroup").expect("control groups are mounted").flatten();
        assert!(groups.map(|group| group.path().join(&name)).all(|group| !group.exists()));
    }

    #[test]
    fn images_exit_and_are_unhealthy_as_told() {
        let engine = Engine::shared();
        engine.image("lab/exits:1", &Image::exits(3));
        assert_eq!(engine.docker(&["run", "lab/exits:1"]).code, Some(3));
        engine.image("lab/sick:1", &Image::idle().unhealthy());
        engine.docker(&["run", "--detach", "--name", "sick", "lab/sick:1"]).succeeds();
        until("it becomes unhealthy", || {
            (engine.inspect("sick")["State"]["Health"]["Status"] == "unhealthy").then_some(())
        });
    }

    #[test]
    fn the_compose_plugin_brings_up_a_stack_and_a_second_up_changes_nothing() {
        let engine = Engine::shared();
        engine.image("lab/stack:1", &Image::web().healthy());
        let stack = engine.scratch().directory("stacks/hello");
        let file = "services:\n  web: { image: 'lab/stack:1', depends_on: [db], volumes: ['data:/data'] }\n  db: { image: 'lab/stack:1' }\nvolumes: { data: {} }\n";
        engine.scratch().write("stacks/hello/compose.yaml", file);
        engine.compose(&stack, &["up", "--detach", "--wait"]).succeeds();
        let first = engine
            .docker(&["ps", "--quiet", "--no-trunc", "--filter", "label=com.docker.compose.project=hello"])
            .succeeds();
        assert_eq!(first.lines().count(), 2);
        engine.compose(&stack, &["up", "--detach"]).succeeds();
        assert_eq!(
            first,
            engine
                .docker(&["ps", "--quiet", "--no-trunc", "--filter", "label=com.docker.compose.project=hello"])
                .succeeds()
        );
        let version = engine.compose(&stack, &["version", "--short"]).succeeds();
        let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().expect("a number"));
        assert!((parts.next(), parts.next()) >= (Some(2), Some(32)), "{version}");
        engine.compose(&stack, &["down", "--volumes"]).succeeds();
    }

    #[test]
    fn an_engine_that_was_killed_resumes_with_its_containers_data() {
        let engine = Engine::start();
        engine.image("lab/idle:1", &Image::idle());
        engine.docker(&["run", "--detach", "--restart", "always", "--name", "idle", "lab/idle:1"]).succeeds();
        engine.kill();
        assert!(!engine.is_answering());
        engine.resume();
        until("it runs again", || (engine.inspect("idle")["State"]["Running"] == true).then_some(()));
        engine.stop();
        assert!(!engine.is_answering());
        engine.resume();
        until("it runs again", || (engine.inspect("idle")["State"]["Running"] == true).then_some(()));
    }

    #[test]
    fn a_registry_with_a_login_refuses_everyone_else() {
        let engine = Engine::shared();
        engine.image("lab/private:1", &Image::idle());
        let registry = Registry::start(&engine, true);
        let refused = registry.login("wrong").fails();
        assert!(refused.contains("401"), "{refused}");
        let remote = format!("{}/lab/private:1", registry.address());
        engine.docker(&["tag", "lab/private:1", &remote]).succeeds();
        let refused = engine.docker(&["push", &remote]).fails();
        assert!(refused.contains("no basic auth credentials"), "{refused}");

        registry.login(Registry::PASSWORD).succeeds();
        let digest = registry.push("lab/private:1", "lab/private:1");
        engine.docker(&["image", "rm", "--force", &remote, "lab/private:1"]).succeeds();
        assert!(!engine.docker(&["image", "inspect", &digest]).is_success(), "a pull must have something to do");
        engine.docker(&["pull", "--quiet", &digest]).succeeds();
        registry.logout();
        let refused = engine.docker(&["pull", &remote]).fails();
        assert!(refused.contains("no basic auth credentials"), "{refused}");
    }

    #[test]
    fn a_registry_that_is_away_is_a_refused_connection_and_comes_back_with_its_images() {
        let engine = Engine::shared();
        engine.image("lab/away:1", &Image::idle());
        let mut registry = Registry::start_on(&engine, 5001, false);
        let digest = registry.push("lab/away:1", "lab/away:1");
        let unknown = engine.docker(&["pull", &format!("{}/lab/away:2", registry.address())]).fails();
        assert!(unknown.contains("manifest unknown"), "{unknown}");
        registry.stop();
        let refused = engine.docker(&["pull", &digest]).fails();
        assert!(refused.contains("connection refused"), "{refused}");
        registry.resume();
        engine.docker(&["pull", "--quiet", &digest]).succeeds();
    }
}

mod clearing {
    use super::*;

    #[test]
    fn a_scratch_ends_the_processes_and_mounts_it_started() {
        let scratch = Scratch::new();
        let place = scratch.directory("mounted");
        scratch.command("busybox").args(["mount", "-t", "tmpfs", "lab"]).arg(&place).run().succeeds();
        let mut sleeper = scratch.command("busybox").args(["sleep", "1000"]).spawn().expect("busybox starts");
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
        assert!(!sleeper.wait().expect("our own child").success());
    }

    #[test]
    fn what_a_killed_run_left_is_swept_and_what_lives_is_not() {
        let alive = Scratch::new();
        // As a killed run leaves it: a directory, a process, and a lock file that nobody locks.
        let name = format!("moorline-lab-{}-killed", std::process::id());
        let dead = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(dead.join("docker")).expect("the temporary directory is writable");
        std::fs::write(dead.with_extension("lock"), "").expect("the temporary directory is writable");
        let mut orphan = alive.command("busybox");
        let mut orphan =
            orphan.env("MOORLINE_LAB_SCRATCH", &name).args(["sleep", "1000"]).spawn().expect("busybox starts");
        support::scratch::sweep();
        assert!(!dead.exists() && !dead.with_extension("lock").exists());
        assert!(!orphan.wait().expect("our own child").success());
        assert!(alive.path().exists());
    }
}

mod git {
    use super::*;

    fn published(server: &GitServer) -> (Fleet, Signer, String) {
        let alice = Signer::new("alice");
        let mut fleet = Fleet::new(&server.repository("fleet.git"));
        fleet.allow(&[&alice]).write("moorline.yaml", "version: 1\n");
        let revision = fleet.commit(Signing::By(&alice), "first");
        fleet.push();
        (fleet, alice, revision)
    }

    fn tip(server: &GitServer, url: &str) -> support::Ran {
        server.client().args(["ls-remote", url, "refs/heads/main"]).run()
    }

    #[test]
    fn a_clone_by_ssh_works_with_the_pinned_host_key_and_not_with_a_changed_one() {
        let server = GitServer::ssh();
        let (_fleet, _, revision) = published(&server);
        let scratch = Scratch::new();
        let clone = scratch.join("clone.git");
        server.client().args(["clone", "--quiet", "--bare", &server.url("fleet.git")]).arg(&clone).run().succeeds();
        let cloned = server.client().arg("-C").arg(&clone).args(["rev-parse", "main"]).run().succeeds();
        assert_eq!(cloned, revision);

        server.change_host_key();
        let refused = tip(&server, &server.url("fleet.git")).fails();
        assert!(
            refused.contains("Host key verification failed") || refused.contains("HOST IDENTIFICATION HAS CHANGED"),
            "{refused}"
        );
        server.write_known_hosts();
        tip(&server, &server.url("fleet.git")).succeeds();
    }

    #[test]
    fn git_over_ssh_speaks_protocol_two_and_nothing_but_git() {
        let server = GitServer::ssh();
        published(&server);
        let mut client = server.client();
        client.env("GIT_TRACE_PACKET", "1").args(["ls-remote", &server.url("fleet.git")]);
        let traced = client.run();
        assert!(traced.stderr.contains("version 2"), "{traced}");
        let port = server.url("x").split([':', '/']).nth(4).expect("a port").to_owned();
        let mut ssh = Scratch::new().command("ssh");
        ssh.args(["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-p", &port, "-i"])
            .arg(server.deploy_key());
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", server.known_hosts().display()));
        let refused = ssh.args(["root@127.0.0.1", "cat", "/etc/passwd"]).run().fails();
        assert!(refused.contains("unrecognized command"), "{refused}");
    }

    #[test]
    fn a_clone_by_http_works_with_the_token_and_is_unauthorised_without() {
        let server = GitServer::http(Some("t0ken"));
        let (_fleet, _, revision) = published(&server);
        let url = server.url("fleet.git");
        let refused = tip(&server, &url).fails();
        assert!(refused.contains("could not read Username") || refused.contains("Authentication failed"), "{refused}");
        assert!(!tip(&server, &url.replace("://", "://x:wrong@")).is_success());
        let with_token = url.replace("://", "://x:t0ken@");
        assert!(tip(&server, &with_token).succeeds().starts_with(&revision));
        let scratch = Scratch::new();
        server.client().args(["clone", "--quiet", &with_token]).arg(scratch.join("clone")).run().succeeds();
        assert!(scratch.join("clone/moorline.yaml").exists());
        assert!(server.bytes() > 0);
    }

    #[test]
    fn pushing_through_either_server_arrives() {
        for server in [GitServer::ssh(), GitServer::http(None)] {
            let (mut fleet, alice, _) = published(&server);
            // More than git sends in one piece, so that it sends in chunks.
            let noise: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            fleet.write("noise", noise);
            let revision = fleet.commit(Signing::By(&alice), "second");
            let mut push = server.client();
            push.arg("-C")
                .arg(fleet.path())
                .args(["push", "--quiet", &server.url("fleet.git"), "main"])
                .run()
                .succeeds();
            assert!(tip(&server, &server.url("fleet.git")).succeeds().starts_with(&revision));
        }
    }

    #[test]
    fn a_server_that_is_away_fails_and_comes_back() {
        for server in [GitServer::ssh(), GitServer::http(None)] {
            published(&server);
            server.go_away();
            tip(&server, &server.url("fleet.git")).fails();
            server.come_back();
            tip(&server, &server.url("fleet.git")).succeeds();
        }
    }

    #[test]
    fn signatures_are_what_git_itself_says_they_are() {
        let server = GitServer::http(None);
        let (mut fleet, alice, first) = published(&server);
        let mallory = Signer::new("mallory");
        fleet.verify(&first, &[&alice]).succeeds();
        let stranger = fleet.commit(Signing::By(&mallory), "by a stranger");
        // git says "Good signature" here, and fails all the same: the text is not to be trusted.
        fleet.verify(&stranger, &[&alice]).fails();
        fleet.verify(&stranger, &[&alice, &mallory]).succeeds();
        let unsigned = fleet.commit(Signing::Unsigned, "by nobody");
        fleet.verify(&unsigned, &[&alice]).fails();
        assert!(!fleet.git(&["cat-file", "commit", &unsigned]).succeeds().contains("gpgsig"));
        assert!(alice.fingerprint().starts_with("SHA256:"));
    }

    #[test]
    fn a_fleet_merges_branches_and_rewrites_history() {
        let server = GitServer::http(None);
        let (mut fleet, alice, first) = published(&server);
        fleet.branch("promote").write("rings/production.yaml", format!("commit: {first}\n"));
        fleet.commit(Signing::By(&alice), "promote");
        fleet.checkout("main");
        let merged = fleet.merge(Signing::By(&alice), "promote");
        fleet.push();
        assert_eq!(fleet.git(&["rev-list", "--first-parent", "--count", "main"]).succeeds(), "2");
        assert!(tip(&server, &server.url("fleet.git")).succeeds().starts_with(&merged));
        fleet.reset(&first).remove("moorline.yaml");
        let rewritten = fleet.commit(Signing::By(&alice), "history, rewritten");
        assert!(!fleet.git(&["push", "--quiet", "origin", "main"]).is_success());
        fleet.force_push();
        assert!(tip(&server, &server.url("fleet.git")).succeeds().starts_with(&rewritten));
    }
}

mod push {
    use super::*;
    use std::io::{Read as _, Write as _};

    /// Sends bytes as they are, so that no client's good manners hide what the server does.
    fn send(base: &str, method: &str, target: &str) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(base.trim_start_matches("http://")).expect("the server listens");
        write!(stream, "{method} {target} HTTP/1.1\r\nHost: lab\r\n\r\n").expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers");
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    fn get(server: &PushServer, target: &str) -> (u16, String) {
        send(&server.base(), "GET", target)
    }

    fn beat(status: Status, msg: &str, ping: Option<f64>) -> Beat {
        Beat { status, msg: msg.to_owned(), ping }
    }

    const OK: &str = r#"{"ok":true}"#;
    const NOT_FOUND: &str = r#"{"ok":false,"msg":"Monitor not found or not active."}"#;

    #[test]
    fn only_the_exact_word_up_and_silence_are_up() {
        let server = PushServer::start();
        server.monitor("t");
        for query in [
            "?status=up&msg=all%20well&ping=12.5",
            "",
            "?status=",
            "?status=UP",
            "?status=weird",
            "?status=down&msg=a+b",
            "?status=up&status=up",
        ] {
            assert_eq!(get(&server, &format!("/api/push/t{query}")), (200, OK.to_owned()), "{query}");
        }
        let expected = [
            beat(Status::Up, "all well", Some(12.5)),
            beat(Status::Up, "OK", None),
            beat(Status::Up, "OK", None),
            beat(Status::Down, "OK", None),
            beat(Status::Down, "OK", None),
            beat(Status::Down, "a b", None),
            beat(Status::Down, "OK", None),
        ];
        assert_eq!(server.beats("t"), expected);
    }

    #[test]
    fn an_unknown_and_a_paused_monitor_are_refused_alike() {
        let server = PushServer::start();
        server.monitor("t");
        assert_eq!(get(&server, "/api/push/nobody"), (404, NOT_FOUND.to_owned()));
        server.pause("t");
        assert_eq!(get(&server, "/api/push/t"), (404, NOT_FOUND.to_owned()));
        server.unpause("t");
        assert_eq!(get(&server, "/api/push/t"), (200, OK.to_owned()));
        assert_eq!(server.beats("t").len(), 1);
    }

    #[test]
    fn a_wrong_path_is_answered_with_200_and_a_page() {
        let server = PushServer::start();
        server.monitor("t");
        for path in ["/api/push/t/", "/", "/api/push/", "/kuma/api/push/t"] {
            let (status, body) = get(&server, path);
            assert!(status == 200 && body.starts_with("<!DOCTYPE html>"), "{path}: {status} {body}");
        }
        assert!(server.beats("t").is_empty());
    }

    #[test]
    fn pings_are_read_as_each_release_reads_them() {
        let pings = |release| {
            let server = PushServer::of_release(release);
            server.monitor("t");
            let mut read = Vec::new();
            for ping in ["12.5", "0", "", "12abc", "abc", "-1", "1e12"] {
                let before = server.beats("t").len();
                let (status, body) = get(&server, &format!("/api/push/t?ping={ping}"));
                read.push(match server.beats("t").get(before) {
                    Some(beat) => Ok(beat.ping),
                    None => Err((status, body.contains("Invalid ping value"))),
                });
            }
            read
        };
        let (refused, strict) = (Err((404, true)), Err((400, true)));
        assert_eq!(
            pings(Release::Usual),
            [Ok(Some(12.5)), Ok(None), Ok(None), Ok(Some(12.0)), Ok(None), refused, refused]
        );
        assert_eq!(pings(Release::Next), [Ok(Some(12.5)), Ok(Some(0.0)), Ok(None), strict, strict, strict, strict]);
        assert_eq!(
            pings(Release::Old),
            [Ok(Some(12.0)), Ok(None), Ok(None), Ok(Some(12.0)), Ok(None), Ok(Some(-1.0)), Ok(Some(1.0))]
        );
    }

    #[test]
    fn messages_have_no_limit_but_that_of_the_request_head() {
        let server = PushServer::start();
        server.monitor("t");
        let long = "x".repeat(15_000);
        assert_eq!(get(&server, &format!("/api/push/t?msg={long}")), (200, OK.to_owned()));
        assert_eq!(server.beats("t"), [beat(Status::Up, &long, None)]);
        assert_eq!(get(&server, &format!("/api/push/t?msg={}", "x".repeat(20_000))).0, 431);
        assert_eq!(get(&server, "/api/push/t?msg=a&msg=b").0, 200);
        assert_eq!(server.beats("t")[1].msg, "[object Object]");
    }

    #[test]
    fn other_methods_are_pushes_except_to_old_releases() {
        let server = PushServer::start();
        server.monitor("t");
        assert_eq!(send(&server.base(), "POST", "/api/push/t"), (200, OK.to_owned()));
        assert_eq!(server.beats("t"), [beat(Status::Up, "OK", None)]);
        let old = PushServer::of_release(Release::Old);
        old.monitor("t");
        let (status, body) = send(&old.base(), "POST", "/api/push/t");
        assert!(status == 404 && body.starts_with('<'), "{status} {body}");
        assert!(old.beats("t").is_empty());
    }

    #[test]
    fn retries_make_the_first_failures_pending_except_in_old_releases() {
        let statuses = |release| {
            let server = PushServer::of_release(release);
            server.monitor_with_retries("t", 2);
            for status in ["up", "down", "down", "down", "up", "down"] {
                get(&server, &format!("/api/push/t?status={status}"));
            }
            server.beats("t").iter().map(|beat| beat.status).collect::<Vec<_>>()
        };
        use Status::{Down, Pending, Up};
        assert_eq!(statuses(Release::Usual), [Up, Pending, Pending, Down, Up, Pending]);
        assert_eq!(statuses(Release::Old), [Up, Down, Down, Down, Up, Down]);
    }

    #[test]
    fn the_timer_writes_over_what_was_said_and_maintenance_over_everything() {
        let server = PushServer::start();
        server.monitor("t");
        get(&server, "/api/push/t?status=down&msg=backup+failed");
        server.let_interval_pass("t");
        server.maintain("t", true);
        get(&server, "/api/push/t?status=down");
        let beats = server.beats("t");
        assert_eq!(beats[1], beat(Status::Down, "No heartbeat in the time window", None));
        assert_eq!(beats[2].status, Status::Maintenance);
    }

    #[test]
    fn a_server_in_a_bad_mood_records_nothing_and_recovers() {
        let server = PushServer::start();
        server.monitor("t");
        server.behave(Mood::broken());
        assert_eq!(get(&server, "/api/push/t").0, 500);
        server.behave(Mood::page());
        assert!(get(&server, "/api/push/t").1.starts_with("<!DOCTYPE html>"));
        server.behave(Mood::HangsUp);
        assert_eq!(get(&server, "/api/push/t").0, 0);
        server.behave(Mood::Hangs);
        let mut stream = std::net::TcpStream::connect(server.base().trim_start_matches("http://")).expect("it listens");
        stream.write_all(b"GET /api/push/t HTTP/1.1\r\n\r\n").expect("it reads");
        stream.set_read_timeout(Some(std::time::Duration::from_millis(200))).expect("a timeout is possible");
        assert!(stream.read(&mut [0]).is_err());
        server.behave(Mood::Kuma);
        assert_eq!(get(&server, "/api/push/t").0, 200);
        assert_eq!(server.wait_for_beats("t", 1).len(), 1);
        assert_eq!(server.requests().len(), 5);
    }

    #[test]
    fn servers_do_not_meet() {
        let answer = |text: &'static str| {
            Server::start(move |_| support::http::Reaction::Answer(Response::new(200, "text/plain", text)))
        };
        let (one, two) = (answer("one"), answer("two"));
        assert_eq!(send(&one.url(), "GET", "/").1, "one");
        assert_eq!(send(&two.url(), "GET", "/").1, "two");
    }
}

mod canary {
    use super::*;

    #[test]
    fn a_secret_is_found_in_text_in_binary_across_reads_in_names_and_in_links() {
        let scratch = Scratch::new();
        scratch.write("plain/text", "password: hunter2\n");
        let mut binary = vec![0_u8; (1 << 20) - 3];
        binary.extend(b"hunter2\xff\xfe");
        scratch.write("binary", binary);
        scratch.write("of-hunter2", "");
        std::os::unix::fs::symlink("hunter2", scratch.join("link")).expect("the scratch is writable");
        scratch.write("clean", "hunter");
        let hits = search_for_canary(&[scratch.path()], &["hunter2", "swordfish"]);
        let found: Vec<_> = hits
            .iter()
            .map(|hit| (hit.path.strip_prefix(scratch.path()).expect("below").to_owned(), hit.offset))
            .collect();
        let expected = [("binary", (1 << 20) - 3), ("link", 0), ("of-hunter2", 3), ("plain/text", 10)];
        assert_eq!(found, expected.map(|(path, offset)| (path.into(), offset)));
    }

    #[test]
    fn an_environment_variable_of_a_container_is_found_in_the_data_root() {
        let engine = Engine::shared();
        engine.image("lab/env:1", &Image::idle());
        engine.docker(&["create", "--env", "PASSWORD=kanarienvogel", "lab/env:1"]).succeeds();
        assert!(!search_for_canary(&[&engine.data_root], &["kanarienvogel"]).is_empty());
        assert!(search_for_canary(&[&engine.data_root], &["wellensittich"]).is_empty());
    }

    #[test]
    #[should_panic(expected = "nothing was searched")]
    fn searching_what_does_not_exist_is_no_clean_search() {
        search_for_canary(&[Path::new("/no/such/place")], &["x"]);
    }
}
