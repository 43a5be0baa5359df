"""A way between a client and a server that counts what passes, and can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass
from typing import Self

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Cost:
    """What went over a wire: questions that got their answer, and bytes both ways."""

    exchanges: int
    bytes: int

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.exchanges - other.exchanges, self.bytes - other.bytes)


class Wire:
    """Forwards TCP connections from a port of its own, on loopback, to `target`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._is_cut = False
        self._exchanges = self._bytes = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def cost(self) -> Cost:
        """What has passed so far."""
        with self._guard:
            return Cost(self._exchanges, self._bytes)

    def cut(self) -> None:
        """From now on nothing passes: connections are lost, and new ones come to nothing."""
        with self._guard:
            self._is_cut = True
            ending, self._open = self._open, set()
        for each in ending:
            _close(each)

    def mend(self) -> None:
        """It is whole again."""
        self._is_cut = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        _close(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if self._is_cut:
                raise OSError
            server = socket.create_connection(("127.0.0.1", self._target), timeout=10)
            server.settimeout(None)
        except OSError:
            _close(client)
            return
        with self._guard:
            self._open |= {client, server}
        # Whoever asks after an answer asks anew: that is how exchanges are told apart, whatever the protocol.
        asking = threading.Event()
        back = threading.Thread(target=self._pass, args=(server, client, asking, False), daemon=True)
        back.start()
        self._pass(client, server, asking, True)
        back.join()
        with self._guard:
            self._open -= {client, server}

    def _pass(self, source: socket.socket, sink: socket.socket, asking: threading.Event, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                with self._guard:
                    if self._is_cut:
                        break
                    self._bytes += len(chunk)
                    if asks and not asking.is_set():
                        self._exchanges += 1
                if asks:
                    asking.set()
                else:
                    asking.clear()
                sink.sendall(chunk)
        _close(source)
        _close(sink)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
