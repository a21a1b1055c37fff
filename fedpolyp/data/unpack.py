"""Unpacks archives of images without trusting them: nothing in an archive may lead out of its folder."""

import gzip
import io
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from fedpolyp.data.store import DRAFT, remove_dead_drafts, rename_unless_there
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.files import open_regular
from fedpolyp.names import shown

KINDS = ".zip, .tar and .tar.gz"
_CHUNK = 1024**2
_HEADER = 16 * 1024**2  # largest header of a tar: a pax header is read into memory at once
_BLOCK = 512  # of a tar


@dataclass(frozen=True)
class Limits:
    """What an archive may contain. Images hardly shrink when they are packed, so an archive that grows without end is
    not one of images.
    """

    entries: int = 500_000  # files and folders
    bytes: int = 100 * 1000**3
    growth: int = 100  # times its own size, except below `floor`
    floor: int = 1000**3  # bytes

    def most(self, packed: int) -> int:
        """Bytes that an archive of `packed` bytes may unpack to."""
        return min(self.bytes, max(self.floor, self.growth * packed))


LIMITS = Limits()


@dataclass(frozen=True)
class _Entry:
    name: str
    folder: bool
    content: IO[bytes] | None  # None for a folder; must be read before the next entry is requested


def unpack(archive: Path, into: Path, limits: Limits = LIMITS) -> None:
    """Unpack `archive` (zip, tar or tar.gz, recognized by its content) to the new folder `into`: whole, or not at all.

    It is written to a draft beside `into` and renamed once; if another process was first, its folder is kept.
    `__MACOSX/` and `.DS_Store` are left out. Files and folders belong to this user, whatever the archive says.

    Raises:
        UsageError: it is not such an archive, is damaged or encrypted, has an entry that leads out of the folder,
            occurs twice or is not a file or folder (a link, a device), or exceeds `limits`; or `into` exists.
        FedpolypError: the disk refuses.
    """
    if into.exists() or into.is_symlink():
        raise UsageError(f"cannot unpack {archive}: {into} already exists")
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{DRAFT}{into.name[:100]}-"
        remove_dead_drafts(into.parent, prefix)
        # mkdtemp restricts the folder to this user: the images may be patients'.
        draft = Path(tempfile.mkdtemp(prefix=prefix, dir=into.parent))
        try:
            _fill(draft, archive, limits)
            rename_unless_there(draft, into)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise FedpolypError(f"cannot unpack {archive} to {into}: {error.strerror or error}") from None


def is_archive(path: Path) -> bool:
    """Whether the name of the file at `path` is that of an archive that `unpack` accepts."""
    return path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz"))


def _fill(draft: Path, archive: Path, limits: Limits) -> None:
    with _refusing(archive), open_regular(archive) as stream:
        most = limits.most(os.fstat(stream.fileno()).st_size)
        written = entries = 0
        for entry in _entries(stream, most):
            entries += 1
            if entries > limits.entries:
                raise UsageError(f"it has more than {limits.entries:,} files and folders")
            parts = _parts(entry.name)
            if not parts or parts[0] == "__MACOSX" or parts[-1] == ".DS_Store":
                continue
            written += _place(draft.joinpath(*parts), entry, most - written)
        if not any(draft.iterdir()):
            raise UsageError("there is no file in it")


@contextmanager
def _refusing(archive: Path) -> Iterator[None]:
    """Turns any error about `archive` into one sentence that names it."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"cannot unpack {archive}: {error}") from None
    except FileNotFoundError as error:
        raise UsageError(f"cannot unpack {archive}: {error.strerror}") from None
    # gzip's own error is an OSError; an error of the disk has a number.
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, ValueError, gzip.BadGzipFile) as error:
        raise UsageError(f"cannot unpack {archive}: it is damaged or incomplete ({error})") from None
    except (NotImplementedError, RuntimeError) as error:  # from zipfile, for unknown compression and for encryption
        raise UsageError(f"cannot unpack {archive}: {error}") from None


def _entries(stream: BinaryIO, most: int) -> Iterator[_Entry]:
    start = stream.read(_BLOCK)
    stream.seek(0)
    if start[:4] in (b"PK\3\4", b"PK\5\6"):
        return _of_zip(stream)
    if start[:2] == b"\x1f\x8b":
        return _of_tar(io.BufferedReader(gzip.GzipFile(fileobj=stream)), most)
    if start[257:262] == b"ustar":
        return _of_tar(stream, most)
    also = "; unpack it with another program first" if start[:4] == b"Rar!" or start[:2] == b"7z" else ""
    raise UsageError(f"it is not a supported archive ({KINDS}){also}")


def _of_zip(stream: BinaryIO) -> Iterator[_Entry]:
    with zipfile.ZipFile(stream) as packed:
        for member in packed.infolist():
            # The upper half is Unix's mode; it is 0 if the archive was made elsewhere.
            kind = stat.S_IFMT(member.external_attr >> 16)
            name = member.filename.replace("\\", "/")  # some programs on Windows write it like this
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UsageError(f"{shown(name)} is {_called(kind)}, and only files and folders are unpacked")
            if member.flag_bits & 1:
                raise UsageError(f"{shown(name)} is encrypted")
            if name.endswith("/"):
                yield _Entry(name, True, None)
            else:
                with packed.open(member) as content:
                    yield _Entry(name, False, content)


class _Watched(io.RawIOBase):
    """A tar's bytes, remembering the last that were read: tarfile mistakes a broken header for the archive's end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER:
            raise tarfile.ReadError("a header is too large")
        self.last = self._stream.read(size)
        return self.last

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _of_tar(stream: IO[bytes], most: int) -> Iterator[_Entry]:
    watched = _Watched(stream)
    with tarfile.open(fileobj=watched, mode="r:") as packed:
        for member in packed:
            if not (member.isreg() or member.isdir()):
                raise UsageError(
                    f"{shown(member.name)} is {_tar_kind(member)}, and only files and folders are unpacked"
                )
            if member.size > most:  # before tarfile reads over it to find the next
                raise UsageError(f"it unpacks to more than {most:,} bytes")
            yield _Entry(member.name, member.isdir(), None if member.isdir() else packed.extractfile(member))
            packed.members = []  # type: ignore[attr-defined]  # it would keep one for each file
    if watched.last != bytes(_BLOCK):
        raise tarfile.ReadError("it ends without an end marker")
    rest = 0
    while chunk := stream.read(_CHUNK):  # to the end, where gzip has its checksum
        rest += len(chunk)
        if rest > most:
            raise UsageError(f"it unpacks to more than {most:,} bytes")


def _called(kind: int) -> str:
    return "a link" if kind == stat.S_IFLNK else "a device, pipe or socket"


def _tar_kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "a link"
    return "a device, pipe or socket" if member.isdev() else "of an unknown kind"


def _parts(name: str) -> list[str]:
    """The folders and the file in `name`.

    Raises:
        UsageError: it leads elsewhere.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", name) or "\0" in name:
        raise UsageError(f"{shown(name)} leads out of the folder")
    return parts


def _place(path: Path, entry: _Entry, most: int) -> int:
    """Writes one entry of at most `most` bytes to `path`; returns its size."""
    written = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.folder:
            path.mkdir(exist_ok=True)
        if entry.content is None:
            return 0
        with path.open("xb") as file:
            while chunk := entry.content.read(_CHUNK):
                written += len(chunk)
                if written > most:
                    raise UsageError(
                        f"it unpacks to more than is allowed: {most:,} bytes were left for {shown(path.name)}"
                    )
                file.write(chunk)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{shown(entry.name)} occurs twice") from None
    return written
