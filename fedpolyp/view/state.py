"""What the page shows about a run or a comparison: plain dicts, lists, numbers and text, which go to it as JSON."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedpolyp.data.partition.partition import Partition
from fedpolyp.errors import FedpolypError
from fedpolyp.experiment.conclusions import name as printed_name
from fedpolyp.privacy.words import noisy_scores
from fedpolyp.report.comparison import PAGE
from fedpolyp.report.rounds import Points, best_on_validation, mean_train_loss
from fedpolyp.report.style import looks
from fedpolyp.runs import RunFolder
from fedpolyp.sites.progress import progress_file
from fedpolyp.text import printable
from fedpolyp.view.models import models_of
from fedpolyp.view.shelf import Place
from fedpolyp.view.standing import LONGEST, Records, Standing, at_work, stamp_of

FIGURE = "predictions.png"
_LISTED = 200  # hospitals
_DRAWN = 20  # hospitals with their own line
_NOTES = 5


def of_place(place: Place) -> dict[str, Any]:
    """Everything that the page shows about a run or a comparison."""
    return _of_comparison(place) if place.comparison else _of_run(place)


def in_short(place: Place) -> dict[str, Any]:
    """A row of the list: name, kind, state, and a sentence."""
    said: dict[str, Any] = {"name": place.name, "title": printable(place.name), "comparison": place.comparison}
    if not place.comparison:
        return said | Standing.of(RunFolder(place.path)).in_short()
    standings = [Standing.of(run) for run in place.runs]
    return said | {"state": _overall(standings), "sentence": _counted(standings)}


def stamp(place: Place) -> str:
    """A value that changes whenever `of_place` would, except for the remaining time."""
    parts: list[object] = []
    for run in place.runs:
        files = (run.config_file, run.partition_file, run.rounds_file, run.images_file, run.curves, progress_file(run))
        parts += [stamp_of(file) for file in files] + [at_work(run), stamp_of(run.model_file("last"))]
    return f"{hash((*parts, stamp_of(place.path / PAGE))) & 0xFFFFFFFFFFFFFFFF:x}"


def _of_run(place: Place) -> dict[str, Any]:
    run = RunFolder(place.path)
    standing = Standing.of(run)
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
        partition = standing.partition()
    except (FedpolypError, OSError) as error:
        return said | {"state": "damaged", "sentence": printable(error, LONGEST)}
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
        "notes": [printable(note, LONGEST) for note in standing.meanwhile.notes[-_NOTES:]],
    }


def _of_comparison(place: Place) -> dict[str, Any]:
    standings = [Standing.of(run) for run in place.runs]
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


def _arms(standings: Sequence[Standing]) -> Iterator[dict[str, Any]]:
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


def _overall(standings: Sequence[Standing]) -> str:
    states = {one.state for one in standings}
    if states == {"finished"}:
        return "finished"
    return next(state for state in ("running", "damaged", "stopped", "waiting", "finished") if state in states)


def _counted(standings: Sequence[Standing]) -> str:
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


def _hospitals(standing: Standing, partition: Partition) -> Iterator[dict[str, Any]]:
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
        for name, score in noisy_scores(record).items():
            rows[name]["noisy_test_dice"] = score
        for refusal in record["refused"]:
            row = rows.setdefault(printable(refusal["hospital"], 80), _hospital(printable(refusal["hospital"], 80)))
            row["refused"] += 1
            row["reason"] = f"round {record['round']}: {printable(refusal['reason'], LONGEST)}"
    for name in meanwhile.at_work if running else ():
        rows.setdefault(name, _hospital(name))["now"] = meanwhile.at_work[name]
    for name in meanwhile.failed if running else ():
        rows.setdefault(name, _hospital(name))["reason"] = f"round {standing.done + 1}: {meanwhile.failed[name]}"
    listed = sorted(rows.values(), key=lambda row: row["name"])
    yield from listed if len(listed) <= _LISTED else sorted(listed, key=lambda row: not row["now"])


def _hospital(name: str) -> dict[str, Any]:
    scores = dict.fromkeys(("trained", "train_loss", "val_dice", "test_dice", "noisy_test_dice"))
    return {"name": name, "images": None, "now": "", "refused": 0, "reason": "", **scores}
