"""What a state is read from, and reading it: without a lock, from one snapshot."""

from __future__ import annotations

from typing import Protocol

from reconciler.model.record import Recorded
from reconciler.state.codec import decode
from reconciler.state.local import LocalLock, LockHolder


class Backend(Protocol):
    """Where the bytes of a state live. Dumb on purpose: what they mean is the store's business."""

    def read(self) -> bytes | None:
        """The whole document, None where there is none."""
        ...

    def replace(self, content: bytes) -> None:
        """Put a new document in its place: atomic, and durable on return."""
        ...

    def lock(self, holder: LockHolder) -> LocalLock:
        """Become the only writer, or raise StateLocked."""
        ...


def read(backend: Backend) -> Recorded:
    """The state as a reader sees it; `exists` is False where none was found. Raises StateError where it is damaged."""
    content = backend.read()
    return Recorded() if content is None else decode(content, str(backend))
