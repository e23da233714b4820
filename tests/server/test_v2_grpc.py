"""The gRPC service by itself: messages that the client library does not send, status codes, rights, and the drain."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_cases import digits, prices
from v2_cases import Served, echo, serving, slow

from shipworthy.errors import MissingExtra, ServeError
from shipworthy.server import Settings
from shipworthy.server.observe import Trace, Visit, tracecontext
from shipworthy.server.reporting import Reporter
from shipworthy.server.v2 import messages
from shipworthy.server.v2.grpc_tensors import FIELDS
from shipworthy.server.v2.messages import HEALTH, INFERENCE, message, methods

grpc = pytest.importorskip("grpc")

LIMIT = 100_000
TOKEN = "t" * 20


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(digits(), prices(), echo(), slow(), settings=Settings(max_body_bytes=LIMIT, max_instances=100)) as one:
        yield one


@pytest.fixture(scope="module")
def channel(served: Served) -> Iterator[Any]:
    with grpc.insecure_channel(served.grpc) as opened:
        yield opened


def call(channel: Any, name: str, asked: Any = None, *, service: str = INFERENCE, **options: Any) -> Any:
    """Call a method with a message, or with its fields."""
    request, response, _ = methods(service)[name]
    method = channel.unary_unary(
        f"/{service}/{name}", request_serializer=_bytes, response_deserializer=response.FromString
    )
    return method(
        request(**(asked or {})) if isinstance(asked, dict | None) else asked,
        timeout=options.pop("timeout", 10),
        **options,
    )


def _bytes(asked: Any) -> bytes:
    return asked if isinstance(asked, bytes) else asked.SerializeToString()


def infer_request(model: str = "prices", name: str = "row", rows: int = 1, **contents: Any) -> Any:
    asked = message("inference.ModelInferRequest")(model_name=model)
    tensor = asked.inputs.add(name=name, datatype="FP32", shape=[rows, 2])
    tensor.contents.fp32_contents.extend(contents.get("numbers", [1.0] * (2 * rows)))
    return asked


def refused(code: str, words: str, channel: Any, name: str, asked: Any = None, **options: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, name, asked, **options)
    assert caught.value.code().name == code, caught.value.details()
    assert words in caught.value.details()
    return caught.value


def test_typed_requests_have_typed_answers(channel: Any) -> None:
    response = call(channel, "ModelInfer", infer_request(numbers=[1.5, 2]))
    assert list(response.outputs[0].contents.fp32_contents) == [3.5]
    assert not response.raw_output_contents


def test_every_typed_field(channel: Any) -> None:
    arrays = {
        "BOOL": np.array([[True, False, True]]),
        "INT8": np.array([[-128, 0, 127]], np.int8),
        "INT16": np.array([[-32768, 0, 32767]], np.int16),
        "INT32": np.array([[-(2**31), 0, 2**31 - 1]], np.int32),
        "INT64": np.array([[-(2**63), 0, 2**63 - 1]], np.int64),
        "UINT8": np.array([[0, 1, 255]], np.uint8),
        "FP32": np.array([[np.nan, -np.inf, 1e-45]], np.float32),
        "FP64": np.array([[0.1, -0.0, 5e-324]], np.float64),
    }
    asked = message("inference.ModelInferRequest")(model_name="echo")
    for datatype, array in arrays.items():
        tensor = asked.inputs.add(name=array.dtype.name, datatype=datatype, shape=[1, 3])
        getattr(tensor.contents, FIELDS[datatype]).extend(array.ravel().tolist())
    asked.inputs.add(name="float16", datatype="FP16", shape=[1, 3])
    refused("INVALID_ARGUMENT", "raw_input_contents alone", channel, "ModelInfer", asked)
    del asked.inputs[-1]
    # The model needs an FP16 too, so that all of them are sent raw, and these come back to the bit.
    raw = message("inference.ModelInferRequest")(model_name="echo")
    for datatype, array in [*arrays.items(), ("FP16", np.array([[1, 2, 3]], np.float16))]:
        raw.inputs.add(name=array.dtype.name, datatype=datatype, shape=[1, 3])
        raw.raw_input_contents.append(array.tobytes())
    response = call(channel, "ModelInfer", raw)
    back = dict(zip([one.name for one in response.outputs], response.raw_output_contents, strict=True))
    for array in arrays.values():
        assert back[f"{array.dtype.name}_out"] == array.tobytes()
    from shipworthy.server.v2.grpc_tensors import read_message

    for tensor, array in zip(read_message(asked, 10).tensors, arrays.values(), strict=True):
        assert tensor.array.dtype == array.dtype
        assert tensor.array.tobytes() == array.tobytes()


def test_what_takes_a_while_is_done_beside_the_event_loop(
    channel: Any, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading and writing numbers one by one, and ranking scores."""
    from shipworthy.server.v2 import grpc_service, inference

    lane, beside = served.catalog.lane("digits"), []

    async def noted(work: Any) -> Any:
        beside.append(work)
        return work()

    monkeypatch.setattr(lane, "beside", noted)
    asked = message("inference.ModelInferRequest")(model_name="digits")
    tensor = asked.inputs.add(name="image", datatype="FP32", shape=[2, 1, 8, 8])
    tensor.contents.fp32_contents.extend([1.0] * 128)
    plain = call(channel, "ModelInfer", asked)
    assert beside == []
    monkeypatch.setattr(grpc_service, "INLINE_TYPED", 79)
    assert call(channel, "ModelInfer", asked) == plain and len(beside) == 2
    asked.outputs.add(name="logits").parameters["classification"].int64_param = 3
    call(channel, "ModelInfer", asked)
    assert len(beside) == 3, "six words are written at once"
    monkeypatch.setattr(inference, "INLINE_SCORES", 19)
    call(channel, "ModelInfer", asked)
    assert len(beside) == 5


def test_what_is_malformed_is_refused(channel: Any) -> None:
    def changed(**fields: Any) -> Any:
        asked = infer_request()
        for field, value in fields.items():
            tensor = asked.inputs[0]
            if field in ("name", "datatype"):
                setattr(tensor, field, value)
            elif field == "shape":
                tensor.shape[:] = value
            else:
                getattr(tensor.contents, field).extend(value)
        return asked

    for asked, words in (
        (b"\xff\xff\xff", "cannot be read"),
        (message("inference.ModelInferRequest")(model_name="prices"), "empty"),
        (changed(name="rows"), "is no input"),
        (changed(datatype="BF16"), "BF16"),
        (changed(datatype="FP64"), "not in fp32_contents"),
        (changed(shape=[1, 3]), "expected 3 elements"),
        (changed(shape=[-1, 2]), "shape"),
        (changed(shape=[2**40, 2]), "shape"),
        (changed(int_contents=[1]), "not in int_contents"),
        (changed(shape=[2, 1]), "expected float32"),
    ):
        refused("INVALID_ARGUMENT", words, channel, "ModelInfer", asked)
    small = message("inference.ModelInferRequest")(model_name="echo")
    small.inputs.add(name="int8", datatype="INT8", shape=[1]).contents.int_contents.append(128)
    refused("INVALID_ARGUMENT", "outside of INT8", channel, "ModelInfer", small)
    both = infer_request()
    both.raw_input_contents.append(bytes(8))
    refused("INVALID_ARGUMENT", "not both", channel, "ModelInfer", both)
    both.raw_input_contents.append(bytes(8))
    refused("INVALID_ARGUMENT", "2 of 1 inputs", channel, "ModelInfer", both)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_messages_never_fail_the_server(channel: Any, data: st.DataObject) -> None:
    content = bytearray(infer_request().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        response = call(channel, "ModelInfer", bytes(content))
    except grpc.RpcError as error:
        assert error.code().name in ("INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"), error.details()
    else:
        assert response.outputs


def test_large_messages_are_refused(channel: Any) -> None:
    refused("RESOURCE_EXHAUSTED", "", channel, "ModelInfer", infer_request(rows=LIMIT // 8))
    refused("RESOURCE_EXHAUSTED", "100 rows", channel, "ModelInfer", infer_request(rows=101))


def test_the_callers_deadline_counts(channel: Any, served: Served) -> None:
    asked = infer_request("slow", "x")
    refused("DEADLINE_EXCEEDED", "", channel, "ModelInfer", asked, timeout=0.05)
    assert call(channel, "ModelInfer", asked).outputs


def test_a_cancelled_call_gives_its_place_back(channel: Any, served: Served) -> None:
    response = methods(INFERENCE)["ModelInfer"][1]
    method = channel.unary_unary(
        f"/{INFERENCE}/ModelInfer", request_serializer=_bytes, response_deserializer=response.FromString
    )
    queue = served.catalog.lane("slow").queue
    calls = [method.future(infer_request("slow", "x"), timeout=10) for _ in range(4)]
    _until(lambda: queue.requests == 4)
    for one in calls:
        one.cancel()
    _until(lambda: queue.requests == 0)
    assert queue.rows == 0, "nothing of it waits"


def test_a_cancelled_stream_gives_its_places_back(channel: Any, served: Served) -> None:
    stream = channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer", request_serializer=_bytes)
    queue = served.catalog.lane("slow").queue
    held = threading.Event()

    def requests() -> Iterator[Any]:
        yield from [infer_request("slow", "x")] * 4
        held.wait(10)

    answers = stream(requests(), timeout=10)
    _until(lambda: queue.requests == 4)
    answers.cancel()
    held.set()
    _until(lambda: queue.requests == 0)
    assert queue.rows == 0


def test_a_stream_reads_no_further_than_its_window(channel: Any, served: Served) -> None:
    from shipworthy.server.v2.grpc_calls import STREAM_WINDOW

    stream = channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer", request_serializer=_bytes)
    answers = list(stream(iter([infer_request()] * (3 * STREAM_WINDOW)), timeout=20))
    assert len(answers) == 3 * STREAM_WINDOW
    assert served.catalog.lane("prices").queue.requests == 0


def test_health_service(channel: Any) -> None:
    response = message("grpc.health.v1.HealthCheckResponse")
    for service in ("", INFERENCE):
        assert call(channel, "Check", {"service": service}, service=HEALTH).status == response.SERVING
    refused("NOT_FOUND", "service", channel, "Check", {"service": "other"}, service=HEALTH)


def test_statistics_of_one_version(channel: Any) -> None:
    found = call(channel, "ModelStatistics", {"name": "prices", "version": "0" * 12})
    assert [(one.name, one.version) for one in found.model_stats] == [("prices", "0" * 12)]
    refused("NOT_FOUND", "no version", channel, "ModelStatistics", {"name": "prices", "version": "1"})


def test_a_token_is_asked_for() -> None:
    bearer = (("authorization", f"Bearer {TOKEN}"),)
    with serving(prices(), token=TOKEN) as served, grpc.insecure_channel(served.grpc) as channel:
        assert call(channel, "ServerLive").live and call(channel, "ServerReady").ready
        assert call(channel, "Check", {}, service=HEALTH).status == 1
        for name, asked in (("ModelInfer", infer_request()), ("ServerMetadata", None), ("RepositoryIndex", None)):
            refused("UNAUTHENTICATED", "Bearer", channel, name, asked)
            refused("UNAUTHENTICATED", "", channel, name, asked, metadata=(("authorization", "Bearer other"),))
            assert call(channel, name, asked, metadata=bearer) is not None
        stream = channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer", request_serializer=_bytes)
        with pytest.raises(grpc.RpcError) as caught:
            list(stream(iter([infer_request()]), timeout=10))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert len(list(stream(iter([infer_request()]), timeout=10, metadata=bearer))) == 1
        refused("UNAUTHENTICATED", "", channel, "RepositoryModelUnload", {"model_name": "prices"})
        call(channel, "RepositoryModelUnload", {"model_name": "prices"}, metadata=bearer)
        assert served.commands == [("unload", "prices")]


class Listener:
    """Stands for the log and for the traces."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.visits: list[tuple[Trace, Visit]] = []

    def request(self, **fields: Any) -> None:
        self.lines.append(fields)

    def begin(self, parent: str | None, states: Sequence[str]) -> Trace:
        found = tracecontext.parse(parent, states)
        return Trace(tracecontext.begin(True) if found is None else found.child(), found)

    def finish(self, trace: Trace, visit: Visit) -> None:
        self.visits.append((trace, visit))


def test_calls_have_an_id_a_line_and_a_trace() -> None:
    heard: Any = Listener()
    trace = "ab" * 16
    metadata = (("x-request-id", "mine"), ("traceparent", f"00-{trace}-{'cd' * 8}-01"))
    method, kinds = f"/{INFERENCE}/ModelInfer", methods(INFERENCE)["ModelInfer"]
    with (
        serving(prices(), token=TOKEN, reporter=Reporter(heard, heard)) as served,
        grpc.insecure_channel(served.grpc) as channel,
    ):
        ask = channel.unary_unary(method, request_serializer=_bytes, response_deserializer=kinds[1].FromString)
        bearer = (("authorization", f"Bearer {TOKEN}"), *metadata)
        back = dict(ask.with_call(infer_request(), metadata=bearer, timeout=10)[1].trailing_metadata())
        assert back["x-request-id"] == "mine" and back["traceparent"].startswith(f"00-{trace}-")
        error = refused("UNAUTHENTICATED", "", channel, "ModelInfer", infer_request(), metadata=metadata)
        assert dict(error.trailing_metadata())["x-request-id"] == "mine"
        sane = (bearer[0], ("x-request-id", "not sane"))
        error = refused("NOT_FOUND", "", channel, "ModelInfer", infer_request("other"), metadata=sane)
        assert dict(error.trailing_metadata())["x-request-id"] not in ("", "not sane")
        stream = channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer", request_serializer=_bytes)
        answers = stream(iter([infer_request(), infer_request(rows=0)]), timeout=10, metadata=bearer)
        assert len(list(answers)) == 2 and dict(answers.trailing_metadata())["x-request-id"] == "mine"
        counted, _ = served.catalog.metrics.render()
    keys = ("method", "path", "status", "route", "model")
    first, *others = heard.lines
    assert [first[key] for key in keys] == ["POST", method, 200, "grpc", "prices"]
    assert first["request_id"] == "mine" and first["trace_id"] == trace
    assert 0 < first["compute_s"] + first["queue_s"] <= first["total_s"]
    told = [(line["status"], line.get("model")) for line in others]
    assert told[:2] == [(401, None), (404, None)]
    assert set(told[2:]) == {(200, "prices"), (400, "prices")}, "those of a stream run at once"
    assert [(visit.route, visit.status) for _, visit in heard.visits] == [
        ("grpc", line["status"]) for line in heard.lines
    ]
    assert all(made.parent is not None for made, visit in heard.visits if visit.request_id == "mine")
    for status in (b"401", b"404"):
        assert b'shipworthy_requests_unrouted_total{status="%b"} 1.0' % status in counted


def test_what_is_shed_says_when_to_come_back() -> None:
    with serving(slow(0.1), settings=Settings(max_waiting=1)) as served, grpc.insecure_channel(served.grpc) as channel:
        response = methods(INFERENCE)["ModelInfer"][1]
        method = channel.unary_unary(
            f"/{INFERENCE}/ModelInfer", request_serializer=_bytes, response_deserializer=response.FromString
        )
        first = method.future(infer_request("slow", "x"), timeout=10)
        _until(lambda: served.catalog.lane("slow").queue.requests == 1)
        error = refused("UNAVAILABLE", "", channel, "ModelInfer", infer_request("slow", "x"))
        assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1000
        assert first.result().outputs


def test_a_drain_finishes_calls_and_streams() -> None:
    with serving(slow(0.3)) as served:
        channel = grpc.insecure_channel(served.grpc)
        response = methods(INFERENCE)["ModelInfer"][1]
        method = channel.unary_unary(
            f"/{INFERENCE}/ModelInfer", request_serializer=_bytes, response_deserializer=response.FromString
        )
        stream = channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer", request_serializer=_bytes)
        held = threading.Event()

        def requests() -> Iterator[Any]:
            yield infer_request("slow", "x")
            held.wait(10)

        answers = stream(requests(), timeout=10)
        single = method.future(infer_request("slow", "x"), timeout=10)
        _until(lambda: served.catalog.lane("slow").queue.requests == 2)
        started = time.monotonic()
        # Leaving the block drains with a grace of half a second.
        drained = threading.Thread(target=lambda: served.call(_drained(served)))
        drained.start()
        assert single.result().outputs
        first = message("inference.ModelStreamInferResponse").FromString(next(answers))
        assert first.infer_response.outputs and not first.error_message
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        drained.join(10)
        assert time.monotonic() - started < 5, "a stream that stays open holds nobody up"
        held.set()
        channel.close()


async def _drained(served: Served) -> None:
    await served.grpc_server.drain(10)


def test_an_address_in_use_is_refused(served: Served) -> None:
    from shipworthy.server.access import Access
    from shipworthy.server.v2.grpc_server import start

    with pytest.raises(ServeError, match="cannot be bound"):
        served.call(start(served.catalog, served.grpc, access=Access(None, loopback=True)))


def test_tls() -> None:
    trustme = pytest.importorskip("trustme")
    from shipworthy.server.access import Access
    from shipworthy.server.v2.grpc_server import server_credentials, start

    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    credentials = server_credentials(issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes())
    with serving(prices(), grpc=False) as served:
        secure = served.call(
            start(served.catalog, "localhost:0", access=Access(None, loopback=True), credentials=credentials)
        )
        trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        with grpc.secure_channel(f"localhost:{secure.port}", trusted) as channel:
            assert call(channel, "ServerReady").ready
        served.call(secure.drain(1))


def test_the_shipped_descriptors_are_those_of_the_proto_files(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    folder = Path(messages.__file__).parent
    made = tmp_path / "made.desc"
    command = [
        "-m",
        "grpc_tools.protoc",
        f"-I{folder}",
        f"--descriptor_set_out={made}",
        "inference.proto",
        "health.proto",
    ]
    subprocess.run([sys.executable, *command], check=True)
    assert made.read_bytes() == (folder / messages.DESCRIPTORS).read_bytes()


def test_the_messages_are_those_of_the_public_client() -> None:
    """Every field that we have is there under the same name, number and type."""
    public = pytest.importorskip("tritonclient.grpc.service_pb2")
    from tritonclient.grpc import model_config_pb2

    def compare(ours: Any, theirs: Any) -> int:
        for field in ours.fields:
            other = theirs.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated), (
                field.full_name
            )
        return len(ours.fields) + sum(
            compare(nested, theirs.nested_types_by_name[nested.name]) for nested in ours.nested_types
        )

    names = {name for service in (INFERENCE,) for name in _types(service)}
    compared = 0
    for name in names:
        ours = message(name).DESCRIPTOR
        short = name.rpartition(".")[2]
        theirs = (
            public.DESCRIPTOR.message_types_by_name.get(short)
            or model_config_pb2.DESCRIPTOR.message_types_by_name[short]
        )
        compared += compare(ours, theirs)
    assert compared > 100
    assert set(methods(INFERENCE)) <= {
        one.name for one in public.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    }


def _types(service: str) -> set[str]:
    """The full names of all messages that a service speaks of."""
    found: set[str] = set()
    waiting = [one.DESCRIPTOR for request, response, _ in methods(service).values() for one in (request, response)]
    while waiting:
        one = waiting.pop()
        if one.full_name not in found and one.containing_type is None:
            found.add(one.full_name)
        for nested in (one, *one.nested_types):
            waiting += [
                field.message_type
                for field in nested.fields
                if field.message_type is not None
                and field.message_type.full_name not in found
                and not field.message_type.containing_type
            ]
    return found


def test_both_implementations_live_in_one_process() -> None:
    """Whichever is imported first: each takes the same names, in pools of their own."""
    for order in (("ours", "theirs"), ("theirs", "ours")):
        lines = {
            "ours": "from shipworthy.server.v2.messages import message; message('inference.ModelInferRequest')(id='a')",
            "theirs": "from tritonclient.grpc import service_pb2; service_pb2.ModelInferRequest(id='a')",
        }
        subprocess.run([sys.executable, "-c", "\n".join(lines[one] for one in order)], check=True)


def test_the_base_install_serves_without_grpc() -> None:
    code = """
import sys
for name in ("grpc", "google.protobuf", "google"):
    sys.modules[name] = None
import shipworthy.server.v2
from shipworthy.errors import MissingExtra
from shipworthy.server.v2.grpc_server import server_credentials
from shipworthy.server.v2.messages import message
for use in (lambda: server_credentials(b"", b""), lambda: message("inference.ServerLiveRequest")):
    try:
        use()
    except MissingExtra as missing:
        assert missing.extra == "grpc", missing
    else:
        raise SystemExit("no MissingExtra")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert issubclass(MissingExtra, Exception) and importlib.util.find_spec("grpc") is not None


def _until(true: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)
