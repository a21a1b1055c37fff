"""How a run at real sites is followed: what its watcher hears goes to a file that another process reads."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fedpolyp.config import Config
from fedpolyp.data.hospitals import Partition
from fedpolyp.files import parse_json, to_json
from fedpolyp.runs import RunFolder
from fedpolyp.watcher import Watcher


def progress_file(run: RunFolder) -> Path:
    """Where a run at real sites tells what happens."""
    return run.path / "progress.jsonl"


class FileWatcher(Watcher):
    """Writes what it hears to a file, one line each.

    A run folder may see several of Flower's runs, one after the other, or one too many while another is at work: each
    line names the one that tells.
    """

    def __init__(self, file: Path, flower_run: str) -> None:
        self.file, self.flower_run = file, flower_run

    def tell(self, event: str, **details: Any) -> None:
        """Write one line."""
        line = to_json({"event": event, "flower_run": self.flower_run, **details}) + "\n"
        with self.file.open("ab+") as stream:
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":  # a full disk or a power cut left half a line
                    stream.write(b"\n")
            stream.write(line.encode())

    def started(self, config: Config, partition: Partition, round: int) -> None:
        """Write it."""
        self.tell("started", round=round)

    def asked(self, round: int, task: str, hospitals: Sequence[str]) -> None:
        """Write it."""
        self.tell("asked", round=round, task=task, hospitals=list(hospitals))

    def replied(self, round: int, task: str, hospital: str, reason: str) -> None:
        """Write it."""
        self.tell("replied", round=round, task=task, hospital=hospital, reason=reason)

    def finished_round(self, record: dict[str, Any]) -> None:
        """Write it."""
        self.tell("finished_round", record=record)

    def note(self, text: str) -> None:
        """Write it."""
        self.tell("note", text=text)


def new_lines(file: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The events written to `file` after `offset` bytes, and the offset to ask with next time."""
    if not file.exists():
        return [], offset
    with file.open("rb") as stream:
        stream.seek(offset)
        text = stream.read()
    whole = text[: text.rfind(b"\n") + 1]
    events = []
    for line in whole.splitlines():
        with contextlib.suppress(ValueError):  # half a line tells nothing
            events.append({"flower_run": "", **parse_json(line)})
    return events, offset + len(whole)


def told_by(run: RunFolder) -> dict[str, set[str]]:
    """Flower's runs that this run folder has seen, the oldest first, and what kinds of events each has told."""
    told: dict[str, set[str]] = {}
    for event in new_lines(progress_file(run), 0)[0]:
        told.setdefault(event["flower_run"], set()).add(event["event"])
    return told


def retell(event: dict[str, Any], run: RunFolder, watcher: Watcher) -> None:
    """Tell `watcher` what the run's own watcher heard."""
    about = dict(event)
    kind = about.pop("event")
    del about["flower_run"]
    if kind == "started":
        watcher.started(run.config(), run.partition(), about["round"])
    elif kind in ("asked", "replied", "finished_round", "note"):
        getattr(watcher, kind)(**about)


def last_doings(run: RunFolder, sites: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What each of `sites` last did in `run`, as far as the run knows."""
    told = dict.fromkeys(sites, "")
    for event in new_lines(progress_file(run), 0)[0]:
        if event["event"] == "asked":
            for site in event["hospitals"]:
                told[site] = f"round {event['round']}: {_DOING[event['task']]}"
        elif event["event"] == "replied":
            done = event["reason"] or _DONE[event["task"]]
            told[event["hospital"]] = f"round {event['round']}: {done}"
    yield from ((site, told[site]) for site in sites)


_DOING = {"train": "training", "val": "scoring its validation images", "test": "scoring its test images"}
_DONE = {"train": "trained", "val": "scored its validation images", "test": "scored its test images"}
