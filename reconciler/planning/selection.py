"""Which servers a command is about: `--target`, `--exclude` and `-l`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TypeVar

from reconciler.errors import UsageError

_Key = TypeVar("_Key")

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

    def pick(self, servers: Mapping[_Key, tuple[Collection[str], Mapping[str, str]]]) -> frozenset[_Key]:
        """The selected keys of `servers`, which have names and labels; any of its names selects or excludes a server.

        Raises UsageError where a pattern, the labels, or all together match nothing: a typing mistake must not look
        like "no changes".
        """
        if self.everything:
            return frozenset(servers)
        names = {name for its_names, _ in servers.values() for name in its_names}
        targets = {name for pattern in self.targets for name in _matching("--target", pattern, names)}
        excludes = {name for pattern in self.excludes for name in _matching("--exclude", pattern, names)}
        for term in self.labels:
            _check_term(term, [labels for _, labels in servers.values()])
        chosen = frozenset(
            key
            for key, (its_names, labels) in servers.items()
            if (not self.targets or not targets.isdisjoint(its_names))
            and excludes.isdisjoint(its_names)
            and all(term.matches(labels) for term in self.labels)
        )
        if not chosen:
            raise UsageError(
                "the selectors together leave no image server", hint="Each of them matches some, but not the same ones."
            )
        return chosen


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


def _check_term(term: LabelTerm, servers: Collection[Mapping[str, str]]) -> None:
    if any(term.matches(labels) for labels in servers):
        return
    known = sorted({f"{key}={value}" for labels in servers for key, value in labels.items()})
    raise UsageError(
        f"-l {term.key}{'!=' if term.negated else '='}{term.value} matches no image server",
        hint=_known("labels", known),
    )


def _known(what: str, names: list[str]) -> str:
    if not names:
        return f"There are no {what}."
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"The {what} are: {', '.join(names[:8])}{more}."
