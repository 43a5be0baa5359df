"""Files that only their owner may read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from reconciler.simulator.errors import SimulatorError


def write_private(path: Path, content: bytes) -> None:
    """Replace a file at once, readable by its owner only (0600).

    The file is whole at every instant for any reader, and survives the death of this process. It is not synced to the
    device: a pretended cloud need not survive the loss of power. Raises SimulatorError where it cannot be written.
    """
    temporary = ""
    try:
        # mkstemp makes it 0600 from the first moment, whatever the umask says.
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise SimulatorError(f"{path} cannot be written: {error.strerror or error}") from error
