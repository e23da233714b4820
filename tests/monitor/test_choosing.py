"""Which rows are scored: any row with the same probability, never more than so many, and whatever they hold."""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random

import numpy as np
import pytest
from scipy import stats

from shipworthy.monitor.choosing import AIM, NEVER, Choosing


def second(choosing: Choosing, batches: list[int]) -> list[int]:
    """Places, counted from the first row of the second; then it is over."""
    places: list[int] = []
    before = 0
    for rows in batches:
        places += [before + place for place in choosing.ran(rows) or ()]
        before += rows
    choosing.turn(1.0)
    return places


def test_each_row_of_a_batch_and_each_row_of_a_second_is_as_probable() -> None:
    choosing = Choosing(500, chance=Random(7))
    in_batch: Counter[int] = Counter()
    in_second: Counter[int] = Counter()
    for number in range(200):
        places = second(choosing, [8] * 1000)
        if number:
            in_batch.update(place % 8 for place in places)
            # The bound ends a second early at times: only what comes before that is compared.
            in_second.update(place // 800 for place in places if place < 6400)
    assert sum(in_batch.values()) > 80_000
    assert stats.chisquare([in_batch[place] for place in range(8)]).pvalue > 0.001
    assert stats.chisquare([in_second[place] for place in range(8)]).pvalue > 0.001


def test_gaps_are_geometric() -> None:
    choosing = Choosing(10**6, one_in=20, chance=Random(3))
    places = second(choosing, [7] * 60_000)
    gaps = np.diff(places)
    edges = [1, 5, 10, 20, 40, 80, NEVER]
    seen = np.array([((gaps >= low) & (gaps < high)).sum() for low, high in itertools.pairwise(edges)])
    expected = np.diff([1 - 0.95 ** (edge - 1) for edge in edges[:-1]] + [1.0]) * len(gaps)
    assert stats.chisquare(seen, expected).pvalue > 0.001


def test_what_rows_are_chosen_depends_on_their_number_alone() -> None:
    """Batches of any sizes: the same rows, because only a count goes in."""
    one, other = (Choosing(10**6, one_in=10, chance=Random(5)) for _ in range(2))
    assert second(one, [1] * 3000) == second(other, [3, 7, 50, 40] * 30)


@pytest.mark.parametrize("rows", [1, 8, 1000])
def test_no_more_than_the_rate_whatever_comes(rows: int) -> None:
    choosing, random = Choosing(500, chance=Random(1)), Random(2)
    for _ in range(20):
        # From nothing to a hundred thousand, and back.
        burst = int(10 ** random.uniform(0, 5)) // rows
        assert len(second(choosing, [rows] * burst)) <= 500


def test_steady_traffic_is_scored_at_about_the_rate_for_the_whole_second() -> None:
    choosing = Choosing(500, chance=Random(4))
    second(choosing, [10] * 2700)
    places = [second(choosing, [10] * 2700) for _ in range(40)]
    assert np.mean([len(each) for each in places]) == pytest.approx(500 * AIM, rel=0.02)
    late = np.mean([sum(place >= 24_300 for place in each) for each in places])
    assert late > 0.85 * 500 * AIM / 10, "the last tenth of a second has its share"


def test_all_are_scored_where_few_come_and_soon_again_after_many() -> None:
    choosing = Choosing(500, chance=Random(4))
    assert len(second(choosing, [1] * 300)) == 300
    second(choosing, [100] * 10_000)
    assert choosing.share < 0.001
    second(choosing, [1] * 10)
    assert second(choosing, [1] * 10) == list(range(10))


def test_a_rate_below_one_is_kept_on_average() -> None:
    choosing = Choosing(0.25, chance=Random(4))
    found = [len(second(choosing, [1] * 100)) for _ in range(4000)]
    assert max(found) == 1 and np.mean(found) == pytest.approx(0.25 * AIM, rel=0.15)


def test_at_most_one_in_so_many() -> None:
    choosing = Choosing(500, one_in=10, chance=Random(4))
    found = [len(second(choosing, [1] * 400)) for _ in range(300)]
    assert np.mean(found) == pytest.approx(40, rel=0.05)


def test_large_rows_are_chosen_more_seldom() -> None:
    """The bound in bytes is one of the second, so that it is no matter how large the next row is."""
    choosing = Choosing(500, most_bytes=100_000, chance=Random(4))

    def large(batches: int) -> int:
        count = 0
        for _ in range(batches):
            for _ in choosing.ran(4) or ():
                choosing.count(10_000)
                count += 1
        choosing.turn(1.0)
        return count

    assert large(1000) <= 14
    found = [large(1000) for _ in range(50)]
    assert max(found) <= 14 and np.mean(found) == pytest.approx(10 * AIM, rel=0.15)


def test_rows_are_counted_exactly() -> None:
    choosing, random, total = Choosing(50, chance=Random(9)), Random(9), 0
    for number in range(5000):
        rows = random.randrange(1, 40)
        choosing.ran(rows)
        total += rows
        if number % 97 == 0:
            choosing.turn(random.uniform(0.2, 3))
        assert choosing.seen() == total
