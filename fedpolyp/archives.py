"""Files of named arrays (NumPy's .npz) that may come from somebody else: no pickles, no bombs."""

import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp.files import open_regular
from fedpolyp.text import printable

_MOST_ARRAYS = 20_000
_BETWEEN = "/"  # a group's name and an array's, in the name of a member


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


def joined(groups: Mapping[str, Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The arrays of all `groups`, each under its group's name and its own: what an archive holds.

    Raises:
        ValueError: a group's name has a slash, so that `grouped` would not find it again.
    """
    if strange := sorted(group for group in groups if _BETWEEN in group):
        raise ValueError(f"the name of a group of arrays must not have a '{_BETWEEN}'; got '{strange[0]}'")
    return {f"{group}{_BETWEEN}{name}": array for group, arrays in groups.items() for name, array in arrays.items()}


def grouped(members: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, NDArray[Any]]]:
    """The groups from which `joined` made `members`; those without arrays are left out."""
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for member, array in members.items():
        group, _, name = member.partition(_BETWEEN)
        groups.setdefault(group, {})[name] = array
    return groups


def _check_members(archive: zipfile.ZipFile, most_bytes: int) -> None:
    members = archive.infolist()
    if len(members) > _MOST_ARRAYS or len({member.filename for member in members}) < len(members):
        raise ValueError(f"it holds {len(members)} arrays, more than {_MOST_ARRAYS} or two with the same name")
    if (total := sum(member.file_size for member in members)) > most_bytes:
        raise ValueError(f"its arrays have {total} bytes; {most_bytes} are allowed")
