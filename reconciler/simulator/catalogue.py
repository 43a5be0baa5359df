"""What is in a new world: ids, image servers, public images. The same seed gives the same world."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from reconciler.simulator.records import Image, Server

# The first three servers have these ids in every world: the documentation's examples name them.
FIRST_SERVERS = (
    ("25b1dd14-0c84-4558-aa57-03a6c54b8e75", "office-template"),
    ("697612196993040384", "cad-template"),
    ("627989489700044800", "web-template"),
)
_STEMS = ("销售模板", "finance-template", "设计模板", "developer-template", "training_template", "呼叫中心-template")

# Job, sub job and server ids are 18-digit decimals, beyond 2^53 (facts sheet 2.3). The distance is the one between the
# documented job id and that of its sub job.
_FIRST_NUMBER = 702_364_883_651_395_584
_NUMBER_STEP = 385_875_968
_FIRST_SERVER_NUMBER = 697_612_196_993_040_384

_SOURCE_IMAGE = "da02e5ca-c6ec-4685-8ecb-f116bb5bdd2c"
_SPEC_CODE = "90a6e84bb3e822fe54999b6be5bbae1e"
_EPOCH = datetime(2026, 1, 12, 7, 54, 21, 9_000, tzinfo=UTC)


def chance(seed: int, *purpose: object) -> random.Random:
    """A source of chance of its own for each purpose: using one does not move another."""
    return random.Random("/".join(map(str, (seed, *purpose))))  # noqa: S311 - a simulation, no secrets


def uuid_of(seed: int, *purpose: object) -> str:
    """A random-looking UUID, version 4, which the same arguments give again."""
    return str(UUID(int=chance(seed, *purpose).getrandbits(128), version=4))


def hex_of(seed: int, *purpose: object) -> str:
    """32 hexadecimal digits, as the ids of projects, users and domains are."""
    return f"{chance(seed, *purpose).getrandbits(128):032x}"


def number_of(serial: int) -> str:
    """The 18-digit id with this serial number, counted from 0."""
    return str(_FIRST_NUMBER + serial * _NUMBER_STEP)


def image_servers(seed: int, start: int, count: int) -> Iterator[Server]:
    """The servers with the numbers `start` to `count` - 1, all ACTIVE and without an image."""
    for number in range(start, count):
        if number < len(FIRST_SERVERS):
            server_id, name = FIRST_SERVERS[number]
        else:
            dice = chance(seed, "server-id", number)
            server_id = str(_FIRST_SERVER_NUMBER + number * 10_000_000_000 + dice.randrange(1, 10_000_000_000))
            name = f"{_STEMS[number % len(_STEMS)]}-{number + 1:03d}"
        created = _EPOCH + timedelta(minutes=7 * number, milliseconds=13 * number)
        yield Server(
            id=server_id,
            name=name,
            description="A template machine." if number % 2 else "",
            status="ACTIVE",
            image_id="",
            aps_server_id=f"wksapp-{uuid_of(seed, 'aps', number)}",
            instance_id=uuid_of(seed, "ecs", number),
            server_group_id=uuid_of(seed, "group", number),
            app_group_id=str(int(server_id) + 1_753_071_488) if server_id.isdigit() else "",
            source_image_id=_SOURCE_IMAGE,
            spec_code=_SPEC_CODE,
            account=f"user{number + 1:04d}",
            created_at=created,
            updated_at=created + timedelta(seconds=299, milliseconds=768),
        )


def public_images() -> Iterator[Image]:
    """Images of the platform, which every project sees, and nobody may change."""
    for image_id, name, version in (
        (_SOURCE_IMAGE, "Workspace Windows Server 2019 64bit", "Windows Server 2019 Standard 64bit"),
        ("bc6bed6e-ba3a-4447-afcc-449174a3eb52", "Workspace Windows Server 2022 64bit", "Windows Server 2022 64bit"),
    ):
        yield Image(
            id=image_id,
            name=name,
            description=None,
            status="active",
            kind="gold",
            protected=True,
            created_at=_EPOCH,
            updated_at=_EPOCH,
            os_version=version,
        )
