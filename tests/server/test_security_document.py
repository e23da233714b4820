"""SECURITY.md says only what is so: the tests that it names exist, and its numbers are those of the limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shipworthy.server import Settings
from shipworthy.server.access import OPEN_PATHS
from shipworthy.server.bodies import MAX_CLAIMED, MAX_UNFOLDED
from shipworthy.server.connections import Limits

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def text() -> str:
    return (TESTS.parent / "SECURITY.md").read_text()


def test_every_defence_names_its_tests(text: str) -> None:
    defences = text[text.index("## What is defended") : text.index("## What is not defended")]
    rows = [line for line in defences.splitlines() if line.startswith("| ") and not line.startswith("| threat")]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`([a-z_0-9/]+\.py)`", row.rsplit("|", 2)[1])
        assert named, row
        for name in named:
            assert (TESTS / name).is_file(), name


def test_numbers_are_those_of_the_code(text: str) -> None:
    limits, settings = Limits(), Settings()
    for said in (
        f"headers within {limits.headers_s:.0f} s",
        f"{limits.bytes_per_s:.0f} bytes/s on the average after {limits.grace_s:.0f} s",
        f"closed after {limits.idle_s:.0f} s",
        f"at most {limits.connections:,}",
        f"path and query {limits.target_bytes // 1024} KiB",
        f"headers {limits.header_bytes // 1024} KiB and {limits.header_count}",
        f"{limits.pipelined} requests may wait",
        f"{settings.max_body_bytes // 2**20} MiB, refused",
        f"{settings.max_instances:,} instances",
        f"may become {MAX_UNFOLDED // 2**20} MiB and have {MAX_CLAIMED // 10**6} million pixels",
    ):
        assert said in text, said
    assert {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"} == OPEN_PATHS
