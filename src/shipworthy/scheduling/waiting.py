"""The parts that wait for one model."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf

from .curve import GAIN
from .groups import Group
from .parts import Part
from .plan import Plan

KEYS = 256
"""So many keys' costs are remembered."""
STALE = 4
"""So many notes are kept for each group that waits."""


class Waiting:
    """Parts by key, which group is next, and how long all of it takes."""

    def __init__(self, plan: Plan) -> None:
        self.rows = 0
        self.cost = 0.0
        """Seconds of one stream that the rows are expected to take."""
        self.latest = -inf
        """No part that waits is due later."""
        self.groups: dict[Hashable, Group] = {}
        self._plan = plan
        self._order: list[tuple[float, int, Group]] = []
        self._factors: dict[Hashable, float] = {}
        self._numbers = count()

    def put(self, part: Part) -> Group:
        key = part.key
        group = self.groups.get(key)
        if group is None:
            factor = part.scale if key is None else self._factors.get(key, part.scale)
            group = self.groups[key] = Group(key, factor)
        if group.put(part):
            self._line_up(group)
        self.rows += part.rows
        if part.due > self.latest:
            self.latest = part.due
        self._recost(group)
        return group

    def pull(self, part: Part) -> None:
        """Take one out of the middle."""
        group = self.groups[part.key]
        self.rows -= part.rows
        self._settle(group, group.pull(part))

    def next(self) -> Group | None:
        """The group whose first part is due soonest."""
        order = self._order
        while order:
            due, _, group = order[0]
            if group.dues and group.dues[0] == due:
                return group
            heappop(order)
        return None

    def take(self, group: Group, rows: int) -> tuple[list[Part], int]:
        """The first parts of a group that fit into `rows` together, one at least; and how many rows they have."""
        before = group.rows
        parts = group.first(rows)
        taken = before - group.rows
        self.rows -= taken
        self._settle(group, first=True)
        return parts, taken

    def expire(self, group: Group, now: float) -> list[Part]:
        """Take parts from the front that are of no use any more."""
        before = group.rows
        parts = group.expire(now)
        self.rows -= before - group.rows
        self._settle(group, first=True)
        return parts

    def sooner(self, due: float) -> float:
        """Seconds of one stream that those rows take which are due no later."""
        if due >= self.latest:
            return self.cost
        return sum(group.cost * group.sooner(due) / group.rows for group in self.groups.values())

    def learn(self, group: Group, ratio: float) -> None:
        """A batch took `ratio` times as long as expected. What the rows of the newest `KEYS` cost is remembered."""
        factor = self._factors.pop(group.key, group.factor)
        group.factor = self._factors[group.key] = factor * (1.0 + GAIN * (min(2.0, max(0.5, ratio)) - 1.0))
        if len(self._factors) > KEYS:
            del self._factors[next(iter(self._factors))]

    def _settle(self, group: Group, first: bool) -> None:
        """Parts have left a group, the `first` among them or not."""
        self._recost(group)
        if not group.dues:
            del self.groups[group.key]
            if not self.groups:
                self.cost = 0.0
                self.latest = -inf
                self._order.clear()
        elif first:
            self._line_up(group)

    def _line_up(self, group: Group) -> None:
        """Note when the first of a group is due. Earlier notes of it are passed over when their turn comes, which may
        be long after its parts have left: where most are such, all are made anew."""
        if len(self._order) >= STALE * (len(self.groups) + 16):
            self._order = [(one.dues[0], next(self._numbers), one) for one in self.groups.values()]
            heapify(self._order)
        else:
            heappush(self._order, (group.dues[0], next(self._numbers), group))

    def _recost(self, group: Group) -> None:
        """Rows of one key fill batches; with several keys, those that are left over make a batch of their own."""
        plan, rows = self._plan, group.rows
        if rows >= plan.bucket or len(self.groups) == 1:
            cost = rows * plan.seconds / plan.bucket
        else:
            cost = plan.curve.mean(plan.curve.bucket(rows)) if rows else 0.0
        cost *= group.factor
        self.cost += cost - group.cost
        group.cost = cost
