"""A saved model's description of itself: a member of its .keras file, so that the two stay together.

A .keras file is a zip archive, and Keras ignores members that it does not know. So Keras can open the file anywhere.
"""

import os
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedpolyp import __version__
from fedpolyp.config import NAMED_WEIGHTS, Config, RuntimeConfig, to_toml
from fedpolyp.data.store import ImageRecord, Store
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.inference.calibration import Fitted
from fedpolyp.model.weights import MEMBER, MEMBER_BYTES, SHORT_HASH, learnt_before
from fedpolyp.runs import RunFolder
from fedpolyp.text import printable

THRESHOLD = 0.5
_Score = Annotated[float, Field(ge=0, le=1)]


class About(BaseModel):
    """The origin of a model, and how to use it."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    format: Literal[1] = 1
    version: str = __version__  # of fedpolyp that saved it
    kind: Literal["last", "best"]  # after the last round, or in the round that was best on validation
    hospital: str = ""  # whose own model it is; '' for a model of all
    round: Annotated[int, Field(ge=0)]
    rounds: Annotated[int, Field(ge=0)]  # number of rounds of its run
    image_size: Annotated[int, Field(ge=32, le=1024)]  # side of its square input images, pixels
    threshold: Annotated[float, Field(gt=0, lt=1)] = THRESHOLD  # probability from which on a pixel is polyp
    # Chosen on the hospitals' validation images; None if there are none. See fedpolyp.inference.calibration.
    temperature: Annotated[float, Field(gt=0)] | None = None
    best_threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    dice: _Score | None = None  # in that round on the held-out images, mean per image; None for one hospital's own
    val_dice: _Score | None = None
    heldout: int = 0  # number of these images
    config: str  # the run's settings as TOML, with names instead of paths
    partition: str | None = None  # SHA-256 of the partition
    files: str | None = None  # SHA-256 of the partition and of the images' and masks' files
    # The beginning of the SHA-256 of each image that it, or its initial weights, were trained or selected on.
    learnt_from: tuple[str, ...] = ()

    def known(self, records: Iterable[ImageRecord]) -> int:
        """How many of these images, with these masks, the model was trained or selected on."""
        learnt_from = set(self.learnt_from)
        return sum(record.sha256[:SHORT_HASH] in learnt_from for record in records)

    def sentence(self) -> str:
        """The model in one line."""
        whose = f" of {self.hospital}" if self.hospital else ""
        which = "after the last round" if self.kind == "last" else "best on validation"
        on = f"held-out Dice {{}} on {self.heldout} images" if self.heldout else "Dice {} on the sites' test images"
        score = "" if self.dice is None else ", " + on.format(f"{self.dice:.3f}")
        size, text = self.image_size, f"{which}, round {self.round} of {self.rounds}{score}"
        return printable(f"the model{whose} {text}; {size} pixels, threshold {self.threshold:g}", 200)


def as_settings(path: Path) -> dict[str, object]:
    """The settings, by dotted name, of a run without training that scores the model in the .keras file at `path`.

    Raises:
        UsageError: the model has no description.
        FedpolypError: the file is not a model, or its description is damaged.
    """
    told = read_about(path)
    if told is None:
        raise UsageError(f"{path} does not say what it is made of, as models saved by fedpolyp do")
    try:
        model = tomllib.loads(told.config)["model"]
    except (tomllib.TOMLDecodeError, KeyError):
        raise FedpolypError(f"{path} is damaged: the settings in it cannot be read") from None
    # All weights come from the file, the encoder's too.
    own = {name: v for name, v in model.items() if name not in ("encoder_sha256", "initial_weights", "initial_sha256")}
    if own.get("encoder", "plain") != "plain":
        own["encoder_weights"] = "random"
    return {
        **{f"model.{name}": value for name, value in own.items()},
        "data.image_size": told.image_size,
        "model.initial_weights": str(path),
        "federation.rounds": 0,
    }


def about(
    run: RunFolder,
    kind: Literal["last", "best"],
    round: int,
    hospital: str = "",
    store: Store | None = None,
    found: Fitted | None = None,
) -> About:
    """The description of a run's model; `store` has the run's images, if they are here.

    `found` is its calibration on the hospitals' validation images.

    Raises:
        FedpolypError: the run folder is damaged.
    """
    config, records, digest, partition = run.config(), run.rounds(), run.digest(), run.partition()
    of = [partition.hospitals[hospital]] if hospital else partition.hospitals.values()
    learnt_from = [id for own in of for id in (*own.train, *own.val)]
    rows = [] if store is None else store.positions(learnt_from).tolist()
    hashes = [] if store is None else [store.records[row].sha256[:SHORT_HASH] for row in rows]
    if store is not None:
        hashes += learnt_before(config.model) - {*hashes}
    record: Mapping[str, float | None] = {} if hospital else next(r for r in records if r["round"] == round)
    return About(
        kind=kind,
        hospital=hospital,
        round=round,
        rounds=records[-1]["round"],
        image_size=config.data.image_size,
        temperature=None if found is None else found.temperature,
        best_threshold=None if found is None else found.threshold,
        dice=record.get("dice"),
        val_dice=record.get("val_dice"),
        heldout=len(partition.heldout),
        config=to_toml(_portable(config)),
        partition=None if digest is None else digest.partition,
        files=None if digest is None else digest.files,
        learnt_from=tuple(sorted(hashes)),
    )


def _portable(config: Config) -> Config:
    """`config` without what concerns only its machine: only the last part of paths, and no runtime settings."""

    def last(path: str | None) -> str | None:
        return None if path is None else Path(path).name

    data, hospitals, model = config.data, config.hospitals, config.model
    # Paths were made absolute when the run began; the scheme's code may be gone.
    scheme_files = {
        name: last(own) for name, own in hospitals.own.items() if isinstance(own, str) and os.path.isabs(own)
    }
    weights = model.encoder_weights if model.encoder_weights in NAMED_WEIGHTS else last(model.encoder_weights)
    return config.model_copy(
        update={
            "data": data.model_copy(update={"source": data.called, "lists": last(data.lists)}),
            "hospitals": hospitals.model_copy(update={"partition": last(hospitals.partition), **scheme_files}),
            "model": model.model_copy(
                update={"encoder_weights": weights, "initial_weights": last(model.initial_weights)}
            ),
            "runtime": RuntimeConfig(),
        }
    )


def read_about(path: Path) -> About | None:
    """The description of the model in the .keras file at `path`; None if it has none.

    Raises:
        FedpolypError: the file is not a .keras file, or its description is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if MEMBER not in archive.namelist():
                return None
            if archive.getinfo(MEMBER).file_size > MEMBER_BYTES:
                raise FedpolypError(f"{path} is damaged: {MEMBER} in it is over {MEMBER_BYTES} bytes long")
            return About.model_validate_json(archive.read(MEMBER))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = printable(".".join(map(str, problem["loc"])), 80)
        raise FedpolypError(f"{path} is damaged: {MEMBER} in it: {where}: {problem['msg']}") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError):
        raise FedpolypError(f"{path} is not a model saved as .keras") from None
