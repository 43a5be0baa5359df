"""Interpolation: `${var.x}`, `${server.name}`, `${server.id}`, `${server.labels.x}`, and `$${` for a literal `${`.

That is all there is: no environment, no code, no nesting. A stranger's pull request must not be able to print a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from reconciler.manifest.problems import did_you_mean, nearest, shown, shown_name

# The longest text with references. Bounds what one value can grow to: 512 references of 1024 characters.
TEMPLATE_LIMIT = 4096

_OPENING = re.compile(r"\$?\$\{")
_FORMS = ("${var.NAME}", "${server.name}", "${server.id}", "${server.labels.NAME}")
_HINT = f"There are {', '.join(_FORMS)}; $${{ stands for a literal ${{."


class TemplateError(Exception):
    """A text whose references cannot be understood, or stand for nothing."""

    def __init__(self, summary: str, hint: str = _HINT) -> None:
        super().__init__(summary)
        self.summary = summary
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Scope:
    """What references stand for. None as a value: known to be there, but itself wrong, and reported as such."""

    variables: Mapping[str, str | None]
    server_name: str
    server_id: str | None
    # None where labels cannot be referred to: in labels themselves.
    labels: Mapping[str, str | None] | None


def render(text: str, scope: Scope) -> str | None:
    """The text with its references filled in; None where one stands for a value that is itself wrong.

    Raises TemplateError.
    """
    if "${" not in text:
        return text
    filled = []
    for literal, reference in parse(text):
        filled.append(literal)
        if reference:
            value = _value(reference, scope)
            if value is None:
                return None
            filled.append(value)
    return "".join(filled)


@lru_cache(maxsize=256)
def parse(text: str) -> tuple[tuple[str, str], ...]:
    """The text as pairs of a literal and the reference behind it, "" behind the last. Raises TemplateError."""
    if len(text) > TEMPLATE_LIMIT:
        raise TemplateError(
            f"a text with references has {len(text)} characters", f"At most {TEMPLATE_LIMIT} are allowed."
        )
    parts: list[tuple[str, str]] = []
    literal, at = "", 0
    while opening := _OPENING.search(text, at):
        literal += text[at : opening.start()]
        at = opening.end()
        if opening[0] == "$${":
            literal += "${"
            continue
        end = text.find("}", at)
        if end < 0:
            raise TemplateError(f"{shown(text[opening.start() :])} has no closing }}")
        reference = text[at:end]
        _check_form(reference)
        parts.append((literal, reference))
        literal, at = "", end + 1
    return (*parts, (literal + text[at:], ""))


def _check_form(reference: str) -> None:
    if reference in ("server.name", "server.id") or re.fullmatch(r"(?:var|server\.labels)\.[^\s${}]+", reference):
        return
    whole = f"${{{reference}}}"
    if "${" in reference:
        raise TemplateError(f"{shown(whole)} is nested, and references cannot be")
    if reference.strip() != reference:
        near = f"${{{reference.strip()}}}"
    else:
        near = nearest(reference, ("server.name", "server.id")) or ""
        near = f"${{{near}}}" if near else ""
    raise TemplateError(
        f"{shown(whole)} stands for nothing", (f"Did you mean {shown_name(near)}? " if near else "") + _HINT
    )


def _value(reference: str, scope: Scope) -> str | None:
    if reference == "server.name":
        return scope.server_name
    if reference == "server.id":
        return scope.server_id
    if reference.startswith("var."):
        name = reference.removeprefix("var.")
        if name not in scope.variables:
            raise TemplateError(
                f"the variable {shown(name)} is not declared",
                did_you_mean(name, scope.variables, "Declare it, with a value, under `vars`."),
            )
        return scope.variables[name]
    name = reference.removeprefix("server.labels.")
    if scope.labels is None:
        raise TemplateError(f"a label cannot refer to a label ({shown('${' + reference + '}')})")
    if name not in scope.labels:
        raise TemplateError(
            f"{shown_name(scope.server_name)} has no label {shown(name)}",
            did_you_mean(name, scope.labels, "Give it one under `labels`, there or under `defaults`."),
        )
    return scope.labels[name]
