"""What a round may cost besides training: counted, never timed."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients import simulated, work
from fedpolyp import network
from fedpolyp.data.source import open_source
from fedpolyp.data.store import Store
from fedpolyp.model import arrays
from fedpolyp.simulation import cluster, engine, records
from fedpolyp.training import shared_trainer
from fedpolyp.watcher import Watcher
from server import exchange
from tests import counting_actor
from tests.tiny import federate, final, tiny_config, tiny_run


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts calls from here on, with nothing built, opened or read before."""
    counts: Counter[str] = Counter()

    def count(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            counts[name] += 1
            return function(*arguments, **named)

        return counting

    network._network.cache_clear()
    for cached in (simulated._store, simulated._partition, simulated._config, simulated._told):
        cached.cache_clear()
    monkeypatch.setattr(network.Network, "__init__", count("builds", network.Network.__init__))
    monkeypatch.setattr(Store, "open", count("openings", Store.open))
    to_record, from_record = records.to_record, records.from_record
    monkeypatch.setattr(records, "to_record", count("packed", to_record))  # by hospitals
    monkeypatch.setattr(exchange, "to_record", count("packed by the server", to_record))
    monkeypatch.setattr(records, "from_record", count("unpacked by the server", from_record))
    monkeypatch.setattr(work, "from_record", count("unpacked", from_record))
    monkeypatch.setattr(arrays, "read", count("read from the model", arrays.read))
    monkeypatch.setattr(arrays, "assign", count("assigned to the model", arrays.assign))
    return counts


def test_the_model_is_built_and_traced_once_and_the_store_opened_once_however_many_rounds(
    tmp_path: Path, counted: Counter[str]
) -> None:
    openings = []
    for rounds, name in ((1, "short"), (3, "long")):
        config = tiny_config(federation__rounds=rounds, seed=7)
        before = counted["openings"]
        federate(tiny_run(tmp_path / name, config), config)
        openings.append(counted["openings"] - before)
        assert (
            shared_trainer(config).network.traces == 2
        )  # a training step and a scoring, whatever the size of the last batch
        assert counted["builds"] == 1
    # Twice to make the run and once to federate; the first time also to draw it, and once at all hospitals together.
    assert openings == [5, 3]


@pytest.mark.slow
def test_a_message_unpacks_and_packs_its_arrays_once(tmp_path: Path, counted: Counter[str]) -> None:
    config = tiny_config(federation__rounds=2, training__optimizer_state="reset")
    run = tiny_run(tmp_path / "run", config)
    federate(run, config)
    best = final(run, config).best[""].round
    # Validation each round, tests in the last, and of the best model for images.csv, where it is another.
    trainings, scorings = 2 * 3, (2 + 1) * 3 + 3 + (best != 2) * 3
    assert counted["unpacked"] == trainings + scorings
    assert counted["packed"] == trainings + scorings
    # The server packs each model once, for all hospitals and tasks: of rounds 0 to 2, and the best out of its file.
    assert counted["packed by the server"] == 3 + (best != 2)
    assert counted["unpacked by the server"] == trainings + scorings
    # A new trainer is read twice. A training reads and assigns weights and moments, a scoring assigns weights; the
    # server scores the held-out set after each round, and with the best model, where that is another.
    assert counted["read from the model"] == 2 + 2 * trainings
    assert counted["assigned to the model"] == 2 * trainings + scorings + (2 + 1) + (best != 2)


@pytest.mark.own_process
@pytest.mark.slow
def test_an_actor_builds_traces_and_opens_everything_once_however_many_rounds_and_hospitals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = tmp_path / "counts"
    counts.mkdir()
    monkeypatch.setenv(counting_actor.FOLDER, str(counts))
    monkeypatch.setattr(cluster, "SETUP", "tests.counting_actor.setup")
    config = tiny_config(federation__rounds=3, runtime__actors=2)
    run = tiny_run(tmp_path / "run", config)
    engine.run(config, run, open_source(config.data, config.seed), run.partition(), Watcher())
    done = [Counter(file.read_text().splitlines()) for file in counts.iterdir()]
    assert len(done) == 2 and all(set(actor.values()) == {1} for actor in done)
    assert all(actor.keys() == {"model", "training step traced", "scoring traced", "store"} for actor in done)
