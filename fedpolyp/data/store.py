"""The store: the images and masks of one source as memory-mapped arrays on disk, beside a table of records."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedpolyp.errors import FedpolypError

IMAGES, MASKS, TABLE = "images.npy", "masks.npy", "table.json"
DRAFT = ".draft-"
DRAFT_LIFE = 24 * 3600.0  # seconds after which a draft's writer is taken for dead


@dataclass(frozen=True)
class ImageRecord:
    """What is known of one image without looking at its pixels."""

    id: str  # file stem
    source: str  # name of the folder, or "phantom"
    look: int  # the phantom's look; -1 for real images
    height: int  # original pixels
    width: int  # original pixels
    lesion_fraction: float  # of the mask in the store, in (0, 1]
    tone: tuple[float, float, float]  # mean red, green, blue, each in [0, 1]
    group: int  # images with equal numbers are near-duplicates
    sha256: str  # of the image's bytes followed by the mask's


@dataclass(frozen=True)
class Rejection:
    """A file (or the pair it belongs to) that could not be used."""

    file: str  # relative to the source's folder
    reason: str


@dataclass(frozen=True)
class IngestReport:
    """How many pairs the source gave, and which it could not give."""

    used: int
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True, eq=False)
class Store:
    """An open store; its arrays are read-only and shared by all processes that open it.

    `images` is uint8 (N, S, S, 3) RGB, `masks` uint8 (N, S, S) in {0, 1}; row i of both is `records[i]`.
    """

    path: Path
    images: NDArray[np.uint8] = field(repr=False)
    masks: NDArray[np.uint8] = field(repr=False)
    records: tuple[ImageRecord, ...] = field(repr=False)
    report: IngestReport = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The store at `path`.

        Raises:
            FedpolypError: there is no complete store at `path`.
        """
        try:
            table = json.loads((path / TABLE).read_text(encoding="ascii"))
            records = tuple(ImageRecord(**{**row, "tone": tuple(row["tone"])}) for row in table["records"])
            rejected = tuple(Rejection(**row) for row in table["rejected"])
            images = np.load(path / IMAGES, mmap_mode="r")
            masks = np.load(path / MASKS, mmap_mode="r")
            _check_shapes(images, masks, len(records))
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise FedpolypError(f"{path} is not a complete store ({error}); remove it to have it made again") from None
        return cls(path, images, masks, records, IngestReport(len(records), rejected))

    def positions(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """The row of each of `ids`, in their order, intp (len(ids),).

        Raises:
            FedpolypError: an id is not in the store.
        """
        try:
            return np.array([self._rows[id_] for id_ in ids], dtype=np.intp)
        except KeyError as error:
            raise FedpolypError(f"no image '{error.args[0]}' in the store {self.path}") from None

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {record.id: row for row, record in enumerate(self.records)}


def stores_folder() -> Path:
    """Where stores are kept: $FEDPOLYP_STORES, or else ~/.cache/fedpolyp/stores."""
    chosen = os.environ.get("FEDPOLYP_STORES")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "fedpolyp" / "stores"


def store_path(stores: Path, name: str, image_size: int, key: Any) -> Path:
    """The folder in `stores` for a source called `name`; `key` (JSON-able) is all that decides the store's content."""
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:40] or "images"
    return stores / f"{readable}-{image_size}px-{digest}"


def colour_tone(image: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Mean red, green and blue of `image`, uint8 (H, W, 3), each in [0, 1]."""
    red, green, blue = (image.mean(axis=(0, 1)) / 255).tolist()
    return red, green, blue


def write_store(
    path: Path,
    images: NDArray[np.uint8],
    masks: NDArray[np.uint8],
    records: Sequence[ImageRecord],
    report: IngestReport,
) -> Store:
    """Writes a store to `path` and opens it; at any moment there is a complete store there or none.

    It is written to a draft beside `path` and renamed once. If another process was first, its store is kept and opened.

    Raises:
        FedpolypError: the disk refuses.
    """
    table = {
        "records": [dataclasses.asdict(record) for record in records],
        "rejected": [dataclasses.asdict(rejection) for rejection in report.rejected],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_dead_drafts(path.parent)
        # mkdtemp keeps the folder to this user: the images may be patients'.
        draft = Path(tempfile.mkdtemp(prefix=f"{DRAFT}{path.name}-", dir=path.parent))
        try:
            for name, array in ((IMAGES, images), (MASKS, masks)):
                with (draft / name).open("wb") as file:
                    np.save(file, array)
                    file.flush()
                    os.fsync(file.fileno())
            with (draft / TABLE).open("w", encoding="ascii") as text:
                json.dump(table, text)
                text.flush()
                os.fsync(text.fileno())
            Store.open(draft)  # what cannot be opened must not get the name of a store
            _sync_folder(draft)
            _rename_unless_there(draft, path)
            _sync_folder(path.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise FedpolypError(f"cannot write the store {path}: {error.strerror or error}") from None
    return Store.open(path)


def _check_shapes(images: NDArray[Any], masks: NDArray[Any], count: int) -> None:
    size = masks.shape[-1]
    if images.shape != (count, size, size, 3) or masks.shape != (count, size, size):
        raise ValueError(f"{count} records do not fit arrays of shapes {images.shape} and {masks.shape}")
    if images.dtype != np.uint8 or masks.dtype != np.uint8:
        raise ValueError(f"arrays must be uint8, are {images.dtype} and {masks.dtype}")


def _remove_dead_drafts(stores: Path) -> None:
    for draft in stores.glob(f"{DRAFT}*"):
        try:
            age = time.time() - draft.stat().st_mtime
        except FileNotFoundError:  # another process finished or removed it
            continue
        if age > DRAFT_LIFE:
            shutil.rmtree(draft, ignore_errors=True)


def _rename_unless_there(draft: Path, path: Path) -> None:
    try:
        draft.rename(path)
    except OSError:
        if not path.is_dir():
            raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
