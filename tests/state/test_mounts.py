"""Whether a state is on a network file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.state.mounts import network_file_system

LINE = "{number} 1 0:{number} / {point} rw,relatime shared:1 - {kind} source rw\n"


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        ([("/", "ext4")], ""),
        ([("/", "nfs4")], "nfs4"),
        ([("/", "ext4"), ("{here}", "cifs")], "cifs"),
        ([("/", "nfs"), ("{here}", "xfs")], ""),
        ([("/", "ext4"), ("{here}", "fuse.sshfs")], "fuse.sshfs"),
        ([("/", "ext4"), ("{here}", "fuseblk")], ""),
        ([("/", "ext4"), ("{here}/elsewhere", "nfs")], ""),
        # Mounted later over what was there before.
        ([("/", "ext4"), ("{here}", "xfs"), ("{here}/..", "nfs")], "nfs"),
        ([("/", "ext4"), ("{here}", "beegfs")], "beegfs"),
    ],
)
def test_the_type_of_the_mount_that_counts(mounts: list[tuple[str, str]], found: str, tmp_path: Path) -> None:
    here = tmp_path / "a b"
    here.mkdir()
    points = [Path(point.format(here=here)).resolve() for point, _ in mounts]
    info = tmp_path / "mountinfo"
    info.write_text(
        "".join(
            LINE.format(number=number, point=str(point).replace(" ", r"\040"), kind=kind)
            for number, (point, (_, kind)) in enumerate(zip(points, mounts, strict=True), start=20)
        )
        + "a line that is none\n"
    )
    assert network_file_system(here / "imgctl.state.json", info) == found


def test_where_nothing_can_be_found_out_it_counts_as_local(tmp_path: Path) -> None:
    assert network_file_system(tmp_path / "state", tmp_path / "missing") == ""
