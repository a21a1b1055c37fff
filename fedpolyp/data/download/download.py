"""Downloads a data set's archive, checks that it is the one first seen, and unpacks it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedpolyp.data.download.datasets import DataSet
from fedpolyp.data.download.transfer import Transfer
from fedpolyp.data.unpack import is_archive, unpack
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.files import open_regular, read_json, sole, write_text
from fedpolyp.text import printable

FILES = "files"  # the folder of unpacked files
_PIN_BYTES = 64 * 1024


@dataclass(frozen=True)
class Downloaded:
    """The result of a download."""

    archive: Path
    sha256: str
    first: bool  # whether this was the first time, so that its checksum was pinned
    pin: Path  # the file with the checksum
    files: Path | None  # the unpacked folder with the images; None if the archive must be unpacked by hand


def download(
    wanted: DataSet,
    folder: Path,
    url: str | None = None,
    transfer: Callable[[Path], Transfer] = Transfer,
) -> Downloaded:
    """The archive of `wanted` in `folder`, from `url` or its own address, verified and unpacked.

    An archive that is already in `folder`, put there by hand or by an earlier call, is checked and not downloaded. Its
    SHA-256 is pinned beside it the first time; later archives must have the same.

    Raises:
        UsageError: there is no address, or it is without TLS; or the archive cannot be unpacked.
        FedpolypError: the download failed, its checksum is another, or the disk refuses.
    """
    address = url or wanted.url
    archive = folder / wanted.file
    if not address and not archive.exists():
        raise UsageError(
            f"{wanted.name} is available only to registered users: sign in at {wanted.page}, and either save the "
            "archive as "
            f"{archive}, or give the address shown there with --url"
        )
    if address and not address.lower().startswith("https://"):
        raise UsageError(f"the address must begin with https://; got {printable(address, 200)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with sole(folder / ".lock", f"another process downloads to {folder}"):
            pin = folder / f"{wanted.file}.pin.json"
            known = _pinned(pin)
            sha256 = _fetched(address, archive, known, transfer(archive))
            try:
                files = _unpacked(archive, folder / FILES)
            except UsageError as error:
                if known is not None or not address:
                    raise
                archive.unlink()  # otherwise it would pass for a good one the next time
                raise FedpolypError(f"{error}; the download was not kept") from None
            if known is None:
                _write_pin(pin, archive, address, sha256)
            return Downloaded(archive, sha256, known is None, pin, files)
    except OSError as error:
        raise FedpolypError(f"cannot download to {folder}: {error.strerror or error}") from None


def _fetched(address: str, archive: Path, known: str | None, transfer: Transfer) -> str:
    """The SHA-256 of the archive, which is downloaded if it is not there."""
    import pooch

    pooch.get_logger().setLevel("ERROR")
    if not address:  # it was put here by hand
        if known not in (None, _sha256(archive)):
            raise FedpolypError(f"{archive} is not the archive of the first download, which had SHA-256 {known}")
        return _sha256(archive)
    expected = None if known is None else f"sha256:{known}"
    try:
        pooch.retrieve(address, expected, fname=archive.name, path=archive.parent, downloader=transfer)
    except ValueError:  # pooch raises it for a different hash
        raise FedpolypError(
            f"the download is corrupt, or its authors have changed it: its SHA-256 is not the {known} that "
            f"{archive.name}.pin.json records from the first download; it was not kept"
        ) from None
    return _sha256(archive)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(1024**2):
            digest.update(chunk)
    return digest.hexdigest()


def _pinned(pin: Path) -> str | None:
    """The SHA-256 of the first download; None if there was none."""
    if not pin.exists():
        return None
    said = read_json(pin, _PIN_BYTES)
    sha256 = said.get("sha256") if isinstance(said, dict) else None
    if not isinstance(sha256, str) or len(sha256) != 64:
        raise FedpolypError(f"{pin} is damaged: it has no sha256; remove it to pin the next download")
    return sha256


def _write_pin(pin: Path, archive: Path, address: str, sha256: str) -> None:
    said = {
        "file": archive.name,
        "url": address.split("?")[0],  # the rest may be a signature that gives access
        "bytes": archive.stat().st_size,
        "sha256": sha256,
        "first_seen": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(pin, json.dumps(said, indent=1) + "\n")


def _unpacked(archive: Path, into: Path) -> Path | None:
    if not is_archive(archive):
        return None
    if not into.exists():
        unpack(archive, into)
    folder = into
    while len(inside := list(folder.iterdir())) == 1 and inside[0].is_dir():
        folder = inside[0]
    return folder
