"""What a plan's reviewers are told besides the plan itself: where it belongs, and how it is applied."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from reconciler.model.diagnostics import Origin


@dataclass(frozen=True, slots=True)
class Review:
    """The place of a plan in its repository.

    `root` names the manifest from the top of the repository, empty for `imgctl.yaml` at the top itself. `folder` is
    where imgctl was called, seen from there: what the places in a manifest are relative to. `selectors` are the flags
    that leave servers out, as they were typed. `command` applies the plan, quoted for a shell; empty where no command
    line can say it, or none that a person could copy.
    """

    root: str = ""
    folder: str = ""
    selectors: tuple[str, ...] = ()
    command: str = "imgctl apply"

    def file(self, origin: Origin) -> str:
        """The file of a place, seen from the top of the repository."""
        return posixpath.normpath(posixpath.join(self.folder, origin.file))
