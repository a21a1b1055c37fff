"""The state of a run or a comparison, read only from its files: another process may be running it, or it ended long
ago.

Everything here is plain (dicts, lists, numbers, text) and goes to the page as JSON. Only finished rounds are reported
as results; `progress.jsonl` shows which hospitals are working now.
"""

import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedpolyp.config import Config
from fedpolyp.data.partition.partition import Partition
from fedpolyp.errors import FedpolypError
from fedpolyp.experiment.conclusions import name as printed_name
from fedpolyp.report.comparison import PAGE
from fedpolyp.report.rounds import Points, best_on_validation, mean_train_loss
from fedpolyp.report.style import looks
from fedpolyp.runs import RunFolder
from fedpolyp.sites.progress import DOING, new_lines, progress_file
from fedpolyp.text import printable
from fedpolyp.view.models import models_of
from fedpolyp.view.shelf import Place

Records = list[dict[str, Any]]
Stamp = tuple[int, int]

FIGURE = "predictions.png"
_TAIL = 1024**2  # bytes at the end of progress.jsonl that are read: some thousand lines
_LISTED = 200  # hospitals
_DRAWN = 20  # hospitals with their own line
_PACE = 5  # rounds from which the time of the next ones is estimated
_NOTES = 5
_LONGEST = 400  # characters of another party's text


@dataclass
class _Meanwhile:
    """The current round, as the run has reported it."""

    at_work: dict[str, str] = field(default_factory=dict)  # hospitals that have not replied, and their task
    failed: dict[str, str] = field(default_factory=dict)  # hospitals whose reply was rejected, and why
    ended: str = ""  # why the run ended early
    notes: list[str] = field(default_factory=list)


def of_place(place: Place) -> dict[str, Any]:
    """Everything that the page shows about a run or a comparison."""
    return _of_comparison(place) if place.comparison else _of_run(place)


def in_short(place: Place) -> dict[str, Any]:
    """A row of the list: name, kind, state, and a sentence."""
    said: dict[str, Any] = {"name": place.name, "title": printable(place.name), "comparison": place.comparison}
    if not place.comparison:
        return said | _Standing.of(RunFolder(place.path)).in_short()
    standings = [_Standing.of(run) for run in place.runs]
    return said | {"state": _overall(standings), "sentence": _counted(standings)}


def stamp(place: Place) -> str:
    """A value that changes whenever `of_place` would, except for the remaining time."""
    parts: list[object] = []
    for run in place.runs:
        files = (run.config_file, run.partition_file, run.rounds_file, run.images_file, run.curves, progress_file(run))
        parts += [_stamp(file) for file in files] + [_at_work(run), _stamp(run.model_file("last"))]
    return f"{hash((*parts, _stamp(place.path / PAGE))) & 0xFFFFFFFFFFFFFFFF:x}"


@dataclass
class _Standing:
    """One run, as it was read at one moment."""

    run: RunFolder
    state: str  # waiting, running, finished, stopped or damaged
    sentence: str
    config: Config | None = None
    records: Records = field(default_factory=list)
    meanwhile: _Meanwhile = field(default_factory=_Meanwhile)

    @classmethod
    def of(cls, run: RunFolder) -> "_Standing":
        try:
            config = _config(run.path, _stamp(run.config_file))
            records = _records(run.path, _stamp(run.rounds_file))
            meanwhile = _meanwhile(run.path, _stamp(progress_file(run)))
            state, sentence = _state(run, config, records, meanwhile)
        except (FedpolypError, OSError) as error:
            return cls(run, "damaged", printable(error, _LONGEST))
        return cls(run, state, sentence, config, records, meanwhile)

    @property
    def rounds(self) -> int:
        """The run's number of rounds."""
        return 0 if self.config is None else self.config.federation.rounds

    @property
    def done(self) -> int:
        """The last complete round."""
        return self.records[-1]["round"] if self.records else 0

    def seconds_left(self) -> float | None:
        """The estimated time of the remaining rounds, at the pace of the last ones; None if it is unknown."""
        paces = [record["seconds"] for record in self.records[1:]][-_PACE:]
        if self.state != "running" or not paces or self.done >= self.rounds:
            return None
        pace = statistics.median(paces)
        since = max(0.0, time.time() - _stamp(self.run.rounds_file)[0] / 1e9)
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


def _state(run: RunFolder, config: Config, records: Records, meanwhile: _Meanwhile) -> tuple[str, str]:
    rounds, done = config.federation.rounds, records[-1]["round"] if records else 0
    why = f" It ended with: {meanwhile.ended}" if meanwhile.ended else ""
    stopped = printable(records[-1].get("stopped", ""), _LONGEST) if records else ""
    if _at_work(run):
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


def _of_run(place: Place) -> dict[str, Any]:
    run = RunFolder(place.path)
    standing = _Standing.of(run)
    said: dict[str, Any] = {
        "name": place.name,
        "title": printable(place.name),
        "comparison": False,
        **standing.in_short(),
        **_files(place),
    }
    if standing.config is None:
        return said
    try:
        partition = _partition(run.path, _stamp(run.partition_file))
    except (FedpolypError, OSError) as error:
        return said | {"state": "damaged", "sentence": printable(error, _LONGEST)}
    records, config = standing.records, standing.config
    scored_on = "held-out images" if partition.heldout else "hospitals' test images"
    hospitals = list(_hospitals(standing, partition))
    return said | {
        "about": f"{printed_name(config.label)}, seed {config.seed}, {printable(config.data.called, 80)}, "
        f"{config.data.image_size} pixels, {len(partition.hospitals)} hospitals",
        "scored_on": scored_on,
        "curves": _curves(records, scored_on),
        "scores": list(_scores(run, records)),
        "hospitals": hospitals[:_LISTED],
        "hospitals_left_out": max(0, len(hospitals) - _LISTED),
        "table": [_row(record) for record in records],
        "notes": [printable(note, _LONGEST) for note in standing.meanwhile.notes[-_NOTES:]],
    }


def _of_comparison(place: Place) -> dict[str, Any]:
    standings = [_Standing.of(run) for run in place.runs]
    look = looks(dict.fromkeys(one.run.path.parent.name for one in standings))
    runs = []
    for one in standings:
        arm, seed = one.run.path.parent.name, one.run.name
        name = one.run.path.relative_to(place.path.parent).as_posix()
        curves = {
            "dice": _points(one.records, "dice"),
            "val_dice": _points(one.records, "val_dice"),
            "train_loss": mean_train_loss(one.records),
            "loss": _points(one.records, "loss"),
        }
        of_arm = {"arm": printable(printed_name(arm), 80), "label": arm, "seed": printable(seed, 20)}
        runs.append({"name": name, **of_arm, "colour": look[arm].colour, **one.in_short(), "curves": curves})
    return {
        "name": place.name,
        "title": printable(place.name),
        "comparison": True,
        "state": _overall(standings),
        "sentence": _counted(standings),
        "round": sum(one.done for one in standings),
        "rounds": sum(one.rounds for one in standings),
        "runs": runs,
        "arms": list(_arms(standings)),
        **_files(place),
    }


def _files(place: Place) -> dict[str, Any]:
    """The existing pages and pictures, and the number of models."""
    return {
        "report": _own_file(place.path / PAGE),
        "figure": not place.comparison and _own_file(place.path / FIGURE),
        "models": len(models_of(place)),
    }


def _own_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()  # through a link any file could get into the page


def _arms(standings: Sequence[_Standing]) -> Iterator[dict[str, Any]]:
    """The arms' mean scores over their finished runs."""
    for arm in dict.fromkeys(one.run.path.parent.name for one in standings):
        own = [one for one in standings if one.run.path.parent.name == arm]
        finished = [one for one in own if one.state == "finished"]
        bests = [best for one in finished if (best := best_on_validation(one.records))]
        yield {
            "arm": printable(printed_name(arm), 80),
            "finished": len(finished),
            "runs": len(own),
            "dice": _mean([one.records[-1]["dice"] for one in finished]),
            "iou": _mean([one.records[-1]["iou"] for one in finished]),
            "best": _mean([best["dice"] for best in bests]),
        }


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _overall(standings: Sequence[_Standing]) -> str:
    states = {one.state for one in standings}
    if states == {"finished"}:
        return "finished"
    return next(state for state in ("running", "damaged", "stopped", "waiting", "finished") if state in states)


def _counted(standings: Sequence[_Standing]) -> str:
    said = {"running": "running", "finished": "finished", "waiting": "not started", "stopped": "not running"}
    said["damaged"] = "not readable"
    counts = {state: sum(one.state == state for one in standings) for state in said}
    parts = [f"{count} {said[state]}" for state, count in counts.items() if count]
    return f"{len(standings)} run{'s' * (len(standings) != 1)}: {', '.join(parts)}."


def _curves(records: Records, scored_on: str) -> dict[str, list[dict[str, Any]]]:
    """The lines of the two charts, the faintest first."""

    def of_hospitals(key: str) -> list[dict[str, Any]]:
        names = sorted({name for record in records for name, own in record["hospitals"].items() if key in own})
        lines = []
        for name in names if len(names) <= _DRAWN else ():
            entries = ((record["round"], record["hospitals"].get(name, {}).get(key)) for record in records)
            lines.append(_line("hospital", name, [(round, value) for round, value in entries if value is not None]))
        return lines

    return {
        "dice": [
            *of_hospitals("val_dice"),
            _line("validation", "validation, mean", _points(records, "val_dice")),
            _line("heldout", scored_on, _points(records, "dice")),
        ],
        "loss": [
            *of_hospitals("train_loss"),
            _line("training", "training, mean of hospitals", mean_train_loss(records)),
            _line("heldout", scored_on, _points(records, "loss")),
        ],
    }


def _line(kind: str, label: str, points: Points) -> dict[str, Any]:
    return {"kind": kind, "label": label, "points": points}


def _points(records: Records, key: str) -> Points:
    return [(record["round"], record[key]) for record in records if record[key] is not None]


def _scores(run: RunFolder, records: Records) -> Iterator[dict[str, Any]]:
    if not records:
        return
    for kind, label, record in (
        ("last", "last round", records[-1]),
        ("best", "best on validation", best_on_validation(records)),
    ):
        if record is not None:
            file = run.model_file(kind)
            yield {
                "label": label,
                "file": file.name if file.exists() else "",
                **{key: record[key] for key in ("round", "dice", "iou", "val_dice", "loss")},
            }


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    losses = mean_train_loss([dict(record)])
    return {
        "train_loss": losses[0][1] if losses else None,
        "refused": len(record["refused"]),
        **{key: record[key] for key in ("round", "loss", "dice", "iou", "val_dice", "seconds")},
    }


def _hospitals(standing: _Standing, partition: Partition) -> Iterator[dict[str, Any]]:
    """A row for each hospital; working hospitals come first if not all are listed."""
    running, meanwhile = standing.state == "running", standing.meanwhile
    rows = {name: _hospital(name) for name in partition.hospitals}
    for name, own in partition.hospitals.items():
        if own.everything:  # otherwise only the site knows
            rows[name]["images"] = {"train": len(own.train), "val": len(own.val), "test": len(own.test)}
    for record in standing.records:
        for name, said in record["hospitals"].items():
            row = rows.setdefault(name, _hospital(name))
            row |= {key: said[key] for key in ("train_loss", "val_dice", "test_dice") if said.get(key) is not None}
            if "train_loss" in said:
                row["trained"] = record["round"]
            if row["images"] is None and said.get("images"):
                row["images"] = {"train": said["images"], "val": said.get("val_images"), "test": None}
        for refusal in record["refused"]:
            row = rows.setdefault(printable(refusal["hospital"], 80), _hospital(printable(refusal["hospital"], 80)))
            row["refused"] += 1
            row["reason"] = f"round {record['round']}: {printable(refusal['reason'], _LONGEST)}"
    for name in meanwhile.at_work if running else ():
        rows.setdefault(name, _hospital(name))["now"] = meanwhile.at_work[name]
    for name in meanwhile.failed if running else ():
        rows.setdefault(name, _hospital(name))["reason"] = f"round {standing.done + 1}: {meanwhile.failed[name]}"
    listed = sorted(rows.values(), key=lambda row: row["name"])
    yield from listed if len(listed) <= _LISTED else sorted(listed, key=lambda row: not row["now"])


def _hospital(name: str) -> dict[str, Any]:
    scores = dict.fromkeys(("trained", "train_loss", "val_dice", "test_dice"))
    return {"name": name, "images": None, "now": "", "refused": 0, "reason": "", **scores}


def _at_work(run: RunFolder) -> bool:
    try:
        return run.at_work
    except FedpolypError:  # a link in place of the lock: it is not a run of ours
        return False


def _stamp(file: Path) -> Stamp:
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
def _meanwhile(path: Path, stamp: Stamp) -> _Meanwhile:
    """The content of the last lines of progress.jsonl; repeated lines and those of earlier starts are handled."""
    told = _Meanwhile()
    if stamp[1] < 0:
        return told
    for event in new_lines(progress_file(RunFolder(path)), max(0, stamp[1] - _TAIL))[0]:
        match event["event"]:
            case "started" | "submitted":
                told = _Meanwhile()
            case "asked":
                told.at_work |= {printable(name, 80): DOING[event["task"]] for name in event["hospitals"]}
            case "replied":
                told.at_work.pop(printable(event["hospital"], 80), None)
                if event["reason"]:
                    told.failed[printable(event["hospital"], 80)] = printable(event["reason"], _LONGEST)
            case "finished_round":
                told.at_work.clear()
                told.failed.clear()
            case "failed":
                told.at_work.clear()
                told.ended = printable(event.get("reason", ""), _LONGEST)
            case "note":
                told.notes.append(event["text"])
    return told
