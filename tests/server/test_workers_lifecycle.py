"""Several workers: replaced when they die, drained together, told together what to serve."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import httpx
import pytest
from lifecycle_cases import Load, Served, alive, replace_package, serving, spoil, until, version_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def place(stored: Path, tmp_path: Path) -> Path:
    """A package that can be replaced by another version of itself."""
    place = tmp_path / "iris"
    place.symlink_to(version_of(stored, tmp_path / "first", 1))
    return place


def test_a_worker_that_is_killed_is_replaced_while_the_others_go_on(stored: Path) -> None:
    with serving(stored, "--workers", 2) as server:
        workers = server.workers()
        assert len(workers) == 2
        with Load(server.port) as load:
            time.sleep(0.3)
            os.kill(workers[0], signal.SIGKILL)
            killed = time.monotonic()
            until(lambda: len(set(server.workers()) - set(workers)) == 1)
            until(lambda: load.times[-1][0] - killed > 2)
        # Each client had at most one request under way in it.
        assert load.lost <= 4
        assert set(load.outcomes) - {200} == {outcome for outcome in load.outcomes if "lost" in str(outcome)}
        # Connections that waited for the new worker were answered by it.
        gaps = [after - before for (before, _), (after, _) in zip(load.times, load.times[1:], strict=False)]
        assert max(gaps) < 3
        assert {status for status, _ in (server.ask() for _ in range(20))} == {200}
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.full
def test_every_worker_answers_within_three_seconds_of_a_kill(stored: Path) -> None:
    """The one that is left has nothing to do with it: it is stopped meanwhile."""
    with serving(stored, "--workers", 2) as server:
        first, second = server.workers()
        os.kill(second, signal.SIGSTOP)
        os.kill(first, signal.SIGKILL)

        def answered() -> bool:
            try:
                return httpx.post(server.url + "/predict", json={"features": [1, 2, 3, 4]}, timeout=0.5).is_success
            except httpx.TransportError:
                return False

        taken = until(answered)
        os.kill(second, signal.SIGCONT)
        assert taken < 3


def test_workers_that_are_told_to_stop_under_load_lose_nothing(stored: Path, effort: float) -> None:
    for turn in range(max(1, round(20 * effort))):
        with serving(stored, "--workers", 2) as server, Load(server.port, keep=turn % 2 == 1) as load:
            time.sleep(0.4)
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            load.stop()
            assert set(load.outcomes) <= {200, "refused"}
            assert load.outcomes[200] > 20
            assert not any(map(alive, server.workers()))


def test_a_process_waits_to_replace_one_that_dies(stored: Path) -> None:
    with serving(stored, "--workers", 2) as server:
        until(lambda: waits(server.spare()))
        spare, workers = server.spare(), server.workers()
        assert spare is not None
        os.kill(workers[0], signal.SIGKILL)
        until(lambda: spare in server.workers())
        until(lambda: len(answering(server)) == 2)
        # And another one waits for the next.
        until(lambda: waits(server.spare()))
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_process_that_waits_and_dies_does_no_harm(stored: Path) -> None:
    with serving(stored, "--workers", 2) as server:
        until(lambda: waits(server.spare()))
        os.kill(server.spare() or 0, signal.SIGKILL)
        until(lambda: server.spare() is None)
        os.kill(server.workers()[0], signal.SIGKILL)
        until(lambda: len(answering(server)) == 2)


def waits(pid: int | None) -> bool:
    """Whether a process has imported everything; the engine comes last."""
    try:
        return "onnxruntime" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


def test_workers_end_with_their_supervisor(stored: Path) -> None:
    with serving(stored, "--workers", 2) as server:
        workers = server.workers()
        until(lambda: waits(server.spare()))
        workers.append(server.spare() or 0)
        folders = {temporary_folder(pid) for pid in workers}
        assert len(folders) == 3
        server.process.kill()
        until(lambda: not any(map(alive, workers)))
        until(lambda: not any(folder.exists() for folder in folders))


def temporary_folder(pid: int) -> Path:
    words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return Path(next(word[7:].decode() for word in words if word.startswith(b"TMPDIR=")))


@pytest.mark.full
def test_a_worker_that_is_killed_leaves_no_files(stored: Path) -> None:
    with serving(stored, "--workers", 2) as server:
        workers = server.workers()
        folder = temporary_folder(workers[1])
        assert any(folder.iterdir()), "the package is unpacked there"
        os.kill(workers[1], signal.SIGKILL)
        until(lambda: not folder.exists())
        server.signal(signal.SIGINT)
        assert server.wait() == 0


def test_hangup_reloads_all_workers(place: Path, stored: Path, tmp_path: Path) -> None:
    with serving(place, "--workers", 2) as server:
        before = server.versions()
        assert len(before) == 1
        replace_package(place, version_of(stored, tmp_path / "second", 2))
        with Load(server.port) as load:
            server.signal(signal.SIGHUP)
            until(lambda: not before & server.versions())
        assert set(load.outcomes) == {200}
        assert len(server.versions()) == 1


@pytest.mark.full
def test_a_package_that_is_refused_leaves_the_old_one_in_all_workers(
    place: Path, stored: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(place, "--workers", 2) as server:
        before = server.versions()
        spoilt = version_of(stored, tmp_path / "second", 2)
        spoil(spoilt)
        replace_package(place, spoilt)
        refused = httpx.post(f"{server.url}/v2/repository/models/iris/load", timeout=30)
        assert refused.status_code == 409
        assert str(tmp_path) not in refused.text
        assert server.versions() == before
        server.signal(signal.SIGHUP)
        said = ""

        def told() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return "not all packages were reloaded" in said

        until(told)
        assert "model.onnx" in said
        assert server.versions() == before


def test_commands_reach_all_workers(stored: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    version_of(stored, folder / "one", 1)
    with serving("--repository", folder, "--workers", 2) as server:
        management = f"{server.url}/v2/repository/models"
        assert ask_often(server, "/models/iris") == {200}
        assert httpx.post(f"{management}/iris/unload", timeout=30).status_code == 200
        assert ask_often(server, "/models/iris") == {404}
        # One that begins now begins with what is served now.
        kill_one(server)
        assert ask_often(server, "/models/iris") == {404}
        version_of(stored, folder / "another", 2, name="lilies")
        assert httpx.post(f"{management}/lilies/load", timeout=30).status_code == 200
        assert ask_often(server, "/models/lilies") == {200}
        assert httpx.post(f"{management}/roses/load", timeout=30).status_code == 404
        kill_one(server)
        assert ask_often(server, "/models/lilies") == {200}
        assert ask_often(server, "/models/iris") == {404}


def ask_often(server: Served, path: str) -> set[int]:
    """The statuses over so many connections that every worker has some."""
    return {httpx.get(server.url + path, timeout=30).status_code for _ in range(20)}


def kill_one(server: Served) -> None:
    workers = server.workers()
    os.kill(workers[0], signal.SIGKILL)
    until(lambda: len(set(server.workers()) - {workers[0]}) == 2)
    until(lambda: {httpx.get(server.url + "/readyz", timeout=30).status_code for _ in range(20)} == {200})


@pytest.mark.full
def test_a_worker_that_cannot_start_again_leaves_the_others_to_answer(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No connection is left to wait for it; when its package is there again, it comes back."""
    with serving(place, "--workers", 2) as server:
        package = place.readlink()
        place.unlink()
        os.kill(server.workers()[0], signal.SIGKILL)
        said = ""

        def told() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return said.count("cannot be read: No such file") >= 2

        until(told)
        for _ in range(30):
            assert httpx.get(server.url + "/readyz", timeout=5).status_code == 200
        place.symlink_to(package)
        until(lambda: len(answering(server)) == 2)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def answering(server: Served) -> set[str]:
    """Which workers answer: each gives requests without an id one that begins in its own way."""
    return {httpx.get(server.url + "/livez", timeout=5).headers["x-request-id"][:16] for _ in range(12)}


@pytest.mark.full
def test_a_worker_that_is_told_to_end_loses_nothing_and_is_replaced(stored: Path) -> None:
    with serving(stored, "--workers", 2) as server, Load(server.port, keep=False) as load:
        workers = server.workers()
        time.sleep(0.2)
        os.kill(workers[0], signal.SIGTERM)
        until(lambda: not alive(workers[0]))
        until(lambda: len(answering(server)) == 2)
        load.stop()
        assert set(load.outcomes) == {200}


IMPATIENT = "import shipworthy.server.workers as s\ns.SILENT = 2\n"


@pytest.mark.full
def test_a_worker_that_hangs_is_replaced_and_holds_no_command_up(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(IMPATIENT)
    with serving(stored, "--workers", 2, env={"PYTHONPATH": str(tmp_path)}) as server:
        workers = server.workers()
        os.kill(workers[0], signal.SIGSTOP)
        until(lambda: workers[0] not in server.workers())
        until(lambda: len(answering(server)) == 2)
        loaded = httpx.post(f"{server.url}/v2/repository/models/iris/load", timeout=30)
        assert loaded.status_code == 200


ELSEWHERE = "import shipworthy.server.sockets\nshipworthy.server.sockets.SPREADS = False\n"


@pytest.mark.full
def test_workers_share_one_socket_where_the_system_does_not_spread_connections(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(ELSEWHERE)
    with serving(stored, "--workers", 2, env={"PYTHONPATH": str(tmp_path)}) as server:
        with Load(server.port, keep=False) as load:
            workers = server.workers()
            os.kill(workers[0], signal.SIGTERM)
            until(lambda: len(set(server.workers()) - {workers[0]}) == 2)
        assert set(load.outcomes) == {200}
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
