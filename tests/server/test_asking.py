"""A thread that asks for the event loop: in order, and without keeping anything from its end."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time

import pytest
from connection_cases import wait_until

from shipworthy.server.asking import Asking

HUNG = """
import asyncio, threading
from shipworthy.server.asking import Asking

async def main():
    asking = Asking("asking")
    try:
        await asyncio.wait_for(asking.ask(threading.Event().wait), 0.05)
    except TimeoutError:
        print("given up")

asyncio.run(main())
"""


def test_questions_are_asked_in_order_in_one_thread() -> None:
    async def asked() -> list[tuple[int, str]]:
        asking = Asking("asking")
        answers = await asyncio.gather(
            *(asking.ask(lambda place=place: (place, threading.current_thread().name)) for place in range(50))  # type: ignore[misc]
        )
        asking.close()
        return answers

    assert asyncio.run(asked()) == [(place, "asking") for place in range(50)]


def test_what_fails_is_raised_where_it_is_awaited() -> None:
    async def asked() -> str:
        asking = Asking("asking")
        with pytest.raises(ZeroDivisionError):
            await asking.ask(lambda: 1 // 0)
        return await asking.ask(lambda: "goes on")

    assert asyncio.run(asked()) == "goes on"


def test_who_stops_waiting_takes_only_what_has_not_begun() -> None:
    async def asked() -> list[str]:
        asking, go, began = Asking("asking"), threading.Event(), threading.Event()
        done: list[str] = []
        first = asyncio.create_task(asking.ask(lambda: (began.set(), go.wait(10), done.append("first"))))
        second = asyncio.create_task(asking.ask(lambda: done.append("second")))
        await asyncio.to_thread(began.wait, 5)
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        go.set()
        await asking.ask(lambda: done.append("third"))
        return done

    assert asyncio.run(asked()) == ["first", "third"]


def test_the_thread_ends_with_whoever_asks() -> None:
    async def asked() -> threading.Thread:
        return await Asking("asking").ask(threading.current_thread)

    thread = asyncio.run(asked())
    gc.collect()
    wait_until(lambda: not thread.is_alive())


def test_a_question_that_is_never_answered_keeps_no_process() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HUNG], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "given up\n"
    assert time.monotonic() - began < 20
