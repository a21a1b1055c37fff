"""The run folder: written in an order that always leaves the last complete round readable; and how it is read."""

import csv
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp import __version__, files, processor
from fedpolyp.archives import read_arrays
from fedpolyp.cells import guarded
from fedpolyp.config import Config, changed_toml, fingerprint, read, to_toml
from fedpolyp.data.digest import Digest
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError, FinalError, UsageError
from fedpolyp.records import checked

DEFAULT_ROOT = Path("runs")
_IMAGE_COLUMNS = ("arm", "seed", "model", "round", "set", "id", "tp", "fp", "fn", "tn", "hd95")
_ENVIRONMENT_BYTES, _ROUNDS_BYTES, _PREDICTIONS_BYTES = 1024**2, 1024**3, 4 * 1024**3  # largest sizes that are read
_AFTER_THE_ROUNDS = ("images.csv", "predictions*", "curves.png", "model-*.keras", "calibration.csv", "robustness.csv")
_PACKAGES = ("tensorflow", "keras", "flwr", "ray", "numpy", "opencv-python")


class OlderRun(UsageError):
    """A run of an older version, which this version does not read."""


@dataclass(frozen=True)
class RunFolder:
    """A run's folder; the name of every path in it is defined here."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def config_file(self) -> Path:
        """Every setting of the run."""
        return self.path / "config.toml"

    @property
    def digest_file(self) -> Path:
        """The digest of the run's partition and images."""
        return self.path / "digest.json"

    @property
    def partition_file(self) -> Path:
        """The partition, as ids."""
        return self.path / "partition.json"

    @property
    def environment_file(self) -> Path:
        """Versions, processor, command, time."""
        return self.path / "environment.json"

    @property
    def rounds_file(self) -> Path:
        """One JSON line for each round."""
        return self.path / "rounds.jsonl"

    @property
    def images_file(self) -> Path:
        """One row for each scored image and model."""
        return self.path / "images.csv"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def state(self) -> Path:
        """The hospitals' private state, a folder for each."""
        return self.path / "state"

    def predictions_file(self, source: str = "") -> Path:
        """The masks that the last models predict in the held-out images, or in those of an unseen source."""
        # A partition that somebody else wrote may have any name for a source.
        return self.path / f"predictions{'-' if source else ''}{re.sub('[^A-Za-z0-9_-]', '_', source)}.npz"

    @property
    def calibration_file(self) -> Path:
        """The calibration of the last models' probabilities on the held-out images."""
        return self.path / "calibration.csv"

    @property
    def robustness_file(self) -> Path:
        """The scores of the last models on held-out images made worse, if they were measured."""
        return self.path / "robustness.csv"

    def model_file(self, kind: str, hospital: str = "") -> Path:
        """A model as Keras saves it: 'last' (after the last round) or 'best' (on validation).

        In the local arm there is one of each for every hospital.
        """
        return self.path / f"model-{kind}{f'-{hospital}' if hospital else ''}.keras"

    @property
    def events(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "events"

    @property
    def engine_log(self) -> Path:
        """The output of Flower, Ray and TensorFlow."""
        return self.path / "engine.log"

    @property
    def curves(self) -> Path:
        """The picture that a run draws last."""
        return self.path / "curves.png"

    @property
    def finished(self) -> bool:
        """Whether the run is finished: every image scored, models saved, pictures drawn."""
        return self.images_file.exists() and self.curves.exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from writing to this run; the lock ends with the process that holds it.

        Raises:
            FedpolypError: another process is working on this run, or there is a link in its folder.
        """
        with files.sole(self.path / ".lock", f"another process is working on {self.path}"):
            self._clear()
            yield

    def _clear(self) -> None:
        """Remove half-written files of a killed process; refuse links, which would lead writes elsewhere."""
        for folder, folders, names in os.walk(self.path):
            for path in (Path(folder, name) for name in (*folders, *names)):
                if path.is_symlink():
                    raise FedpolypError(
                        f"{path} is a link: a run writes into its own folder only; replace it with a copy"
                    )
                if path.name.startswith(".") and path.suffix == ".part":
                    path.unlink(missing_ok=True)

    @property
    def at_work(self) -> bool:
        """Whether a process is working on this run."""
        return files.is_locked(self.path / ".lock")

    def config(self) -> Config:
        """The config the run was started with, as `read` reads it.

        Raises:
            UsageError: it cannot be read.
            OlderRun: the run is of version 0.1.
        """
        self.refuse_older()
        return read(self.config_file)

    def refuse_older(self) -> None:
        """Raise an `OlderRun` if the run is of version 0.1, whose config.toml is different."""
        try:
            said = files.read_toml(self.config_file, "the config file ")
        except FedpolypError:
            return  # it is reported to whoever needs the config
        federation = said.get("federation")
        if "arm" in said or (isinstance(federation, dict) and "strategy" in federation):
            raise OlderRun(
                f"{self.path} was made by version 0.1 of fedpolyp, and this version ({__version__}) does not read its "
                "runs; use fedpolyp 0.1"
            )

    def fingerprint(self) -> str:
        """Identifies the settings in config.toml that decide the bits, for the run's checkpoints."""
        return fingerprint(self.config_file)

    def digest(self) -> Digest | None:
        """The digest of the run's partition and images; None if its file is gone.

        Raises:
            FedpolypError: the file cannot be read, or partition.json does not match it.
        """
        if not os.path.lexists(self.digest_file):
            return None
        try:
            digest = Digest.from_plain(files.read_json(self.digest_file, _ENVIRONMENT_BYTES))
        except ValueError as error:
            raise FedpolypError(f"{self.digest_file} is damaged: {error}") from None
        if digest.partition != Digest.of(self.partition(), None).partition:
            raise FedpolypError(f"{self.partition_file} was changed: it has changed since the run began")
        return digest

    def refuse_changed(self, store: Store | None) -> None:
        """Refuse to resume the run if its partition, or its images in `store`, have changed since it began.

        Raises:
            UsageError: they have, or the digest is gone.
            FedpolypError: a file is damaged, or an image is not in the store.
        """
        digest = self.digest()
        if digest is None:
            raise UsageError(
                f"{self.path} has no {self.digest_file.name}, which identifies its images: it can be shown and "
                "reported, but not resumed"
            )
        partition = self.partition()
        try:
            now = Digest.of(partition, store)
        except FedpolypError as error:
            raise UsageError(
                f"{self.path} cannot be resumed: the folder holds other images than the run's: {error}"
            ) from None
        if change := digest.change(now):
            place = "" if store is None else f"; they were looked for in the store {store.path}"
            raise UsageError(f"{self.path} cannot be resumed: {change}{place}")

    def changes(self, config: Config) -> dict[str, Any]:
        """The changes that `config` would make in config.toml, by dotted name: rounds, and paths of the images."""
        before, changes = self.config(), dict[str, Any]()
        if config.federation.rounds != before.federation.rounds:
            changes["federation.rounds"] = config.federation.rounds
        if config.data.source != before.data.source:
            changes["data.source"] = config.data.source
        return changes

    def change(self, config: Config, store: Path) -> None:
        """Change the run to the images in `store`, at the path in `config`, and to `config`'s number of rounds.

        A finished run that gets more rounds is unfinished again: its results are set aside.

        Raises:
            UsageError: config.toml cannot be changed.
        """
        changes = self.changes(config)
        if not changes:
            return
        text = changed_toml(self.config_file.read_text(encoding="utf-8-sig"), changes)
        if "federation.rounds" in changes and (self.images_file.exists() or self.curves.exists()):
            self.set_results_aside()
        if "data.source" in changes:
            moved = self.environment() | {"store": str(store.resolve())}
            files.write_text(self.environment_file, files.to_json(moved, indent=1) + "\n")
        files.write_text(self.config_file, text)

    def set_results_aside(self) -> Path:
        """Move the results, with a copy of rounds.jsonl, to `set-aside/<n>/`, which is returned."""
        aside = self.path / "set-aside"
        aside = aside / str(1 + sum(1 for _ in aside.glob("*")))
        aside.mkdir(parents=True)
        if self.rounds_file.exists():
            shutil.copyfile(self.rounds_file, aside / self.rounds_file.name)
        # A kill in between leaves a run without some of them; resuming makes them again.
        for pattern in _AFTER_THE_ROUNDS:
            for file in self.path.glob(pattern):
                file.rename(aside / file.name)
        return aside

    def partition(self) -> Partition:
        """The partition that the run was started with."""
        return Partition.load(self.partition_file)

    def environment(self) -> dict[str, Any]:
        """Where and with what the run was made.

        Raises:
            FedpolypError: the file that says so cannot be read.
        """
        said = files.read_json(self.environment_file, _ENVIRONMENT_BYTES)
        if not isinstance(said, dict):
            raise FedpolypError(f"{self.environment_file} is damaged: it is not a table")
        return said

    def other_kernels(self) -> str:
        """A sentence if the run began with other kernels than this machine's, so that the bits differ."""
        begun, here = self.environment().get("kernels"), processor.kernels()
        if begun in (None, here):
            return ""
        return f"the run began with {begun}, this machine computes with {here}: bits may differ from here on"

    def rounds(self) -> list[dict[str, Any]]:
        """The records of all complete rounds, from round 0; a half-written last line is left out.

        Raises:
            FedpolypError: the file cannot be read, or a record has other values than a round's.
        """
        try:
            lines = files.read_bytes(self.rounds_file, _ROUNDS_BYTES).splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FedpolypError(f"cannot read {self.rounds_file}: {error.strerror}") from None
        records = []
        for number, line in enumerate(lines, 1):
            try:
                record = files.parse_json(line)
            except ValueError:  # not JSON, or not even text
                break
            if not isinstance(record, dict) or "round" not in record:
                break
            records.append(checked(record, f"line {number} of {self.rounds_file}"))
        return records

    @property
    def stopped(self) -> str:
        """Why the run ended before its last round; '' if it did not."""
        records = self.rounds()
        return str(records[-1].get("stopped", "")) if records else ""

    def append_round(self, record: dict[str, Any]) -> None:
        """Add one round's record; it is on disk when this returns."""
        files.append_text(self.rounds_file, files.to_json(record) + "\n")

    def start_over(self) -> None:
        """Remove the record of round 0, which is all that a run killed before its first checkpoint has left.

        Raises:
            FedpolypError: there are records of later rounds, which had checkpoints.
        """
        if done := len(self.rounds()[1:]):
            raise FinalError(
                f"{self.checkpoints} holds no checkpoint to resume from, but {self.rounds_file} holds {done} rounds; "
                "put the checkpoints back, or choose another --out to start again"
            )
        self.rounds_file.unlink(missing_ok=True)

    def rewind(self, round: int) -> None:
        """Remove the records after `round`, so that a resumed run writes them again.

        Raises:
            FedpolypError: records up to `round` are missing.
        """
        kept = [record for record in self.rounds() if record["round"] <= round]
        if [record["round"] for record in kept] != list(range(round + 1)):
            raise FinalError(f"{self.rounds_file} does not hold every round up to {round}, so it cannot be resumed")
        files.write_text(self.rounds_file, "".join(files.to_json(record) + "\n" for record in kept))

    def write_predictions(self, masks: Mapping[str, NDArray[np.uint8]], source: str = "") -> None:
        """Write predictions.npz: by model, the masks (N, S, S) in {0, 1} that it predicts in the held-out images.

        Those of an unseen `source` go into a separate file.
        """
        packed = {name: np.packbits(mask.reshape(len(mask), -1), axis=1) for name, mask in masks.items()}
        side = next(iter(masks.values())).shape[1]
        with files.replacing(self.predictions_file(source)) as stream:
            np.savez_compressed(stream, side=side, **packed)  # type: ignore[arg-type]  # its stub offers a keyword there

    def predictions(self, source: str = "") -> dict[str, NDArray[np.uint8]]:
        """The masks (N, S, S) in {0, 1} by model, in the order of the held-out ids, or of an unseen source's.

        Empty if there is no file.

        Raises:
            FedpolypError: the file holds something else.
        """
        try:
            packed = read_arrays(self.predictions_file(source), most_bytes=_PREDICTIONS_BYTES)
            side = int(packed.pop("side"))
            return {
                name: np.unpackbits(bits, axis=1, count=side * side).reshape(-1, side, side)
                for name, bits in packed.items()
            }
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, MemoryError) as error:
            raise FedpolypError(f"{self.predictions_file(source)} is damaged: {error}") from None

    def write_images(self, rows: Iterable["ScoredImage"]) -> None:
        """Write images.csv, with one row for each scored image and model."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_IMAGE_COLUMNS)
        for row in rows:
            model, of, id = (guarded(name) for name in (row.model, row.set, row.id))
            writer.writerow((row.arm, row.seed, model, row.round, of, id, *row.counts, f"{row.hd95:.6f}"))
        files.write_text(self.images_file, text.getvalue())


@dataclass
class RoundRecord:
    """The contents of one round's line in rounds.jsonl, while they are collected."""

    round: int
    scores: dict[str, float] = field(default_factory=dict)
    val_dice: float | None = None
    hospitals: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)
    without_polyp: dict[str, float] = field(default_factory=dict)  # see metrics.without_polyp: of the held-out images
    unseen: dict[str, float] = field(default_factory=dict)  # mean Dice on sources that no hospital has
    steps: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    lost: str = ""  # why the round had no result
    stopped: str = ""  # why the run ends early with this round
    began: float = field(default_factory=time.monotonic)

    def start_again(self) -> None:
        """Forget what hospitals sent, but not what was refused."""
        self.hospitals.clear()
        self.steps = 0

    def lose(self, why: str) -> None:
        """Note that nothing came of the round; what privacy it has cost stays."""
        spent = {name: own["epsilon"] for name, own in self.hospitals.items() if own.get("epsilon") is not None}
        self.start_again()
        self.hospitals.update({name: {"epsilon": epsilon} for name, epsilon in spent.items()})
        self.lost = why

    def hospital(self, name: str) -> dict[str, Any]:
        """The entry of one hospital, made when it is first needed."""
        return self.hospitals.setdefault(name, {})

    def to_plain(self) -> dict[str, Any]:
        """The line of rounds.jsonl."""
        return {
            "round": self.round,
            "dice": self.scores["dice"],
            "iou": self.scores["iou"],
            "val_dice": self.val_dice,
            "loss": self.scores["loss"],
            "seconds": round(time.monotonic() - self.began, 3),
            "steps": self.steps,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "hospitals": self.hospitals,
            "refused": self.refused,
            **({"without_polyp": self.without_polyp} if self.without_polyp else {}),
            **({"unseen": self.unseen} if self.unseen else {}),
            **({"lost": self.lost} if self.lost else {}),
            **({"stopped": self.stopped} if self.stopped else {}),
        }


def model_name(kind: str, hospital: str = "") -> str:
    """A model's name in images.csv: 'last' or 'best' (on validation), with its hospital if each hospital has one."""
    return f"{kind}:{hospital}" if hospital else kind


@dataclass(frozen=True)
class ScoredImage:
    """One row of images.csv."""

    arm: str
    seed: int
    model: str  # see `model_name`
    round: int
    set: str  # 'heldout', 'val:<hospital>', 'test:<hospital>', 'unseen:<source>'
    id: str
    counts: tuple[int, int, int, int]  # tp, fp, fn, tn
    hd95: float  # fraction of the image diagonal


# A set of images that one model has scored: the set's name, ids, counts (N, 4) and distances (N,).
ScoredSet = tuple[str, Sequence[str], NDArray[np.int64], NDArray[np.float64]]


def scored_images(
    arm: str,
    seed: int,
    model: str,
    round: int,
    set: str,
    ids: Sequence[str],
    counts: NDArray[np.int64],
    hd95: NDArray[np.float64],
) -> list[ScoredImage]:
    """The rows of one model on one set: `counts` (N, 4) and `hd95` (N,) in the order of `ids`."""
    return [
        ScoredImage(arm, seed, model, round, set, id, (int(tp), int(fp), int(fn), int(tn)), float(distance))
        for id, (tp, fp, fn, tn), distance in zip(ids, counts, hd95, strict=True)
    ]


def refuse_taken(path: Path) -> None:
    """Raise a UsageError if `path` exists and is not an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        if not path.is_dir():
            raise UsageError(f"{path} is a file; --out must be a folder to make, or an empty one")
        if not RunFolder(path).config_file.exists():
            raise UsageError(f"{path} exists already and holds something other than a run; choose another --out")
        raise UsageError(f"{path} exists already; choose another --out, or resume that run: --resume {path}")


def refuse_in_run(path: Path) -> None:
    """Raise a UsageError if `path` is the folder of a run, or is inside one."""
    for folder in (path, *path.absolute().parents):
        if RunFolder(folder).config_file.exists() and RunFolder(folder).partition_file.exists():
            raise UsageError(
                f"{folder} is the folder of a single run, where nothing else is written; choose another --out"
            )


def create(
    path: Path, config: Config, partition: Partition, store: Path | None = None, digest: Digest | None = None
) -> RunFolder:
    """Make a run's folder with its config, partition, environment and digest; `store` is where the images are.

    `digest` is theirs, if it is known already.

    Raises:
        UsageError: `path` exists and is not an empty folder.
    """
    refuse_taken(path)
    try:
        # Made under another name, unless the folder exists: a kill now must not leave something that looks like a run.
        path.parent.mkdir(parents=True, exist_ok=True)
        made = RunFolder(path if path.exists() else Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.")))
        made.checkpoints.mkdir()
    except OSError as error:
        raise UsageError(f"cannot make the run folder {path}: {error.strerror}") from None
    partition.save(made.partition_file)
    digest = digest or Digest.of(partition, None if store is None else Store.open(store))
    files.write_text(made.digest_file, files.to_json(digest.to_plain(), indent=1) + "\n")
    files.write_text(made.environment_file, files.to_json(environment(store), indent=1) + "\n")
    files.write_text(made.config_file, to_toml(config, explain=True))
    if made.path != path:
        made.path.chmod(0o755)
        made.path.rename(path)
    return RunFolder(path)


def find(run: str, root: Path = DEFAULT_ROOT) -> RunFolder:
    """The run that `run` names: the path of a folder, or a name under `root`.

    Raises:
        UsageError: neither is a run folder.
        OlderRun: it is one of version 0.1.
    """
    for path in (Path(run), root / run):
        if (path / "config.toml").is_file():
            found = RunFolder(path)
            found.refuse_older()
            return found
    raise UsageError(f"there is no run '{run}': neither {Path(run)} nor {root / run} holds a config.toml")


def new_name(config: Config, now: datetime | None = None) -> str:
    """A name that sorts by time and describes the run: '20260131-235959-kvasir-5-hospitals'."""
    source = config.data.called
    return f"{now or datetime.now():%Y%m%d-%H%M%S}-{source}-{config.hospitals.count}-hospitals"


def _commit(root: Path) -> str:
    """The commit of a checkout, with '+' if files were changed since; '' for an installed package."""
    if not (root / ".git").exists():
        return ""
    git = ["git", "-C", str(root)]
    try:
        said = [
            subprocess.run([*git, *words], capture_output=True, text=True, timeout=10, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return ""
    return said[0] + ("+" if said[1] else "")


def environment(store: Path | None = None) -> dict[str, Any]:
    """Where and with what a run was made: versions, processor, command, images."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor.name(),
        "kernels": processor.kernels(),
        "cores": os.cpu_count(),
        "store": None if store is None else str(store.resolve()),
        **({"commit": commit} if (commit := _commit(Path(__file__).parents[1])) else {}),
        "packages": {"fedpolyp": __version__, **{name: version(name) for name in _PACKAGES}},
    }
