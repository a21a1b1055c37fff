"""The run folder: written in an order that always leaves the last complete round readable; and how it is read."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp import __version__, files, processor
from fedpolyp.archives import read_arrays
from fedpolyp.config import Config, changed_toml, fingerprint, read
from fedpolyp.data.digest import Digest
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError, FinalError, UsageError
from fedpolyp.runs.records import checked
from fedpolyp.runs.scored_images import ScoredImage, images_csv

_ENVIRONMENT_BYTES, _ROUNDS_BYTES, _PREDICTIONS_BYTES = 1024**2, 1024**3, 4 * 1024**3  # largest sizes that are read
_AFTER_THE_ROUNDS = ("images.csv", "predictions*", "curves.png", "model-*.keras", "calibration.csv", "robustness.csv")


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
            raise FedpolypError(f"{self.partition_file} was changed since the run began")
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
        earlier = self.path / "set-aside"
        taken = [int(path.name) for path in earlier.glob("*") if path.name.isdecimal()]
        aside = earlier / str(1 + max(taken, default=0))  # earlier ones may have been deleted
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

    def rounds_up_to(self, round: int) -> list[dict[str, Any]]:
        """The records of the rounds from 0 to `round`.

        Raises:
            FedpolypError: one is missing.
        """
        kept = [record for record in self.rounds() if record["round"] <= round]
        if [record["round"] for record in kept] != list(range(round + 1)):
            raise FinalError(f"{self.rounds_file} does not hold every round up to {round}, so it cannot be resumed")
        return kept

    def rewind(self, round: int) -> None:
        """Remove the records after `round`, so that a resumed run writes them again.

        Raises:
            FedpolypError: records up to `round` are missing.
        """
        kept = self.rounds_up_to(round)
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

    def write_images(self, rows: Iterable[ScoredImage]) -> None:
        """Write images.csv, with one row for each scored image and model."""
        files.write_text(self.images_file, images_csv(rows))
