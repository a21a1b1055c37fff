"""Where one run stands, read only from its files: another process may be running it, or it ended long ago.

Only finished rounds are results; `progress.jsonl` says which hospitals are working now.
"""

import os
import statistics
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedpolyp.config import Config
from fedpolyp.data.partition.partition import Partition
from fedpolyp.errors import FedpolypError
from fedpolyp.report.rounds import best_on_validation
from fedpolyp.runs import RunFolder
from fedpolyp.sites.progress import DOING, new_lines, progress_file
from fedpolyp.text import printable

Records = list[dict[str, Any]]
Stamp = tuple[int, int]

_TAIL = 1024**2  # bytes at the end of progress.jsonl that are read: some thousand lines
_PACE = 5  # rounds from which the time of the next ones is estimated
LONGEST = 400  # characters of another party's text


@dataclass
class Meanwhile:
    """The current round, as the run has reported it."""

    at_work: dict[str, str] = field(default_factory=dict)  # hospitals that have not replied, and their task
    failed: dict[str, str] = field(default_factory=dict)  # hospitals whose reply was rejected, and why
    ended: str = ""  # why the run ended early
    notes: list[str] = field(default_factory=list)


@dataclass
class Standing:
    """One run, as it was read at one moment."""

    run: RunFolder
    state: str  # waiting, running, finished, stopped or damaged
    sentence: str
    config: Config | None = None
    records: Records = field(default_factory=list)
    meanwhile: Meanwhile = field(default_factory=Meanwhile)

    @classmethod
    def of(cls, run: RunFolder) -> "Standing":
        """That of `run`; what cannot be read makes it damaged."""
        try:
            config = _config(run.path, stamp_of(run.config_file))
            records = _records(run.path, stamp_of(run.rounds_file))
            meanwhile = _meanwhile(run.path, stamp_of(progress_file(run)))
            state, sentence = _state(run, config, records, meanwhile)
        except (FedpolypError, OSError) as error:
            return cls(run, "damaged", printable(error, LONGEST))
        return cls(run, state, sentence, config, records, meanwhile)

    @property
    def rounds(self) -> int:
        """The run's number of rounds."""
        return 0 if self.config is None else self.config.federation.rounds

    @property
    def done(self) -> int:
        """The last complete round."""
        return self.records[-1]["round"] if self.records else 0

    def partition(self) -> Partition:
        """The run's partition.

        Raises:
            FedpolypError: the file is damaged.
            OSError: it cannot be read.
        """
        return _partition(self.run.path, stamp_of(self.run.partition_file))

    def seconds_left(self) -> float | None:
        """The estimated time of the remaining rounds, at the pace of the last ones; None if it is unknown."""
        paces = [record["seconds"] for record in self.records[1:]][-_PACE:]
        if self.state != "running" or not paces or self.done >= self.rounds:
            return None
        pace = statistics.median(paces)
        since = max(0.0, time.time() - stamp_of(self.run.rounds_file)[0] / 1e9)
        return float(pace * (self.rounds - self.done) - min(since, pace))

    def in_short(self) -> dict[str, Any]:
        """The row of a list."""
        best = best_on_validation(self.records)
        return {
            "state": self.state,
            "sentence": self.sentence,
            "round": self.done,
            "rounds": self.rounds,
            "dice": self.records[-1]["dice"] if self.records else None,
            "best": best["dice"] if best else None,
            "seconds_left": self.seconds_left(),
        }


def _state(run: RunFolder, config: Config, records: Records, meanwhile: Meanwhile) -> tuple[str, str]:
    rounds, done = config.federation.rounds, records[-1]["round"] if records else 0
    why = f" It ended with: {meanwhile.ended}" if meanwhile.ended else ""
    stopped = printable(records[-1].get("stopped", ""), LONGEST) if records else ""
    if at_work(run):
        if not records:
            return "running", "It is starting: the initial model is scored."
        if done >= rounds or stopped:
            return "running", "All rounds are complete; images are scored and models are saved."
        return "running", f"Round {done + 1} of {rounds} is running."
    if run.finished and not records:
        return "damaged", f"It is finished, but {run.rounds_file.name} holds no round."
    if run.finished:
        return "finished", f"Finished after round {done}" + (f" of {rounds}: {stopped}." if stopped else ".")
    if records and (done >= rounds or stopped):
        return "stopped", f"All rounds are complete, but it did not finish.{why}"
    if records:
        return "stopped", f"Not running: {done} of {rounds} rounds are complete.{why}"
    return ("stopped", f"It ended before its first round.{why}") if why else ("waiting", "It has not started yet.")


def at_work(run: RunFolder) -> bool:
    """Whether a process is carrying out the run."""
    try:
        return run.at_work
    except FedpolypError:  # a link in place of the lock: it is not a run of ours
        return False


def stamp_of(file: Path) -> Stamp:
    """When the file was last changed, nanoseconds since 1970, and its size; (0, -1) if there is none."""
    try:
        status = os.stat(file)
    except OSError:
        return 0, -1
    return status.st_mtime_ns, status.st_size


@lru_cache(64)
def _config(path: Path, stamp: Stamp) -> Config:
    return RunFolder(path).config()


@lru_cache(64)
def _records(path: Path, stamp: Stamp) -> Records:
    return RunFolder(path).rounds()


@lru_cache(8)
def _partition(path: Path, stamp: Stamp) -> Partition:
    return RunFolder(path).partition()


@lru_cache(64)
def _meanwhile(path: Path, stamp: Stamp) -> Meanwhile:
    """The content of the last lines of progress.jsonl; repeated lines and those of earlier starts are handled."""
    told = Meanwhile()
    if stamp[1] < 0:
        return told
    for event in new_lines(progress_file(RunFolder(path)), max(0, stamp[1] - _TAIL))[0]:
        match event["event"]:
            case "started" | "submitted":
                told = Meanwhile()
            case "asked":
                told.at_work |= {printable(name, 80): DOING[event["task"]] for name in event["hospitals"]}
            case "replied":
                told.at_work.pop(printable(event["hospital"], 80), None)
                if event["reason"]:
                    told.failed[printable(event["hospital"], 80)] = printable(event["reason"], LONGEST)
            case "finished_round":
                told.at_work.clear()
                told.failed.clear()
            case "failed":
                told.at_work.clear()
                told.ended = printable(event.get("reason", ""), LONGEST)
            case "note":
                told.notes.append(event["text"])
    return told
