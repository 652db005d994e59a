"""The operators' side, a signed repository; and the hosts' side, directories and services of moorline."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from neighbours import Engine, GitServer, git, make_key, tail
from place import Failure, Place, Ran, moorline, tool, wait_for
from screen import Screen


class Host:
    """One host as moorline sees it: settings, keys, state, engine, and its two services."""

    def __init__(self, place: Place, screen: Screen, name: str, engine: Engine) -> None:
        self.place, self.screen, self.name, self.engine = place, screen, name, engine
        self.root = place.directory(name)
        self.vault = self.root / "vault"
        self.key = self.root / "etc/age.key"
        self.key.parent.mkdir()
        place.run([tool("age-keygen"), "-o", str(self.key)])
        self.recipient = place.run([tool("age-keygen"), "-y", str(self.key)]).out.strip()
        self.services: dict[str, subprocess.Popen[bytes]] = {}

    def set_up(self, server: GitServer, allowed_signers: str, interval: str = "1m") -> None:
        """What cloud-init lays down on a real host."""
        self.place.write(self.root / "etc/allowed_signers", allowed_signers)
        self.place.write(
            self.root / "etc/agent.toml",
            f'host = "{self.name}"\nremote = "{server.url}"\npoll = "2s"\ninterval = "{interval}"\nbackups = "timer"\n\n'
            f'[git]\ndeploy_key = "{server.root}/deploy_key"\nknown_hosts = "{server.known_hosts}"\n\n'
            f'[engine]\nsocket = "{self.engine.socket}"\ncompose = "{tool("docker-compose")}"\n\n'
            f'[paths]\netc = "{self.root}/etc"\nstate = "{self.root}/state"\nrun = "{self.root}/run"\n',
        )

    def argv(self, arguments: list[str]) -> list[str]:
        return [moorline(), "--config", str(self.root / "etc/agent.toml"), *arguments]

    def moorline(self, arguments: list[str], *, code: int | None = 0) -> Ran:
        """A command to its end; `code` is the exit code that it must have."""
        # The keeper may just be at work; then this one says so, and a person would type it again.
        for _ in range(20):
            ran = self.place.run(self.argv(arguments), check=False)
            if ran.code != 11:
                break
            time.sleep(0.5)
        if code is not None and ran.code != code:
            typed = " ".join(arguments)
            raise Failure(f"`moorline {typed}` on {self.name} ended with {ran.code}, not {code}:\n{ran.out}")
        return ran

    def show(self, arguments: list[str], *, code: int = 0) -> Ran:
        """A command as a person types it on the host, and its output."""
        ran = self.moorline(arguments, code=code)
        self.screen.command(self.name, ["moorline", *arguments], ran)
        return ran

    def compose(self, stack: str, arguments: list[str]) -> Ran:
        return self.engine.docker(["compose", *arguments], cwd=self.root / "state/stacks" / stack)

    def show_compose(self, stack: str, arguments: list[str]) -> Ran:
        """Plain `docker compose` in the directory of a stack."""
        ran = self.compose(stack, arguments)
        self.screen.command(f"{self.name}:{stack}", ["docker", "compose", *arguments], ran)
        return ran

    def page(self, stack: str = "app", service: str = "web") -> str:
        """What the stack's web server answers."""
        fetch = ["exec", "-T", service, "wget", "-q", "-O", "-", "http://127.0.0.1/"]
        return self.compose(stack, fetch).out.strip()

    def start(self, verb: str) -> None:
        """One of the two services, as systemd would start it."""
        self.services[verb] = self.place.spawn(self.argv([verb]), self.root / f"log/{verb}.log")

    def stop(self) -> None:
        """In order, as systemd would: the step in flight is finished."""
        for service in self.services.values():
            service.send_signal(signal.SIGTERM)
        for verb, service in self.services.items():
            try:
                service.wait(timeout=30)
            except subprocess.TimeoutExpired as late:
                raise Failure(f"`moorline {verb}` on {self.name} does not stop") from late

    def status(self) -> dict:
        return json.loads(self.moorline(["status", "--json"]).out)

    def last_run(self) -> dict:
        """The newest report; also says when a service has ended by itself."""
        for verb, service in self.services.items():
            if service.poll() is not None:
                raise Failure(f"`moorline {verb}` on {self.name} ended with {service.returncode}")
        return self.status()["last_run"] or {}

    def wait_until(self, what: str, end: str, *, tip: str, revision: str | None = None) -> dict:
        """Waits for the report of a run that saw `tip`; says how long it took."""
        began = time.monotonic()

        def seen() -> dict | None:
            last = self.last_run()
            fits = last.get("end") == end and last.get("tip") == tip
            return last if fits and revision in (None, last.get("revision")) else None

        report = wait_for(f"{self.name} {what}", seen, 60)
        seconds = time.monotonic() - began
        self.screen.fact(f"{self.name} {what}{f', after {seconds:.1f} s' if seconds > 0.5 else ''}")
        return report

    def logs(self) -> str:
        """For failures: what the services and the engine said last."""
        logs = [self.root / f"log/{verb}.log" for verb in self.services] + [self.engine.root / "dockerd.log"]
        return "\n".join(f"--- {self.name}: {log.name}\n{tail(log)}" for log in logs if log.exists())


class Fleet:
    """The checkout of an operator."""

    def __init__(self, place: Place, screen: Screen, server: GitServer) -> None:
        self.place, self.screen = place, screen
        self.path = place.directory("fleet")
        self.keys = place.directory("keys")
        alice = make_key(place, self.keys / "alice")
        make_key(place, self.keys / "mallory")
        self.allowed = f'alice@example.org namespaces="git" {alice}\n'
        self.git(["init", "--quiet", "--initial-branch=main"])
        self.git(["remote", "add", "origin", server.url])
        local_list = place.write(self.keys / "allowed_signers", self.allowed)
        for key, value in {
            "user.name": "Alice",
            "user.email": "alice@example.org",
            "gpg.format": "ssh",
            "gpg.ssh.allowedSignersFile": str(local_list),
            "user.signingKey": str(self.keys / "alice"),
            "commit.gpgSign": "true",
            "core.sshCommand": server.client(),
            "push.default": "current",
            "advice.detachedHead": "false",
        }.items():
            self.git(["config", key, value])

    def git(self, arguments: list[str]) -> Ran:
        return git(self.place, arguments, cwd=self.path)

    def show(self, arguments: list[str], who: str = "alice") -> Ran:
        ran = self.git(arguments)
        self.screen.command(who, ["git", *arguments], ran)
        return ran

    def read(self, path: str) -> str:
        return (self.path / path).read_text(encoding="utf-8")

    def write(self, path: str, text: str) -> None:
        self.place.write(self.path / path, text)

    def replace(self, path: str, old: str, new: str) -> None:
        """An edit, as with an editor."""
        text = self.read(path)
        if old not in text:
            raise Failure(f"{path} does not contain `{old}`")
        self.write(path, text.replace(old, new))

    def seal(self, path: str) -> Ran:
        """Plain `sops`: the rule in .sops.yaml says for whom."""
        argv = [tool("sops"), "--encrypt", "--in-place", path]
        ran = self.place.run(argv, cwd=self.path)
        self.screen.command("alice", ["sops", *argv[1:]], ran)
        return ran

    def commit(self, message: str) -> str:
        self.git(["add", "--all"])
        self.git(["commit", "--quiet", "--message", message])
        return self.head()

    def head(self) -> str:
        return self.git(["rev-parse", "HEAD"]).out.strip()

    def merge_request(self, branch: str, message: str) -> str:
        """What happens when a reviewed branch is merged: a signed merge commit on main. Shows it; returns it."""
        self.git(["switch", "--quiet", "--create", branch])
        self.git(["commit", "--quiet", "--all", "--message", message])
        self.git(["switch", "--quiet", "main"])
        self.show(["diff", "--unified=0", f"main...{branch}"])
        self.show(["merge", "--quiet", "--no-ff", "--message", f"Merge {branch}: {message}", branch])
        self.show(["push", "--quiet"])
        return self.head()
