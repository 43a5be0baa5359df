"""Which servers a command is about: `--target`, `--exclude` and `-l`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from reconciler.errors import UsageError
from reconciler.model.record import Recorded
from reconciler.model.spec import Manifest

_TERM = re.compile(r"(?P<key>[^=!,\s]+)\s*(?P<operator>!=|==?)\s*(?P<value>[^=!,]*)")


@dataclass(frozen=True, slots=True)
class LabelTerm:
    """One term of `-l`: a label that must, or must not, have a value. A label that is absent has none."""

    key: str
    value: str
    negated: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True where the labels satisfy the term."""
        return (labels.get(self.key) == self.value) is not self.negated


@dataclass(frozen=True, slots=True)
class Selection:
    """The selectors of one command: all of `targets` (every server without any), less `excludes`, with these labels.

    Names and globs are case-sensitive.
    """

    targets: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    labels: tuple[LabelTerm, ...] = ()

    @classmethod
    def parse(cls, targets: Iterable[str], excludes: Iterable[str], labels: Iterable[str]) -> Selection:
        """Selectors as typed; several `-l`, or several terms in one, must all hold. Raises UsageError."""
        terms = []
        for text in labels:
            for part in text.split(","):
                match = _TERM.fullmatch(part.strip())
                if match is None:
                    raise UsageError(
                        f"-l {text}: {part.strip()!r} is no label selector",
                        hint="Write -l ring=canary or -l 'ring=canary,team!=finance'.",
                    )
                terms.append(LabelTerm(match["key"], match["value"].strip(), match["operator"] == "!="))
        return cls(tuple(targets), tuple(excludes), tuple(terms))

    @property
    def everything(self) -> bool:
        """True where nothing is selected away."""
        return not (self.targets or self.excludes or self.labels)

    def select(self, servers: Mapping[str, Mapping[str, str]]) -> frozenset[str]:
        """The selected names among `servers`: labels by name, declared and recorded servers alike.

        Raises UsageError where a pattern or the labels match nothing: a typing mistake must not look like "no changes".
        """
        if self.everything:
            return frozenset(servers)
        chosen = set(servers) if not self.targets else set[str]()
        for pattern in self.targets:
            chosen |= _matching("--target", pattern, servers)
        for pattern in self.excludes:
            chosen -= _matching("--exclude", pattern, servers)
        for term in self.labels:
            if not any(term.matches(labels) for labels in servers.values()):
                raise UsageError(
                    f"-l {term.key}{'!=' if term.negated else '='}{term.value} matches no image server",
                    hint=_known(
                        "labels", sorted({f"{k}={v}" for labels in servers.values() for k, v in labels.items()})
                    ),
                )
        return frozenset(name for name in chosen if all(term.matches(servers[name]) for term in self.labels))


def labels_by_name(manifest: Manifest, recorded: Recorded) -> Mapping[str, Mapping[str, str]]:
    """What selectors choose from: declared servers with their labels, and recorded ones, whose labels are not kept."""
    names: dict[str, Mapping[str, str]] = {record.name: {} for record in recorded.servers.values()}
    names.update((declared.name, declared.labels) for declared in manifest.servers.values())
    return names


def unknown_name(flag: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that no declared or recorded server has."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]}?" if near else _known("image servers", names)
    return UsageError(f"{flag} {name} matches no declared or recorded image server", hint=hint)


def _matching(flag: str, pattern: str, servers: Iterable[str]) -> set[str]:
    found = {name for name in servers if fnmatchcase(name, pattern)}
    if not found:
        raise unknown_name(flag, pattern, servers)
    return found


def _known(what: str, names: list[str]) -> str:
    if not names:
        return f"There are no {what}."
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"The {what} are: {', '.join(names[:8])}{more}."
