"""Plans that a reviewer might get: three changes, and two hundred and fifty."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from reconciler.model.diagnostics import Origin
from reconciler.model.observed import Observation, ObservedImage
from reconciler.model.plan import Plan
from reconciler.model.record import Record
from reconciler.model.review import Review
from reconciler.model.spec import DeclaredServer, ImageSpec, Limits
from tests.planning.figures import build, declared, observation, plan_of, record, recorded, server

REVIEW = Review(root="images/prod", folder="images/prod", command="imgctl apply -f images/prod")


def uuid(number: int) -> str:
    return f"25b1dd14-0c84-4558-aa57-{number:012d}"


def released(name: str, release: str, **fields: object) -> ImageSpec:
    return ImageSpec(f"{name}-{release}", f"Built from {name}, release {release}", True, **fields)  # type: ignore[arg-type]


def entry(name: str, number: int, file: str, line: int, **fields: object) -> DeclaredServer:
    spec = fields.pop("spec", None) or released(name, "2026.11")
    one = declared(name, spec, server_id=uuid(number), **fields)  # type: ignore[arg-type]
    return replace(one, origin=Origin(file, line, 3))


def held(name: str, number: int, **fields: object) -> Record:
    spec = fields.pop("spec", None) or released(name, "2026.10")
    return record(name, spec, server_id=uuid(number), image_id=uuid(number + 5000), **fields)  # type: ignore[arg-type]


def three_changes() -> Plan:
    """One image to be rebuilt, the oldest of its images to go, one server to be forgotten; another stays as it is."""
    old = build(spec=released("office", "2026.08"), image_id=uuid(9001))
    old = replace(old, finished_at=datetime(2026, 8, 4, tzinfo=UTC))
    last = build(spec=released("office", "2026.10"), image_id=uuid(5001), attempt_id="a2")
    records = [
        held("office", 1, history=[old], attempt=last),
        held("kiosk", 2),
        held("cad", 3, spec=released("cad", "2026.11", triggers={"gpu_driver": "551.86"})),
    ]
    servers = [
        entry("office", 1, "office.yaml", 4, keep_images=2),
        entry("cad", 3, "cad.yaml", 9, spec=released("cad", "2026.11", triggers={"gpu_driver": "551.86"})),
    ]
    images = [
        ObservedImage(uuid(9001), "office-2026.08", "active"),
        *(
            ObservedImage(one.held.image_id, one.held.spec.name, "active", one.held.spec.description)
            for one in records
            if one.held is not None
        ),
    ]
    observed = observation(*(server(uuid(number)) for number in (1, 2, 3)), images=images, free=20)
    return plan_of(servers, records, observed)


def fleet(count: int, *, limits: Limits | None = None, observed: Observation | None = None) -> Plan:
    """So many changes in files of 60 servers: mostly rebuilds, some first builds, edits, and forgotten servers."""
    servers, records = [], []
    for number in range(count):
        file, line = f"ring-{number // 60 + 1}.yaml", 4 + number % 60 * 3
        name = f"desk-{number + 1:03d}"
        match number % 25:
            case 0:
                servers.append(entry(name, number, file, line))
            case 1:
                records.append(held(name, number))
            case 2:
                servers.append(entry(name, number, file, line))
                records.append(held(name, number, spec=replace(released(name, "2026.11"), description="Draft")))
            case _:
                servers.append(entry(name, number, file, line))
                records.append(held(name, number))
    return plan_of(
        servers, recorded(*records, limits=Limits(max_changes=300)), observed, limits=limits or Limits(max_in_flight=40)
    )
