"""`fedpolyp evaluate`: the scores of a trained model on any images with masks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fedpolyp.cli.console import PlainConsole
from fedpolyp.cli.options import Given, with_settings
from fedpolyp.cli.tables import plain_table
from fedpolyp.cli.thresholds import Threshold, refuse_threshold, threshold_of
from fedpolyp.errors import FedpolypError, UsageError

if TYPE_CHECKING:
    from fedpolyp.config import DataConfig
    from fedpolyp.data.ingest import Original
    from fedpolyp.data.store import Store
    from fedpolyp.inference.evaluation import Evaluation

_SCORES = ("tp", "fp", "fn", "tn", "hd95_px", "surface_dice")  # of each image, at the model's size and at its own
_COLUMNS = ("id", *_SCORES, *(f"own_{name}" for name in _SCORES))
_FOUND = ("lesions", "found", "false")
_FOR_RUNS = ("data.image_size", "data.held_out", "data.lists", "data.unseen", "data.unseen_every")


@with_settings(("data",), without=_FOR_RUNS)
def evaluate(
    given: Given,
    model: Annotated[Path, typer.Option(help="a finished run, or a model saved as .keras")],
    out: Annotated[Path, typer.Option(help="a new folder for images.csv, scores.json and reliability.csv")],
    which: Annotated[
        Literal["last", "best"], typer.Option(help="of a run: the model of the last round, or best on validation")
    ] = "last",
    threshold: Threshold = None,
    tta: Annotated[bool, typer.Option("--tta", help="average over each image and its three mirror images")] = False,
    corrupt: Annotated[
        bool, typer.Option("--corrupt", help="also score images made worse: blur, noise, JPEG, darkness, reflections")
    ] = False,
) -> None:
    """Score a model on images with masks: overlap, distance, lesions found, calibration.

    Without --data, a run's model is scored on the held-out images of that run; otherwise on all images of the given
    sources.
    """
    import numpy as np

    from fedpolyp.cells import csv_text
    from fedpolyp.data.source import open_source
    from fedpolyp.files import to_json, write_text
    from fedpolyp.inference.evaluation import evaluate as scored
    from fedpolyp.inference.evaluation import robustness
    from fedpolyp.inference.predictor import Predictor
    from fedpolyp.runs import RunFolder, refuse_as_output

    refuse_threshold(threshold)
    refuse_as_output(out)
    run = RunFolder(model) if (model / "config.toml").exists() and "data.source" not in given.overrides else None
    if run is None and "data.source" not in given.overrides and given.file is None:
        raise UsageError("--data must be given: a model saved as .keras has no images of its own")
    predictor, console = Predictor.load(model, which), PlainConsole()
    size = {"data.image_size": predictor.image_size}
    if run is not None:
        if given.overrides or given.file is not None or given.preset is not None:
            raise UsageError("without --data a run's own images are used as they are: no option can change them")
        config = run.config()
        store = open_source(config.data, config.data_seed)
        run.refuse_changed(store)
        ids = list((partition := run.partition()).heldout)
        if partition.heldout_camera is not None:
            console.print(
                "note: the run's held-out images were taken by a camera of their own; here they are scored "
                "without it, so the scores differ from the run's",
                style="yellow",
                soft_wrap=True,
            )
    else:
        config = replace(given, overrides={**given.overrides, **size}).config()
        store = open_source(config.data, config.data_seed)
        ids = [record.id for record in store.records]
    if not ids:
        raise UsageError(f"{model} has no held-out images; give --data")
    cut = threshold_of([predictor], threshold)
    console.print(predictor.introduction, soft_wrap=True)
    told = predictor.about
    if told is not None and (known := told.known(store.records[row] for row in store.positions(ids).tolist())):
        console.print(
            f"note: the model was trained or selected on {known} of these {len(ids)} images: scores on them are too "
            "good",
            style="yellow",
            soft_wrap=True,
        )
    found = scored(predictor, store, _originals(config.data, store, ids), ids, cut, tta)
    if found.any_polyp:
        console.print(_table(found))
    else:
        console.print("no image has a polyp, so there is no overlap or distance to score", soft_wrap=True)
    _say_detection(console, found)
    plain: dict[str, Any] = {"model": str(predictor.path), "threshold": cut, "images": len(ids), **_plain(found)}
    if corrupt and found.any_polyp:
        rows = store.positions(ids)
        worse = robustness(predictor, np.asarray(store.images[rows]), np.asarray(store.masks[rows]), cut)
        table = plain_table("mean Dice of images made worse", "", "little", "more", "much")
        for kind, means in worse.items():
            table.add_row(kind, *(f"{mean:.3f}" for mean in means))
        console.print(table)
        plain["corrupted_dice"] = worse
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "images.csv", csv_text((*_COLUMNS, *_FOUND), _rows(found)))
    curve = csv_text(("mean_probability", "share_polyp", "pixels"), found.reliability.curve())
    write_text(out / "reliability.csv", curve)
    write_text(out / "scores.json", to_json(plain, indent=1) + "\n")
    console.print(f"scores: {out}", soft_wrap=True)


def _originals(data: "DataConfig", store: "Store", ids: list[str]) -> "Iterator[Original]":
    """These images at their own size; the phantom's are drawn at the model's size."""
    from fedpolyp.config import PHANTOM
    from fedpolyp.data.ingest import Original, originals
    from fedpolyp.data.masks import MaskSettings
    from fedpolyp.data.reading import Unusable

    if data.source == PHANTOM:
        rows = store.positions(ids)
        for id, row in zip(ids, rows.tolist(), strict=True):
            yield Original(id, store.images[row], store.masks[row])
        return
    try:
        yield from originals(data.places, set(ids), MaskSettings.of_config(data))
    except Unusable as error:
        raise FedpolypError(f"{error.rejection.file}: {error.rejection.reason}") from None


def _table(found: "Evaluation") -> Any:
    from fedpolyp.metrics import OVERLAPS

    table = plain_table(None, "mean over images with a polyp", "at the model's size", "at the images' own")
    for name, score in OVERLAPS.items():
        table.add_row(name, *(_told(found, at, score(at.counts)) for at in (found.square, found.own)))
    table.add_row("HD95, pixels", *(_told(found, at, at.hd95, 1) for at in (found.square, found.own)))
    table.add_row("HD95, of the diagonal", *(_told(found, at, at.hd95_fraction) for at in (found.square, found.own)))
    table.add_row("surface Dice", *(_told(found, at, at.surface) for at in (found.square, found.own)))
    table.caption, table.caption_justify = "with 95 % intervals over images", "left"
    return table


def _told(found: "Evaluation", at: Any, score: Any, digits: int = 3) -> str:
    mean = found.mean(at, score)
    if mean is None:
        return "-"
    return f"{mean.value:.{digits}f} ({mean.low:.{digits}f} to {mean.high:.{digits}f})"


def _say_detection(console: PlainConsole, found: "Evaluation") -> None:
    from fedpolyp import metrics

    lesions = sum(one.lesions for one in found.detections)
    if found.sensitivity is not None:
        console.print(
            f"{lesions} lesions, {found.sensitivity:.1%} found (IoU of a half or more); "
            f"{found.false_per_image:.2f} false lesions for each image"
        )
    if without := metrics.without_polyp(found.own.counts):
        console.print(
            f"{without['images']:.0f} images without a polyp: the model predicts one in {without['rate']:.1%} of "
            f"them, on {without['area']:.2%} of their area"
        )
    said = f"expected calibration error {found.reliability.error:.4f}"
    if found.calibrated is not None:
        said += f", {found.calibrated.error:.4f} with the model's temperature"
    console.print(said)


def _plain(found: "Evaluation") -> dict[str, Any]:
    from fedpolyp import metrics
    from fedpolyp.metrics import OVERLAPS

    sizes: dict[str, Any] = {}
    for name, at in (("model_size", found.square), ("own_size", found.own)):
        scores = {own: score(at.counts) for own, score in OVERLAPS.items()}
        scores |= {"hd95_px": at.hd95, "hd95_fraction": at.hd95_fraction, "surface_dice": at.surface}
        sizes[name] = {own: mean and vars(mean) for own, score in scores.items() for mean in (found.mean(at, score),)}
    return {
        **sizes,
        "lesions": sum(one.lesions for one in found.detections),
        "sensitivity": found.sensitivity,
        "false_per_image": found.false_per_image,
        "without_polyp": metrics.without_polyp(found.own.counts) or None,
        "calibration_error": found.reliability.error,
        "calibration_error_with_temperature": found.calibrated and found.calibrated.error,
    }


def _rows(found: "Evaluation") -> Iterator[list[Any]]:
    from fedpolyp.cells import guarded

    for at, id in enumerate(found.ids):
        square, own, one = found.square, found.own, found.detections[at]
        yield [
            guarded(id),
            *square.counts[at].tolist(),
            round(float(square.hd95[at]), 3),
            round(float(square.surface[at]), 4),
            *own.counts[at].tolist(),
            round(float(own.hd95[at]), 3),
            round(float(own.surface[at]), 4),
            *(one.lesions, one.found, one.false),
        ]
