"""The regions that offer image servers."""

from __future__ import annotations

# Source: the official SDK's WorkspaceApp region table (3.1.219), and na-mexico-1 from the international endpoint page
# (facts 5.1).
WORKSPACEAPP_REGIONS: frozenset[str] = frozenset(
    {
        "af-north-1",
        "af-south-1",
        "ap-southeast-1",
        "ap-southeast-2",
        "ap-southeast-3",
        "cn-east-3",
        "cn-east-5",
        "cn-north-11",
        "cn-north-4",
        "cn-north-9",
        "cn-south-1",
        "cn-southwest-2",
        "la-north-2",
        "la-south-2",
        "me-east-1",
        "na-mexico-1",
        "sa-brazil-1",
        "tr-west-1",
    }
)
