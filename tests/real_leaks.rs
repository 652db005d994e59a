//! Where a secret may be found while moorline works, fails, is killed or has done its work: nowhere but in memory.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use support::tools::tool;
use support::{Lab, Run as _, search_for_canary, until};

/// The keeper, as a service manager starts it. Dropping it ends it.
struct Keeper(Child);

impl Keeper {
    fn start(lab: &Lab) -> Self {
        let mut command = lab.host.command(&["run"]);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
    }

    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Which of these texts the memory of a process holds, and how often.
fn in_memory(process: u32, needles: &[String]) -> Vec<String> {
    use std::io::{Read as _, Seek as _};
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("root may look");
    let mut memory = std::fs::File::open(format!("/proc/{process}/mem")).expect("root may look");
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let Some((start, end)) = line.split_whitespace().next().and_then(|range| range.split_once('-')) else {
            continue;
        };
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).expect("an address"));
        let mut bytes = vec![0; usize::try_from(end - start).expect("it fits")];
        if memory.seek(std::io::SeekFrom::Start(start)).and_then(|_| memory.read_exact(&mut bytes)).is_err() {
            continue;
        }
        for needle in needles {
            let count = bytes.windows(needle.len()).filter(|window| *window == needle.as_bytes()).count();
            if count > 0 {
                found.push(format!("{needle}: {count} in {line}"));
            }
        }
    }
    found
}

#[test]
fn after_a_run_the_keeper_holds_neither_its_key_nor_a_secret() {
    let mut lab = Lab::new();
    lab.secrets("web:\n  TOKEN: canary-token-1\nregistries:\n  registry.example.org: { username: bot, password: canary-login-1 }\n");
    lab.publish("first");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let keeper = Keeper::start(&lab);
    let runs = lab.host.state().join("runs");
    until("the first run has ended", || std::fs::read_dir(&runs).ok()?.next().map(|_| ()));
    until("the run converged", || (lab.host.status()["last_run"]["end"] == "converged").then_some(()));
    let key = std::fs::read_to_string(lab.host.etc().join("age.key")).unwrap();
    let identity = key.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap().to_owned();
    let known = lab.engine.socket.display().to_string();
    assert!(!in_memory(keeper.id(), &[known]).is_empty(), "the search finds what is there");
    let found = in_memory(keeper.id(), &[identity, "canary-token-1".into(), "canary-login-1".into()]);
    assert!(found.is_empty(), "{found:#?}");
}

/// Every form in which a value of the sealed file reaches a container. `EXPOSED` is the one that the stack itself wants
/// on disk.
const STACK: &str = "\
services:
  app:
    image: lab/db:1
    stop_grace_period: 1s
    secrets: [file, { source: own, target: own, uid: '1000', gid: '1000', mode: 0400 }]
    configs: [{ source: rendered, target: /etc/rendered }, { source: variable, target: /etc/variable }]
    environment: { EXPOSED: '${EXPOSED}' }
  reader:
    image: lab/db:1
    stop_grace_period: 1s
    secrets: [file]
    volumes: ['./files:/files:ro']
    x-moorline: { reload: SIGHUP }
secrets:
  file: { environment: FILE }
  own: { environment: OWN }
configs:
  rendered: { content: \"user=${USER_NAME} password=${RENDERED}\\n\" }
  variable: { environment: VARIABLE }
";

const FORMS: [&str; 4] = ["FILE", "OWN", "RENDERED", "VARIABLE"];

/// Texts that no other test of this machine has.
fn canary(name: &str, generation: usize) -> String {
    format!("canary-{}-{}-{generation}", name.to_lowercase(), std::process::id())
}

/// What every secret of this test begins with, but for those that the stack wants in its environment.
fn needles() -> Vec<String> {
    let names = FORMS.iter().copied().chain(["UNUSED", "LOGIN", "PUSH"]);
    names.map(|name| format!("canary-{}-{}-", name.to_lowercase(), std::process::id())).collect()
}

fn write(lab: &Lab, generation: usize) {
    let url = lab.push.monitor(&canary("PUSH", 0));
    let mut sealed = format!("all:\n  KUMA: {url}\n  UNUSED: {}\napp:\n", canary("UNUSED", generation));
    for name in FORMS.iter().chain(&["EXPOSED"]) {
        sealed += &format!("  {name}: {}\n", canary(name, generation));
    }
    let login = canary("LOGIN", generation);
    sealed += &format!("registries:\n  registry.example.org: {{ username: bot, password: {login} }}\n");
    lab.fleet.write("hosts/alpha/secrets.sops.yaml", lab.host.seal(&sealed));
    lab.fleet.write("stacks/app/compose.yaml", STACK);
    lab.fleet.write("stacks/app/.env", "USER_NAME=app\n");
    lab.fleet.write("stacks/app/files/conf", format!("generation {generation}\n"));
    lab.host_yaml("[app]");
}

/// Fails if a secret stands where it would last. `environment` may be where the stack wants it, and nowhere of ours.
#[track_caller]
fn nothing_lasts(lab: &Lab, when: &str) {
    let lasting = [lab.host.state(), lab.host.etc(), lab.engine.data_root.clone(), lab.fleet.path()];
    let hits = search_for_canary(&lasting, &needles());
    assert!(hits.is_empty(), "{when}: {hits:#?}");
    let hits = search_for_canary(&[lab.host.state()], &[format!("canary-exposed-{}-", std::process::id())]);
    assert!(hits.is_empty(), "{when}: {hits:#?}");
    // What children left in the directory for temporary files.
    for entry in std::fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_theirs = ["moorline-app", "docker", "compose"].iter().any(|start| name.starts_with(start));
        assert!(!is_theirs || search_for_canary(&[entry.path()], &needles()).is_empty(), "{when}: {name}");
    }
}

#[track_caller]
fn nothing_shows(text: &str, when: &str) {
    for needle in needles() {
        assert!(!text.contains(&needle), "{when}: {needle} in\n{text}");
    }
}

/// Looks at arguments and environments of all processes while something runs; returns what it saw of ours.
fn watched<T>(act: impl FnOnce() -> T) -> (T, Vec<String>) {
    let done = AtomicBool::new(false);
    let needles = needles();
    std::thread::scope(|threads| {
        let watcher = threads.spawn(|| {
            let mut seen = Vec::new();
            while !done.load(Ordering::Relaxed) {
                for process in std::fs::read_dir("/proc").unwrap().flatten() {
                    for part in ["cmdline", "environ"] {
                        let text = std::fs::read(process.path().join(part)).unwrap_or_default();
                        let text = String::from_utf8_lossy(&text);
                        if needles.iter().any(|needle| text.contains(needle)) {
                            seen.push(format!("{part} of {}", text.split('\0').next().unwrap_or_default()));
                        }
                    }
                }
            }
            seen
        });
        let result = act();
        done.store(true, Ordering::Relaxed);
        (result, watcher.join().expect("it only looks"))
    })
}

#[test]
fn no_form_of_delivery_leaves_a_secret_where_it_lasts_or_shows() {
    let mut lab = Lab::new();
    write(&lab, 1);
    lab.publish("first");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let mut printed = lab.host.moorline(&["plan"]).said();
    let (ran, seen) = watched(|| lab.host.moorline(&["--verbose", "reconcile"]));
    assert!(ran.is_success(), "{ran}");
    assert!(seen.is_empty(), "{seen:?}");
    printed += &ran.said();
    for (path, name) in [("/run/secrets/file", "FILE"), ("/run/secrets/own", "OWN"), ("/etc/variable", "VARIABLE")] {
        assert_eq!(lab.exec("app", "app", &["cat", path]), canary(name, 1));
    }
    let rendered = format!("user=app password={}", canary("RENDERED", 1));
    assert_eq!(lab.exec("app", "app", &["cat", "/etc/rendered"]), rendered);
    assert_eq!(lab.exec("app", "app", &["sh", "-c", "echo $EXPOSED"]), canary("EXPOSED", 1));
    nothing_lasts(&lab, "after the first deploy");

    // Only a mounted file changed: a signal. Then everything changed.
    let reader = lab.containers("app")["reader"].clone();
    lab.fleet.write("stacks/app/files/conf", "reload\n");
    printed += &lab.deploy("reload");
    assert_eq!(lab.containers("app")["reader"], reader);
    write(&lab, 2);
    lab.publish("rotation");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    printed += &lab.host.moorline(&["plan", "--json"]).said();
    let (ran, seen) = watched(|| lab.host.moorline(&["--verbose", "reconcile", "--json"]));
    assert!(ran.is_success(), "{ran}");
    assert!(seen.is_empty(), "{seen:?}");
    printed += &ran.said();
    assert_eq!(lab.exec("app", "reader", &["cat", "/run/secrets/file"]), canary("FILE", 2));
    nothing_lasts(&lab, "after the rotation");

    // What fails says why, and not what.
    lab.fleet.write("stacks/app/compose.yaml", STACK.replace("image: lab/db:1", "image: registry.example.org/x:1"));
    lab.publish("no such registry");
    printed += &lab.host.moorline(&["courier", "--once"]).said();
    printed += &lab.host.moorline(&["--verbose", "reconcile"]).fails();
    for place in ["command: ['${FILE}']", "labels: { a: '${FILE}' }", "container_name: 'a${FILE}'"] {
        let refused = STACK.replace("  reader:\n", &format!("  reader:\n    {place}\n"));
        lab.fleet.write("stacks/app/compose.yaml", refused);
        lab.publish("refused");
        printed += &lab.host.moorline(&["courier", "--once"]).said();
        printed += &lab.host.moorline(&["--verbose", "reconcile"]).fails();
    }
    let verbs: &[&[&str]] = &[
        &["status"],
        &["status", "--json"],
        &["runs", "--json"],
        &["runs", "show"],
        &["doctor"],
        &["doctor", "--json"],
        &["trust"],
        &["key", "show"],
        &["secrets"],
        &["--verbose", "plan"],
    ];
    for verb in verbs {
        printed += &lab.host.moorline(verb).said();
    }
    for id in lab.containers("app").values() {
        printed += &lab.engine.inspect(id).to_string();
    }
    printed += &lab.engine.log();
    nothing_shows(&printed, "in what was printed");
    nothing_lasts(&lab, "at the end");
}

/// `moorline reconcile`, killed when it makes its nth change of a name: each write of state ends in one.
fn killed_at(lab: &Lab, change: usize) -> bool {
    let calls = "rename,renameat,renameat2,unlink,unlinkat,symlinkat,mkdir";
    let reconcile = lab.host.command(&["--verbose", "reconcile"]);
    let mut strace = lab.engine.scratch().command("strace");
    strace.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e"]);
    strace.arg(format!("inject={calls}:signal=SIGKILL:when={change}"));
    strace.arg(reconcile.get_program()).args(reconcile.get_args());
    for (name, value) in reconcile.get_envs() {
        strace.env(name, value.unwrap_or_default());
    }
    let ran = strace.run();
    nothing_shows(&ran.said(), "before it was killed");
    // strace ends as its tracee did.
    !ran.is_success()
}

#[test]
fn a_kill_between_any_two_steps_leaves_no_secret_where_it_lasts() {
    let mut lab = Lab::new();
    write(&lab, 0);
    lab.deploy("first");
    let (mut killed, mut change) = (0, 1);
    // Each rotation is killed a little later than the one before, until one runs to its end.
    loop {
        write(&lab, change);
        lab.publish("rotation");
        lab.host.moorline(&["courier", "--once"]).succeeds();
        if !killed_at(&lab, change) {
            break;
        }
        nothing_lasts(&lab, &format!("killed at change {change}"));
        (killed, change) = (killed + 1, change + 3);
    }
    println!("killed {killed} times, the last time at change {}", change - 3);
    assert!(killed > 5, "killed only {killed} times");
    nothing_lasts(&lab, "after the run that was not killed");
    assert_eq!(lab.exec("app", "app", &["cat", "/run/secrets/file"]), canary("FILE", change));
    assert!(lab.host.moorline(&["reconcile"]).succeeds().contains("nothing to do"));
    // Of all those generations in memory, one is left.
    let files = search_for_canary(&[lab.host.run_directory().join("secrets")], &needles());
    let last = format!("-{}-{change}", std::process::id());
    assert_eq!(files.len(), FORMS.len(), "{files:#?}");
    for hit in files {
        assert!(std::fs::read_to_string(&hit.path).unwrap().contains(&last), "{}", hit.path.display());
    }
}

/// A program whose core file would be written into `directory` if nothing kept it away.
fn allowed_to_dump(directory: &Path, program: &Command) -> Command {
    let mut shell = Command::new(tool("busybox"));
    shell.args(["sh", "-c", "ulimit -c unlimited; exec \"$0\" \"$@\""]).current_dir(directory);
    shell.arg(program.get_program()).args(program.get_args()).env_clear();
    for (name, value) in program.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell
}

fn send(signal: &str, process: u32) {
    Command::new(tool("busybox")).args(["kill", signal, &process.to_string()]).run().succeeds();
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_keeper_that_crashes_leaves_no_core_file() {
    let mut lab = Lab::new();
    lab.publish("first");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let place = tempfile::tempdir().unwrap();
    // On machines that pipe core files to a program, only the limits can be looked at.
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let is_file = !pattern.starts_with(['|', '/']);
    let mut control = Command::new(tool("busybox"));
    let mut control = allowed_to_dump(place.path(), control.args(["sleep", "600"])).spawn().unwrap();
    let is_sleep = |line: Vec<u8>| !String::from_utf8_lossy(&line).contains("ulimit");
    let line = format!("/proc/{}/cmdline", control.id());
    until("the shell is gone", || is_sleep(std::fs::read(&line).ok()?).then_some(()));
    send("-ABRT", control.id());
    let ended = control.wait().unwrap();
    assert_eq!(ended.signal(), Some(6));
    // Where there are core files at all, this is how they are found.
    println!("other programs leave core files on this machine: {}", ended.core_dumped());
    assert_eq!(files_in(place.path()).len(), usize::from(is_file && ended.core_dumped()));

    for signal in ["-ABRT", "-QUIT"] {
        let place = tempfile::tempdir().unwrap();
        let mut keeper = Keeper(allowed_to_dump(place.path(), &lab.host.command(&["run"])).spawn().unwrap());
        let process = keeper.id();
        let limits = format!("/proc/{process}/limits");
        until("it closed its memory", || {
            let limits = std::fs::read_to_string(&limits).unwrap();
            let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
            let mut words = core["Max core file size".len()..].split_whitespace();
            (words.next() == Some("0") && words.next() == Some("0")).then_some(())
        });
        // While it has secrets in its hands, or shortly after: either way there is no file.
        until("it has written secrets", || lab.host.run_directory().join("env/web").exists().then_some(()));
        send(signal, process);
        assert!(keeper.0.wait().unwrap().signal().is_some());
        assert!(files_in(place.path()).is_empty(), "{:?}", files_in(place.path()));
        assert!(!keeper.0.wait().unwrap().core_dumped());
    }
}

#[test]
fn not_even_its_own_user_may_look_into_the_memory_of_a_process() {
    let place = tempfile::tempdir().unwrap();
    let pipe = place.path().join("key");
    Command::new(tool("busybox")).arg("mkfifo").arg(&pipe).run().succeeds();
    for path in [place.path(), &pipe] {
        std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).unwrap();
    }
    // It waits for a key that nobody writes, as a user who is not root: root may look everywhere.
    let mut waiting = Command::new(env!("CARGO_BIN_EXE_moorline"));
    waiting.args(["internals", "sops-decrypt", "--format", "yaml", "--key"]).arg(&pipe).arg("x.yaml");
    let keeper = Keeper(waiting.uid(65_534).gid(65_534).env_clear().stderr(Stdio::null()).spawn().unwrap());
    let memory = PathBuf::from(format!("/proc/{}/mem", keeper.id()));
    until("its memory is root's", || (std::fs::metadata(&memory).unwrap().uid() == 0).then_some(()));
}
