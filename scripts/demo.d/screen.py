"""What a person sees: scenes, commands with their real output, and facts that were looked at."""

from __future__ import annotations

import os
import shlex
import sys
import textwrap
import time
from pathlib import Path

from place import Failure, Ran


class Screen:
    """Prints. Colour only on a terminal."""

    def __init__(self, home: Path) -> None:
        self.home = str(home)
        self.coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.scenes: list[tuple[str, float]] = []
        self._began = time.monotonic()

    def scene(self, title: str, sentence: str) -> None:
        """Begins a scene, and ends the one before."""
        self.end_scene()
        self._began = time.monotonic()
        self.scenes.append((title, 0.0))
        self.line("\n" + self._paint("1", f"{len(self.scenes) - 1}. {title}"))
        self.line(textwrap.fill(sentence, 100, initial_indent="   ", subsequent_indent="   "))

    def end_scene(self) -> None:
        if self.scenes:
            self.scenes[-1] = (self.scenes[-1][0], time.monotonic() - self._began)

    def command(self, who: str, argv: list[str], ran: Ran | None = None, note: str = "") -> None:
        """A command as a person types it there, and what it answered."""
        self.line("")
        after = self._paint("2", f"   ({note})") if note else ""
        self.line(f"   {self._paint('2', who + '$')} {self._paint('36', self.short(shlex.join(argv)))}{after}")
        if ran is not None:
            self.output(ran.out)
            if ran.code != 0:
                self.line(self._paint("2", f"       (exit code {ran.code})"))

    def output(self, text: str) -> None:
        for line in self.short(text).rstrip("\n").splitlines():
            self.line(f"       {line}".rstrip())

    def fact(self, text: str) -> None:
        self.line(f"   {self._paint('32', 'ok')}  {text}")

    def ensure(self, true: object, fact: str) -> None:
        """A fact that was looked at. If it is not so, the demo ends."""
        if not true:
            raise Failure(f"this should be so, and is not: {fact}")
        self.fact(fact)

    def note(self, text: str) -> None:
        self.line(f"   {self._paint('2', '..')}  {text}")

    def summary(self) -> None:
        self.end_scene()
        self.line("\n" + self._paint("1", "Summary"))
        for number, (title, seconds) in enumerate(self.scenes):
            self.line(f"   {number:>2}  {title:<72} {seconds:6.1f} s")
        self.line(f"       {'in all':<72} {sum(seconds for _, seconds in self.scenes):6.1f} s")

    def failure(self, text: str) -> None:
        sys.stdout.flush()
        print("\n" + self._paint("31", f"error: the demo failed: {self.short(text)}"), file=sys.stderr)

    def line(self, text: str) -> None:
        print(text, flush=True)

    def short(self, text: str) -> str:
        """The demo's own directory is the home of everything in it."""
        return text.replace(self.home, "~")

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.coloured else text
