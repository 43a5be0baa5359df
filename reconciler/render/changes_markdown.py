"""The changes of a plan as Markdown: an index with a row for each, and a fold with the fields of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reconciler.model.plan import Action, Change
from reconciler.model.review import Review
from reconciler.render.markdown import code, code_html, cut, details, diff_fence, prose, row, size, table
from reconciler.render.plan_text import MARKS, value_text
from reconciler.render.terminal import clean, plural

# What cannot be undone first, then what takes a build, then what is done in place.
RISK = (
    Action.PRUNE,
    Action.FORGET,
    Action.REBUILD,
    Action.BUILD,
    Action.UPDATE,
    Action.RESUME,
    Action.MOVE,
    Action.REFRESH,
)
# So many rows are read at a glance; more are folded by action.
_AT_A_GLANCE = 25
# A fold of more rows than this is split by file, where there are several.
_LONGEST_FOLD = 50
_FILES_SHOWN = 20
# A server's name has 64 characters at most, an image's 128.
LONGEST_NAME = 128
_LONGEST_REASON = 300
_LONGEST_PLACE = 160
# The longest description that the API takes is not cut.
_LONGEST_VALUE = 1100
_LONGEST_PATH = 200
# The changes that are so few that a reviewer need not open them.
_OPEN = 5
# After so many that do not fit, what is left of the room is not worth a look at every further one.
_MISSES = 100


@dataclass(frozen=True, slots=True)
class Index:
    """The blocks of an index, and how many of the changes had no room in it."""

    blocks: tuple[str, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Folds:
    """The folds with the fields that differ: of `shown` changes, out of `total` that have any."""

    blocks: tuple[str, ...]
    shown: int
    total: int


def by_risk(changes: Iterable[Change]) -> list[Change]:
    """The changes, the riskiest first; the order of the plan among equals."""
    order = {action: position for position, action in enumerate(RISK)}
    return sorted(changes, key=lambda change: order[change.action])


def index(changes: Sequence[Change], review: Review, room: int) -> Index:
    """A row for every change, as far as `room` characters reach; `changes` are ordered by risk."""
    if len(changes) <= _AT_A_GLANCE:
        block, taken = _index_table(changes, review, room, with_action=True)
        return Index((block,) if block else (), len(changes) - taken)
    blocks = []
    totals = _by_file(changes, review)
    if totals and size(totals) <= room // 8:
        blocks.append(totals)
        room -= size(totals) + 2
    left = len(changes)
    for heading, group in _groups(changes, review):
        shown = len(group) <= _AT_A_GLANCE and group[0].action in (Action.PRUNE, Action.FORGET)
        frame = size(details(heading, "", shown=shown)) + 2
        block, taken = _index_table(group, review, room - frame, with_action=False)
        if taken:
            blocks.append(details(heading, block + "\n", shown=shown))
            room -= frame + size(block) + 1
            left -= taken
        if taken < len(group):
            break
    return Index(tuple(blocks), left)


def folds(changes: Sequence[Change], room: int) -> Folds:
    """What differs in each change, as far as `room` characters reach; `changes` are ordered by risk."""
    longest = room // 4
    blocks: list[str] = []
    total = misses = 0
    opened = len(changes) <= _OPEN
    together = len(changes) > _AT_A_GLANCE
    if together:
        room -= size(_together(["\n"], len(changes)))
    for change in changes:
        lines = _diff(change)
        first = next(lines, None)
        total += first is not None
        if first is None or misses >= _MISSES:
            continue
        block = _fold(change, [first, *lines], longest, shown=opened)
        if size(block) + 2 > room:
            misses += 1
            continue
        blocks.append(block)
        room -= size(block) + 2
    return Folds((_together(blocks, len(blocks)),) if together and blocks else tuple(blocks), len(blocks), total)


def _together(blocks: Sequence[str], count: int) -> str:
    """So many folds in one: a page of headings hides what follows it."""
    return details(f"The fields of {plural(count, 'change')}", "\n\n".join(blocks) + "\n")


def _index_table(changes: Sequence[Change], review: Review, room: int, *, with_action: bool) -> tuple[str, int]:
    """A table of the first changes that fit, and how many those are."""
    # A reason that all have is said once.
    alike = len({(one.reasons, one.unavailable, one.gated) for one in changes}) == 1
    common = _why(changes[0]) if alike and len(changes) > 1 and not with_action else ""
    why = [] if common else ["why"]
    # In one file a line number is enough, and so is what the heading says.
    lines = not with_action and bool(_only_file(changes, review))
    head = [*([""] if with_action else []), "image server", "image", *why, "line" if lines else "declared"]
    before = f"Each: {common}\n\n" if common else ""
    empty = before + table(head, ())
    room -= size(empty)
    rows: list[str] = []
    for change in changes:
        cells = [
            *([code(f"{MARKS[change.action]} {change.action.value}")] if with_action else []),
            code(cut(change.name, LONGEST_NAME), cell=True),
            image_of(change, cell=True),
            *([] if common else [_why(change)]),
            str(change.origin.line) if lines and change.origin is not None else _place(change, review),
        ]
        line = row(cells)
        room -= size(line) + 1
        if room < 0:
            break
        rows.append(line)
    return (before + table(head, rows), len(rows)) if rows else ("", 0)


def _groups(changes: Sequence[Change], review: Review) -> Iterator[tuple[str, list[Change]]]:
    """The changes by action, large groups by file too, each with its heading in HTML."""
    for action in RISK:
        group = [change for change in changes if change.action is action]
        if not group:
            continue
        parts = [group]
        if len(group) > _LONGEST_FOLD:
            by_file: dict[str, list[Change]] = {}
            for change in group:
                by_file.setdefault(_file(change, review), []).append(change)
            parts = list(by_file.values())
        for part in parts:
            file = _only_file(part, review)
            yield (
                plural(len(part), action.value) + (f" in {code_html(cut(file, _LONGEST_PLACE))}" if file else ""),
                part,
            )


def _by_file(changes: Sequence[Change], review: Review) -> str:
    """How many changes of each kind each file brings; empty where all come from one."""
    counts: dict[str, dict[Action, int]] = {}
    for change in changes:
        of_file = counts.setdefault(_file(change, review), {})
        of_file[change.action] = of_file.get(change.action, 0) + 1
    if len(counts) < 2:
        return ""
    actions = [action for action in RISK if any(action in one for one in counts.values())]
    largest = sorted(counts, key=lambda file: -sum(counts[file].values()))
    rows = []
    for file in sorted(largest[:_FILES_SHOWN], key=lambda file: (not file, file)):
        name = code(cut(file, _LONGEST_PLACE), cell=True) if file else "not declared"
        rows.append(row([name, *_numbers([counts[file]], actions)]))
    others = [counts[file] for file in largest[_FILES_SHOWN:]]
    if others:
        rows.append(row([plural(len(others), "other file"), *_numbers(others, actions)]))
    return table(["", *(action.value for action in actions)], rows)


def _numbers(counts: Sequence[dict[Action, int]], actions: Sequence[Action]) -> list[str]:
    return [str(sum(count.get(action, 0) for count in counts)) for action in actions]


def image_of(change: Change, *, cell: bool = False) -> str:
    """The image that a change is about: its name, or its id where nothing else tells."""
    image = code(cut(change.image_id, LONGEST_NAME), cell=cell) if change.image_id else "no image"
    spec = change.after or change.before
    if change.action is Action.REFRESH or spec is None:
        return image
    name = code(cut(spec.name, LONGEST_NAME), cell=cell)
    if change.action is Action.MOVE and change.old_name:
        return f"{name}, was {code(cut(change.old_name, LONGEST_NAME), cell=cell)}"
    if change.action is Action.FORGET:
        return f"{name} stays" if change.image_id else name
    return name


def _why(change: Change) -> str:
    said = [prose(cut(", ".join(change.reasons), _LONGEST_REASON), cell=True)] if change.reasons else []
    if change.unavailable:
        said.append(f"**unavailable:** {prose(cut(change.unavailable, _LONGEST_REASON), cell=True)}")
    if change.gated:
        said.append(f"**gated:** {prose(cut(change.gated, _LONGEST_REASON), cell=True)}")
    return "; ".join(said)


def _file(change: Change, review: Review) -> str:
    return review.file(change.origin) if change.origin is not None else ""


def _only_file(changes: Sequence[Change], review: Review) -> str:
    """The file that declares all of them; empty where there are several, or none."""
    files = {_file(change, review) for change in changes}
    return files.pop() if len(files) == 1 else ""


def _place(change: Change, review: Review) -> str:
    if change.origin is None:
        return "removed" if change.action is Action.FORGET else ""
    line = f":{change.origin.line}"
    return code(cut(review.file(change.origin), _LONGEST_PLACE - len(line)) + line, cell=True)


def _fold(change: Change, lines: Sequence[str], longest: int, *, shown: bool) -> str:
    heading = f"{change.action.value} {code_html(cut(change.name, LONGEST_NAME))}"
    room = longest - size(details(heading, "", shown=shown)) - _LONGEST_FOLD
    fitting: list[str] = []
    for line in lines:
        room -= size(line) + 1
        if room < 0:
            break
        fitting.append(line)
    left = len(lines) - len(fitting)
    more = [f"  … and {plural(left, 'more line')}"] if left else []
    return details(heading, diff_fence([*fitting, *more]), shown=shown)


def _diff(change: Change) -> Iterator[str]:
    """The lines of a block of differences; each begins with its sign, so that none can end the block."""
    match change.action:
        case Action.PRUNE:
            yield _line("-", "image_id", change.image_id)
            if change.before is not None:
                yield _line("-", "image.name", change.before.name)
                yield _line("-", "image.description", change.before.description)
        case Action.FORGET:
            yield _line("-", "server_id", change.server_id)
            if change.image_id:
                yield f"{_line(' ', 'image_id', change.image_id)}  # stays"
        case Action.MOVE:
            if change.old_name:
                yield _line("-", "name", change.old_name)
                yield _line("+", "name", change.name)
        case Action.REFRESH if change.after is None:
            yield _line("-", "image_id", change.image_id)
        case _:
            for one in change.diff:
                yield from _sides(one.path, one.before, one.after)


def _sides(path: str, before: object, after: object) -> Iterator[str]:
    if before is not None:
        yield _line("-", path, before)
    if after is not None:
        yield _line("+", path, after)


def _line(sign: str, path: str, value: object) -> str:
    if isinstance(value, str):
        value = cut(value, _LONGEST_VALUE)
    return f"{sign} {clean(cut(path, _LONGEST_PATH))} = {value_text(value)}"
