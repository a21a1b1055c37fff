"""A finished comparison on phantom frames without any training: masks of known quality stand in for predictions."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedpolyp import metrics, runs
from fedpolyp.config import Config, load
from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.source import open_source
from fedpolyp.data.store import Store
from fedpolyp.runs import RoundRecord, RunFolder, model_name, scored_images

Masks = NDArray[np.uint8]

# By how many percent of the image's side the masks of each algorithm are off.
ERRORS = {"pooled": 2.0, "local": 8.0, "fedavg": 4.0, "fedprox": 4.1, "fedadam": 5.0, "finetune": 4.2}
OWN_MODELS = "tests.algorithms.own_algorithm:Damped"  # stands for an algorithm with a model for each hospital
ERRORS[OWN_MODELS] = 6.0


def fake_config(arm: str, seed: int, rounds: int = 12, hospitals: int = 3, **own: object) -> Config:
    """The config of one run; all of them share the partition.

    An arm is an algorithm, or one with another label: 'near:fedprox'. `own` are the algorithm's own settings.
    """
    label, _, algorithm = arm.partition(":") if ":" in arm else ("", "", arm)
    chosen = {"algorithm.name": algorithm, "seed": seed, "data.seed": 0, "federation.rounds": rounds}
    chosen |= {"arm_label": label or None, "hospitals.count": hospitals}
    chosen |= {f"algorithm.{name}": value for name, value in own.items()}
    small = {
        "data.image_size": 64,
        "data.phantom_images": 150,
        "data.held_out": 0.2,
        "hospitals.test": 0.15,
        "training.local_epochs": 2,
        "training.learning_rate": 0.003,
    }
    return load(overrides=chosen | small)


def write_comparison(
    folder: Path,
    arms: Sequence[str] = ("pooled", "local", "fedavg"),
    seeds: int = 1,
    hospitals: int = 3,
    unseen: str = "",
) -> list[RunFolder]:
    """The run folders of a comparison, as the arms themselves leave them; half of the held-out set may be unseen."""
    base = fake_config(arms[0], 0, hospitals=hospitals)
    store = open_source(base.data, base.data_seed)
    partition = partition_images(store.records, base)
    if unseen:
        held, away = partition.heldout[::2], partition.heldout[1::2]
        partition = Partition(held, partition.hospitals, {unseen: away})
    (folder).mkdir(parents=True, exist_ok=True)
    (folder / "command.txt").write_text("fedpolyp compare --out somewhere\n")
    return [
        write_run(folder / arm.split(":")[0] / str(seed), fake_config(arm, seed, hospitals=hospitals), store, partition)
        for arm in arms
        for seed in range(seeds)
    ]


def write_run(path: Path, config: Config, store: Store, partition: Partition) -> RunFolder:
    """One run folder with everything that a report reads."""
    run = runs.create(path, config, partition, store.path)
    _write_rounds(run, config, partition)
    _write_scores(run, config, store, partition)
    return run


def _write_rounds(run: RunFolder, config: Config, partition: Partition) -> None:
    random = np.random.default_rng([config.seed, len(config.label)])
    top = 0.95 - ERRORS[config.algorithm.name] / 30
    for number in range(config.federation.rounds + 1):
        dice = top * (1 - 0.9 * np.exp(-number / 4)) + random.normal(0, 0.01)
        record = RoundRecord(number, {"dice": dice, "iou": dice / (2 - dice), "loss": 1.5 - dice}, dice - 0.02)
        for place, (name, own) in enumerate(sorted(partition.hospitals.items())):
            record.hospital(name)["val_dice"] = float(np.clip(dice - 0.03 * place + random.normal(0, 0.02), 0, 1))
            if number and config.algorithm.name != "pooled":
                record.hospital(name).update(images=len(own.train), train_loss=1.4 - dice)
        record.unseen = {source: max(0.0, float(dice) - 0.1) for source in partition.unseen if number % 5 == 0}
        if number:
            record.steps = 30
            if config.algorithm.name == "pooled":
                every = sum(len(own.train) for own in partition.hospitals.values())
                record.hospital("pooled").update(images=every, train_loss=1.4 - dice)
            elif config.federated:
                record.bytes_up = record.bytes_down = 7_800_000 * len(partition.hospitals)
        run.append_round(record.to_plain() | {"seconds": 8.5})


def _write_scores(run: RunFolder, config: Config, store: Store, partition: Partition) -> None:
    sets = {"heldout": partition.heldout} | {f"test:{name}": own.test for name, own in partition.hospitals.items()}
    sets |= {f"unseen:{source}": ids for source, ids in partition.unseen.items()}
    rows, predicted = [], dict[str, dict[str, Masks]]()
    own_models = config.algorithm.name in ("local", OWN_MODELS)
    for place, owner in enumerate(sorted(partition.hospitals) if own_models else [""]):
        for kind, number in (("last", config.federation.rounds), ("best", config.federation.rounds - 2)):
            model = model_name(kind, owner)
            for label, ids in sets.items():
                positions = store.positions(ids)
                error = ERRORS[config.algorithm.name] * (1 + 0.2 * place) * (0.6 if label == f"test:{owner}" else 1)
                masks = _off(store.masks[positions], positions, error, config.seed + (kind == "best"))
                counts = metrics.count_pixels(masks, store.masks[positions])
                distances = metrics.hd95(masks, store.masks[positions])
                rows += scored_images(config.label, config.seed, model, number, label, ids, counts, distances)
                of, _, source = label.partition(":")
                if kind == "last" and of in ("heldout", "unseen"):
                    predicted.setdefault(source, {})[model] = masks
    for name in partition.hospitals if config.algorithm.name == "finetune" else ():
        ids = partition.hospitals[name].test
        truths = store.masks[store.positions(ids)]
        masks = _off(truths, store.positions(ids), 1.5, config.seed)
        counts, distances = metrics.count_pixels(masks, truths), metrics.hd95(masks, truths)
        own_model, rounds = model_name("own", name), config.federation.rounds
        rows += scored_images(config.label, config.seed, own_model, rounds, f"test:{name}", ids, counts, distances)
    for source, own in predicted.items():
        run.write_predictions(own, source)
    run.write_images(rows)


def _off(truths: Masks, positions: NDArray[np.intp], percent: float, seed: int) -> Masks:
    """`truths` (N, S, S), each moved somewhere by about `percent` of the side."""
    moved = []
    for truth, position in zip(truths, positions.tolist(), strict=True):
        random = np.random.default_rng([seed, position])
        angle, length = random.uniform(0, 2 * np.pi), percent / 100 * truth.shape[0] * random.gamma(3, 1 / 3)
        way = round(length * np.sin(angle)), round(length * np.cos(angle))
        moved.append(np.roll(truth, way, axis=(0, 1)))
    return np.stack(moved)


def rewrite_rounds(run: RunFolder, **changes: object) -> None:
    """Give every record of rounds.jsonl these values; None drops the field."""
    lines = []
    for record in run.rounds():
        kept = {name: value for name, value in (record | changes).items() if name not in changes or value is not None}
        lines.append(json.dumps(kept) + "\n")
    run.rounds_file.write_text("".join(lines))
