"""Room for those who ask: it is not held by those who only announce a body."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import httpx
import pytest
from connection_cases import read_all, request, split_answers, wait_until
from server_cases import prices
from v2_cases import serving

from shipworthy.server import Settings
from shipworthy.server.incoming import HEAD_START_S

BOUNDS = Settings(max_body_bytes=2**20, max_waiting_bytes=2**22, max_waiting=32)
PATHS = ("/models/prices/predict", "/v2/models/prices/infer")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("size", "count"), [(2**20, 4), (100, 32)], ids=["bytes", "requests"])
def test_bodies_that_do_not_come_hold_no_place(path: str, size: int, count: int) -> None:
    with serving(prices(), grpc=False, settings=BOUNDS) as served, ExitStack() as stack:
        host, _, port = served.http.partition(":")
        queue, slow = served.catalog.lane("prices").queue, []
        for _ in range(count):
            slow.append(stack.enter_context(socket.create_connection((host, int(port)), timeout=10)))
            head = request("POST", path, b"", b"content-length: %d" % size, b"content-type: application/json")
            slow[-1].sendall(head + b"{")
        wait_until(lambda: queue.requests == count)
        time.sleep(2 * HEAD_START_S)
        url = f"http://{served.http}{PATHS[0]}"
        assert httpx.post(url, json={"row": [1, 2]}).status_code == 200
        assert queue.requests == count - 1
        slow[0].shutdown(socket.SHUT_WR)
        ((status, headers, body),) = split_answers(read_all(slow[0]))
        assert status == 503 and b"too slowly" in body and headers["retry-after"] == "1"
        stack.close()
        wait_until(lambda: queue.requests == 0)
        assert (queue.bytes, served.catalog.lane("prices").reading, queue._demand.coming) == (0, {}, [])


def test_bodies_that_come_keep_their_place() -> None:
    with serving(prices(), grpc=False, settings=Settings(max_waiting=1)) as served:
        host, _, port = served.http.partition(":")
        queue, body = served.catalog.lane("prices").queue, b'{"row": [1, 2]}' + b" " * 2**20
        with socket.create_connection((host, int(port)), timeout=10) as client:
            whole = request("POST", PATHS[0], body, b"content-type: application/json", b"connection: close")
            client.sendall(whole[:-1000])
            wait_until(lambda: queue.requests == 1)
            time.sleep(2 * HEAD_START_S)
            assert httpx.post(f"http://{served.http}{PATHS[0]}", json={"row": [1, 2]}).status_code == 503
            client.sendall(whole[-1000:])
            assert split_answers(read_all(client))[0][0] == 200
