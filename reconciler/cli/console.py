"""Where output goes: results to stdout, everything else to stderr, colours to terminals only."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from reconciler.errors import ImgctlError
from reconciler.render.diagnostics import render_error
from reconciler.render.terminal import Style, clean


@dataclass(slots=True)
class Console:
    """The process's streams. `environ` is the only way by which commands see the environment."""

    environ: Mapping[str, str]
    style: Style = field(default_factory=Style)
    error_style: Style = field(default_factory=Style)

    @classmethod
    def for_process(cls, arguments: Sequence[str], environ: Mapping[str, str]) -> Console:
        """The console of this process: NO_COLOR, TERM=dumb and --no-color are honoured (https://no-color.org)."""
        plain = bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb" or "--no-color" in arguments
        return cls(
            environ, Style(not plain and _is_terminal(sys.stdout)), Style(not plain and _is_terminal(sys.stderr))
        )

    def result(self, text: str) -> None:
        """Print to stdout, as it is; flushed, so that a job ID is out before the next step."""
        _write(sys.stdout, text)

    def say(self, text: str) -> None:
        """Print a line to stderr; never raises, since a closed terminal must not change what is done."""
        with contextlib.suppress(OSError, ValueError):
            _write(sys.stderr, text + "\n")

    def progress(self, text: str) -> None:
        """Print a line in the middle of a run: to stderr where stdout takes nothing any more. Never raises."""
        try:
            _write(sys.stdout, text + "\n")
        except (OSError, ValueError):
            self.say(text)

    def error(self, error: ImgctlError) -> None:
        """Print an error to stderr; never raises."""
        self.say(render_error(error, self.error_style).removesuffix("\n"))

    def confirm(self, question: str) -> bool:
        """Ask for the word `yes`. False where it is another word, or the input ends."""
        if not _is_terminal(sys.stdin):
            return False
        _write(sys.stderr, question)
        # Inside an event loop Ctrl-C only asks the loop, which does not run while a person thinks.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return sys.stdin.readline().strip() == "yes"
        finally:
            signal.signal(signal.SIGINT, handler)

    @property
    def interactive(self) -> bool:
        """True where a person can answer."""
        return _is_terminal(sys.stdin)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:
        return
    try:
        stream.write(text)
    except UnicodeEncodeError:
        # An old locale: better an escape than a crash in the middle of an apply.
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


__all__ = ["Console", "clean"]
