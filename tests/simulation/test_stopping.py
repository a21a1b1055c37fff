"""What ends a run before its time, with everything of Ray and Flower stood in for."""

import contextlib
import ctypes
import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from fedpolyp.errors import FedpolypError, Interrupted
from fedpolyp.runs import RunFolder
from fedpolyp.simulation import cluster, engine, hooks, told
from fedpolyp.watcher import Watcher
from server import federation
from tests.signals import harmless
from tests.tiny import tiny_config, tiny_run


class Ready:
    """A Ray that is there, and is none."""

    there = True

    def __enter__(self) -> "Ready":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self) -> None:
        pass


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return tiny_run(tmp_path / "run", tiny_config())


def carry(run: RunFolder) -> None:
    ready: Any = Ready()
    store: Any = None
    engine.run(tiny_config(), run, store, run.partition(), Watcher(), starting=ready)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Flower's threads wait for ever, which Ray's end and a stop leave them to do."""
    at_work, over = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        at_work.set()
        over.wait()

    monkeypatch.setattr(engine, "_carry", wait)
    yield at_work
    over.set()


@contextlib.contextmanager
def sent(at_work: threading.Event, *numbers: int) -> Iterator[None]:
    """Send the signals to this process, one after the other, as soon as Flower is at work."""

    def kill() -> None:
        at_work.wait()
        for number in numbers:
            os.kill(os.getpid(), number)
            threading.Event().wait(0.3)

    thread = threading.Thread(target=kill)
    with harmless(*set(numbers)):
        thread.start()
        try:
            yield
        finally:
            at_work.set()
            thread.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_interrupt_ends_the_run_whatever_still_waits(
    run: RunFolder, stuck: threading.Event, number: int
) -> None:
    with sent(stuck, number, number):
        before = signal.getsignal(number)
        with pytest.raises(Interrupted, match="interrupted"):
            carry(run)
        assert signal.getsignal(number) == before


def test_after_one_interrupt_the_run_is_given_a_while_and_no_more(
    run: RunFolder, stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_GRACE_SECONDS", 0.5)
    with sent(stuck, signal.SIGINT), pytest.raises(Interrupted, match="interrupted"):
        carry(run)


def test_the_death_of_a_process_of_rays_ends_the_run_and_is_named(
    run: RunFolder, stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "dead_process", lambda: "gcs_server")
    with pytest.raises(FedpolypError, match="Ray's process 'gcs_server' has died"):
        carry(run)


def flower(monkeypatch: pytest.MonkeyPatch, actors: list[str], ending: threading.Event) -> None:
    """A Flower that has `actors` and, once the federation has ended, sets `ending` and takes its time to end Ray."""

    def simulated(server_app: Any, client_app: Any, **_: object) -> None:
        try:
            server_app(None, None)
        finally:
            ending.set()
            threading.Event().wait(0.5)

    monkeypatch.setattr(engine, "_flowers_engine", lambda: simulated)
    monkeypatch.setattr(hooks, "pool_of", lambda count: contextlib.nullcontext(actors))
    monkeypatch.setattr(cluster, "resources", lambda config, actors: {})
    monkeypatch.setattr(cluster, "places", lambda resources: 3)
    monkeypatch.setattr(told, "tell", lambda *_: None)


def test_every_actor_is_killed_when_the_run_stops_though_none_is_left_to_the_garbage_collector(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[str] = []
    actors: list[str] = []
    flower(monkeypatch, actors, threading.Event())
    monkeypatch.setattr(ray, "kill", killed.append)

    def stopped(*_: object) -> None:
        actors.extend(["actor 1", "actor 2"])
        gc.freeze()  # as importing TensorFlow does, at the very time when the actors start
        raise Interrupted("interrupted after round 1")

    monkeypatch.setattr(federation, "run_on", stopped)
    try:
        with pytest.raises(Interrupted, match="interrupted after round 1"):
            carry(run)
    finally:
        gc.unfreeze()
    assert killed == ["actor 1", "actor 2"]


def test_the_end_of_rays_processes_after_the_last_round_is_none_of_a_failure(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending = threading.Event()
    flower(monkeypatch, [], ending)
    monkeypatch.setattr(federation, "run_on", lambda *_: None)
    monkeypatch.setattr(hooks, "dead_process", lambda: "raylet" if ending.is_set() else "")
    carry(run)


def test_a_program_that_takes_sigterm_for_itself_while_ray_starts_does_not_keep_it() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:

        def start() -> None:
            with cluster._our_handlers():
                ctypes.CDLL(None).signal(signal.SIGTERM, ctypes.c_void_p(1))  # SIG_IGN, as C++ would, past Python

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
