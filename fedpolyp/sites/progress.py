"""The progress of a run for other processes: its watcher writes events to a file that they read."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fedpolyp.config import Config
from fedpolyp.data.partition.partition import Partition
from fedpolyp.errors import FedpolypError
from fedpolyp.files import naming, open_regular, parse_json, to_json
from fedpolyp.runs import RunFolder
from fedpolyp.runs.records import checked
from fedpolyp.watcher import Watcher

_FIELDS: dict[str, type] = {"event": str, "flower_run": str}
_FIELDS_OF: dict[str, dict[str, type]] = {
    "started": {"round": int},
    "asked": {"round": int, "task": str, "hospitals": list},
    "replied": {"round": int, "task": str, "hospital": str, "reason": str},
    "finished_round": {"record": dict},
    "note": {"text": str},
}
DOING = {
    "train": "training",
    "unmask": "opening the secure sum",
    "val": "scoring its validation images",
    "test": "scoring its test images",
    "own": "training the model for itself, and scoring it",
}
_DONE = {
    "train": "trained",
    "unmask": "opened the secure sum",
    "val": "scored its validation images",
    "test": "scored its test images",
    "own": "scored its own model",
}


def progress_file(run: RunFolder) -> Path:
    """The file with a run's progress."""
    return run.path / "progress.jsonl"


class FileWatcher(Watcher):
    """Writes the events to a file, one line each.

    A run folder may see several of Flower's runs, one after the other, or one that was started while another is
    running. So each line names the Flower run that wrote it; in a simulation the name is ''.
    """

    def __init__(self, file: Path, flower_run: str) -> None:
        self.file, self.flower_run = file, flower_run

    def tell(self, event: str, **details: Any) -> None:
        """Write one line."""
        line = to_json({"event": event, "flower_run": self.flower_run, **details}) + "\n"
        with naming(self.file), self.file.open("ab+") as stream:
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
    """The events written to `file` after `offset` bytes, and the offset for the next call.

    Half-written and invalid lines are ignored.

    Raises:
        OSError: it is not a regular file.
    """
    if not file.exists():
        return [], offset
    with open_regular(file) as stream:
        stream.seek(offset)
        text = stream.read()
    whole = text[: text.rfind(b"\n") + 1]
    events = []
    for line in whole.splitlines():
        with contextlib.suppress(ValueError, TypeError, FedpolypError):
            events.append(_event(parse_json(line)))
    return events, offset + len(whole)


def _event(plain: Any) -> dict[str, Any]:
    """`plain`, if it is an event.

    Raises:
        ValueError, TypeError: it is not.
        FedpolypError: it is the event of a round, with an invalid record.
    """
    if not isinstance(plain, dict):
        raise ValueError("an event is an object")
    event = {"flower_run": "", **plain}
    fields = _FIELDS | _FIELDS_OF.get(str(event.get("event")), {})
    for name, kind in fields.items():
        if not isinstance(event.get(name), kind):
            raise ValueError(f"an event's {name} is {kind.__name__}")
    if event.get("task", "train") not in DOING or not all(isinstance(name, str) for name in event.get("hospitals", ())):
        raise ValueError("an event's task and hospitals are names")
    if event["event"] == "finished_round":
        checked(event["record"], "an event")
    return event


def told_by(run: RunFolder) -> dict[str, set[str]]:
    """Flower's runs that wrote to this run folder, the oldest first, with the kinds of events of each."""
    told: dict[str, set[str]] = {}
    for event in new_lines(progress_file(run), 0)[0]:
        told.setdefault(event["flower_run"], set()).add(event["event"])
    return told


def retell(event: dict[str, Any], run: RunFolder, watcher: Watcher) -> None:
    """Pass to `watcher` what the run's own watcher received."""
    kind = event["event"]
    if kind == "started":
        watcher.started(run.config(), run.partition(), event["round"])
    elif kind in _FIELDS_OF:
        getattr(watcher, kind)(**{name: event[name] for name in _FIELDS_OF[kind]})


def last_doings(run: RunFolder, sites: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The last action of each of `sites` in `run`, as far as the run knows."""
    told = dict.fromkeys(sites, "")
    for event in new_lines(progress_file(run), 0)[0]:
        if event["event"] == "asked":
            for site in event["hospitals"]:
                told[site] = f"round {event['round']}: {DOING[event['task']]}"
        elif event["event"] == "replied":
            done = event["reason"] or _DONE[event["task"]]
            told[event["hospital"]] = f"round {event['round']}: {done}"
    yield from ((site, told[site]) for site in sites)
