"""Key prefixes that wrappers leave in a state_dict, and how they are taken off."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""From DataParallel, from torch.compile, and the names that Lightning modules commonly give their network."""

_COMPILED = "_orig_mod."


@dataclass(frozen=True, slots=True)
class Mend:
    """New names for the keys of a state_dict, so that they fit a module."""

    renamed: dict[str, str]
    """Old name to new name, for every key that is kept."""
    prefixes: tuple[str, ...]
    """What is taken off, as it stands in the file: `module._orig_mod.`."""
    left_out: tuple[str, ...]
    """Keys outside the prefix that the module has no place for, such as a loss' own weights."""

    @property
    def count(self) -> int:
        return sum(old != new for old, new in self.renamed.items())


def find_mend(keys: Collection[str], wanted: Collection[str]) -> Mend | None:
    """The fewest known prefixes that, taken off `keys`, give all of `wanted`; None where none do, or none is needed.

    A key without the prefix is left out where the module has no place for it; a key with the prefix must fit."""
    goal = set(wanted)
    if not goal or goal <= set(keys):
        return None
    queue = deque([{key: key for key in keys}])
    seen = set()
    while queue:
        names = queue.popleft()
        for prefix in PREFIXES:
            shorter = {old: _take_off(new, prefix) for old, new in names.items()}
            state = frozenset(shorter.values())
            if shorter == names or state in seen or len(state) < len(shorter):
                continue
            seen.add(state)
            if goal <= state:
                return _mend(shorter, goal)
            queue.append(shorter)
    return None


def _take_off(key: str, prefix: str) -> str:
    """torch.compile marks compiled submodules too, so its mark is taken out wherever it stands."""
    if prefix == _COMPILED:
        return key.replace(_COMPILED, "")
    return key.removeprefix(prefix)


def _mend(names: dict[str, str], goal: set[str]) -> Mend | None:
    if any(old != new and new not in goal for old, new in names.items()):
        return None
    kept = {old: new for old, new in names.items() if new in goal}
    return Mend(kept, _prefixes(kept.items()), tuple(old for old in names if old not in kept))


def _prefixes(pairs: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for old, new in pairs:
        if old.endswith(new) and old != new:
            found[old.removesuffix(new)] = None
        elif old != new:
            found[_COMPILED] = None
    return tuple(found)
