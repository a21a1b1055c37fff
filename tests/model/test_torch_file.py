"""A file that PyTorch wrote is read as the tensors in it, and runs nothing, whatever it says."""

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp.model import torch_file
from fedpolyp.model.torch_file import NotTensors

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_SYSTEM = {"protocol_version": _PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def name(module: str, attribute: str) -> bytes:
    """The pickle's words for a name in a module."""
    return f"c{module}\n{attribute}\n".encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(key: str, size: int, shape: Any, stride: Any, offset: int = 0, storage: str = "FloatStorage") -> bytes:
    """The pickle's words for a tensor, as `torch.save` wrote them before version 1.6."""
    about = b"(" + text("storage") + name("torch", storage) + text(key) + text("cpu") + number(size) + b"Nt"
    arguments = b"(" + about + b"Q" + number(offset) + numbers(*shape) + numbers(*stride) + b"\x89}t"
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def file(
    tensors: dict[str, bytes],
    storages: dict[str, np.ndarray[Any, Any]],
    keys: list[str] | None = None,
    system: dict[str, Any] | None = None,
) -> bytes:
    state = b"\x80\x02" + name("collections", "OrderedDict") + b")R("
    state += b"".join(text(key) + value for key, value in tensors.items()) + b"u."
    heads = [pickle.dumps(one, 2) for one in (_MAGIC, _PROTOCOL, system or _SYSTEM)]
    parts = [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()]
    return b"".join([*heads, state, pickle.dumps(list(storages) if keys is None else keys, 2), *parts])


SIX = np.arange(6, dtype="<f4")
GOOD = file({"a": tensor("0", 6, (2, 3), (3, 1))}, {"0": SIX})


def test_tensors_come_in_the_order_of_their_own_axes() -> None:
    steps = np.array([5], "<i8")
    content = file(
        {
            "plain": tensor("0", 6, (2, 3), (3, 1)),
            "permuted": tensor("1", 6, (3, 2), (1, 3)),
            "count": tensor("2", 1, (), (), storage="LongStorage"),
        },
        {"0": SIX, "1": SIX, "2": steps},
    )
    read = torch_file.read(content)
    assert list(read) == ["plain", "permuted", "count"]
    assert np.array_equal(read["plain"], SIX.reshape(2, 3)) and np.array_equal(read["permuted"], SIX.reshape(2, 3).T)
    assert read["count"].shape == () and read["count"].dtype == np.int64 and read["count"] == 5
    assert all(array.flags.writeable and array.flags.owndata for array in read.values() if array.ndim)


class Touch:
    """Pickles as a call that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", range(5))
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path, place: int) -> None:
    victim = tmp_path / "ran"
    hostile = pickle.dumps(Touch(victim), 2)
    pickle.loads(hostile)
    assert victim.exists()  # so it does in the hands of an ordinary unpickler
    victim.unlink()
    parts: list[object] = [_MAGIC, _PROTOCOL, _SYSTEM, {}, []]
    heads = [pickle.dumps(one, 2) for one in parts]
    heads[place] = hostile
    with pytest.raises(NotTensors, match=r"it asks for \w+\.\w+"):
        torch_file.read(b"".join(heads))
    assert not victim.exists()


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("collections", "defaultdict"),
        ("torch", "DoubleStorage"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("fedpolyp.model.torch_file", "read"),
        ("os\nsystem", "x"),
    ],
)
def test_only_what_a_tensor_needs_has_a_name(module: str, attribute: str) -> None:
    with pytest.raises(NotTensors):
        torch_file.read(file({"a": name(module, attribute)}, {}))


def test_the_names_are_answered_without_importing_anything() -> None:
    import sys

    before = set(sys.modules)
    torch_file.read(GOOD)
    assert set(sys.modules) == before and "torch" not in sys.modules


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "EOFError"),
        (b"PK\x03\x04" + bytes(100), "Unpickling|invalid|Error"),
        (GOOD[:-1], "ends in the middle"),
        (GOOD + b"\0", "continues after"),
        (pickle.dumps(7, 2) + GOOD, "does not begin like such a file"),
        (file({"a": tensor("0", 6, (2, 3), (3, 1))}, {"0": SIX}, system={"little_endian": False}), "little-endian"),
        (file({"a": number(1)}, {}), "something other than a dictionary of tensors"),
        (file({"a": tensor("0", 6, (2, 3), (3, 1))}, {"0": SIX}, keys=["1"]), "list of storages"),
        (file({"a": tensor("0", 5, (5,), (1,))}, {"0": SIX}), "not have the size"),
    ],
)
def test_what_is_no_file_of_tensors_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(NotTensors, match=said):
        torch_file.read(content)


@pytest.mark.parametrize(
    "view",
    [
        {"shape": (2, 4), "stride": (3, 1)},
        {"shape": (2, 3), "stride": (30, 1)},
        {"shape": (2, 3), "stride": (-3, 1)},
        {"shape": (2, 3), "stride": (3,)},
        {"shape": (-2, -3), "stride": (3, 1)},
        {"shape": (5,), "stride": (1,), "offset": 1},
        {"shape": (6,), "stride": (1,), "offset": 1},
        {"shape": (6,), "stride": (0,)},
        {"shape": (2, 3), "stride": (5, 0)},
    ],
)
def test_a_tensor_that_is_not_its_storage_with_the_axes_in_some_order_is_refused(view: dict[str, Any]) -> None:
    with pytest.raises(NotTensors, match="the tensor a does not fit its storage"):
        torch_file.read(file({"a": tensor("0", 6, **view)}, {"0": SIX}))
