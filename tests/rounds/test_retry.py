"""A round with too few usable updates is tried once more, with the same requests; then the run stops."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from fedpolyp.data.source import open_source
from fedpolyp.errors import FedpolypError
from fedpolyp.exchange.in_process import InProcess
from fedpolyp.exchange.replies import Reply, Sent
from fedpolyp.exchange.requests import Request
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.hospital.in_simulation import images_of
from fedpolyp.rounds import here
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.loop import carry
from tests.same_bits import equal
from tests.tiny import Notes, final, tiny_config, tiny_run

SETTINGS: dict[str, Any] = {
    "training__local_epochs": 1,
    "training__optimizer_state": "keep",  # which a second try must not take from the first
    "federation__rounds": 2,
    "federation__min_replies": 1.0,
}


class Failing(InProcess):
    """Has the training of hospital-2 in round 1 fail so many times."""

    fails: int = 1

    def send(self, requests: Sequence[tuple[Request, Sent]], arrived: Callable[[Reply], None]) -> Iterator[Reply]:
        for reply, (request, _) in zip(super().send(requests, arrived), requests, strict=True):
            known = self.__dict__.setdefault("seen", [])
            known.append(request)
            tried = known.count(request)
            if (request.kind, request.hospital, request.round) == ("train", "hospital-2", 1) and tried <= type(
                self
            ).fails:
                yield Reply(request.hospital, None, "its machine has failed")
            else:
                yield reply


def carried(folder: Path, monkeypatch: pytest.MonkeyPatch, fails: int) -> tuple[Any, Any, Notes]:
    monkeypatch.setattr(Failing, "fails", fails)
    config, notes = tiny_config(**SETTINGS), Notes()
    run, store = tiny_run(folder, config), open_source(config.data, config.data_seed)
    partition = run.partition()

    def hospital(name: str) -> Hospital:
        return Hospital(name, config, store, images_of(partition, name), run.state / name)

    carry(Experiment(config, run, store, partition, notes, Event()), Failing(hospital))
    return run, config, notes


@pytest.mark.slow
def test_the_second_try_gives_the_bits_that_the_first_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config, notes = carried(tmp_path / "failing", monkeypatch, fails=1)
    untroubled = tiny_run(tmp_path / "untroubled", config)
    here.run(config, untroubled, open_source(config.data, config.data_seed), untroubled.partition(), Notes())
    one, other = final(run, config), final(untroubled, config)
    assert equal(one.state["model"], other.state["model"])
    assert [note for note in notes.notes if "it is tried once more" in note]
    first, expected = run.rounds()[1], untroubled.rounds()[1]
    assert first["refused"] == [{"hospital": "hospital-2", "reason": "its machine has failed"}]
    assert first["hospitals"] == expected["hospitals"]
    assert first["steps"] == expected["steps"]


def test_after_the_second_try_the_run_stops_and_says_who_was_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        FedpolypError, match="2 of 3 hospitals sent usable replies, 3 are needed .hospital-2: its machine has"
    ):
        carried(tmp_path / "failing", monkeypatch, fails=2)
