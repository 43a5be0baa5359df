"""Whether a path is on a network file system, as far as the system tells."""

from __future__ import annotations

from pathlib import Path

# Their locks may not reach other machines, and their fsync may not reach a disk.
_NETWORK = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
        *("ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs"),
    )
)
_MOUNTS = Path("/proc/self/mountinfo")


def network_file_system(path: Path, mounts: Path = _MOUNTS) -> str:
    """The type of the network file system that `path` is on (nfs, cifs, 9p, fuse.sshfs …); empty where it is local.

    Linux tells; where nothing can be found out the answer is empty too.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        place = path.absolute().parent.resolve()
    except OSError:
        return ""
    kind = ""
    for line in lines:
        # 36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/root rw
        fields, _, rest = line.partition(" - ")
        try:
            point = Path(_unescaped(fields.split(" ")[4]))
            found = rest.split(" ")[0]
        except IndexError:
            continue
        # A later mount hides what lies below its point, deeper mounts of before included.
        if place.is_relative_to(point):
            kind = found
    return kind if kind in _NETWORK or kind.startswith("fuse.") or kind == "fuse" else ""


def _unescaped(text: str) -> str:
    """A mount point as mountinfo writes it: blanks and backslashes in octal."""
    for octal, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(octal, character)
    return text
