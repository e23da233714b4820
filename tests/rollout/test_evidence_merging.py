"""However it is cut into parts, evidence is the same, and the text that is stored is the evidence to the last bit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from shipworthy.rollout.evidence import Evidence, Paired, Ratio, Unpaired, judge, paired

DELTA = 0.01


def stream(seed: int, steps: int = 5_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """new, share (a ramp), y in [0, 1]."""
    rng = np.random.default_rng(seed)
    share = rng.choice([0.0, 0.01, 0.05, 0.25, 0.5, 1.0], steps)
    return (
        rng.random(steps) < share,
        share,
        np.where(rng.random(steps) < 0.5, rng.random(steps) < 0.1, rng.random(steps)),
    )


def test_counters_and_streaming_agree() -> None:
    """The verdict of pairs with 0/1 loss is a function of three counters."""
    z = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], 5_000, p=[0.03, 0.95, 0.02])
    counted, streamed, whole = Paired(DELTA), Paired(DELTA), Paired(DELTA)
    counted.add([-1, 0, 1], count=[(z == -1).sum(), (z == 0).sum(), (z == 1).sum()])
    whole.add(z)
    for one in z.tolist():
        streamed.add(one)
    for other in (streamed, whole):
        np.testing.assert_allclose(other.promote, counted.promote, rtol=0, atol=1e-9)
        np.testing.assert_allclose(other.rollback, counted.rollback, rtol=0, atol=1e-9)
        assert (other.pairs, other.disagreeing, other.better, other.worse) == (
            5_000,
            int((z != 0).sum()),
            int((z < 0).sum()),
            int((z > 0).sum()),
        )


def test_counts_of_events_and_streaming_agree() -> None:
    new, share, y = stream(2, 2_000)
    events = y > 0.5
    streamed, counted, one_by_one = Ratio.guardrail(), Ratio.guardrail(), Ratio.guardrail()
    streamed.observe(new, share, events)
    for value in np.unique(share):
        here = share == value
        requests = (int((here & ~new).sum()), int((here & new).sum()))
        counted.count(float(value), (int((here & ~new & events).sum()), int((here & new & events).sum())), requests)
    for at in range(len(new)):
        one_by_one.observe(new[at], share[at], events[at])
    drawn = (share > 0) & (share < 1)
    for other in (counted, one_by_one):
        np.testing.assert_allclose(other.log_wealth, streamed.log_wealth, rtol=0, atol=1e-9)
        assert other.events.tolist() == [(drawn & ~new & events).sum(), (drawn & new & events).sum()]
        assert other.requests.tolist() == [(drawn & ~new).sum(), (drawn & new).sum()]


def test_a_request_of_a_canary_is_counted_as_the_formula_says() -> None:
    new, share, y = stream(3, 400)
    at_once = Unpaired(DELTA)
    at_once.observe(new, share, y)
    promote, rollback, total, number = np.zeros(12), np.zeros(12), 0.0, 0
    f = np.geomspace(0.01, 0.95, 12)
    for a, pi, loss in zip(new, share, y, strict=True):
        if 0 < pi < 1:
            x = (a - pi) * (loss - (1 + total) / (10 + number)) - pi * (1 - pi) * DELTA
            promote, rollback = promote + np.log1p(-f * x), rollback + np.log1p(f * x)
            total, number = total + loss, number + 1
    np.testing.assert_allclose(at_once.promote, promote, rtol=0, atol=1e-9)
    np.testing.assert_allclose(at_once.rollback, rollback, rtol=0, atol=1e-9)
    assert at_once.counts.sum() == number


@pytest.mark.parametrize("piece", [1, 7, 1_000, 40_000])
def test_batches_of_a_canary_are_its_stream(piece: int) -> None:
    """However requests are cut into flushes, b carries over: one process, to 1e-9."""
    new, share, y = stream(4, 40_000 if piece > 7 else 2_000)
    at_once, in_pieces = Unpaired(DELTA), Unpaired(DELTA)
    at_once.observe(new, share, y)
    for start in range(0, len(y), piece):
        part = slice(start, start + piece)
        in_pieces.observe(new[part], share[part], y[part])
        if start % (50 * piece) == 0:
            in_pieces = Unpaired.from_record(json.loads(json.dumps(in_pieces.to_record())))
    np.testing.assert_allclose(in_pieces.promote, at_once.promote, rtol=0, atol=1e-9)
    np.testing.assert_allclose(in_pieces.rollback, at_once.rollback, rtol=0, atol=1e-9)
    assert in_pieces.counts.tolist() == at_once.counts.tolist()


@pytest.mark.parametrize("mode", ["shadow", "canary", "ab"])
def test_text_is_the_evidence_to_the_last_bit(mode: str) -> None:
    evidence = Evidence(mode, 1 / 3)  # type: ignore[arg-type]
    new, share, y = stream(8)
    if mode == "shadow":
        evidence.paired.add_open(np.random.default_rng(9).random(1_000))
    else:
        evidence.unpaired.observe(new, share, y)
    evidence.errors.observe(new, share, y > 0.8)
    evidence.labelled.count(0.05, (100, 900))
    assert judge(evidence).verdict == "hold"
    back = Evidence.from_json(evidence.to_json())
    assert back.to_json() == evidence.to_json()
    assert back.mismatch == "labelled"
    assert (back.mode, back.delta, type(back.quality)) == (mode, 1 / 3, type(evidence.quality))
    for name in ("promote", "rollback"):
        assert getattr(back.quality, name).tobytes() == getattr(evidence.quality, name).tobytes()
    assert back.errors.log_wealth.tobytes() == evidence.errors.log_wealth.tobytes()
    assert judge(back) == judge(evidence)
    # Both go on alike.
    for who in (evidence, back):
        who.errors.observe(new, share, y > 0.9)
    assert back.to_json() == evidence.to_json()


def test_nothing_is_no_evidence() -> None:
    """A flush without requests, and requests at a share of 0 or 1, leave everything as it was."""
    shadow, canary = Evidence("shadow", DELTA), Evidence("canary", DELTA)
    before = shadow.to_json(), canary.to_json()
    none = np.zeros(0)
    for z in (none, none.tolist()):
        shadow.paired.add(z)
        shadow.paired.add_open(z)
        shadow.paired.settle(z, z)
    shadow.paired.add(0.0, count=0)
    shadow.errors.pairs(none, none)
    canary.unpaired.observe(none, none, none)
    canary.unpaired.observe([True, False], [1.0, 0.0], [1.0, 1.0])
    for name in ("errors", "latency", "assigned", "completed", "labelled"):
        ratio = getattr(canary, name)
        ratio.observe(none, none)
        ratio.observe([True, False], [1.0, 0.0], [True, True])
        ratio.count(1.0, (0, 5))
    assert (shadow.to_json(), canary.to_json()) == before


def test_what_is_out_of_range_is_refused() -> None:
    pairs = Paired(DELTA)
    with pytest.raises(AssertionError, match=r"in \[-1, 1\]"):
        pairs.add(1.5)
    with pytest.raises(AssertionError, match="more than its answers allow"):
        pairs.settle(0.2, 0.3)
    with pytest.raises(AssertionError, match=r"a loss is in \[0, 1\]"):
        Unpaired(DELTA).observe([True], [0.5], [-0.1])
    with pytest.raises(AssertionError):
        pairs.add(float("nan"))
    with pytest.raises(AssertionError, match="format 99"):
        Evidence.from_json(Evidence("shadow", DELTA).to_json().replace('"format": 1', '"format": 99'))
    assert not pairs.promote.any()


def test_terms_have_a_place_for_each_bet() -> None:
    assert paired.promote_terms(np.zeros((3, 4)), DELTA).shape == (3, 4, 10)
    assert Ratio.guardrail().terms(np.full((2, 5), 0.1), new=True).shape == (2, 5, 7)
    assert Ratio.sample_ratio().log_wealth.shape == (14,)
