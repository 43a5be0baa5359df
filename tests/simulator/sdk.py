"""The official SDKs, unchanged, over TCP: a served world and clients for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions import exceptions

from reconciler.simulator import Faults, World

# The SDK says so about a package that it can do without: it then leaves times as texts.
QUIET = pytest.mark.filterwarnings("ignore:Unable to convert string to datetime:ImportWarning")


class Sdk:
    """A served world, its faults, and clients for it that are closed with it."""

    def __init__(self, world: World, faults: Faults, url: str) -> None:
        self.world, self.faults, self.url = world, faults, url
        self._clients: list[Any] = []

    def keys(self, *, access: str = "", secret: str = "", project: str = "") -> Any:
        """Credentials of the world's user, or with other parts."""
        world = self.world
        return BasicCredentials(access or world.access_key, secret or world.secret_key, project or world.project_id)

    def make(self, kind: Any, credentials: Any = None) -> Any:
        """A client of a service, with the user's keys where nothing else is given."""
        client = kind.new_builder().with_credentials(credentials or self.keys()).with_endpoint(self.url).build()
        return self.adopt(client)

    def adopt(self, client: Any) -> Any:
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.get_http_client().close()
            client.get_http_client().executor.shutdown()


def refused(call: Callable[[], object]) -> tuple[int, str]:
    """The status and the code of the SDK's exception."""
    with pytest.raises(exceptions.ClientRequestException) as error:
        call()
    assert len(error.value.request_id) == 32
    return error.value.status_code, error.value.error_code
