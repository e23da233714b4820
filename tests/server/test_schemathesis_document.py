"""The OpenAPI document is kept: whatever fits or breaks its schemas gets an answer that it describes."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from server_cases import digits, prices, sentiment

from shipworthy.server import create_app

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 200
"""For each operation and mode with --full; a twentieth by default."""
TIMEOUT = "x-request-timeout-ms"
SERVED = {"model": "prices", "version": "0" * 12}
"""What stands in paths, beside names that nobody serves."""


@pytest.fixture
def document(tmp_path: Path) -> Any:
    app = create_app({"digits": digits(), "prices": prices(), "sentiment": sentiment(tmp_path)})
    return schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.mark.long
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_operation_keeps_its_word(document: Any, mode: GenerationMode, effort: float) -> None:
    seen: Counter[tuple[str, int]] = Counter()
    operations = [result.ok() for result in document.get_all_operations()]
    assert {f"/models/{name}/predict" for name in ("digits", "prices", "sentiment")} <= {one.path for one in operations}
    for operation in operations:

        @settings(
            max_examples=int(EXAMPLES * effort),
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), served=st.booleans())
        def check(case: Any, served: bool) -> None:
            if served and case.path_parameters:
                case.path_parameters = {name: SERVED[name] for name in case.path_parameters}
            if (case.headers or {}).get(TIMEOUT, "").isdecimal():
                # How little time is too little depends on the host; 504 for it is another test's matter.
                case.headers[TIMEOUT] = "60000"
            with warnings.catch_warnings():
                # Bodies of any type are sent as any content type, which its client warns of.
                warnings.simplefilter("ignore")
                response = case.call_and_validate(checks=CHECKS)
            seen[case.operation.path, response.status_code] += 1

        # What takes no body, and any text in its path, cannot be asked in a wrong way.
        if mode is GenerationMode.POSITIVE or operation.body:
            check()
    statuses = {status for _, status in seen}
    assert statuses >= ({200, 404} if mode is GenerationMode.POSITIVE else {400, 422})
    assert not {status for status in statuses if status >= 500} - {503}
