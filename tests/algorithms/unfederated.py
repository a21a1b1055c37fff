"""What the tests of pooled and local training share: such a run, perhaps interrupted, and what it leaves."""

import csv
from pathlib import Path
from typing import Any

import pytest

from fedpolyp.config import Config
from fedpolyp.data.source import open_source
from fedpolyp.rounds import here
from fedpolyp.runs import RunFolder
from fedpolyp.watcher import Watcher
from tests.tiny import tiny_config, tiny_run


class StopIn(Watcher):
    """Breaks into a run at a hospital's training, or after a round."""

    def __init__(self, round: int, hospital: str | None = None) -> None:
        self.where = (round, hospital)

    def replied(self, round: int, task: str, hospital: str, reason: str) -> None:
        if task == "train" and (round, hospital) == self.where:
            raise KeyboardInterrupt

    def finished_round(self, record: dict[str, Any]) -> None:
        if (record["round"], None) == self.where:
            raise KeyboardInterrupt


def carry(run: RunFolder, config: Config, watcher: Watcher | None = None) -> None:
    """Carry `run` to its last round in this process."""
    here.run(config, run, open_source(config.data, config.seed), run.partition(), watcher or Watcher())


def trained(folder: Path, algorithm: str, stop: Watcher | None = None, **settings: Any) -> tuple[RunFolder, Config]:
    """A run of `algorithm` that was carried to its end, after `stop` broke into it, where there is one."""
    config = tiny_config(algorithm__name=algorithm, **settings)
    run = tiny_run(folder, config)
    if stop is not None:
        with pytest.raises(KeyboardInterrupt):
            carry(run, config, stop)
    carry(run, config)
    return run, config


def rows(run: RunFolder) -> list[dict[str, str]]:
    """The rows of images.csv."""
    with run.images_file.open() as stream:
        return list(csv.DictReader(stream))
