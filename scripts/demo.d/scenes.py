"""The story, scene by scene. What a scene claims, it looks up; if it is not so, the demo ends there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from fleet import Fleet, Host
from neighbours import IMAGES, Engine, GitServer, Kuma, file_system
from place import Failure, Place, moorline, tool
from screen import Screen

APP = """\
services:
  web:
    image: app:1
    environment: { GREETING: '${GREETING}' }
    secrets: [db_password]
    depends_on: { db: { condition: service_healthy } }
  db:
    image: db:1
    secrets: [db_password]
    volumes: [data:/data]
secrets:
  db_password: { environment: DB_PASSWORD }
volumes:
  data:
x-moorline:
  deploy: { health_timeout: 20s }
"""

PROXY = """\
services:
  proxy:
    image: proxy:1
    volumes: ['./files:/www:ro']
x-moorline:
  deploy: { health_timeout: 20s }
"""


class Demo:
    """Two hosts, one repository, and what happens to them."""

    def __init__(self, place: Place, screen: Screen) -> None:
        self.place, self.screen = place, screen
        self.passwords: dict[str, str] = {}
        self.hosts: list[Host] = []

    def play(self) -> None:
        self.start_neighbours()
        self.make_repository()
        self.check_and_plan()
        self.start_services()
        self.look_with_compose()
        self.nothing_changes()
        self.canary_first()
        self.promote()
        self.refuse_a_stranger()
        self.gate_a_broken_image()
        self.hold()
        self.lose_data()
        self.look_back()

    # --- 0, 1: what there is ---

    def start_neighbours(self) -> None:
        self.screen.scene(
            "Real neighbours",
            "Two Docker engines, each in a network of its own, stand for two hosts; a git server over ssh; a push "
            "endpoint that answers like Uptime Kuma's; five tiny images made from a static busybox. Nothing of this "
            "machine is changed, and all of it is removed at the end.",
        )
        engines = [Engine(self.place, name) for name in ("alpha", "bravo")]
        for engine in engines:
            engine.start()
        archive = file_system(self.place)
        self.hosts = [Host(self.place, self.screen, engine.root.parent.name, engine) for engine in engines]
        self.alpha, self.bravo = self.hosts
        self.server = GitServer(self.place)
        self.kuma = Kuma([host.name for host in self.hosts])
        for engine in engines:
            engine.wait()
            for image in IMAGES:
                image.load(archive, engine)
        version = self.alpha.engine.docker(["version", "--format", "{{.Server.Version}}"]).out.strip()
        compose = self.alpha.engine.docker(["compose", "version", "--short"]).out.strip()
        own = self.place.run([moorline(), "--version"]).out.strip()
        self.screen.note(f"Docker Engine {version}, Compose {compose}, {own}")
        self.screen.note(f"images: {', '.join(image.name for image in IMAGES)}")
        self.screen.note("`alpha$ moorline ...` is short for `moorline --config ~/alpha/etc/agent.toml ...`")

    def make_repository(self) -> None:
        self.screen.scene(
            "A signed repository for two hosts",
            "alpha is the canary and follows the branch; bravo is production and runs the commit that "
            "rings/production.yaml names. Secrets are sealed with plain sops, for each host's own age key.",
        )
        fleet = self.fleet = Fleet(self.place, self.screen, self.server)
        for host in self.hosts:
            host.set_up(self.server, fleet.allowed)
        fleet.write("moorline.yaml", "version: 1\n")
        fleet.write("signers/allowed_signers", fleet.allowed)
        fleet.write("rings/canary.yaml", "follow: main\n")
        fleet.write("rings/production.yaml", "follow: main\nhalt: nothing was promoted yet\n")
        fleet.write("stacks/app/compose.yaml", APP)
        fleet.write("stacks/proxy/compose.yaml", PROXY)
        fleet.write("stacks/proxy/files/index.html", "the way in\n")
        self._write_hosts()
        first = fleet.commit("The fleet")
        fleet.write("rings/production.yaml", f"commit: {first}\n")
        self.tip = fleet.commit("Production runs the first revision")
        self.production = first
        fleet.show(["ls-files"])
        fleet.show(["log", "--format=%h %G? signed by %GS: %s"])
        fleet.show(["push", "--quiet"])

    def _write_hosts(self) -> None:
        rules = "creation_rules:\n"
        for host, ring in zip(self.hosts, ("canary", "production")):
            name = host.name
            rules += f"  - path_regex: ^hosts/{name}/\n    age: {host.recipient}\n"
            self.fleet.write(
                f"hosts/{name}/host.yaml",
                f"ring: {ring}\nvars: {{ GREETING: hello from {name} }}\nstacks: [proxy, app]\n"
                f'backup: {{ repository: "{host.vault}", at: "03:00", keep: {{ daily: 7 }} }}\n'
                "monitors: { reconcile: KUMA_RECONCILE }\n",
            )
            self.fleet.write(f"hosts/{name}/recipient", f"{host.recipient}\n")
        self.fleet.write(".sops.yaml", rules)
        for host in self.hosts:
            password = self.passwords[host.name] = f"{host.name}-{os.urandom(12).hex()}"
            path = f"hosts/{host.name}/secrets.sops.yaml"
            push = f"{self.kuma.url}/{host.name}"
            self.fleet.write(path, f"all:\n  KUMA_RECONCILE: {push}\n  BACKUP_PASSWORD: {password}\napp:\n  DB_PASSWORD: {password}\n")
            self.fleet.seal(path)
            sealed = self.fleet.read(path)
            self.screen.ensure("ENC[" in sealed and password not in sealed, f"{path} is sealed")

    # --- 2, 3: from a commit to containers ---

    def check_and_plan(self) -> None:
        self.screen.scene(
            "Check and plan",
            "`check` is what CI runs on a pull request: it needs no host and no key. `plan` says what a run would do, "
            "and why; it changes nothing.",
        )
        ran = self.place.run([moorline(), "check"], cwd=self.fleet.path)
        self.screen.command("alice", ["moorline", "check"], ran)
        self.alpha.show(["courier", "--once"])
        ran = self.alpha.show(["plan", "--exit-code"], code=3)
        steps, causes = re.findall(r"^ +\d+\. ", ran.out, re.M), re.findall(r"^ +because ", ran.out, re.M)
        self.screen.ensure(len(steps) == 8 and len(causes) >= 8, "eight steps, each with its cause")
        self.screen.ensure(not self.alpha.engine.containers(), "nothing runs yet")
        self._nowhere_a_password(ran.out)

    def start_services(self) -> None:
        self.screen.scene(
            "The two services, on both hosts",
            "The courier fetches the branch and delivers status messages; the keeper verifies, plans, acts, looks "
            "again. The courier is not trusted: it has no part in any decision. The shipped units give it a user of its own.",
        )
        news = self.kuma.mark()
        for host in self.hosts:
            for verb in ("courier", "run"):
                self.screen.command(host.name, ["moorline", verb], note="in the background, as systemd would start it")
                host.start(verb)
        self.screen.line("")
        self.alpha.wait_until("runs the tip of main", "converged", tip=self.tip, revision=self.tip)
        self.bravo.wait_until(
            "runs the commit that its ring names", "converged", tip=self.tip, revision=self.production
        )
        ran = self.alpha.show(["runs", "show"])
        self._nowhere_a_password(ran.out)
        for host in self.hosts:
            self.screen.ensure(host.page() == f"app:1: hello from {host.name}", f"{host.name} answers: {host.page()}")
            self._told(news, host.name, "UP")

    # --- 4, 5: what is there, and stays ---

    def look_with_compose(self) -> None:
        self.screen.scene(
            "What runs is a Compose project",
            "The stack's directory is a plain Compose project: `docker compose` works in it as if a person had typed "
            "it all. Secrets are files in memory, not environment variables.",
        )
        alpha = self.alpha
        alpha.show_compose("app", ["ps", "--format", r"table {{.Service}}\t{{.Image}}\t{{.Status}}"])
        before = alpha.engine.containers()
        alpha.show_compose("app", ["up", "-d"])
        self.screen.ensure(alpha.engine.containers() == before, "`up -d` by hand changed nothing: the same containers")
        ran = alpha.show_compose("app", ["exec", "-T", "web", "ls", "-l", "/run/secrets/"])
        self.screen.ensure("db_password" in ran.out, "the password is a file in the container")
        inside = alpha.compose("app", ["exec", "-T", "web", "cat", "/run/secrets/db_password"]).out
        self.screen.ensure(inside == self.passwords["alpha"], "its content is what was sealed")
        inspected = alpha.engine.docker(["inspect", *before]).out
        self.screen.ensure(self.passwords["alpha"] not in inspected, "`docker inspect` does not show it")
        self.screen.ensure(not self._on_disk("alpha"), "no file on the host's disk holds it")
        kind = self.place.run(["stat", "--file-system", "--format=%T", str(alpha.root / "run")])
        self.screen.command("alpha", ["stat", "--file-system", "--format=%T", str(alpha.root / "run")], kind)
        self.screen.ensure(kind.out.strip() == "ramfs", "where it lies is memory that is never swapped out")

    def nothing_changes(self) -> None:
        self.screen.scene(
            "Nothing changes when nothing changed",
            "A second run plans zero steps: it looks once at the engine and starts no other program.",
        )
        before = self.alpha.engine.containers()
        ran = self.alpha.show(["reconcile"])
        plan = self.alpha.show(["plan", "--exit-code"])
        self.screen.ensure("0 steps" in plan.out, "zero steps")
        self.screen.ensure(self.alpha.engine.containers() == before, "the same containers")
        self.screen.fact(f"the run took {1000 * ran.seconds:.0f} ms, {ran.cpu_ms:.0f} ms of them on the processor")

    # --- 6, 7: a change, and its promotion ---

    def canary_first(self) -> None:
        self.screen.scene(
            "A change is merged: canary takes it, production stays",
            "A reviewed branch becomes a signed merge commit on main. Within a poll (two seconds here) canary runs "
            "it.",
        )
        production = self.bravo.engine.containers()
        before = self.alpha.engine.containers()
        self.fleet.replace("stacks/app/compose.yaml", "app:1", "app:2")
        self.tip = self.fleet.merge_request("app-2", "app 2")
        self.screen.line("")
        self.alpha.wait_until("runs the merge", "converged", tip=self.tip, revision=self.tip)
        self.alpha.show(["runs", "show"])
        self.screen.ensure(self.alpha.page() == "app:2: hello from alpha", f"alpha answers: {self.alpha.page()}")
        after = self.alpha.engine.containers()
        changed = sorted(name for name in after if after[name] != before.get(name))
        self.screen.ensure(changed == ["app-web-1"], f"only what changed was replaced: {', '.join(changed)}")
        self.bravo.wait_until(
            "knows the merge and stays where it is", "converged", tip=self.tip, revision=self.production
        )
        self.screen.ensure(self.bravo.engine.containers() == production, "bravo runs the same containers as before")

    def promote(self) -> None:
        self.screen.scene(
            "Promotion: one line, signed",
            "Production moves when rings/production.yaml names another commit: one that canary has run.",
        )
        proven = self.tip
        self.fleet.replace("rings/production.yaml", self.production, proven)
        self.tip = self.fleet.merge_request("promote", "production runs app 2")
        self.production = proven
        self.screen.line("")
        self.bravo.wait_until("runs what canary has proven", "converged", tip=self.tip, revision=proven)
        self.screen.ensure(self.bravo.page() == "app:2: hello from bravo", f"bravo answers: {self.bravo.page()}")
        self.alpha.wait_until("has nothing to do", "converged", tip=self.tip, revision=self.tip)

    # --- 8, 9, 10: what goes wrong ---

    def refuse_a_stranger(self) -> None:
        self.screen.scene(
            "A stranger's signature",
            "Somebody who may push, but whose key is not in signers/allowed_signers, pushes a commit. No host takes "
            "anything of it. Then the branch is put back; that is no rewind, as the hosts never accepted what is "
            "taken away.",
        )
        news, before = self.kuma.mark(), [host.engine.containers() for host in self.hosts]
        self.fleet.replace("stacks/app/compose.yaml", "app:2", "app:1")
        stranger = ["-c", "user.name=Mallory", "-c", f"user.signingKey={self.fleet.keys}/mallory"]
        self.fleet.show([*stranger, "commit", "--quiet", "--all", "--message", "app 1 was fine"], who="mallory")
        self.fleet.show(["push", "--quiet"], who="mallory")
        self.screen.line("")
        for host in self.hosts:
            self._told(news, host.name, "DOWN")
        ran = self.alpha.show(["reconcile"], code=13)
        self.screen.ensure("error[signer-unknown]" in ran.out, "refused with exit code 13")
        for host, containers in zip(self.hosts, before):
            self.screen.ensure(host.engine.containers() == containers, f"nothing was changed on {host.name}")
            anchor = host.status()["anchor"]["revision"]
            self.screen.ensure(anchor == self.tip, f"the newest revision {host.name} accepts is still {anchor[:8]}")
        self.fleet.show(["reset", "--quiet", "--hard", self.tip[:12]])
        news = self.kuma.mark()
        self.fleet.show(["push", "--quiet", "--force"])
        self.screen.line("")
        for host in self.hosts:
            self._told(news, host.name, "UP")

    def gate_a_broken_image(self) -> None:
        self.screen.scene(
            "A broken image goes back by itself",
            "A properly signed change names an image that starts and never answers. The health gate on canary says "
            "so, the version before comes back from what is on the host, and production never sees the change.",
        )
        news, production = self.kuma.mark(), self.bravo.engine.containers()
        self.fleet.replace("stacks/app/compose.yaml", "app:2", "broken:1")
        self.tip = self.fleet.merge_request("app-3", "app 3")
        self.screen.line("")
        report = self.alpha.wait_until("went back", "rolled-back", tip=self.tip)
        self.alpha.show(["runs", "show"])
        self.screen.ensure(report["fault"]["code"] == "rolled-back", "the gate stopped it")
        self.screen.ensure(self.alpha.page() == "app:2: hello from alpha", f"alpha answers: {self.alpha.page()}")
        after = report["rollbacks"][0]["serving_after_ms"]
        self.screen.ensure(after is not None, f"the version before served again {after} ms after the verdict")
        self._told(news, "alpha", "DOWN")
        self.bravo.wait_until("stays", "converged", tip=self.tip, revision=self.production)
        self.screen.ensure(self.bravo.engine.containers() == production, "bravo runs the same containers as before")
        news = self.kuma.mark()
        self.fleet.show(["revert", "--mainline", "1", "--no-edit", "HEAD"])
        self.fleet.show(["push", "--quiet"])
        self.tip = self.fleet.head()
        self.screen.line("")
        self.alpha.wait_until("is in step with the next commit", "converged", tip=self.tip, revision=self.tip)
        self.screen.ensure(self.alpha.page() == "app:2: hello from alpha", f"alpha answers: {self.alpha.page()}")
        self._told(news, "alpha", "UP")

    def hold(self) -> None:
        self.screen.scene(
            "Hold: look, but do not touch",
            "During an incident a person holds the host. Runs still verify and plan, and change nothing.",
        )
        alpha, before, news = self.alpha, self.alpha.engine.containers(), self.kuma.mark()
        alpha.show(["hold", "--for", "30m", "--reason", "looking at the database"])
        self.fleet.replace("hosts/alpha/host.yaml", "hello from alpha", "good morning from alpha")
        self.tip = self.fleet.merge_request("greeting", "another greeting on alpha")
        self.screen.line("")
        alpha.wait_until("sees the change and is held", "held", tip=self.tip)
        ran = alpha.show(["plan", "--exit-code"], code=3)
        self.screen.ensure("web" in ran.out, "the plan is there")
        ran = alpha.show(["reconcile"], code=4)
        self.screen.ensure("error[held]" in ran.out, "it is not carried out: exit code 4")
        self.screen.ensure(alpha.engine.containers() == before, "the same containers")
        alpha.show(["release"])
        alpha.show(["reconcile"])
        self.screen.ensure(alpha.page() == "app:2: good morning from alpha", f"alpha answers: {alpha.page()}")
        self._told(news, "alpha", "UP", "converged")

    # --- 11: data is lost ---

    def lose_data(self) -> None:
        self.screen.scene(
            "Data is lost, and comes back",
            "Snapshots have restic's format: plain restic reads them too. A drill restores the newest one into scratch "
            "space and compares every file. A directory stands for the Storage Box here.",
        )
        alpha, orders = self.alpha, ["exec", "-T", "db", "cat", "/data/orders"]
        alpha.show_compose("app", ["exec", "-T", "db", "sh", "-c", "echo order 4711 > /data/orders"])
        for arguments in (["backup", "--init"], ["snapshots"], ["drill", "app"]):
            self._nowhere_a_password(alpha.show(arguments).out)
        check = [tool("restic"), "--no-cache", "--repo", str(alpha.vault), "check", "--read-data"]
        ran = self.place.run(check, RESTIC_PASSWORD=self.passwords["alpha"])
        self.screen.command("alpha", ["restic", *check[2:]], ran)
        self.screen.ensure("no errors were found" in ran.out, "plain restic finds it sound")
        alpha.show_compose("app", ["exec", "-T", "db", "rm", "/data/orders"])
        self._nowhere_a_password(alpha.show(["restore", "app", "latest", "--in-place", "--yes"]).out)
        ran = alpha.show_compose("app", orders)
        self.screen.ensure(ran.out == "order 4711\n", "the order is there again")
        alpha.show(["reconcile"])
        self.screen.ensure(alpha.page() == "app:2: good morning from alpha", f"alpha answers: {alpha.page()}")

    # --- 12: where everything is ---

    def look_back(self) -> None:
        self.screen.scene(
            "Where everything is", "Both hosts in their own words, and all that the push endpoint was told."
        )
        for host in self.hosts:
            ran = host.show(["status", "--check"])
            self._nowhere_a_password(ran.out)
        told = "".join(
            f"{beat.at:6.1f} s  {beat.monitor:<6} {beat.status:<5} {beat.text}\n" for beat in self.kuma.beats
        )
        self.screen.line("")
        self.screen.note("what the push endpoint was told:")
        self.screen.output(told)
        self._nowhere_a_password(told)
        for host in self.hosts:
            self._nowhere_a_password(host.logs())
            self.screen.ensure(not self._on_disk(host.name), f"no secret of {host.name} is anywhere on its disk")

    def _told(self, since: int, monitor: str, status: str, text: str = "") -> None:
        beat = self.kuma.wait(since, monitor, status, text)
        self.screen.fact(f"the push endpoint was told: {beat.monitor} {beat.status}, {beat.text}")

    def _nowhere_a_password(self, text: str) -> None:
        if any(password in text for password in self.passwords.values()):
            raise Failure("a secret was printed")

    def _on_disk(self, name: str) -> list[Path]:
        """Files on the disk that hold the host's password: moorline's own, and all of the engine's."""
        password, root, found = self.passwords[name].encode(), self.place.path / name, []
        for part in ("state", "log", "etc", "engine/docker"):
            for directory, _, files in os.walk(root / part):
                for path in (Path(directory) / file for file in files):
                    if path.is_file() and not path.is_symlink() and password in path.read_bytes():
                        found.append(path)
        return found
