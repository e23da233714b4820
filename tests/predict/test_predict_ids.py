"""Ids of predictions: no two are equal, in one process or several; sealed ones say what they were made with, and who
has not the key can neither make nor alter one."""

from __future__ import annotations

import math
import os
import string
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import FeedbackError
from shipworthy.predict.ids import (
    ALONE,
    CHALLENGER,
    CHAMPION,
    KEY_BYTES,
    LENGTH,
    MAX_CLASSES,
    WHOLE,
    Signer,
    digest_of,
    new_id,
    read_id,
    tag_of,
    unique_of,
)

KEY = bytes(range(KEY_BYTES))
ROW = {"predicted_class": 7}

FORKED = """
import os
from shipworthy.predict.ids import Signer, new_id

def both():
    return new_id() + "," + Signer(bytes(32), "digits", 1).ids([{}])[0].decode()

os.write(1, both().encode() + b" ")
child = os.fork()
os.write(1, both().encode() + b" ")
if child:
    os.waitpid(child, 0)
"""


def test_no_two_are_equal_whoever_asks() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = [name for names in pool.map(lambda _: [new_id() for _ in range(2000)], range(4)) for name in names]
    assert len(set(made)) == len(made) == 8000
    assert all(len(name) == 32 and int(name, 16) > 0 for name in made)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_has_ids_of_its_own() -> None:
    """In a process of its own: libraries that a test process has loaded do not survive a fork."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=60)
    written = [one.split(",") for one in done.stdout.split()]
    before, *after = (plain for plain, _ in written)
    assert len({before, *after}) == 3
    assert len({name[:16] for name in after}) == 2 and before[:16] in {name[:16] for name in after}
    uniques = [read_id(bytes(32), sealed).unique for _, sealed in written]
    assert len(set(uniques)) == 3
    assert len({unique[:4] for unique in uniques[1:]}) == 2


ROWS: st.SearchStrategy[tuple[dict[str, Any], str, Any]] = st.one_of(
    st.integers(0, 2**63).map(lambda best: ({"predicted_class": best, "confidence": 0.5}, "class", best)),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda value: ({"value": value}, "scalar", value)),
    st.sets(st.integers(0, MAX_CLASSES - 1)).map(
        lambda classes: (
            {"predicted_classes": sorted(classes), "probabilities": [0.5] * MAX_CLASSES},
            "classes",
            sum(2**one for one in classes),
        )
    ),
    st.sampled_from([{"outputs": {"y": [1.0]}}, {"value": [1.0, 2.0]}, {}]).map(lambda row: (row, "none", None)),
)


@given(
    row=ROWS,
    version=st.integers(1, 2**32 - 1),
    rollout=st.integers(0, 2**32 - 1),
    arm=st.sampled_from([CHAMPION, CHALLENGER, ALONE]),
    share=st.integers(0, WHOLE),
    digest=st.integers(0, 2**64 - 1),
    model=st.text(min_size=1),
    key=st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES),
)
def test_an_id_says_what_it_was_made_with(
    row: tuple[dict[str, Any], str, Any],
    version: int,
    rollout: int,
    arm: int,
    share: int,
    digest: int,
    model: str,
    key: bytes,
) -> None:
    answer, kind, value = row
    signer = Signer(key, model, version, rollout=rollout, arm=arm, share=share / WHOLE)
    before = int(time.time())
    sealed = signer.ids([answer], digest)[0]
    read = read_id(key, sealed.decode())
    assert (read.version, read.rollout, read.arm, read.share) == (version, rollout, arm, share / WHOLE)
    assert (read.key_digest, read.model_tag) == (digest, tag_of(model))
    assert (read.kind, read.value) == (kind, value)
    # Also a negative zero comes back as it was.
    assert value is None or math.copysign(1, read.value or 0) == math.copysign(1, value)
    assert before <= read.at <= time.time()
    assert read.unique == unique_of(sealed)
    assert len(sealed) == LENGTH <= 200


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"predicted_classes": [], "probabilities": [0.1, 0.2]}, "classes"),
        ({"predicted_classes": [1], "probabilities": None}, "classes"),
        ({"predicted_classes": [0, 63], "probabilities": [0.9] * 64}, "classes"),
        ({"predicted_classes": [0], "probabilities": [0.9] * 65}, "none"),
        ({"predicted_classes": [64], "probabilities": None}, "none"),
        ({"value": 3.5}, "scalar"),
        ({"value": [3.5]}, "none"),
    ],
)
def test_an_id_says_as_much_as_it_can(row: dict[str, Any], kind: str) -> None:
    read = read_id(KEY, Signer(KEY, "digits", 1).ids([row])[0].decode())
    assert read.kind == kind


def test_every_altered_character_is_refused() -> None:
    sealed = Signer(KEY, "digits", 3, rollout=2, arm=CHALLENGER, share=0.05).ids([ROW], 5)[0].decode()
    alphabet = string.ascii_letters + string.digits + "-_+/=\n é"
    for place, was in enumerate(sealed):
        for other in alphabet:
            if other != was:
                with pytest.raises(FeedbackError, match="prediction id"):
                    read_id(KEY, sealed[:place] + other + sealed[place + 1 :])


def test_both_alphabets_are_not_read() -> None:
    """Of an id that has every kind of digit, the other spelling is none."""
    signer = Signer(KEY, "digits", 3)
    sealed = next(one for one in (signer.ids([ROW])[0].decode() for _ in range(200)) if "-" in one and "_" in one)
    read_id(KEY, sealed)
    for other in (sealed.replace("-", "+"), sealed.replace("_", "/")):
        with pytest.raises(FeedbackError):
            read_id(KEY, other)


@pytest.mark.parametrize(
    "alter",
    [
        lambda text: text[:-1],
        lambda text: text[:-4],
        lambda text: text[4:],
        lambda text: text + "A",
        lambda text: text + "AAAA",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.swapcase(),
        lambda text: text[44:] + text[:44],
        lambda text: "é" * len(text),
        lambda text: "\ud800" + text[1:],
        lambda text: "",
        lambda text: "A" * len(text),
        lambda text: "A" * 10_000,
        lambda text: new_id(),
    ],
)
def test_what_is_no_id_is_refused(alter: Any) -> None:
    sealed = Signer(KEY, "digits", 3).ids([ROW])[0].decode()
    with pytest.raises(FeedbackError, match="send back the prediction_id of an answer, as it is"):
        read_id(KEY, alter(sealed))


@given(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES).filter(lambda key: key != KEY))
def test_another_key_reads_nothing(other: bytes) -> None:
    sealed = Signer(KEY, "digits", 3).ids([ROW])[0].decode()
    with pytest.raises(FeedbackError, match="not made by a server that has this registry's key"):
        read_id(other, sealed)


def test_a_later_format_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shipworthy.predict.ids._FORMAT", 2)
    sealed = Signer(KEY, "digits", 3).ids([ROW])[0].decode()
    monkeypatch.undo()
    with pytest.raises(FeedbackError, match="has format 2, this version reads 1"):
        read_id(KEY, sealed)


def test_no_two_sealed_ids_are_equal_whoever_makes_them() -> None:
    signers = [Signer(KEY, "digits", version) for version in (1, 2)]

    def make(place: int) -> list[bytes]:
        return [one for _ in range(500) for one in signers[place % 2].ids([ROW, ROW])]

    with ThreadPoolExecutor(4) as pool:
        made = [sealed for part in pool.map(make, range(4)) for sealed in part]
    assert len({unique_of(sealed) for sealed in made}) == len(set(made)) == 4000


def test_digests_of_keys_are_spread_and_never_nothing() -> None:
    digests = [digest_of(b"1:user-%d" % number, KEY) for number in range(4000)]
    assert len(set(digests)) == 4000 and 0 not in digests
    # Of 4,000 fair draws, a share that is 4 standard errors off has a chance of 6e-5.
    assert abs(sum(one < 2**63 for one in digests) / 4000 - 0.5) < 4 * 0.5 / math.sqrt(4000)
    assert digest_of(b"1:a", KEY) != digest_of(b"2:a", KEY)
    assert digest_of(b"1:a", KEY) != digest_of(b"1:a", bytes(KEY_BYTES))
