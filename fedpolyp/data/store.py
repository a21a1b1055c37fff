"""The store: the images and masks of one source as memory-mapped arrays on disk, with a table of records."""

import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, TypeAdapter

from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.files import open_regular, parse_json, read_bytes
from fedpolyp.names import check_id

IMAGES, MASKS, TABLE = "images.npy", "masks.npy", "table.json"
DRAFT = ".draft-"
UNPACKED = "unpacked-"  # begins the name of a folder, beside the stores, to which an archive of images was unpacked
FILES = {IMAGES, MASKS, TABLE}  # all that a store holds
_TABLE_BYTES = 512 * 1024**2  # of a table of a million images
DRAFT_LIFE = 24 * 3600.0  # seconds after which a draft's writer is considered dead


@dataclass(frozen=True)
class ImageRecord:
    """What is known about one image without reading its pixels."""

    id: Annotated[str, AfterValidator(check_id)]  # file stem, after its source's name and folders if there are any
    source: str  # name of the source, with the hospital's if the source has several; "phantom"
    look: int  # the phantom's look; -1 for real images
    height: int  # original pixels
    width: int  # original pixels
    lesion_fraction: float  # of the mask in the store, in [0, 1]; 0 for a frame without a polyp
    tone: tuple[float, float, float]  # mean red, green, blue, each in [0, 1]
    group: int  # images with equal numbers stay together: near-duplicates, one patient, procedure or video
    sha256: str  # of the image's bytes followed by the mask's
    patient: int = -1  # images with equal numbers are of one patient; -1: the patient is not known


@dataclass(frozen=True)
class Rejection:
    """A file (or the pair it belongs to) that could not be used."""

    file: str  # relative to the source's folder
    reason: str


@dataclass(frozen=True)
class IngestReport:
    """How many pairs of the source are used, and which are not."""

    used: int
    rejected: tuple[Rejection, ...] = ()
    notes: tuple[str, ...] = ()  # decisions for all pairs: which values are lesion, which images were rotated


_RECORDS, _REJECTED = TypeAdapter(tuple[ImageRecord, ...]), TypeAdapter(tuple[Rejection, ...])
_NOTES = TypeAdapter(tuple[str, ...])


@dataclass(frozen=True, eq=False)
class Store:
    """An open store; its arrays are read-only and shared by all processes that open it.

    An open store is not pruned (see `fedpolyp.data.pruning`).

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
            held = _hold(path)
        except OSError as error:
            raise FedpolypError(f"{path} is not a complete store ({error}); remove it, and it is made again") from None
        try:
            table = parse_json(read_bytes(path / TABLE, _TABLE_BYTES))
            records = _RECORDS.validate_python(table["records"])
            rejected = _REJECTED.validate_python(table["rejected"])
            notes = _NOTES.validate_python(tuple(table.get("notes", ())))
            images, masks = (_mapped(path / name) for name in (IMAGES, MASKS))
            _check_shapes(images, masks, len(records))
            store = cls(path, images, masks, records, IngestReport(len(records), rejected, notes))
            if len(store._rows) < len(records):
                raise ValueError("two images have one id")
        # A store may come from somebody else: its headers can make NumPy fail in any way.
        except Exception as error:
            os.close(held)
            why = " ".join(str(error).split())[:300]
            raise FedpolypError(f"{path} is not a complete store ({why}); remove it, and it is made again") from None
        weakref.finalize(store, os.close, held)
        return store

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
    """Where stores are kept: $FEDPOLYP_STORES, or else the platform's cache folder.

    Raises:
        UsageError: it is in a home folder that is unknown or does not exist.
    """
    chosen = os.environ.get("FEDPOLYP_STORES")
    if chosen:
        folder = os.path.expanduser(chosen)
    else:
        import platformdirs  # only here: it is not needed if the folder is named

        try:
            folder = os.path.join(platformdirs.user_cache_dir("fedpolyp"), "stores")
        except RuntimeError:  # its versions behave differently without a home
            folder = "~"
    if folder.startswith("~"):  # it stays there if no home is known
        asked = f"FEDPOLYP_STORES is '{chosen}'" if chosen else "neither HOME nor FEDPOLYP_STORES is set"
        raise UsageError(f"no home folder is known for the stores of images ({asked}); set FEDPOLYP_STORES to a folder")
    if not chosen or chosen.startswith("~"):
        home = os.path.expanduser(chosen.split(os.sep)[0] if chosen else "~")
        # Otherwise the images would be copied to an unexpected place.
        if Path(folder).is_relative_to(home) and not os.path.isdir(home):
            raise UsageError(f"the home folder {home} for the stores does not exist; set FEDPOLYP_STORES to a folder")
    return Path(folder)


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
    """Writes a store to `path` and opens it; at any moment there is a complete store or none.

    It is written to a draft beside `path` and renamed once. If another process was first, its store is kept and opened.

    Raises:
        FedpolypError: the disk refuses.
    """
    table = {
        "records": [dataclasses.asdict(record) for record in records],
        "rejected": [dataclasses.asdict(rejection) for rejection in report.rejected],
        "notes": report.notes,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_dead_drafts(path.parent)
        # mkdtemp restricts the folder to this user: the images may be patients'.
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
            Store.open(draft)  # a store that cannot be opened must not get the final name
            _sync_folder(draft)
            rename_unless_there(draft, path)
            _sync_folder(path.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise FedpolypError(f"cannot write the store {path}: {error.strerror or error}") from None
    return Store.open(path)


def _hold(path: Path) -> int:
    """A descriptor that keeps the store at `path` open, so that nobody removes it; marks it as used now."""
    held = os.open(path / TABLE, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_SH)  # listing or pruning stores holds it for a moment
        except OSError:  # a file system without locks, where pruning is impossible, too
            return held
        if not os.path.samestat(os.fstat(held), os.stat(path / TABLE)):
            raise FileNotFoundError(f"{path} was just removed")
        with suppress(OSError):  # somebody else's store, or a read-only disk
            os.utime(path)
    except BaseException:
        os.close(held)
        raise
    return held


def _mapped(path: Path) -> NDArray[Any]:
    """The array in the file at `path`, mapped read-only."""
    with open_regular(path):  # refuses a named pipe
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _check_shapes(images: NDArray[Any], masks: NDArray[Any], count: int) -> None:
    size = masks.shape[-1]
    if images.shape != (count, size, size, 3) or masks.shape != (count, size, size):
        raise ValueError(f"{count} records do not fit arrays of shapes {images.shape} and {masks.shape}")
    if images.dtype != np.uint8 or masks.dtype != np.uint8:
        raise ValueError(f"arrays must be uint8, are {images.dtype} and {masks.dtype}")


def remove_dead_drafts(folder: Path, prefix: str = DRAFT) -> None:
    """Remove the drafts in `folder` whose names begin with `prefix` and whose writers have died."""
    for draft in folder.iterdir():
        if not draft.name.startswith(prefix):
            continue
        try:
            age = time.time() - draft.lstat().st_mtime
        except FileNotFoundError:  # another process finished or removed it
            continue
        if age > DRAFT_LIFE:
            shutil.rmtree(draft, ignore_errors=True)


def rename_unless_there(draft: Path, path: Path) -> None:
    """Give the folder `draft` its name `path`, unless another process was first."""
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
