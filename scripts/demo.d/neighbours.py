"""The real neighbours: Docker engines, a git server over ssh, tiny images; and an endpoint like Uptime Kuma's."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from place import Failure, Place, Ran, tool, wait_for


class Engine:
    """A Docker Engine in a network namespace of its own: two of them, as on two hosts, cannot meet."""

    def __init__(self, place: Place, host: str) -> None:
        self.place = place
        self.root = place.directory(f"{host}/engine")
        self.netns = f"{place.name}-{host}"
        self.socket = self.root / "docker.sock"
        # A socket's path has 107 bytes; the error that the daemon gives is hard to read.
        if len(str(self.socket)) > 100:
            raise Failure(f"{self.socket} is too long for a socket\nhint: set TMPDIR to a shorter path")
        # The client looks for plugins here: never in the person's own directory.
        client = place.directory(f"{host}/engine/client")
        (client / "cli-plugins").mkdir()
        (client / "cli-plugins/docker-compose").symlink_to(tool("docker-compose"))
        place.run([tool("ip"), "netns", "add", self.netns])
        place.run([*self.inside(), tool("ip"), "link", "set", "lo", "up"])
        self.containerd = self._start_containerd()
        self.daemon: subprocess.Popen[bytes] | None = None

    def _start_containerd(self) -> subprocess.Popen[bytes]:
        # Started by us: a daemon that starts its own one takes longer, and takes it along when it ends.
        below = self.root / "containerd"
        unused = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
        settings = self.place.write(
            below / "config.toml",
            f"version = 2\nroot = '{below}/root'\nstate = '{below}/state'\ndisabled_plugins = {unused}\n"
            f"[grpc]\naddress = '{self.root}/containerd.sock'\n",
        )
        return self.place.spawn([tool("containerd"), "--config", str(settings)], self.root / "containerd.log")

    def start(self) -> None:
        """Does not wait: engines may start side by side."""
        wait_for("containerd", lambda: self._connects(self.root / "containerd.sock"))
        settings = self.place.write(self.root / "daemon.json", "{}\n")
        # `nsenter`, not `ip netns exec`: that one mounts a /sys without control groups over the machine's.
        argv = [*self.inside(), tool("dockerd"), "--config-file", str(settings)]
        argv += ["--data-root", f"{self.root}/docker", "--exec-root", f"{self.root}/exec"]
        argv += ["--pidfile", f"{self.root}/docker.pid", "--host", f"unix://{self.socket}"]
        argv += ["--containerd", f"{self.root}/containerd.sock"]
        argv += ["--bip", "10.201.0.1/24", "--default-address-pool", "base=10.202.0.0/16,size=24"]
        # Ours to name and to remove, with and without systemd on the machine.
        argv += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{self.place.name}"]
        self.daemon = self.place.spawn(argv, self.root / "dockerd.log")

    def wait(self) -> None:
        def answers() -> bool:
            if self.daemon is None or self.daemon.poll() is not None:
                raise Failure(f"the engine ended:\n{tail(self.root / 'dockerd.log')}")
            return self._connects(self.socket) and self.docker(["version"], check=False).code == 0

        wait_for("the engine", answers)

    def inside(self) -> list[str]:
        """Before a program: it runs in the engine's network."""
        return [tool("nsenter"), f"--net=/run/netns/{self.netns}"]

    def docker(self, arguments: list[str], *, cwd: Path | None = None, check: bool = True) -> Ran:
        argv = [tool("docker"), "--config", str(self.root / "client"), *arguments]
        return self.place.run(argv, cwd=cwd, check=check, DOCKER_HOST=f"unix://{self.socket}")

    def containers(self) -> dict[str, str]:
        """Name and id of everything that runs."""
        lines = self.docker(["ps", "--no-trunc", "--format", "{{.Names}} {{.ID}}"]).out.splitlines()
        return dict(line.split(" ") for line in lines)

    @staticmethod
    def _connects(path: Path) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(path)) == 0


# Process 1 is not ended by SIGTERM unless it asks to be; without this, each stop would take ten seconds.
STAY = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"
SERVE = "mkdir -p /www; [ -e /www/index.html ] || echo \"$VERSION: $GREETING\" >/www/index.html; httpd -p 80 -h /www; "


@dataclass
class Image:
    """A tiny image: a static busybox and a command."""

    name: str
    script: str
    healthcheck: str | None = None

    def load(self, archive: Path, engine: Engine) -> None:
        command = json.dumps(["sh", "-c", self.script])
        changes = [f"CMD {command}", "ENV PATH=/bin", f"ENV VERSION={self.name}"]
        if self.healthcheck is not None:
            check = json.dumps(["sh", "-c", self.healthcheck])
            changes.append(f"HEALTHCHECK --interval=1s --timeout=2s --retries=3 CMD {check}")
        flags = [word for change in changes for word in ("--change", change)]
        engine.docker(["import", *flags, str(archive), self.name])


IMAGES = [
    Image("app:1", SERVE + STAY, "wget -q -O /dev/null http://127.0.0.1/"),
    Image("app:2", SERVE + STAY, "wget -q -O /dev/null http://127.0.0.1/"),
    # It starts and stays, and its server never answers: what only a health check can see.
    Image("broken:1", STAY, "wget -q -O /dev/null http://127.0.0.1/"),
    Image("db:1", "touch /data/ready; " + STAY, "test -e /data/ready"),
    Image("proxy:1", SERVE + STAY, "wget -q -O /dev/null http://127.0.0.1/"),
]


def file_system(place: Place) -> Path:
    """What all images consist of, as an archive."""
    root = place.directory("image")
    for name in ["bin", "data", "etc", "run", "tmp", "www"]:
        (root / name).mkdir()
    shutil.copy2(os.path.realpath(tool("busybox")), root / "bin/busybox")
    for applet in place.run([tool("busybox"), "--list"]).out.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n", encoding="utf-8")
    archive = place.path / "image.tar"
    place.run([tool("busybox"), "tar", "-cf", str(archive), "-C", str(root), "."])
    return archive


class GitServer:
    """A real sshd on the loopback. The hosts' deploy key may fetch the repository; the operators' key may also push."""

    def __init__(self, place: Place, name: str = "git") -> None:
        self.place = place
        self.root = place.directory(name)
        self.repository = self.root / "fleet.git"
        git(place, ["init", "--quiet", "--bare", "--initial-branch=main", str(self.repository)])
        for name in ["host_key", "deploy_key", "operator_key"]:
            make_key(place, self.root / name)
        shell = f'{tool("git-shell")} -c \\"$SSH_ORIGINAL_COMMAND\\"'
        upload = shlex.join([os.path.realpath(tool("git")), "upload-pack", str(self.repository)])
        self.write_authorized_keys({"deploy_key": upload, "operator_key": shell})
        self._write_configuration()
        # What Debian's service makes before it starts sshd.
        os.makedirs("/run/sshd", exist_ok=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        key = (self.root / "host_key.pub").read_text(encoding="utf-8")
        self.known_hosts = place.write(self.root / "known_hosts", f"[127.0.0.1]:{self.port} {key}")
        self.url = f"ssh://root@127.0.0.1:{self.port}{self.repository}"
        threading.Thread(target=self._serve, daemon=True).start()

    def write_authorized_keys(self, commands: dict[str, str]) -> None:
        """Which key may run which command, and no other."""
        lines = []
        for name, command in commands.items():
            public = (self.root / f"{name}.pub").read_text(encoding="utf-8")
            lines.append(f'command="{command}",restrict {public}')
        self.place.write(self.root / "authorized_keys", "".join(lines))

    def _write_configuration(self) -> None:
        # sshd refuses a locked account unless PAM is to judge it; some images lock root, and Debian's do not.
        shadow = Path("/etc/shadow").read_text(encoding="utf-8").splitlines()
        locked = any(line.startswith("root:!") for line in shadow)
        self.configuration = self.place.write(
            self.root / "sshd_config",
            f"HostKey {self.root}/host_key\nAuthorizedKeysFile {self.root}/authorized_keys\n"
            f"UsePAM {'yes' if locked else 'no'}\nStrictModes no\nPidFile none\nAcceptEnv GIT_PROTOCOL\n"
            "PermitRootLogin forced-commands-only\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PrintMotd no\nUseDNS no\n",
        )

    def _serve(self) -> None:
        # An sshd per connection: so the port is ours from the first moment, and nobody can take it in between.
        argv = [tool("sshd"), "-i", "-f", str(self.configuration), "-E", str(self.root / "sshd.log")]
        sessions: list[subprocess.Popen[bytes]] = []
        while True:
            connection, _ = self._listener.accept()
            sessions = [session for session in sessions if session.poll() is None]
            with connection:
                sessions.append(
                    subprocess.Popen(
                        argv,
                        env=self.place.environment(),
                        stdin=connection,
                        stdout=connection,
                        stderr=subprocess.DEVNULL,
                        start_new_session=True,
                    )
                )

    def client(self) -> str:
        """The value of `core.sshCommand` for an operator."""
        options = ["IdentitiesOnly=yes", "BatchMode=yes", f"UserKnownHostsFile={self.known_hosts}"]
        flags = [word for option in options for word in ("-o", option)]
        return shlex.join([tool("ssh"), "-F", "none", "-i", str(self.root / "operator_key"), *flags])


def git(place: Place, arguments: list[str], *, cwd: Path | None = None, check: bool = True) -> Ran:
    """git without any configuration but the repository's own."""
    clean = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    return place.run([tool("git"), *arguments], cwd=cwd, check=check, **clean)


def make_key(place: Place, path: Path) -> str:
    """Makes an ed25519 key; returns type and key without the comment."""
    place.run([tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)])
    return " ".join(path.with_suffix(".pub").read_text(encoding="utf-8").split(" ")[:2])


@dataclass
class Beat:
    """What a monitor was told."""

    at: float
    monitor: str
    status: str
    text: str


class Kuma:
    """Answers pushes as Uptime Kuma does, and remembers them."""

    def __init__(self, monitors: list[str]) -> None:
        self.began = time.monotonic()
        self.beats: list[Beat] = []
        kuma = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = urlsplit(self.path)
                monitor = asked.path[len("/api/push/") :]
                known = asked.path.startswith("/api/push/") and monitor in monitors
                if known:
                    query = parse_qs(asked.query)
                    # Anything but exactly `up` is DOWN; a missing status is UP.
                    status = "UP" if query.get("status", ["up"])[0] == "up" else "DOWN"
                    text = query.get("msg", ["OK"])[0]
                    kuma.beats.append(Beat(time.monotonic() - kuma.began, monitor, status, text))
                answer = {"ok": True} if known else {"ok": False, "msg": "Monitor not found or not active."}
                body = json.dumps(answer).encode()
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}/api/push"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def mark(self) -> int:
        """Beats from here on are news."""
        return len(self.beats)

    def wait(self, since: int, monitor: str, status: str, text: str = "") -> Beat:
        """The first such beat since then, whose text contains `text`."""

        def fits(beat: Beat) -> bool:
            return (beat.monitor, beat.status) == (monitor, status) and text in beat.text

        return wait_for(f"{monitor} {status} {text}", lambda: next(filter(fits, self.beats[since:]), None), 20)


def tail(log: Path, lines: int = 15) -> str:
    if not log.exists():
        return f"({log.name} does not exist)"
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
