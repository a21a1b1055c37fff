"""Whatever lies in a folder is left out by name with its reason; it neither hangs the ingest nor fills the memory."""

import os
import resource
import socket
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from fedpolyp.data import reading
from fedpolyp.data.ingest import ingest
from fedpolyp.data.reading import Unusable, decode_image, decode_mask, look, read
from fedpolyp.data.sources import list_source
from fedpolyp.data.store import Rejection, Store
from tests.picture_folders import encoded, picture, shape, write_pair


def png_bomb(side: int) -> bytes:
    """A PNG of `side` by `side` black pixels, of a few bytes for a million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    squeeze = zlib.compressobj(9)
    row = bytes(1 + 3 * side)
    rows = b"".join([*(squeeze.compress(row) for _ in range(min(side, 500))), squeeze.flush()])
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff_of_large_tiles() -> bytes:
    """A TIFF of 16 by 16 pixels in one tile of 30,000 by 30,000."""
    tags = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 322: 30_000, 323: 30_000, 324: 8, 325: 256}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


def named_pipe(file: Path) -> None:
    os.mkfifo(file)


def link_to_device(file: Path) -> None:
    file.symlink_to("/dev/zero")


def link_to_terabytes(file: Path) -> None:
    with (file.parent.parent / "large").open("wb") as stream:
        stream.truncate(10**12)
    file.symlink_to(file.parent.parent / "large")


def terabyte(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(10**12)


def link_to_itself(file: Path) -> None:
    file.symlink_to(file.name)


def link_to_nowhere(file: Path) -> None:
    file.symlink_to("gone.png")


def socket_file(file: Path) -> None:
    here = os.getcwd()
    os.chdir(file.parent)  # the path of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind(file.name)
    finally:
        os.chdir(here)


def bomb(file: Path) -> None:
    file.write_bytes(png_bomb(32_000))


def smaller_bomb(file: Path) -> None:
    file.write_bytes(png_bomb(6001))


def large_tiles(file: Path) -> None:
    file.write_bytes(tiff_of_large_tiles())


def unreadable_header(file: Path) -> None:
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)


def another_format(file: Path) -> None:
    file.write_bytes(b"GIF89a" + bytes(64))


ENTRIES: list[tuple[Callable[[Path], None], str]] = [
    (named_pipe, "a named pipe, not a regular file"),
    (socket_file, "a socket, not a regular file"),
    (link_to_device, "a device, not a regular file"),
    (terabyte, "1,000,000 MB large; at most 100 are read"),
    (link_to_terabytes, "1,000,000 MB large; at most 100 are read"),
    (link_to_itself, "cannot be read: Too many levels of symbolic links"),
    (link_to_nowhere, "cannot be read: No such file or directory"),
    (bomb, "pixels; at most 36,000,000 are decoded"),
    (smaller_bomb, "6001x6001 pixels; at most 36,000,000 are decoded"),
    (large_tiles, "30000x30000 pixels; at most 36,000,000 are decoded"),
    (unreadable_header, "cannot be decoded: damaged, or not the format its name says"),
    (another_format, "cannot be decoded: damaged, or not the format its name says"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good pairs, and half of a fourth, 'bad'."""
    for seed, stem in enumerate(("a", "b", "c")):
        write_pair(tmp_path / "clinic", stem, seed=seed)
    write_pair(tmp_path / "clinic", "bad", seed=9)
    return tmp_path / "clinic"


@pytest.mark.parametrize("part", ["images", "masks"])
@pytest.mark.parametrize(("make", "reason"), ENTRIES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_hostile_entry_is_left_out_by_name_and_the_rest_is_ingested(
    folder: Path, tmp_path: Path, make: Callable[[Path], None], reason: str, part: str
) -> None:
    file = folder / part / "bad.png"
    file.unlink()
    make(file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store = ingest(folder, 32, tmp_path / "stores")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert [record.id for record in store.records] == ["a", "b", "c"]
    (rejection,) = store.report.rejected
    assert rejection.file == f"{part}/bad.png" and rejection.reason.endswith(reason)
    assert grown < 300_000  # kB
    assert Store.open(store.path).report == store.report


@pytest.mark.parametrize("part", ["images", "masks"])
@pytest.mark.parametrize("type_", ["float32", "int32"])
def test_numbers_of_other_types_are_named_not_called_damaged(
    folder: Path, tmp_path: Path, part: str, type_: str
) -> None:
    content = encoded(picture()[..., 0].astype(type_), ".tiff")
    (folder / part / "bad.png").write_bytes(content)
    (rejection,) = ingest(folder, 32, tmp_path / "stores").report.rejected
    assert rejection == Rejection(
        f"{part}/bad.png", f"its pixels are {type_}; 8 or 16 bits are read, grey or in colour"
    )


@pytest.mark.parametrize("part", ["images", "masks"])
@pytest.mark.parametrize("format_", ["TIFF", "PNG"])
def test_a_file_of_several_pages_is_left_out_by_name(folder: Path, tmp_path: Path, part: str, format_: str) -> None:
    pages = [Image.fromarray(picture(seed) if part == "images" else 255 * shape(seed)) for seed in (9, 10)]
    file = folder / part / "bad.png"
    pages[0].save(file, format_)
    assert ingest(folder, 32, tmp_path / "stores").report.rejected == ()
    pages[0].save(file, format_, save_all=True, append_images=pages[1:])
    (rejection,) = ingest(folder, 32, tmp_path / "stores").report.rejected
    assert rejection == Rejection(f"{part}/bad.png", "it has 2 or more pages; a file must have one")


def test_a_link_to_a_regular_file_is_read_as_the_file(folder: Path, tmp_path: Path) -> None:
    file = folder / "images" / "bad.png"
    file.rename(tmp_path / "elsewhere.png")
    file.symlink_to(tmp_path / "elsewhere.png")
    store = ingest(folder, 32, tmp_path / "stores")
    assert len(store.records) == 4 and not store.report.rejected


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\x1b]0;owned\x07", b"line\nbreak", "evil\u202egnp".encode(), b"\x7f"])
def test_names_that_are_no_text_are_left_out_and_written_out(folder: Path, tmp_path: Path, name: bytes) -> None:
    for part in ("images", "masks"):
        content = (folder / part / "bad.png").read_bytes()
        Path(os.fsdecode(os.fsencode(folder / part) + b"/" + name + b".png")).write_bytes(content)
    store = ingest(folder, 32, tmp_path / "stores")
    assert len(store.records) == 4
    (rejection,) = store.report.rejected
    assert rejection.reason == "its name is not UTF-8, or has control characters: rename it"
    assert rejection.file.isprintable() and rejection.file.startswith("images/")


@pytest.mark.parametrize("stem", ["Aufnahme é ß", "画像", "a,b;c", "Screenshot 10.15.07\u202fPM", "=1+1", "[b]x"])
def test_names_in_any_script_are_good(tmp_path: Path, stem: str) -> None:
    write_pair(tmp_path / "clinic", stem)
    assert [record.id for record in ingest(tmp_path / "clinic", 32, tmp_path / "stores").records] == [stem]


def test_pairs_in_subfolders_have_their_path_in_their_ids(folder: Path, tmp_path: Path) -> None:
    for seed, inside in enumerate(("more", "more/still"), start=20):
        write_pair(tmp_path / "other", "a", seed=seed)
        for part in ("images", "masks"):
            (folder / part / inside).mkdir()
            (tmp_path / "other" / part / "a.png").rename(folder / part / inside / "a.png")
    (folder / "masks" / ".hidden").mkdir()
    (folder / "images" / "more" / "z.png").touch()
    write_pair(folder / "second", "z")
    store = ingest(folder, 32, tmp_path / "stores")
    assert [record.id for record in store.records] == ["a", "b", "bad", "c", "more/a", "more/still/a"]
    assert store.report.rejected == (
        Rejection("images/more/z.png", "no mask of this stem in masks/more/"),
        Rejection("second/", "a folder with images/ and masks/ of its own, not read: it is a separate source"),
    )
    again = Store.open(store.path)
    assert again.positions(["more/still/a"]).tolist() == [5]


def test_pairs_may_all_lie_in_subfolders(tmp_path: Path) -> None:
    write_pair(tmp_path / "one", "a")
    for part in ("images", "masks"):
        (tmp_path / "clinic" / part).mkdir(parents=True)
        (tmp_path / "one" / part).rename(tmp_path / "clinic" / part / "sequence-1")
    assert [record.id for record in ingest(tmp_path / "clinic", 32, tmp_path / "stores").records] == ["sequence-1/a"]


@pytest.mark.parametrize("kind", ["link to the folder above", "folder named as a picture", "folder nobody may read"])
def test_folders_of_any_kind_stop_nothing(folder: Path, tmp_path: Path, kind: str) -> None:
    entry = folder / "images" / "sub.png"
    if kind == "link to the folder above":
        entry.symlink_to("..")
    else:
        entry.mkdir(mode=0o000 if "nobody" in kind else 0o755)
    store = ingest(folder, 32, tmp_path / "stores")
    if not entry.is_symlink():
        entry.chmod(0o755)
    assert len(store.records) == 4
    assert [rejection.file for rejection in store.report.rejected] == ["images/sub.png/"]


def test_listing_opens_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr("builtins.open", opened)
    assert len(list_source(folder).listing.pairs) == 4


def test_a_file_that_became_a_pipe_or_grew_meanwhile_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unusable, match="a named pipe, not a regular file"):
        read(tmp_path, "pipe")
    monkeypatch.setattr(reading, "MAX_BYTES", 10)
    (tmp_path / "file").write_bytes(bytes(11))
    with pytest.raises(Unusable, match="large; at most 0 are read"):
        read(tmp_path, "file")


def test_the_header_is_read_before_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", decoded)
    with pytest.raises(Unusable, match="6001x6001 pixels"):
        look("a.png", png_bomb(6001))


def test_large_pictures_are_decoded_one_pair_at_a_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, most, real = 0, [0], cv2.imdecode

    def counting(*arguments: Any) -> Any:
        nonlocal at_once
        at_once += 1
        most.append(at_once)
        time.sleep(0.01)
        at_once -= 1
        return real(*arguments)

    monkeypatch.setattr(cv2, "imdecode", counting)
    monkeypatch.setattr(reading, "_SMALL", 96 * 128 - 1)
    assert len(ingest(folder, 32, tmp_path / "stores").records) == 4
    assert max(most) == 1


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_files_cut_short_are_unusable(suffix: str, share: float) -> None:
    content = encoded(picture(), suffix)
    for decode in (decode_image, decode_mask):
        with reading.silent_decoders(), pytest.raises(Unusable, match="cannot be decoded"):
            decode(look("a", content[: int(len(content) * share)]))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_spoilt_bytes_raise_nothing_but_unusable(suffix: str) -> None:
    rng, content = np.random.default_rng(0), encoded(picture(), suffix)
    with reading.silent_decoders():
        for _ in range(60):
            spoilt = np.frombuffer(content, np.uint8).copy()
            spoilt[rng.integers(0, min(300, len(spoilt)), 4)] = rng.integers(0, 256, 4)
            for decode in (decode_image, decode_mask):
                try:
                    decode(look("a", spoilt.tobytes()))
                except Unusable:
                    continue


def test_a_name_that_no_id_can_have_costs_its_own_pair_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / "s" / part).mkdir(parents=True)
        for number, name in enumerate(("a", "b", "\\c")):
            picture = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            if part == "masks":
                picture = np.zeros((40, 40), np.uint8)
                picture[: 10 + number, :10] = 255
            cv2.imwrite(str(tmp_path / "s" / part / f"{name}.png"), picture)
    store = ingest(tmp_path / "s", 32, tmp_path / "stores")
    assert [record.id for record in store.records] == ["a", "b"]
    assert {rejection.file for rejection in store.report.rejected} >= {"images/\\c.png"}
