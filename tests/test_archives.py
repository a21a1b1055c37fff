"""Somebody else's archive of arrays is read, or refused in one sentence."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fedpolyp.archives import read_arrays


def header(descr: str, shape: str) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(path: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as out:
        for name, content in members.items():
            out.writestr(f"{name}.npy", content)
    return path


def test_arrays_come_back_in_their_order(tmp_path: Path) -> None:
    arrays = {"b": np.arange(6.0).reshape(2, 3), "a": np.array(3), "none": np.zeros((0, 4), np.float32)}
    with (tmp_path / "a.npz").open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    back = read_arrays(tmp_path / "a.npz")
    assert list(back) == ["b", "a", "none"]
    assert all(np.array_equal(back[name], arrays[name]) and back[name].dtype == arrays[name].dtype for name in arrays)
    assert list(read_arrays(tmp_path / "a.npz", only=("a",))) == ["a"]


def test_what_is_missing_is_told_from_what_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "absent.npz")


@pytest.mark.parametrize(
    "descr", ["','", "'01f4,f4'", "'|O'", "'(((('", "[" * 150 + "]" * 150, "'<U4'", "'V8'", "'f4, f4'", "__import__"]
)
def test_no_type_but_that_of_numbers_is_read(tmp_path: Path, descr: str) -> None:
    with pytest.raises(ValueError):
        read_arrays(archive(tmp_path / "a.npz", {"x": header(descr, "(2,)") + bytes(64)}))


@pytest.mark.parametrize("shape", ["(-1,)", "(10**40,)", "(4611686018427387904, 4)", "(1000000000000,)", "('a',)"])
def test_no_impossible_shape_is_read(tmp_path: Path, shape: str) -> None:
    with pytest.raises(ValueError):
        read_arrays(archive(tmp_path / "a.npz", {"x": header("'<f4'", shape) + bytes(64)}))


def test_a_single_array_is_not_an_archive(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    (tmp_path / "a.npz").write_bytes(content.getvalue())
    with pytest.raises(ValueError, match="a single array"):
        read_arrays(tmp_path / "a.npz")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(ValueError, match="pickle"):
        read_arrays(tmp_path / "a.npz")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = archive(tmp_path / "a.npz", {"x": header("'|u1'", "(9000000,)") + bytes(9_000_000)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 20_000
    with pytest.raises(ValueError, match="are allowed"):
        read_arrays(bomb)
    with pytest.raises(ValueError, match="8000000 are allowed"):
        read_arrays(bomb, most_bytes=8_000_000)
    assert read_arrays(bomb, most_bytes=9_000_200)["x"].shape == (9_000_000,)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    content = header("'|u1'", "(3,)") + bytes(3)
    archive(tmp_path / "a.npz", {"x": content})
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as out:
        out.writestr("x.npy", content)
    with pytest.raises(ValueError, match="two with the same name"):
        read_arrays(tmp_path / "a.npz")


def test_what_numpy_says_of_a_hostile_header_is_short_and_plain(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"\x93NUMPY\x01\x00\xff\x0f" + b"\n\x00" * 2040)
    with pytest.raises(ValueError, match=".") as error:
        read_arrays(tmp_path / "a.npz")
    assert str(error.value).isprintable() and len(str(error.value)) <= 200
