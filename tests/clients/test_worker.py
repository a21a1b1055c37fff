"""A site's worker: one process for many messages, found by its own user and code alone, and never left behind."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Listener
from pathlib import Path

import pytest
from flwr.app import RecordDict

from clients import worker
from fedpolyp.errors import Refusal
from fedpolyp.simulation.records import from_record, to_content
from fedpolyp.training import shared_trainer
from tests.hostile_folder import HOSTILE, executed, hostile_folder
from tests.real_sites import make_sites, send, tiny, training
from tests.same_bits import equal


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a site that has joined; its workers end with the test."""
    monkeypatch.setenv(worker.JOINED, str(os.getpid()))
    folder = make_sites(tmp_path / "deploy") / "oslo"
    (folder / "private" / "flower").mkdir(mode=0o700)
    yield folder
    worker.end(folder / "private" / "flower" / worker.FILE)


def file_of(site: Path) -> Path:
    file = worker.file_of({"site": str(site / "site.toml")})
    assert file is not None
    return file


def process_of(content: RecordDict) -> int:
    return int(content.metric_records["metrics"]["process"])  # type: ignore[arg-type]


def ended(process: int) -> bool:
    """Whether a worker has ended; it may have been waited for already, when another was started in its place."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process, 0)
    return not Path(f"/proc/{process}").exists()


def test_one_process_does_the_work_of_all_messages_with_the_bits_of_a_fresh_one(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = [send(site, training(round=1)).content for _ in range(2)]
    processes = set(map(process_of, replies))
    file = file_of(site)
    assert processes == {json.loads(file.read_bytes())["process"]}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(Refusal, match="this site is oslo; a request for bergen is refused"):
        send(site, training("bergen"))

    monkeypatch.delenv(worker.JOINED)
    for kept in site.rglob("reply-*.npz"):  # which would be sent again
        kept.unlink()
    fresh = send(site, training(round=1)).content
    assert process_of(fresh) == os.getpid()
    for reply in replies:
        for name in ("model", "optimizer"):
            assert equal(from_record(reply.array_records[name]), from_record(fresh.array_records[name]))

    (process,) = processes
    worker.end(file)
    assert ended(process) and not file.exists()


@pytest.mark.slow
def test_a_worker_that_was_killed_is_replaced_and_one_ends_with_its_site(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["sleep", "600"]) as joined:
        monkeypatch.setenv(worker.JOINED, str(joined.pid))
        try:
            first = process_of(send(site, training(round=1)).content)
            os.kill(first, 9)
            assert ended(first)
            second = process_of(send(site, training(round=2)).content)  # the reply of round 1 was kept
            assert second != first
        finally:
            joined.kill()
    assert ended(second)
    assert not file_of(site).exists()


def test_a_worker_imports_nothing_from_the_working_folder(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hostile_folder(tmp_path / "own", *HOSTILE)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", ["", str(folder), *sys.path])
    assert process_of(send(site, training()).content) != os.getpid()
    assert not executed(folder)


def tell(file: Path, port: int, asked: RecordDict) -> None:
    """Write what a worker for the message `asked` would write that listened on `port` and is gone."""
    told = {"port": port, "key": b"key".hex(), "process": 2**22 + 1, "purpose": worker._purpose(asked)}
    file.write_text(json.dumps(told))


def test_a_worker_that_dies_over_a_request_is_named(site: Path) -> None:
    file = file_of(site)
    with Listener(("127.0.0.1", 0), authkey=b"key") as listener:
        tell(file, listener.address[1], RecordDict())

        def take_and_die() -> None:
            with listener.accept() as connection:
                connection.recv()

        thread = threading.Thread(target=take_and_die)
        thread.start()
        with pytest.raises(worker.WorkerDied, match="ended in the middle of a request"):
            worker.ask(file, "train", RecordDict(), {})
        thread.join()
    file.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("setting", [{"training__threads": 2}, {"model__base_filters": 8}])
def test_another_experiment_takes_the_workers_place_for_threads_and_graphs_are_fixed_once_a_process(
    site: Path, setting: dict[str, int]
) -> None:
    first = process_of(send(site, training()).content)
    other = tiny(**setting)
    start = shared_trainer(tiny(**setting | {"training__threads": 1})).start
    second = process_of(send(site, training(config=other), start=start).content)
    assert ended(first) and second != first
    assert json.loads(file_of(site).read_bytes())["process"] == second


def test_other_code_and_another_start_of_the_site_have_workers_of_their_own(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    purposes = {worker._purpose(RecordDict())}
    monkeypatch.setattr(worker, "_CODE", Path("/elsewhere"))
    purposes.add(worker._purpose(RecordDict()))
    monkeypatch.setenv(worker.JOINED, "1")
    purposes.add(worker._purpose(RecordDict()))
    assert len(purposes) == 3


NO_KEY = b'{"port": 1, "key": "x", "process": 1, "purpose": ""}'


@pytest.mark.parametrize("left", [b"", b"{", b"[]", b'{"port": 1}', b"\0" * 100, NO_KEY])
def test_what_a_power_cut_left_of_a_worker_is_taken_for_none(site: Path, left: bytes) -> None:
    file = file_of(site)
    file.write_bytes(left)
    with pytest.raises(FileNotFoundError):
        worker._connected(file, worker._purpose(RecordDict()))
    worker.end(file)
    assert not file.exists()


def test_a_program_that_took_over_a_workers_port_and_says_nothing_is_not_waited_for(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_GREETING_SECONDS", 1)
    file = file_of(site)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tell(file, silent.getsockname()[1], to_content(training(), {}))
        assert process_of(send(site, training()).content) == json.loads(file.read_bytes())["process"]


def test_a_program_that_took_over_a_workers_port_and_says_something_else_is_no_worker(site: Path) -> None:
    with Listener(("127.0.0.1", 0)) as stranger:
        tell(file_of(site), stranger.address[1], RecordDict())

        def greet() -> None:
            with stranger.accept() as connection:
                connection.send_bytes(b"hello")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(worker._GONE):
            worker._connected(file_of(site), worker._purpose(RecordDict()))
        thread.join()


def test_there_is_no_worker_in_a_simulation_nor_at_a_site_that_was_started_by_hand(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker.file_of({"partition-id": 0}) is None
    monkeypatch.delenv(worker.JOINED)
    assert worker.file_of({"site": str(site / "site.toml")}) is None


def test_what_the_work_raises_is_raised_with_where_and_what_it_came_of() -> None:
    answer, cause = worker._answer("train", RecordDict(), {})
    assert isinstance(answer, Refusal) and "the message holds no request" in str(answer)
    assert "Traceback" in answer.__notes__[0] and cause is None
