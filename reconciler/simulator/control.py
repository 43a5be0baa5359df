"""What a test asks of the simulator itself, under `/_simulator`, from this machine only and without credentials.

    GET    /_simulator/ledger                what came in
    PATCH  /_simulator/servers/{id}          {"status": …, "image_id": …, "name": …}, any of them
    DELETE /_simulator/servers/{id}
    POST   /_simulator/images                {"name": …, "description": …, "protected": …, "created_at": …}: an image of
                                             the project's that imgctl did not build; the name only must be given.
                                             Answers {"id": …}
    PATCH  /_simulator/images/{id}           {"status": …, "protected": …, "name": …, "description": …}, any of them
    DELETE /_simulator/images/{id}
    PATCH  /_simulator/world                 {"build_time": …, "quota": …}, any of them
    PATCH  /_simulator/metadata              {"key_life": …, "agency": …, "tokens": …}, any of them
    GET    /_simulator/faults
    POST   /_simulator/faults                {"faults": ["KIND=RATE", …], "seed": 0}: these instead of all others
    GET    /_simulator/hold                  {"held": n}
    POST   /_simulator/hold                  {"only": "recreate-image", "when": "before" or "after"}
    POST   /_simulator/release

`hold` keeps the requests whose `METHOD /path-template` contains the text, before or after they take effect, until
`release` lets them go on.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from reconciler.simulator import catalogue
from reconciler.simulator.answers import Answer, ApiError, BadValue
from reconciler.simulator.calls import Call, Operation
from reconciler.simulator.errors import SimulatorError
from reconciler.simulator.records import Image


@dataclass
class Hold:
    """Requests that are kept back. `event` None: none are."""

    only: str = ""
    when: str = "after"
    event: asyncio.Event | None = field(default=None)
    held: int = 0

    async def keep(self, operation: str, when: str) -> None:
        """Wait until `release`, if this request is to be kept back at this point."""
        event = self.event
        if event is None or when != self.when or self.only not in operation:
            return
        self.held += 1
        try:
            await event.wait()
        finally:
            self.held -= 1

    def begin(self, only: str, when: str) -> None:
        """Keep requests back from now on; what another rule kept goes on."""
        self.release()
        self.only, self.when, self.event = only, when, asyncio.Event()

    def release(self) -> None:
        """Let everything go on."""
        if self.event is not None:
            self.event.set()
        self.event = None


def _missing() -> ApiError:
    return ApiError(Answer(404, {"error": "there is no such thing"}))


def checked_fields(call: Call, **allowed: type) -> dict[str, object]:
    """The body's fields. Raises BadValue for one that is not allowed, or of another type."""
    body = call.json_object()
    for name, value in body.items():
        kind = allowed.get(name)
        number = kind is float and isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if kind is None or not (number or type(value) is kind):
            raise BadValue(
                f"{name} is none of {', '.join(f'{each}: {kind.__name__}' for each, kind in allowed.items())}"
            )
    return body


def show_ledger(call: Call) -> Answer:
    """What came in: recreate-image requests, builds that began, and requests of each operation."""
    ledger = call.world.ledger
    return Answer(200, {"received": ledger.received, "builds": ledger.builds, "requests": ledger.requests})


def change_server(call: Call) -> Answer:
    """Make a server busy, broken or built behind everybody's back."""
    fields = checked_fields(call, status=str, image_id=str, name=str)
    server = call.world.servers.get(call.path["server_id"])
    if server is None:
        raise _missing()
    if "status" in fields:
        call.world.set_status(server, str(fields["status"]))
    server.image_id = str(fields.get("image_id", server.image_id))
    server.name = str(fields.get("name", server.name))
    server.updated_at = call.now
    call.world.touch()
    return Answer(204)


def delete_server(call: Call) -> Answer:
    """Take a server away; a build that runs on it goes on."""
    if call.world.servers.pop(call.path["server_id"], None) is None:
        raise _missing()
    call.world.touch()
    return Answer(204)


def add_image(call: Call) -> Answer:
    """Make a private image behind everybody's back, as of now where no time is given."""
    fields = checked_fields(call, name=str, description=str, protected=bool, created_at=str)
    world, name = call.world, str(fields.get("name", ""))
    if not name:
        raise BadValue("name must be given")
    created_at = _time(fields["created_at"]) if "created_at" in fields else call.now
    image = Image(
        id=catalogue.uuid_of(world.seed, "image-by-hand", world.number()),
        name=name,
        description=str(fields.get("description", "")) or None,
        status="active",
        kind="private",
        protected=bool(fields.get("protected", False)),
        created_at=created_at,
        updated_at=created_at,
    )
    world.images.add(image)
    world.touch()
    return Answer(201, {"id": image.id})


def _time(text: object) -> datetime:
    with suppress(ValueError):
        moment = datetime.fromisoformat(str(text))
        # As far from the ends of the calendar as a world's file allows.
        if moment.tzinfo is not None and 1970 < moment.year < 9000:
            return moment.astimezone(UTC)
    raise BadValue("created_at must be a time with its zone, as in 2026-11-02T12:00:00Z")


def change_image(call: Call) -> Answer:
    """Change an image behind everybody's back."""
    fields = checked_fields(call, status=str, protected=bool, name=str, description=str)
    image = call.world.images.get(call.path["image_id"])
    if image is None:
        raise _missing()
    call.world.images.rename(image, str(fields.get("name", image.name)))
    image.status = str(fields.get("status", image.status))
    image.protected = bool(fields.get("protected", image.protected))
    if "description" in fields:
        image.description = str(fields["description"]) or None
    image.updated_at = call.now
    call.world.touch()
    return Answer(204)


def delete_image(call: Call) -> Answer:
    """Delete an image behind everybody's back, protected or not."""
    image = call.world.images.get(call.path["image_id"])
    if image is None:
        raise _missing()
    call.world.images.delete(image)
    call.world.touch()
    return Answer(204)


def change_world(call: Call) -> Answer:
    """Change the length of the builds that begin from now on, or the quota of private images."""
    fields = checked_fields(call, build_time=float, quota=int)
    call.world.build_time = float(str(fields.get("build_time", call.world.build_time)))
    call.world.quota = int(str(fields.get("quota", call.world.quota)))
    call.world.touch()
    return Answer(204)


def show_faults(call: Call) -> Answer:
    """The faults in force."""
    return Answer(200, {"faults": list(call.faults)})


def change_faults(call: Call) -> Answer:
    """Put other faults in force, instead of all that were."""
    fields = checked_fields(call, faults=list, seed=int)
    texts, seed = fields.get("faults", []), fields.get("seed")
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise BadValue("faults must be a list of texts")
    try:
        call.faults.replace(texts, seed=seed if isinstance(seed, int) else None)
    except SimulatorError as error:
        raise BadValue(str(error)) from None
    return show_faults(call)


def operations(hold: Hold) -> tuple[Operation, ...]:
    """The control operations of one app, whose held requests are `hold`."""

    def show_held(_: Call) -> Answer:
        return Answer(200, {"held": hold.held})

    def begin_hold(call: Call) -> Answer:
        fields = checked_fields(call, only=str, when=str)
        when = str(fields.get("when", "after"))
        if when not in ("before", "after"):
            raise BadValue("when must be before or after")
        hold.begin(str(fields.get("only", "")), when)
        return Answer(204)

    def release(_: Call) -> Answer:
        hold.release()
        return Answer(204)

    table = (
        ("GET", "/ledger", show_ledger),
        ("PATCH", "/servers/{server_id}", change_server),
        ("DELETE", "/servers/{server_id}", delete_server),
        ("POST", "/images", add_image),
        ("PATCH", "/images/{image_id}", change_image),
        ("DELETE", "/images/{image_id}", delete_image),
        ("PATCH", "/world", change_world),
        ("GET", "/faults", show_faults),
        ("POST", "/faults", change_faults),
        ("GET", "/hold", show_held),
        ("POST", "/hold", begin_hold),
        ("POST", "/release", release),
    )
    return tuple(
        Operation(method, "/_simulator" + path, "control", handler, access="none", regional=False)
        for method, path, handler in table
    )
