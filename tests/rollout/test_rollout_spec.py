"""What may be asked of a rollout, and what is said where it cannot be."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import RolloutError
from shipworthy.rollout.options import PARTS
from shipworthy.rollout.spec import Spec


def test_a_spec_has_the_margin_of_its_mode() -> None:
    assert Spec("shadow").delta == 0.01
    assert Spec("canary").delta == Spec("ab").delta == 0.02
    assert Spec("canary", delta=0.0).delta == 0.0


def test_shares_are_those_of_the_mode() -> None:
    assert Spec("shadow").shares == (0.0,)
    assert Spec("ab", share=0.3).shares == (0.3,)
    assert Spec("canary", ramp=(0.1, 0.2)).shares == (0.1, 0.2)


def test_a_spec_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Spec("ab").share = 0.1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "ramp"),
    [("1,5,25,50,100", (0.01, 0.05, 0.25, 0.5)), ("0.5, 1, 12.34", (0.005, 0.01, 0.1234)), ("10%,20%", (0.1, 0.2))],
)
def test_a_ramp_is_written_in_percent(text: str, ramp: tuple[float, ...]) -> None:
    assert Spec.from_options("canary", {"ramp": text}).ramp == ramp


def test_texts_are_read_as_people_write_them() -> None:
    spec = Spec.from_options("ab", {"share": "30%", "timeout_s": "1.5h", "guardrails": "ratio,errors", "delta": None})
    assert (spec.share, spec.timeout_s, spec.guardrails, spec.delta) == (0.3, 5400.0, ("errors", "ratio"), 0.02)
    assert Spec.from_options("shadow", {"guardrails": "none", "shadow_rate": "10%"}).guardrails == ()
    assert Spec.from_options("canary", {"stage_seconds": "2m", "key_header": "X-User"}).key_header == "x-user"


@pytest.mark.parametrize(
    ("mode", "options", "field", "told"),
    [
        ("blue-green", {}, "mode", "shadow"),
        ("canary", {"ramp": "1,5,x"}, "ramp", "percents"),
        ("canary", {"ramp": "5,1"}, "ramp", "above the last"),
        ("canary", {"ramp": "0.01,0.05"}, "ramp", "percents"),
        ("canary", {"ramp": "100"}, "ramp", "promote"),
        ("canary", {"ramp": "1,150"}, "ramp", "below 1"),
        ("canary", {"ramp": ()}, "ramp", "shares"),
        ("canary", {"ramp": "1,1.00001"}, "ramp", "multiple"),
        ("canary", {"share": 0.5}, "share", "ab"),
        ("shadow", {"ramp": "1,5"}, "ramp", "canary"),
        ("shadow", {"delta": 0.0}, "delta", "from"),
        ("shadow", {"max_pairs": 0}, "max_pairs", "whole"),
        ("shadow", {"shadow_rate": 0.33333}, "shadow_rate", "multiple"),
        ("ab", {"share": 1.0}, "share", "below 1"),
        ("ab", {"share": "much"}, "share", "25%"),
        ("ab", {"delta": float("inf")}, "delta", "number"),
        ("ab", {"delta": 0.6}, "delta", "to 0.5"),
        ("ab", {"auto": "yes"}, "auto", "true"),
        ("ab", {"timeout_s": "soon"}, "timeout_s", "24h"),
        ("ab", {"timeout_s": 0}, "timeout_s", "from 1"),
        ("ab", {"target_ms": -1}, "target_ms", "above zero"),
        ("ab", {"error_scale": 0}, "error_scale", "above zero"),
        ("ab", {"key_header": "x user"}, "key_header", "header"),
        ("ab", {"guardrails": "speed"}, "guardrails", "latency"),
        ("ab", {"error_scal": 1.0}, "error_scal", "error_scale"),
        ("canary", {"stage_requests": 1.5}, "stage_requests", "whole"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field_and_a_remedy(
    mode: str, options: dict[str, object], field: str, told: str
) -> None:
    with pytest.raises(RolloutError) as refused:
        Spec.from_options(mode, options)
    assert refused.value.culprit == f"rollout.{field}"
    assert told in refused.value.remedy


@given(st.sampled_from(["shadow", "canary", "ab"]), st.integers(1, PARTS - 1), st.floats(0.0001, 0.5), st.booleans())
def test_json_gives_the_same_spec_back(mode: str, parts: int, delta: float, auto: bool) -> None:
    spec = Spec(mode, delta=delta, share=parts / PARTS, auto=auto, error_scale=delta)  # type: ignore[arg-type]
    assert Spec.from_json(spec.to_json()) == spec
    assert round(spec.share * PARTS) / PARTS == spec.share
