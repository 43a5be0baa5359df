"""Who asks for a remote state: a pair of variables, or the entry for its host in the user's .netrc.

An entry of .netrc is bound to its host, as it is for curl and git: it is sent nowhere else, whatever a manifest says.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from reconciler.errors import UsageError
from reconciler.state.address import Credentials

Pairs = tuple[tuple[str, str], ...]
DATABASE_PAIRS: Pairs = (("IMGCTL_STATE_USERNAME", "IMGCTL_STATE_PASSWORD"),)
# The second pair is what Terraform's own backend reads, and what GitLab's pages set.
HTTP_PAIRS: Pairs = (*DATABASE_PAIRS, ("TF_HTTP_USERNAME", "TF_HTTP_PASSWORD"))
_LARGEST_FILE = 1024 * 1024


def from_variables(environ: Mapping[str, str], pairs: Pairs) -> Credentials | None:
    """The first pair that is set. Raises UsageError for half of one, and for what cannot be sent."""
    for names in pairs:
        given = [name for name in names if environ.get(name)]
        if not given:
            continue
        if len(given) < len(names):
            missing = next(name for name in names if name not in given)
            raise UsageError(f"{given[0]} is set, {missing} is not", hint=f"Set {missing}, or unset {given[0]}.")
        return _checked(*(environ[name] for name in names), source=f"{names[0]} and {names[1]}")
    return None


def from_netrc(environ: Mapping[str, str], host: str) -> Credentials | None:
    """The entry for exactly this host in $NETRC or ~/.netrc; its `default` entry is bound to no host, and left alone.

    Raises UsageError where the file cannot be read, or where others may read the entry too.
    """
    import netrc

    home = environ.get("HOME", "")
    named = environ.get("NETRC") or (f"{home}/.netrc" if home.startswith("/") else "")
    path = Path(named) if named else None
    if path is None:
        return None
    try:
        if not path.is_file():
            return None
        if path.stat().st_size > _LARGEST_FILE:
            raise UsageError(f"{path} is larger than 1 MiB: that is no .netrc")
        entry = netrc.netrc(str(path)).hosts.get(host)
        exposed = bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is no text"
        raise UsageError(f"cannot read {path}: {why}") from None
    except netrc.NetrcParseError as error:
        # Its text may repeat what follows the mistake.
        raise UsageError(
            f"{path}:{error.lineno} cannot be read as a .netrc", hint="Correct it, or unset NETRC."
        ) from None
    if entry is None or not entry[0] or not entry[2]:
        return None
    if exposed:
        raise UsageError(f"others may read {path}, which has a password for {host}", hint=f"chmod 600 {path}")
    return _checked(entry[0], entry[2], source=f"the entry for {host} in {path}")


def _checked(username: str, password: str, *, source: str) -> Credentials:
    if ":" in username or not (username + password).isprintable():
        raise UsageError(
            f"{source} cannot be sent",
            hint="A user name has no colon in it, and neither has line ends or other unprintable characters.",
        )
    return Credentials(username, password, source)
