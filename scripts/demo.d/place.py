"""A place of its own for everything that is started here, and the certainty that nothing outlives it.

Everything carries the name of its place: processes in an environment variable, containers in their control group,
mounts and files in their path, network namespaces in their name. So clearing up needs no list that a killed program
could have left unfinished, and the same code clears up after us and after those who could not.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PREFIX = "moorline-demo-"
MARK = "MOORLINE_DEMO"
CHECKOUT = Path(__file__).resolve().parent.parent.parent
LAB = Path(os.environ.get("MOORLINE_LAB") or CHECKOUT / ".lab/tools")


class Failure(Exception):
    """What was shown is not so, or could not be shown."""


@dataclass
class Ran:
    """What a program did."""

    argv: list[str]
    code: int
    out: str
    seconds: float
    cpu_ms: float
    """User and system time of the program and of what it waited for."""


def tool(name: str) -> str:
    """The absolute path of a program that scripts/install-tools laid out."""
    path = LAB / "bin" / name
    if not path.exists():
        raise Failure(f"`{name}` is missing: {path} does not exist\nhint: `make tools` installs or names it")
    return str(path)


def moorline() -> str:
    """The program itself, as `make build` leaves it."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or CHECKOUT / "target")
    path = target / "release/moorline"
    if not path.exists():
        raise Failure(f"{path} does not exist\nhint: `make build` compiles it")
    return str(path.resolve())


class Place:
    """A private directory, and the name of everything that is started from it."""

    def __init__(self) -> None:
        self.name = f"{PREFIX}{os.getpid()}"
        self.path = Path(tempfile.gettempdir()) / self.name
        # Locked as long as we live, however we end. A recorded process id could have been given to someone else
        # since. The lock comes first: a directory without a locked lock file is a leftover to everyone else.
        self._alive = open(lock_file(self.path), "w", encoding="utf-8")
        fcntl.flock(self._alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if self.path.exists():
            clear(self.name, self.path)
        self.path.mkdir(mode=0o700)

    def directory(self, path: str) -> Path:
        """Makes a directory below."""
        made = self.path / path
        made.mkdir(parents=True, exist_ok=True)
        return made

    def write(self, path: str | Path, text: str, mode: int = 0o644) -> Path:
        """Writes a file below, with the directories above it."""
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
        return file

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of the person who types; marked as ours, and so is what inherits it."""
        search = f"{LAB}/bin:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        home = str(self.path)
        return {"PATH": search, "HOME": home, "TMPDIR": home, "LC_ALL": "C.UTF-8", MARK: self.name, **more}

    def run(self, argv: list[str], *, cwd: Path | None = None, check: bool = True, **more: str) -> Ran:
        """Runs a program to its end. Both its streams come back as they would stand on a terminal."""
        before = time.monotonic()
        with tempfile.TemporaryFile(dir=self.path) as said:
            child = subprocess.Popen(
                argv, cwd=cwd, env=self.environment(**more), stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - before
            said.seek(0)
            out = said.read().decode("utf-8", "replace")
        ran = Ran(argv, child.returncode, out, seconds, 1000 * (usage.ru_utime + usage.ru_stime))
        if check and ran.code != 0:
            raise Failure(f"`{' '.join(argv)}` ended with {ran.code}:\n{out}")
        return ran

    def spawn(self, argv: list[str], log: Path, **more: str) -> subprocess.Popen[bytes]:
        """Starts a program that stays, away from the terminal's Ctrl-C: it is ended in order."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as words:
            return subprocess.Popen(
                argv,
                env=self.environment(**more),
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )

    def clear(self) -> None:
        """Ends and removes everything."""
        clear(self.name, self.path)
        lock_file(self.path).unlink(missing_ok=True)
        self._alive.close()


def wait_for(what: str, look, seconds: float = 60):
    """Looks again and again until there is something to see, and returns it."""
    end = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise Failure(f"waited {seconds:.0f} seconds in vain for: {what}")
        time.sleep(0.1)


def sweep() -> tuple[list[str], list[str]]:
    """Clears what killed ones left. Returns what was cleared, and what is still in use."""
    cleared, in_use = [], []
    for lock in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*.lock")):
        # The temporary directory is everyone's: a stranger's bait must not make root unmount or kill anything.
        if lock.is_symlink() or not lock.is_file() or lock.stat().st_uid != os.getuid():
            continue
        with open(lock, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                in_use.append(lock.stem)
                continue
            clear(lock.stem, lock.with_suffix(""))
            lock.unlink(missing_ok=True)
            cleared.append(lock.stem)
    return cleared, in_use


def lock_file(path: Path) -> Path:
    return path.with_suffix(".lock")


def clear(name: str, path: Path) -> None:
    """Never raises: it runs while something else has gone wrong."""
    end_processes(name)
    remove_shim_sockets(path)
    unmount_below(path)
    remove_network_namespaces(name)
    remove_control_groups(name)
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        print(f"warning: {path} stays behind", file=sys.stderr)


def end_processes(name: str) -> None:
    """Until none is left: some are just being started by others."""
    for _ in range(500):
        found = processes(name)
        if not found:
            return
        for process in found:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)
    print(f"warning: processes of {name} do not end: {processes(name)}", file=sys.stderr)


def processes(name: str) -> list[int]:
    """What has our mark, or lives in our control group."""
    mark, group, found = f"{MARK}={name}".encode(), f"/{name}/".encode(), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            marked = mark in (entry / "environ").read_bytes().split(b"\0")
            contained = group in (entry / "cgroup").read_bytes()
            # A zombie has ended; it waits for its parent, who may be this very process.
            ended = (entry / "stat").read_bytes().rpartition(b")")[2].startswith(b" Z")
        except OSError:
            continue
        if (marked or contained) and not ended:
            found.append(int(entry.name))
    return found


def remove_shim_sockets(path: Path) -> None:
    """containerd's shims keep their sockets elsewhere, under a name that only a file beside the container tells."""
    for address in path.glob("*/engine/containerd/state/io.containerd.runtime.v2.task/moby/*/address"):
        socket = address.read_text(encoding="utf-8").strip()
        if socket.startswith("unix://"):
            Path(socket[len("unix://") :]).unlink(missing_ok=True)


def unmount_below(path: Path) -> None:
    table = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    points = [line.split(" ")[4] for line in table]
    # Inner mounts first.
    for point in sorted((point for point in points if point.startswith(f"{path}/")), key=len, reverse=True):
        quietly(["umount", "-l", point])


def remove_network_namespaces(name: str) -> None:
    for namespace in Path("/run/netns").glob(f"{name}-*"):
        quietly([tool("ip"), "netns", "delete", namespace.name])


def remove_control_groups(name: str) -> None:
    """One hierarchy with version 2 of control groups, one per controller with version 1."""
    root = Path("/sys/fs/cgroup")
    for directory in [root / name, *root.glob(f"*/{name}")]:
        for inner, _, _ in os.walk(directory, topdown=False):
            try:
                os.rmdir(inner)
            except OSError:
                pass


def quietly(argv: list[str]) -> None:
    """For clearing up: what is already gone is no failure."""
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
