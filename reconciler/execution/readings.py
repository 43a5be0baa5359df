"""The image servers as they were a moment ago: one page serves a hundred builds that are about to start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from reconciler.cloud.client import CloudClient
from reconciler.errors import NotFound
from reconciler.model.observed import ObservedServer

# An intent records the server as it was less than a minute before (rule 3a).
FRESH_SECONDS = 60.0


class ServerReadings:
    """Servers by id, as read at `read_at` by `clock` (growing seconds); read again as a whole once that is old."""

    def __init__(
        self, cloud: CloudClient, clock: Callable[[], float], servers: Mapping[str, ObservedServer], read_at: float
    ) -> None:
        self._cloud = cloud
        self._clock = clock
        self._servers = servers
        self._read_at = read_at
        self._reading = asyncio.Lock()

    async def recent(self, server_id: str) -> ObservedServer:
        """The server as it was within the last three quarters of what counts as fresh. Raises NotFound, CloudError."""
        servers = await self.since(self._clock() - 0.75 * FRESH_SECONDS)
        try:
            return servers[server_id]
        except KeyError:
            raise NotFound(f"no image server has the id {server_id}", operation="ListImageServers") from None

    async def since(self, moment: float) -> Mapping[str, ObservedServer]:
        """The servers as they were at `moment` or later; one reading serves all that ask meanwhile.

        Raises CloudError.
        """
        async with self._reading:
            if self._read_at < moment:
                read_at = self._clock()
                self._servers = {server.id: server for server in await self._cloud.list_servers()}
                self._read_at = read_at
            return self._servers

    @property
    def fresh(self) -> bool:
        """True while the last reading is young enough to be recorded with an intent."""
        return self._clock() - self._read_at < FRESH_SECONDS
