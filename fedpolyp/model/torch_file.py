"""Reads a file of weights as PyTorch wrote it before version 1.6, with NumPy only and without running any code in it.

Such a file is a pickle, and a pickle may call any function. This reader allows the four names that tensors in a
dictionary need, looks none of them up, and refuses every other name.
"""

import io
import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class NotTensors(ValueError):
    """The content is not a dictionary of tensors."""


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset and stride count elements."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read(content: bytes) -> dict[str, NDArray[Any]]:
    """The tensors in `content`, by name, each in the order of its own axes.

    A tensor may be a permuted view of its storage, as after a conversion from TensorFlow.

    Raises:
        NotTensors: it is something else, is cut short, or continues after the last tensor.
    """
    stream = io.BytesIO(content)
    try:
        if _Unpickler(stream).load() != _MAGIC or _Unpickler(stream).load() != _PROTOCOL:
            raise NotTensors("it does not begin like such a file")
        if _Unpickler(stream).load().get("little_endian") is not True:
            raise NotTensors("its numbers are not little-endian")
        unpickler = _Unpickler(stream)
        tensors, keys = unpickler.load(), _Unpickler(stream).load()
        if not isinstance(tensors, dict) or not all(isinstance(one, _Tensor) for one in tensors.values()):
            raise NotTensors("it holds something other than a dictionary of tensors")
        if sorted(keys) != sorted(unpickler.storages):
            raise NotTensors("its list of storages does not match its tensors")
        storages = {key: _storage(stream, *unpickler.storages[key]) for key in keys}
    except NotTensors:
        raise
    except Exception as error:  # unpickling nonsense fails in many ways
        raise NotTensors(f"{type(error).__name__}: {error}") from None
    if stream.read(1):
        raise NotTensors("it continues after its last tensor")
    return {str(name): _array(str(name), tensor, storages[tensor.storage]) for name, tensor in tensors.items()}


class _Unpickler(pickle.Unpickler):
    """Makes tensors and nothing else."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.storages: dict[str, tuple[np.dtype[Any], int]] = {}

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return _tensor
            case "torch", storage if storage in _STORAGES:
                return _STORAGES[storage]
        raise NotTensors(f"it asks for {module}.{name}")

    def persistent_load(self, about: Any) -> str:
        kind, dtype, key, _, size, view = about
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str) or view is not None:
            raise NotTensors("it holds a storage of another kind")
        self.storages[key] = dtype, int(size)
        return key


def _tensor(storage: str, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Tensor:
    return _Tensor(storage, offset, shape, stride)


def _storage(stream: io.BytesIO, dtype: np.dtype[Any], size: int) -> NDArray[Any]:
    if int.from_bytes(stream.read(8), "little") != size:
        raise NotTensors("a storage does not have the size of its tensor")
    content = stream.read(size * dtype.itemsize)
    if len(content) != size * dtype.itemsize:
        raise NotTensors("it ends in the middle of a tensor")
    return np.frombuffer(content, dtype)


def _array(name: str, tensor: _Tensor, storage: NDArray[Any]) -> NDArray[Any]:
    """`tensor` copied out of its storage.

    Raises:
        NotTensors: it is not the storage with its axes in some order; a view that reaches beyond would read other
            memory.
    """
    plain = all(isinstance(number, int) and number >= 0 for number in (tensor.offset, *tensor.shape, *tensor.stride))
    if not plain or len(tensor.shape) != len(tensor.stride) or tensor.offset or math.prod(tensor.shape) != storage.size:
        raise NotTensors(f"the tensor {name} does not fit its storage")
    expected = 1
    for step, length in sorted(zip(tensor.stride, tensor.shape, strict=True)):
        if length > 1 and step != expected:
            raise NotTensors(f"the tensor {name} does not fit its storage")
        expected *= length
    return as_strided(storage, tensor.shape, [step * storage.itemsize for step in tensor.stride]).copy()
