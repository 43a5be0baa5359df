"""Fleets of any size: a manifest of them, a state in which they are built, and the same for Terraform."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reconciler.manifest.load import load
from reconciler.model.record import Binding, Build, BuildStatus, Context, Held, Record, Recorded
from reconciler.state.codec import encode

REGION = "ap-southeast-1"
PROJECT = "a4da8115c9d8464ead3a38309130523f"
_BEGUN = datetime(2026, 11, 23, 10, tzinfo=UTC)
_TOOK = timedelta(minutes=24)


def server_ids(count: int) -> list[str]:
    """Ids as the cloud gives them."""
    return [str(600_000_000_000_000_000 + number) for number in range(count)]


def write_manifest(folder: Path, ids: Iterable[str]) -> None:
    """A manifest of these servers, as people write it."""
    lines = [
        "version: 1",
        f"region: {REGION}",
        f"project_id: {PROJECT}",
        'vars: {release: "2026.11"}',
        "defaults:",
        "  image:",
        "    name: ${server.name}-${var.release}",
        '    description: "Built from ${server.name}"',
        "image_servers:",
    ]
    for number, server_id in enumerate(ids):
        lines += [
            f"  server-{number:05d}:",
            f'    server_id: "{server_id}"',
            f"    labels: {{ring: ring-{number % 5}}}",
        ]
    (folder / "imgctl.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_state(folder: Path) -> None:
    """A state that says of every server of the folder's manifest that it holds what is declared."""
    records = {}
    context = Context("0.1.0", "ci", "runner-1", "https://github.com/o/r/actions/runs/1", "f" * 40, note="patch day")
    for number, server in enumerate(load(folder / "imgctl.yaml").servers.values()):
        build = Build(
            attempt_id=f"{number:08d}-0000-4000-8000-000000000000",
            spec=server.image,
            status=BuildStatus.SUCCEEDED,
            requested_at=_BEGUN,
            server_status="ACTIVE",
            job_id=f"{number:032d}",
            finished_at=_BEGUN + _TOOK,
            image_id=f"{number:08d}-1111-4111-8111-111111111111",
            plan_id="0" * 64,
            context=context,
        )
        held = Held(server.image, build.image_id, build.job_id, build.finished_at)
        records[server.server_id] = Record(server.server_id, server.name, held, build)
    bound = Binding("huaweicloud", REGION, PROJECT)
    state = Recorded("11111111-1111-4111-8111-111111111111", 2 * len(records), bound, records, exists=True)
    path = folder / "imgctl.state.json"
    path.write_bytes(encode(state, 0))
    path.chmod(0o600)


def write_terraform(folder: Path, count: int, *, recorded: bool = False) -> None:
    """As many resources that need no provider, of the same four texts; with `recorded`, a state that has them."""
    blocks = ['variable "release" { default = "2026.11" }']
    resources = []
    for number, server_id in enumerate(server_ids(count)):
        name = f"server-{number:05d}"
        blocks.append(
            f'resource "terraform_data" "{name}" {{\n'
            "  input = {\n"
            f'    server_id   = "{server_id}"\n'
            f'    name        = "{name}-${{var.release}}"\n'
            f'    description = "Built from {name}"\n'
            f'    ring        = "ring-{number % 5}"\n'
            "  }\n"
            "}"
        )
        texts = {
            "description": f"Built from {name}",
            "name": f"{name}-2026.11",
            "ring": f"ring-{number % 5}",
            "server_id": server_id,
        }
        value = {"value": texts, "type": ["object", dict.fromkeys(texts, "string")]}
        resources.append(
            {
                "mode": "managed",
                "type": "terraform_data",
                "name": name,
                "provider": 'provider["terraform.io/builtin/terraform"]',
                "instances": [
                    {
                        "schema_version": 0,
                        "attributes": {
                            "id": f"{number:08d}-0000-4000-8000-000000000000",
                            "input": value,
                            "output": value,
                            "triggers_replace": None,
                        },
                    }
                ],
            }
        )
    (folder / "main.tf").write_text("\n".join(blocks) + "\n", encoding="utf-8")
    if recorded:
        state = {
            "version": 4,
            "terraform_version": "1.15.5",
            "serial": 1,
            "lineage": "11111111-1111-4111-8111-111111111111",
            "outputs": {},
            "resources": resources,
        }
        (folder / "terraform.tfstate").write_text(json.dumps(state), encoding="utf-8")
