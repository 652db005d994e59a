//! Tiny images that behave as a test needs, made without any registry.

use std::os::unix::fs::PermissionsExt as _;

use super::engine::Engine;
use super::run::Run as _;
use super::tools::tool;

/// What a container of the image will do.
#[derive(Clone, Debug)]
pub struct Image {
    command: Vec<String>,
    changes: Vec<String>,
    files: Vec<(String, Vec<u8>)>,
    programs: Vec<&'static str>,
    scripts: Vec<(String, String)>,
}

/// Process 1 is not ended by SIGTERM unless it asks to be; without this, each stop would take ten seconds.
const STAY: &str = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";

impl Image {
    /// Runs `command` (busybox is all there is).
    pub fn command(command: &[&str]) -> Self {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Self { command, changes: Vec::new(), files: Vec::new(), programs: Vec::new(), scripts: Vec::new() }
    }

    /// Stays up, does nothing, stops at once when asked.
    pub fn idle() -> Self {
        Self::command(&["sh", "-c", STAY])
    }

    /// Serves `/www` over HTTP on port 80. `/` is the name of the image; `/message` is `$MESSAGE` at its start.
    pub fn web() -> Self {
        let serve =
            r#"mkdir -p /www && printf '%s\n' "$MESSAGE" >/www/message && httpd -p 80 -h /www && echo serving && "#;
        Self::command(&["sh", "-c", &format!("{serve}{STAY}")])
    }

    /// Serves `/version` and, a second and a half after it was asked, `/cgi-bin/slow`. It is healthy once this script has made
    /// `/run/ready`, and exits at once, with whatever it was doing, when it is asked to stop.
    pub fn app(version: u8, becomes_ready: &str) -> Self {
        let serve = format!(
            "mkdir -p /www/cgi-bin && echo {version} >/www/version && \
             printf '#!/bin/sh\\necho Content-Type: text/plain; echo; sleep 1.5; echo slow {version}\\n' \
             >/www/cgi-bin/slow && chmod +x /www/cgi-bin/slow && httpd -p 80 -h /www; \
             trap 'exit 0' TERM; ({becomes_ready}) & while :; do sleep 3600 & wait $!; done"
        );
        Self::command(&["sh", "-c", &serve]).healthy_while("/run/ready")
    }

    /// The real Traefik.
    pub fn traefik() -> Self {
        let mut image = Self::command(&[]).change("ENTRYPOINT [\"/bin/traefik\"]");
        image.programs.push("traefik");
        image
    }

    /// Ends at once.
    pub fn exits(code: u8) -> Self {
        Self::command(&["sh", "-c", &format!("echo ending with {code}; exit {code}")])
    }

    /// Adds a healthcheck that soon succeeds.
    #[must_use]
    pub fn healthy(self) -> Self {
        self.healthcheck("[\"true\"]")
    }

    /// Adds a healthcheck that always fails.
    #[must_use]
    pub fn unhealthy(self) -> Self {
        self.healthcheck("[\"false\"]")
    }

    /// Adds a healthcheck that succeeds as long as the file exists in the container.
    #[must_use]
    pub fn healthy_while(self, file: &str) -> Self {
        self.healthcheck(&format!("[\"test\",\"-e\",\"{file}\"]"))
    }

    #[must_use]
    fn healthcheck(self, command: &str) -> Self {
        self.change(&format!("HEALTHCHECK --interval=1s --timeout=2s --retries=2 CMD {command}"))
    }

    /// Adds an instruction of a Dockerfile: `ENV`, `EXPOSE`, `LABEL`, `USER`, `VOLUME`, ...
    #[must_use]
    pub fn change(mut self, instruction: &str) -> Self {
        self.changes.push(instruction.to_owned());
        self
    }

    /// Adds a file, with a path from the root of the image.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.trim_start_matches('/').to_owned(), content.into()));
        self
    }

    /// Adds a script, with a path from the root of the image; in the place of what is there.
    #[must_use]
    pub fn program(mut self, path: &str, script: &str) -> Self {
        self.scripts.push((path.trim_start_matches('/').to_owned(), script.to_owned()));
        self
    }

    #[track_caller]
    pub(super) fn import(&self, engine: &Engine, name: &str) -> String {
        let root = tempfile::tempdir_in(engine.scratch().path()).expect("the scratch is writable");
        for directory in ["bin", "etc", "run", "tmp", "www"] {
            std::fs::create_dir(root.path().join(directory)).expect("the directory is new");
        }
        std::fs::copy(tool("busybox"), root.path().join("bin/busybox")).expect("busybox can be copied");
        for applet in engine.scratch().command("busybox").arg("--list").run().succeeds().lines() {
            if applet != "busybox" {
                std::os::unix::fs::symlink("busybox", root.path().join("bin").join(applet))
                    .expect("the directory is new");
            }
        }
        std::fs::write(root.path().join("www/index.html"), format!("{name}\n")).expect("the directory is writable");
        std::fs::write(root.path().join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")
            .expect("the directory is writable");
        for program in &self.programs {
            std::fs::copy(tool(program), root.path().join("bin").join(program)).expect("the program can be copied");
        }
        for (path, content) in &self.files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("below the root")).expect("the directory is writable");
            std::fs::write(&path, content).expect("the directory is writable");
        }
        for (path, script) in &self.scripts {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("below the root")).expect("the directory is writable");
            // Not through the link that stands for an applet of busybox.
            std::fs::remove_file(&path).ok();
            std::fs::write(&path, script).expect("the directory is writable");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
        let archive = root.path().with_extension("tar");
        let mut tar = engine.scratch().command("busybox");
        tar.arg("tar").arg("-cf").arg(&archive).arg("-C").arg(root.path()).arg(".").run().succeeds();

        let command = serde_json::to_string(&self.command).expect("words are JSON");
        let mut import = engine.docker_command();
        import.args(["import", "--change", &format!("CMD {command}")]);
        import.args(["--change", "ENV PATH=/bin"]);
        for change in &self.changes {
            import.args(["--change", change]);
        }
        let id = import.arg(&archive).arg(name).run().succeeds();
        std::fs::remove_file(archive).ok();
        id
    }
}
