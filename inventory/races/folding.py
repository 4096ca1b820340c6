"""Folds a long transcript to the lines that matter; a fold says which lines it stands for."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .statements import Kind

if TYPE_CHECKING:
    from .transcript import Line

LEAST = 3  # lines of a fold
UNFOLDED = 16  # lines of a transcript that is always shown whole
MOST = 18  # lines of a folded one, unless its sentence speaks of more
BLOCKS = 2  # folds that may follow each other; if sessions take more turns, one fold is for all
ENDS = (Kind.COMMIT, Kind.ROLLBACK)


@dataclass(frozen=True)
class Fold:
    """Lines that are left out."""

    lines: tuple[Line, ...]

    @property
    def session(self) -> str:
        """The session whose lines they are; the empty string if there are several."""
        names = {each.session for each in self.lines}
        return names.pop() if len(names) == 1 else ""

    @property
    def lane(self) -> int:
        return self.lines[0].lane if self.session else 0

    @property
    def in_short(self) -> str:
        """As “… 12 more lines (4 to 15)”."""
        return f"… {len(self.lines)} more lines {self._place}"

    def in_words(self, names: Mapping[str, str] | None = None) -> str:
        """As “… 12 more lines of Ann and 3 of Bob (4 to 18)”, if they are of several sessions.

        ``names``: other names for the sessions.
        """
        if self.session:
            return self.in_short
        counts = Counter((names or {}).get(each.session, each.session) for each in self.lines)
        parts = [f"{number} of {name}" for name, number in counts.items()]
        parts[0] = parts[0].replace(" of ", " more lines of ", 1)
        return f"… {', '.join(parts[:-1])} and {parts[-1]} {self._place}"

    @property
    def _place(self) -> str:
        return f"({self.lines[0].label} to {self.lines[-1].label}{self._events})"

    @property
    def _events(self) -> str:
        """Waits and errors among the lines, in words."""
        tones = Counter(each.tone for each in self.lines)
        return "".join(
            f", {tones[tone]} {tone}{'' if tones[tone] == 1 else 's'}"
            for tone in ("wait", "error")
            if tones[tone]
        )


def folded(lines: Sequence[Line], told: Collection[int]) -> list[Line | Fold]:
    """The lines that matter, with folds for the others; all lines if they are few.

    ``told``: the numbers of the steps that the transcript's sentence speaks of.
    """
    if len(lines) <= UNFOLDED:
        return list(lines)
    shown = {place for place, line in enumerate(lines) if line.step.number in told}
    for place in by_importance(lines, has_sentence=bool(told)):
        if len(fold_others(lines, shown | {place})) <= MOST:
            shown.add(place)
    return fold_others(lines, shown)


def by_importance(lines: Sequence[Line], *, has_sentence: bool) -> Iterator[int]:
    """The places of lines that are shown besides those of the sentence, as far as there is room."""
    places = range(len(lines))
    yield from (0, len(lines) - 1)
    last_ends = {line.session: at for at, line in enumerate(lines) if line.step.kind in ENDS}
    yield from last_ends.values()
    yield from (at for at in places if lines[at].tone in ("error", "wait"))
    yield from (at for at in places if lines[at].is_completion)
    yield from (at for at in places if lines[at].step.kind is Kind.POINT)
    yield from (at for at in places if lines[at].step.kind in ENDS)
    if not has_sentence:
        writes = [at for at in places if lines[at].step.changes]
        yield from (at for at in writes if is_shared(lines[at], lines))
        yield from (at for at in places if is_shared(lines[at], [lines[at] for at in writes]))


def is_shared(line: Line, others: Sequence[Line]) -> bool:
    """Whether a line of another session names a table of this one."""
    return any(
        other.session != line.session and other.step.tables & line.step.tables for other in others
    )


def fold_others(lines: Sequence[Line], shown: Collection[int]) -> list[Line | Fold]:
    """The lines at the places ``shown``, with folds for those between them.

    Lines are shown, too, where a fold would save next to nothing.
    """
    rows: list[Line | Fold] = []
    for is_shown, group in itertools.groupby(enumerate(lines), lambda each: each[0] in shown):
        stretch = [line for _, line in group]
        if is_shown:
            rows += stretch
            continue
        blocks = [tuple(own) for _, own in itertools.groupby(stretch, lambda line: line.session)]
        if len(blocks) > BLOCKS:
            blocks = [tuple(stretch)]
        for block in blocks:
            rows += block if len(block) < LEAST else [Fold(block)]
    return rows
