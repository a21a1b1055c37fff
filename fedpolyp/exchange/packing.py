"""Named arrays as one run of bytes, and back out of bytes that anybody may have sent: limits first, then parsing."""

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp.model.arrays import Arrays
from fedpolyp.text import printable

# What may be in an index. The U-Net has 240 arrays with Adam's moments, and an index of 20 KB.
INDEX_BYTES = 1 << 20
ARRAYS = 10_000
NAME_CHARACTERS = 200
DIMENSIONS = 8
# The only types there are. NumPy would take many more strings for a type, and evaluates some of them.
_TYPES = {
    kind: np.dtype(kind) for kind in ("|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8")
}
# float32 values of which the upper half travels: half the bytes, and two to three decimal digits.
_BFLOAT16 = "bf16"
_ALIGNED = 8
_SAID = 300  # characters of a message


class Malformed(ValueError):
    """Bytes that are no packed arrays; the message is short and prints, whatever was sent."""

    def __init__(self, what: str) -> None:
        super().__init__(printable(what, _SAID))


def pack(arrays: Arrays, bfloat16: bool = False) -> bytes:
    """`arrays` as bytes, each of one of the types that `unpack` reads; with `bfloat16` those of float32 are rounded.

    The length of the index (8 bytes, little-endian), the index (JSON: name, type, shape of each array), then the bytes
    of all arrays, each part filled up to a multiple of 8.
    """
    rounded = {name for name, array in arrays.items() if bfloat16 and array.dtype.str == "<f4"}
    kinds = {name: _BFLOAT16 if name in rounded else array.dtype.str for name, array in arrays.items()}
    index = json.dumps([[name, kinds[name], array.shape] for name, array in arrays.items()]).encode()
    parts: list[bytes | memoryview] = [len(index).to_bytes(8, "little"), index, _filling(len(index))]
    for name, array in arrays.items():
        values = _upper_halves(array) if name in rounded else np.ascontiguousarray(array)
        parts += [values.reshape(-1).view(np.uint8).data, _filling(values.nbytes)]
    return b"".join(parts)


def carried(arrays: Arrays, bfloat16: bool) -> Arrays:
    """`arrays` as they arrive: what `unpack` makes of what `pack` makes of them."""
    return unpack(pack(arrays, bfloat16=True)) if bfloat16 else arrays


def carried_bytes(arrays: Arrays, bfloat16: bool) -> int:
    """How many bytes of values `pack` makes of `arrays`."""
    return sum(a.nbytes // (2 if bfloat16 and a.dtype == np.float32 else 1) for a in arrays.values())


def unpack(packed: bytes) -> Arrays:
    """The arrays of `pack`, which share the memory of `packed`: they cannot be written to.

    Raises:
        Malformed: it is anything else.
    """
    try:
        return _unpacked(packed)
    except Malformed:
        raise
    except Exception as error:  # whatever else goes wrong in reading it, is wrong with it
        raise Malformed(f"packed arrays that cannot be read: {type(error).__name__}") from None


def _unpacked(packed: bytes) -> Arrays:
    length = int.from_bytes(packed[:8], "little")
    if len(packed) < 8 or not 2 <= length <= min(INDEX_BYTES, len(packed) - 8):
        raise Malformed(f"packed arrays of {len(packed)} bytes with an index of {length}; at most {INDEX_BYTES}")
    try:
        index = json.loads(packed[8 : 8 + length])
    except (ValueError, RecursionError):
        raise Malformed("the index of packed arrays is not JSON") from None
    if type(index) is not list or len(index) > ARRAYS:
        raise Malformed(f"the index of packed arrays is not a list of at most {ARRAYS}")
    arrays: Arrays = {}
    end = 8 + length
    for entry in index:
        name, kind, shape = _checked(entry)
        if name in arrays:
            raise Malformed(f"two packed arrays are called {name}")
        dtype = np.dtype(np.uint16) if kind == _BFLOAT16 else _TYPES[kind]
        count, start = math.prod(shape), end + -end % _ALIGNED
        end = start + dtype.itemsize * count
        if end > len(packed):
            raise Malformed(f"packed arrays of {len(packed)} bytes end before array {name}, at byte {end}, does")
        values = np.frombuffer(packed, dtype, count, start if count else 0).reshape(shape)
        arrays[name] = _widened(values) if kind == _BFLOAT16 else values
    if end + -end % _ALIGNED != len(packed):
        raise Malformed(f"packed arrays of {len(packed)} bytes with an index for {end}")
    return arrays


def _checked(entry: Any) -> tuple[str, str, list[int]]:
    if type(entry) is not list or len(entry) != 3:
        raise Malformed("an entry in the index of packed arrays is not a name, a type and a shape")
    name, kind, shape = entry
    if type(name) is not str or not 1 <= len(name) <= NAME_CHARACTERS or not name.isprintable():
        raise Malformed(f"the name of a packed array is not text of 1 to {NAME_CHARACTERS} characters")
    if type(kind) is not str or kind not in (*_TYPES, _BFLOAT16):
        known = ", ".join((*_TYPES, _BFLOAT16))
        raise Malformed(f"array {name} is of type {str(kind)[:40]!r}, which is none of {known}")
    if (
        type(shape) is not list
        or len(shape) > DIMENSIONS
        or not all(type(side) is int and 0 <= side < 2**40 for side in shape)
    ):
        raise Malformed(f"array {name} has no shape of at most {DIMENSIONS} dimensions")
    return name, kind, shape


def _upper_halves(array: NDArray[Any]) -> NDArray[np.uint16]:
    """Float32 values rounded to bfloat16, ties to even."""
    bits = np.ascontiguousarray(array, "<f4").view("<u4")
    rounded = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype("<u2")  # rounding could make a NaN infinite


def _widened(halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    wide: NDArray[np.float32] = (halves.astype("<u4") << 16).view("<f4")
    wide.flags.writeable = False
    return wide


def _filling(size: int) -> bytes:
    return bytes(-size % _ALIGNED)
