"""The ECS instance that a client may run on, as its metadata service sees it. It is not kept with the world."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from reconciler.simulator.records import Key

TokenUse = Literal["none", "optional", "required"]


@dataclass
class Instance:
    """How the metadata service behaves. `key_life`: of the keys that it makes from now on, in seconds.

    `agency` False: the instance has none, so there are no keys. `tokens`: whether the service knows its own tokens and
    wants them. `key`: the one that it gives away while more than half of its life is left.
    """

    key_life: float = 6 * 3600.0
    agency: bool = True
    tokens: TokenUse = "optional"
    key: Key | None = None
    key_since: datetime | None = None
    issued: dict[str, datetime] = field(default_factory=dict)
