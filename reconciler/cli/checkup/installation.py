"""Whether imgctl is installed as it should be: alone under its package's name."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import reconciler
from reconciler import __version__
from reconciler.model.checkup import Finding, Health

AREA = "Installation"
_OURS, _PACKAGE = "imgctl", "reconciler"
_OWN_VENV = "install imgctl into a virtual environment of its own"


def installation_findings() -> list[Finding]:
    """The findings about this process's installation."""
    try:
        installed = importlib.metadata.version(_OURS)
    except importlib.metadata.PackageNotFoundError:
        installed = ""
    owners = importlib.metadata.packages_distributions().get(_PACKAGE, [])
    home = Path(reconciler.__file__ or ".").parent
    return [
        Finding(
            AREA,
            _OURS,
            Health.OK,
            f"{__version__}, Python {platform.python_version()}, {platform.system()}",
            facts={"version": __version__, "python": platform.python_version(), "platform": platform.system()},
        ),
        check_package(home, owners, others_on_path(home, sys.path), installed),
    ]


def others_on_path(home: Path, path: Iterable[str]) -> list[str]:
    """The other places of the import path that have a package of our name."""
    found = []
    for entry in path:
        place = Path(entry or ".") / _PACKAGE
        try:
            if (place / "__init__.py").is_file() and place.resolve() != home.resolve():
                found.append(str(place))
        except OSError:
            continue
    return list(dict.fromkeys(found))


def check_package(home: Path, owners: Sequence[str], others: Sequence[str], installed: str) -> Finding:
    """The finding about the package `reconciler`: a distribution of that name on PyPI is somebody else's.

    `owners` are the distributions that install the package, `installed` is the version that imgctl's own says; empty
    where it is not installed but run from its sources.
    """
    name = f"package {_PACKAGE}"
    facts = {"path": str(home), "distributions": sorted(set(owners))}
    foreign = sorted({owner for owner in owners if owner.lower() != _OURS})
    if foreign:
        return Finding(
            AREA,
            name,
            Health.PROBLEM,
            f"{', '.join(foreign)} installs a package {_PACKAGE} too, and its files and imgctl's overwrite each other",
            f"pip uninstall {' '.join(foreign)}, then install imgctl again; or {_OWN_VENV}",
            facts,
        )
    if others:
        return Finding(
            AREA,
            name,
            Health.CAUTION,
            f"another package of that name is at {', '.join(others)}: which one is used depends on where imgctl is run",
            f"check PYTHONPATH, or {_OWN_VENV}",
            facts,
        )
    if installed and installed != __version__:
        return Finding(
            AREA,
            name,
            Health.CAUTION,
            f"the files are of version {__version__}, and what is installed says {installed}",
            "install imgctl again",
            facts,
        )
    return Finding(AREA, name, Health.OK, f"imgctl's own, at {home}", facts=facts)
