"""Files of named arrays (NumPy's .npz) that may come from somebody else: no pickles, no bombs."""

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp.files import open_regular
from fedpolyp.text import printable

_MOST_ARRAYS = 20_000


def read_arrays(path: Path, only: Collection[str] = (), most_bytes: int | None = None) -> dict[str, NDArray[Any]]:
    """The arrays in `path` by name, in their order; all of them, checked against their checksums, or `only` some.

    `most_bytes` is their largest total size; None: the size of the file, which is then not compressed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: anything else is wrong with it.
    """
    try:
        with open_regular(path) as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array, not an archive of them")
            assert archive.zip is not None  # what its stub allows for
            with archive:
                _check_members(archive.zip, size if most_bytes is None else most_bytes)
                # Reading an array may stop before its checksum is checked.
                if not only and (broken := archive.zip.testzip()):
                    raise ValueError(f"{broken} was changed after it was written")
                arrays = {name: archive[name] for name in archive.files if not only or name in only}
    except FileNotFoundError:
        raise
    # A hostile header can make NumPy and zipfile fail in any way: SyntaxError, MemoryError, struct.error …
    except Exception as error:
        raise ValueError(printable(str(error) or type(error).__name__, 200)) from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise ValueError(f"{name!r:.80} is not an array of numbers")
    return arrays


def _check_members(archive: zipfile.ZipFile, most_bytes: int) -> None:
    members = archive.infolist()
    if len(members) > _MOST_ARRAYS or len({member.filename for member in members}) < len(members):
        raise ValueError(f"it holds {len(members)} arrays, more than {_MOST_ARRAYS} or two with the same name")
    if (total := sum(member.file_size for member in members)) > most_bytes:
        raise ValueError(f"its arrays have {total} bytes; {most_bytes} are allowed")
