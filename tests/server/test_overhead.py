"""What a round may cost besides training: counted, never timed."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients import hospital, messages, work
from fedpolyp import training
from fedpolyp.data.store import Store
from fedpolyp.training import Trainer, shared_trainer
from tests.tiny import federate, tiny_config, tiny_run


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts calls from here on, with nothing built, opened or read before."""
    counts: Counter[str] = Counter()

    def count(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            counts[name] += 1
            return function(*arguments, **named)

        return counting

    training._trainer.cache_clear()
    for cached in (hospital._store, hospital._partition, hospital._config):
        cached.cache_clear()
    monkeypatch.setattr(Trainer, "__init__", count("builds", Trainer.__init__))
    monkeypatch.setattr(Store, "open", count("openings", Store.open))
    monkeypatch.setattr(work, "from_record", count("unpacked", messages.from_record))
    monkeypatch.setattr(work, "to_record", count("packed", messages.to_record))
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
        assert shared_trainer(config).traces == 2  # a training step and a scoring, whatever the size of the last batch
        assert counted["builds"] == 1
    # Once to deal and once to federate; the first time also to draw it, and once at all hospitals together.
    assert openings == [4, 2]


def test_a_message_unpacks_and_packs_its_arrays_once(tmp_path: Path, counted: Counter[str]) -> None:
    config = tiny_config(federation__rounds=2, training__optimizer_state="reset")
    run = tiny_run(tmp_path / "run", config)
    federate(run, config)
    trainings, scorings = 2 * 3, (2 + 1) * 3 + 3 + 2 * 3  # validation each round, tests in the last, images.csv
    assert counted["unpacked"] == trainings + scorings
    assert counted["packed"] == trainings + scorings
