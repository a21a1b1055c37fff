"""The progress of a run for whoever watches it: a screen, a log, a test."""

from collections.abc import Sequence
from typing import Any

from fedpolyp.config import Config
from fedpolyp.data.partition.partition import Partition


class Watcher:
    """Receives what happens in a run and does nothing with it; override the methods you need."""

    def started(self, config: Config, partition: Partition, round: int) -> None:
        """The run begins (`round` is -1), or resumes after `round`."""

    def asked(self, round: int, task: str, hospitals: Sequence[str]) -> None:
        """`hospitals` were asked for `task`: 'train', 'unmask', 'val', 'test' or 'own'."""

    def replied(self, round: int, task: str, hospital: str, reason: str) -> None:
        """A hospital replied; with a non-empty `reason` it failed."""

    def finished_round(self, record: dict[str, Any]) -> None:
        """A round is complete and saved; `record` is its line of rounds.jsonl."""

    def note(self, text: str) -> None:
        """Something that the user should know."""


class Watchers(Watcher):
    """Tells several watchers."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def started(self, config: Config, partition: Partition, round: int) -> None:
        """Tell them."""
        for watcher in self._watchers:
            watcher.started(config, partition, round)

    def asked(self, round: int, task: str, hospitals: Sequence[str]) -> None:
        """Tell them."""
        for watcher in self._watchers:
            watcher.asked(round, task, hospitals)

    def replied(self, round: int, task: str, hospital: str, reason: str) -> None:
        """Tell them."""
        for watcher in self._watchers:
            watcher.replied(round, task, hospital, reason)

    def finished_round(self, record: dict[str, Any]) -> None:
        """Tell them."""
        for watcher in self._watchers:
            watcher.finished_round(record)

    def note(self, text: str) -> None:
        """Tell them."""
        for watcher in self._watchers:
            watcher.note(text)
