"""Terraform states for tests, in the shape that Terraform 1.11 writes."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

SECRET = "s3cret-of-the-state"
# What a provider keeps for itself; Terraform refuses what is not base64.
PRIVATE = b64encode(SECRET.encode()).decode()


def instance(attributes: dict[str, Any], key: object = None, **extra: Any) -> dict[str, Any]:
    keyed = {} if key is None else {"index_key": key}
    rest = {"schema_version": 0, "attributes": attributes, "sensitive_attributes": [], "private": PRIVATE}
    return {**keyed, **extra, **rest}


def image(
    image_id: str, server_id: str, key: object = None, *, region: str | None = "ap-southeast-1", **extra: Any
) -> dict[str, Any]:
    attributes = {
        "id": image_id,
        "server_id": server_id,
        "name": "asked-for",
        "description": None,
        "enterprise_project_id": None,
        "region": region,
        "timeouts": None,
    }
    return instance(attributes, key, **extra)


def resource(
    name: str, *instances: dict[str, Any], module: str | None = None, kind: str = "huaweicloud_workspace_app_image"
) -> dict[str, Any]:
    return {
        **({} if module is None else {"module": module}),
        "mode": "managed",
        "type": kind,
        "name": name,
        "provider": 'provider["registry.terraform.io/huaweicloud/huaweicloud"]',
        "instances": list(instances),
    }


def tfstate(*resources: dict[str, Any], version: int = 4) -> str:
    """A state with these resources among others, and secrets all over."""
    others = [
        {
            "mode": "data",
            "type": "huaweicloud_workspace_app_image",
            "name": "no_resource",
            "provider": "x",
            "instances": [instance({"id": SECRET})],
        },
        resource("db", instance({"id": "1", "password": SECRET}), kind="huaweicloud_rds_instance"),
    ]
    document = {
        "version": version,
        "terraform_version": "1.11.4",
        "serial": 6,
        "lineage": "a78e7f48-df3a-ccdd-8949-69661c572894",
        "outputs": {"password": {"value": SECRET, "type": "string", "sensitive": True}},
        "resources": [*resources, *others],
        "check_results": None,
    }
    return json.dumps(document, ensure_ascii=False, indent=2)
