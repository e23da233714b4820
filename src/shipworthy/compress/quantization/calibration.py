"""Calibration data: which samples are used, whether there are enough of them, and whether they are the right ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ...contract import BATCH, Array, Contract, Dim
from ...data import Chunk, Dataset
from ...evidence import Finding

Feed = TypeVar("Feed")

FEW = 32
"""Fewer samples than this are a finding."""
_ROWS = 256
"""Samples whose statistics are taken at once."""
LEVEL = 0.01
"""Probability of a false alarm that the calibration data is unlike the validation data."""
_LEAST_DISTANCE = 0.1
"""Of the two distribution functions: on many samples a smaller difference is significant, and does no harm."""


def chosen(data: Dataset, contract: Contract, samples: int) -> Dataset:
    """At most `samples` of the data, drawn with the contract's seed: of every class and every shape its share.

    The share is at least one sample where there are as many as classes and shapes."""
    if len(data) <= samples:
        return data
    random = np.random.default_rng([contract.search.seed, 0xCA1B])
    groups = _groups(data, contract)
    shares = _shares([len(rows) for rows in groups], samples)
    rows = [random.permutation(rows)[:share] for rows, share in zip(groups, shares, strict=True)]
    return data.take(np.concatenate(rows))


def _groups(data: Dataset, contract: Contract) -> list[Array]:
    """Positions of the samples of each chunk and class."""
    groups: list[Array] = []
    start = 0
    for chunk in data.chunks:
        rows = np.arange(start, start + len(chunk))
        start += len(chunk)
        classes = chunk.targets if contract.task.kind == "classification" else None
        if classes is None or classes.ndim != 1:
            groups.append(rows)
        else:
            groups.extend(rows[classes == value] for value in np.unique(classes))
    return groups


def _shares(sizes: Sequence[int], total: int) -> list[int]:
    """`total` in proportion to `sizes`, by largest remainders; a group that would get nothing takes one from the
    largest share as long as there is one with two."""
    exact = np.array(sizes) * total / sum(sizes)
    shares = np.floor(exact).astype(int)
    order = np.argsort(shares - exact, kind="stable")
    shares[order[: total - int(shares.sum())]] += 1
    for empty in np.flatnonzero(shares == 0):
        if shares.max() < 2:
            break
        shares[shares.argmax()] -= 1
        shares[empty] = 1
    return [int(share) for share in shares]


def feeds_of(data: Dataset, contract: Contract) -> list[dict[str, Array]]:
    """Feeds of one sample each, or of the fewest that the contract's batch allows: ranges are means over feeds."""
    size = max(1, next(dim.min for dim in contract.signature.dynamic() if dim.name == BATCH))
    return [dict(filled(chunk, size)) for chunk in data.batches(size)]


def spread(feeds: Sequence[Feed], most: int) -> list[Feed]:
    """At most so many, from all over the order, its ends left out where there are more."""
    count = min(most, len(feeds))
    return [feeds[int((number + 0.5) * len(feeds) / count)] for number in range(count)]


def filled(chunk: Chunk, size: int) -> Mapping[str, Array]:
    """Inputs of a batch; one of fewer than `size` samples is filled with its own again."""
    return chunk.inputs if len(chunk) >= size else chunk.take(np.resize(np.arange(len(chunk)), size)).inputs


def few_samples(data: Dataset) -> tuple[Finding, ...]:
    """A finding where there are fewer than 32."""
    if len(data) >= FEW:
        return ()
    return (
        Finding(
            rule="few-calibration-samples",
            severity="warning",
            where="data.calibration",
            why=f"{len(data)} samples show little of the ranges that activations take",
            remedy="give a few hundred, of all kinds that the model will see",
        ),
    )


def unlike_validation(
    calibration: Dataset, validation: Dataset, contract: Contract, level: float = LEVEL
) -> tuple[Finding, ...]:
    """A finding where the calibration inputs do not resemble the validation inputs.

    Of every input, the mean, standard deviation, smallest and largest value of each sample, and the size of each
    dynamic dimension, are compared by the two-sample Kolmogorov-Smirnov test. With Holm's correction the probability
    of a false alarm is at most `level`, however many statistics there are; a distance below 0.1 is passed over."""
    from scipy.stats import ks_2samp  # type: ignore[import-untyped]

    ours, theirs = _statistics(calibration, contract), _statistics(validation, contract)
    tests = {name: ks_2samp(ours[name], theirs[name]) for name in ours}
    ranked = sorted(tests, key=lambda name: float(tests[name].pvalue))
    rejected: list[str] = []
    for place, name in enumerate(ranked):
        if tests[name].pvalue > level / (len(ranked) - place):
            break
        rejected.append(name)
    told = [name for name in rejected if tests[name].statistic >= _LEAST_DISTANCE]
    if not told:
        return ()
    return (_unlike(told, tests, ours, theirs, level),)


def _unlike(
    names: Sequence[str],
    tests: Mapping[str, Any],
    ours: Mapping[str, Array],
    theirs: Mapping[str, Array],
    level: float,
) -> Finding:
    worst = max(names, key=lambda name: float(tests[name].statistic))
    others = f", and {len(names) - 1} more" if len(names) > 1 else ""
    medians = f"its median is {np.median(ours[worst]):.4g}, there {np.median(theirs[worst]):.4g}"
    return Finding(
        rule="calibration-unlike-validation",
        severity="warning",
        where="data.calibration",
        why=f"{worst} is distributed otherwise than in the validation data ({medians}{others}); with data of one kind "
        f"this is said in at most {level:.0%} of cases",
        remedy="calibrate on samples as the model will see them, prepared in the same way",
    )


def _statistics(data: Dataset, contract: Contract) -> dict[str, Array]:
    """Statistics [samples] by what they are of."""
    rows: dict[str, list[Array]] = {}
    # In batches: sums of a whole data set in double precision would take several times its memory.
    for chunk in data.batches(_ROWS):
        for name, spec in contract.inputs.items():
            flat = chunk.inputs[name].reshape(len(chunk), -1).astype(np.float64)
            for word, values in _of_rows(flat):
                rows.setdefault(f"the {word} of {name}", []).append(values)
            for axis, dim in enumerate(spec.shape[1:], start=1):
                if isinstance(dim, Dim):
                    size = np.full(len(chunk), float(chunk.inputs[name].shape[axis]))
                    rows.setdefault(f"the size of {dim.name} in {name}", []).append(size)
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def _of_rows(flat: Array) -> Iterator[tuple[str, Array]]:
    if not flat.shape[1]:
        return
    yield "mean", flat.mean(1)
    if flat.shape[1] > 1:
        yield "standard deviation", flat.std(1)
        yield "smallest value", flat.min(1)
        yield "largest value", flat.max(1)


def settled(ranges: Mapping[str, Array], samples: int) -> str:
    """What more samples would bring: how far the ranges still move from half of the feeds to all of them.

    The ends of a range may be the mean of the smallest and largest values or the extremes of all, and both are told
    of: each moves by the larger shift of its two ends, in shares of its width."""
    if not ranges:
        return f"{samples} calibration samples were used; there are no ranges of activations here to be settled"
    means = [shift for pairs in ranges.values() if (shift := _shift(pairs, _mean_ends)) is not None]
    widest = [shift for pairs in ranges.values() if (shift := _shift(pairs, _extreme_ends)) is not None]
    if not means or not widest:
        return f"{samples} calibration samples were used: too few to say what more would bring"
    verdict = (
        "more would bring little" if max(*means, *widest) < _STILL else "more may still widen or narrow the ranges"
    )
    return (
        f"{samples} calibration samples were used; from half of them to all, the range of an activation moves by "
        f"{_told(means)} of its width between means of the samples' extremes, and by {_told(widest)} between the "
        f"widest extremes: {verdict}"
    )


def _told(shifts: Sequence[float]) -> str:
    return f"{float(np.median(shifts)):.1%} (median of {len(shifts)}) and at most {max(shifts):.1%}"


_STILL = 0.05
"""A range that moves by less of its width is settled."""


def _mean_ends(pairs: Array) -> Array:
    return np.asarray(pairs.mean(0))


def _extreme_ends(pairs: Array) -> Array:
    return np.asarray([pairs[:, 0].min(), pairs[:, 1].max()])


def _shift(pairs: Array, ends: Callable[[Array], Array]) -> float | None:
    """`pairs` [feeds, 2]; every second feed is the half, so that an order in the data does not matter."""
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if len(pairs) < 4:
        return None
    whole, half = ends(pairs), ends(pairs[::2])
    width = float(whole[1] - whole[0])
    return float(np.abs(whole - half).max() / width) if width > 0 else None
