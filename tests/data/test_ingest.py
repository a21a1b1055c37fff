"""Folders of images become stores; what cannot be used is said, and nothing half-made is left."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fedpolyp.data import ingest as ingest_module
from fedpolyp.data import reading
from fedpolyp.data.duplicates import duplicate_groups
from fedpolyp.data.ingest import ingest
from fedpolyp.data.store import Rejection, Store
from fedpolyp.errors import FedpolypError, UsageError
from tests.data.test_alike import tissue

SIZE = 32


def picture(seed: int = 0, height: int = 90, width: int = 120) -> NDArray[np.uint8]:
    """A smooth RGB image, reddest at the left."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 200, (6, 8, 3), dtype=np.uint8), (width, height)).astype(np.uint8)
    image[:, : width // 2, 0] = 255
    return image


def lesion(height: int = 90, width: int = 120, value: int = 255) -> NDArray[np.uint8]:
    """A mask whose upper left quarter is the lesion."""
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2, : width // 2] = value
    return mask


def save(file: Path, pixels: NDArray[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    bgr = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]] if pixels.ndim == 3 else pixels
    file.write_bytes(cv2.imencode(file.suffix, bgr)[1].tobytes())


def save_pair(folder: Path, stem: str = "a", seed: int = 0) -> None:
    save(folder / "images" / f"{stem}.png", picture(seed))
    save(folder / "masks" / f"{stem}.png", lesion())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A source of two good pairs, a and b."""
    folder = tmp_path / "clinic"
    save_pair(folder, "a", seed=1)
    save_pair(folder, "b", seed=2)
    return folder


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    return tmp_path / "stores"


def ids(store: Store) -> list[str]:
    return [record.id for record in store.records]


@pytest.mark.parametrize("image_suffix", [".jpg", ".JPEG", ".png", ".tif", ".TIFF", ".bmp"])
@pytest.mark.parametrize("mask_suffix", [".jpg", ".png", ".tif", ".BMP"])
def test_every_format_is_read(tmp_path: Path, stores: Path, image_suffix: str, mask_suffix: str) -> None:
    save(tmp_path / "images" / f"a{image_suffix}", picture())
    save(tmp_path / "masks" / f"a{mask_suffix}", lesion())
    store = ingest(tmp_path, SIZE, stores)
    expected = cv2.resize(picture(), (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(store.images[0] - expected).mean() < 3
    assert np.array_equal(store.masks[0], lesion(SIZE, SIZE, value=1))


IMAGES: dict[str, Callable[[], NDArray[Any]]] = {
    "grey": lambda: picture()[..., 0],
    "grey 16 bits": lambda: picture()[..., 0].astype(np.uint16) * 257,
    "colour 16 bits": lambda: picture().astype(np.uint16) * 257,
    "with transparency": lambda: np.dstack([picture(), np.zeros((90, 120), np.uint8)]),
}


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_every_depth_and_number_of_channels_becomes_rgb_of_8_bits(
    tmp_path: Path, stores: Path, kind: str, suffix: str
) -> None:
    save(tmp_path / "images" / f"a{suffix}", IMAGES[kind]())
    save(tmp_path / "masks" / "a.png", lesion())
    source = np.repeat(picture()[..., :1], 3, axis=2) if "grey" in kind else picture()
    expected = cv2.resize(source, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(ingest(tmp_path, SIZE, stores).images[0] - expected).max() <= 1


MASKS: dict[str, Callable[[], NDArray[Any]]] = {
    "0 and 1": lambda: lesion(value=1),
    "0 and 1 in 16 bits": lambda: lesion(value=1).astype(np.uint16),
    "0 and 255 in 16 bits": lambda: lesion().astype(np.uint16),
    "0 and 65535": lambda: lesion().astype(np.uint16) * 257,
    "near 0 and near 65535": lambda: np.where(lesion() > 0, 65280, 255).astype(np.uint16),
    "near 0 and near 255, as JPEG leaves them": lambda: np.where(lesion() > 0, 248, 7).astype(np.uint8),
    "grey in three channels": lambda: np.dstack([lesion()] * 3),
    "pure red": lambda: np.dstack([lesion(), lesion() * 0, lesion() * 0]),
    "with transparency": lambda: np.dstack([lesion()] * 3 + [np.full_like(lesion(), 255)]),
}


@pytest.mark.parametrize("kind", MASKS)
def test_every_kind_of_mask_becomes_0_and_1(tmp_path: Path, stores: Path, kind: str) -> None:
    save(tmp_path / "images" / "a.png", picture())
    save(tmp_path / "masks" / "a.png", MASKS[kind]())
    assert np.array_equal(ingest(tmp_path, SIZE, stores).masks[0], lesion(SIZE, SIZE, value=1))


def test_records_describe_the_original_files(folder: Path, stores: Path) -> None:
    store = ingest(folder, SIZE, stores)
    record = store.records[0]
    files = (folder / "images" / "a.png").read_bytes() + (folder / "masks" / "a.png").read_bytes()
    assert (record.id, record.source, record.look) == ("a", "clinic", -1)
    assert (record.height, record.width) == (90, 120)
    assert record.lesion_fraction == store.masks[0].mean() == pytest.approx(0.25, abs=0.02)
    assert record.tone == pytest.approx(store.images[0].mean(axis=(0, 1)) / 255)
    assert record.sha256 == hashlib.sha256(files).hexdigest()


def test_near_duplicates_share_a_group(folder: Path, stores: Path) -> None:
    save_pair(folder, "c", seed=1)
    assert [record.group for record in ingest(folder, SIZE, stores).records] == [0, 1, 0]


def no_mask(folder: Path) -> None:
    (folder / "masks" / "bad.png").unlink()


def no_image(folder: Path) -> None:
    (folder / "images" / "bad.png").unlink()


def two_images(folder: Path) -> None:
    save(folder / "images" / "bad.tif", picture())


def two_images_and_no_mask(folder: Path) -> None:
    two_images(folder)
    no_mask(folder)


def two_masks(folder: Path) -> None:
    save(folder / "masks" / "bad.bmp", lesion())


def other_size(folder: Path) -> None:
    save(folder / "masks" / "bad.png", lesion(80, 120))


def tiny_lesion(folder: Path) -> None:
    mask = np.zeros((90, 120), np.uint8)
    mask[0, 0] = 255
    save(folder / "masks" / "bad.png", mask)


def empty_file(folder: Path) -> None:
    (folder / "images" / "bad.png").write_bytes(b"")


def not_an_image(folder: Path) -> None:
    (folder / "masks" / "bad.png").write_bytes(b"no picture at all" * 100)


def cut_short(folder: Path) -> None:
    file = folder / "images" / "bad.png"
    file.write_bytes(file.read_bytes()[:-2])


def link_to_nowhere(folder: Path) -> None:
    (folder / "images" / "bad.png").unlink()
    (folder / "images" / "bad.png").symlink_to(folder / "gone.png")


REASONS: list[tuple[Callable[[Path], None], str, str]] = [
    (no_mask, "images/bad.png", "no mask of this stem in masks/"),
    (no_image, "masks/bad.png", "no image of this stem in images/"),
    (two_images, "images/bad.png", "same stem as images/bad.tif"),
    (two_images_and_no_mask, "images/bad.png", "same stem as images/bad.tif"),
    (two_masks, "masks/bad.bmp", "same stem as masks/bad.png"),
    (other_size, "masks/bad.png", "the mask is 120x80 pixels, its image 120x90"),
    (tiny_lesion, "masks/bad.png", "the lesion is too small: of its 1 pixels none is left at 32x32"),
    (empty_file, "images/bad.png", "cannot be decoded: damaged, or not the format its name says"),
    (not_an_image, "masks/bad.png", "cannot be decoded: damaged, or not the format its name says"),
    (cut_short, "images/bad.png", "cannot be decoded: damaged, or not the format its name says"),
    (link_to_nowhere, "images/bad.png", "cannot be read: No such file or directory"),
]


@pytest.mark.parametrize(("spoil", "file", "reason"), REASONS, ids=lambda value: getattr(value, "__name__", ""))
def test_an_unusable_pair_is_listed_with_its_reason_and_stops_no_other(
    folder: Path, stores: Path, spoil: Callable[[Path], None], file: str, reason: str
) -> None:
    save_pair(folder, "bad", seed=3)
    spoil(folder)
    store = ingest(folder, SIZE, stores)
    assert ids(store) == ["a", "b"]
    assert store.report.used == 2
    assert store.report.rejected == (Rejection(file, reason),)
    alone = ingest_alone(folder, stores)
    assert np.array_equal(store.images, alone.images)
    assert np.array_equal(store.masks, alone.masks)
    assert Store.open(store.path).report == store.report


def ingest_alone(folder: Path, stores: Path) -> Store:
    """The store of the good pairs a and b without anything else."""
    for part in ("images", "masks"):
        for file in (folder / part).iterdir():
            if file.stem == "bad":
                file.unlink()
    return ingest(folder, SIZE, stores)


def test_rows_stay_with_their_records_when_a_pair_in_the_middle_drops_out(folder: Path, stores: Path) -> None:
    save_pair(folder, "a-between", seed=3)
    no_image_of_b = ingest(folder, SIZE, stores)
    assert ids(no_image_of_b) == ["a", "a-between", "b"]
    (folder / "images" / "a-between.png").write_bytes(b"")
    store = ingest(folder, SIZE, stores)
    assert ids(store) == ["a", "b"]
    assert np.array_equal(store.images, no_image_of_b.images[[0, 2]])


def test_rejections_are_in_the_order_of_their_files(folder: Path, stores: Path) -> None:
    for stem, spoilt in (("z", "images"), ("y", "masks"), ("x", "images")):
        save_pair(folder, stem)
        (folder / spoilt / f"{stem}.png").write_bytes(b"")
    (folder / "masks" / "w.txt").touch()
    rejected = [rejection.file for rejection in ingest(folder, SIZE, stores).report.rejected]
    assert rejected == ["images/x.png", "images/z.png", "masks/w.txt", "masks/y.png"]


def test_other_files_are_listed_and_hidden_ones_ignored(folder: Path, stores: Path) -> None:
    (folder / "images" / "notes.txt").write_text("hello")
    (folder / "images" / "._a.png").write_bytes(b"")
    rejected = ingest(folder, SIZE, stores).report.rejected
    assert [(rejection.file, rejection.reason[:10]) for rejection in rejected] == [("images/notes.txt", "not one of")]


def test_decoders_print_nothing_about_damaged_files(
    folder: Path, stores: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for stem, suffix in (("c", ".png"), ("d", ".tif"), ("e", ".jpg")):
        save(folder / "images" / f"{stem}{suffix}", picture())
        save(folder / "masks" / f"{stem}.png", lesion())
        file = folder / "images" / f"{stem}{suffix}"
        file.write_bytes(file.read_bytes()[:-2])
    assert len(ingest(folder, SIZE, stores).report.rejected) == 3
    os.write(2, b"still heard")
    assert capfd.readouterr() == ("", "still heard")


def test_a_folder_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no .*/nowhere; the source must be a folder with images/ and"):
        ingest(tmp_path / "nowhere", SIZE)


def test_a_folder_without_masks_is_a_usage_error_that_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(
        UsageError, match=r"has no masks/, nor .*: looked for images/ and masks/ .*; found images, labels$"
    ):
        ingest(tmp_path, SIZE)
    with pytest.raises(UsageError, match=r"has no images/ and no masks/, nor .*; found nothing$"):
        ingest(tmp_path / "labels", SIZE)


def test_a_folder_without_a_usable_pair_is_a_usage_error_and_leaves_no_store(tmp_path: Path, stores: Path) -> None:
    save(tmp_path / "images" / "a.png", picture())
    (tmp_path / "masks").mkdir()
    with pytest.raises(
        UsageError, match=r"no usable pair .*, found 1 in images/ and 0 in masks/ \(images/a.png: no mask"
    ):
        ingest(tmp_path, SIZE, stores)
    assert not stores.exists()


def test_an_unchanged_folder_is_opened_not_ingested_again(
    folder: Path, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ingest(folder, SIZE, stores)
    monkeypatch.setattr(ingest_module, "_load", None)
    monkeypatch.chdir(folder)
    assert ingest(Path("../clinic"), SIZE, stores).path == first.path
    assert first.path.name.startswith("clinic-32px-")


def test_a_changed_folder_version_or_size_makes_a_new_store(
    folder: Path, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [ingest(folder, SIZE, stores).path]
    os.utime(folder / "masks" / "a.png", ns=(0, 1))
    paths.append(ingest(folder, SIZE, stores).path)
    save_pair(folder, "c")
    paths.append(ingest(folder, SIZE, stores).path)
    paths.append(ingest(folder, 2 * SIZE, stores).path)
    monkeypatch.setattr(ingest_module, "VERSION", ingest_module.VERSION + 1)
    paths.append(ingest(folder, SIZE, stores).path)
    assert len(set(paths)) == 5


def test_a_copy_of_a_folder_has_a_store_of_its_own(folder: Path, stores: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "clinic")
    assert ingest(copy, SIZE, stores).path != ingest(folder, SIZE, stores).path


def test_a_damaged_store_is_not_opened_nor_overwritten(folder: Path, stores: Path) -> None:
    store = ingest(folder, SIZE, stores)
    (store.path / "masks.npy").unlink()
    with pytest.raises(FedpolypError, match="remove it"):
        ingest(folder, SIZE, stores)


def test_same_store_whatever_the_threads_and_the_order_of_the_disk(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, stem in enumerate(("Z", "10", "9", "é", "a.1")):
        save_pair(folder, stem, seed=seed + 10)
    contents = set()
    scandir = os.scandir

    class Reversed:
        def __init__(self, path: Path) -> None:
            self.entries = sorted(scandir(path), key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> "list[os.DirEntry[str]]":
            return self.entries

        def __exit__(self, *_: object) -> None: ...

    for threads in (1, 7):
        monkeypatch.setattr(reading, "ThreadPoolExecutor", partial(ThreadPoolExecutor, max_workers=threads))
        with monkeypatch.context() as patch:
            if threads == 7:
                patch.setattr(os, "scandir", Reversed)
            store = ingest(folder, SIZE, tmp_path / f"stores-{threads}")
        assert ids(store) == sorted(ids(store))
        contents.add((store.path.name, *[(store.path / name).read_bytes() for name in sorted(os.listdir(store.path))]))
    assert len(contents) == 1


INGEST = """
import sys, time
from pathlib import Path
from fedpolyp.data.duplicates import duplicate_groups
from fedpolyp.data.ingest import ingest
assert not {"tensorflow", "ray", "flwr", "matplotlib"} & set(sys.modules)
folder, stores = map(Path, sys.argv[1:3])
(stores / f"ready-{sys.argv[3]}").touch()
while len(list(stores.glob("ready-*"))) < 2:
    time.sleep(0.001)
print(ingest(folder, 32, stores).path)
"""


def test_two_processes_at_once_get_one_store_without_importing_tensorflow(folder: Path, stores: Path) -> None:
    stores.mkdir()
    for seed in range(20):
        save_pair(folder, f"c{seed}", seed=seed)
    commands = [[sys.executable, "-c", INGEST, str(folder), str(stores), name] for name in "xy"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    paths = {process.communicate(timeout=300)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(paths) == 1
    left = [entry.name for entry in stores.iterdir() if not entry.name.startswith("ready-")]
    assert left == [Path(paths.pop().strip()).name]
    assert ingest(folder, SIZE, stores).report.used == 22


KILLED = """
import os, signal, sys
from pathlib import Path
from fedpolyp.data import ingest as module
name, left = sys.argv[3], [int(sys.argv[4])]
real = getattr(module, name)
def deadly(*args):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
setattr(module, name, deadly)
module.ingest(Path(sys.argv[1]), 32, Path(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("function", "call"), [("_load", 1), ("_load", 2), ("duplicate_groups", 1), ("write_store", 1)]
)
def test_after_a_killed_ingest_the_next_one_is_right(
    folder: Path, stores: Path, tmp_path: Path, function: str, call: int
) -> None:
    command = [sys.executable, "-c", KILLED, str(folder), str(stores), function, str(call)]
    assert subprocess.run(command, check=False).returncode == -9
    store, undisturbed = ingest(folder, SIZE, stores), ingest(folder, SIZE, tmp_path / "others")
    assert store.records == undisturbed.records
    assert np.array_equal(store.images, undisturbed.images)
    assert np.array_equal(store.masks, undisturbed.masks)


def test_a_scene_that_moved_stays_together_though_its_thumbnail_is_another(tmp_path: Path) -> None:
    turn = cv2.getRotationMatrix2D((128, 128), 25, 1.0)
    turn[:, 2] += (12, 0)
    moved = np.asarray(cv2.warpAffine(tissue(0), turn, (256, 256)), np.uint8)
    for stem, pixels in (("first", tissue(0)), ("other", picture(1, 256, 256)), ("moved", moved)):
        save(tmp_path / "clinic" / "images" / f"{stem}.png", pixels)
        save(tmp_path / "clinic" / "masks" / f"{stem}.png", lesion(256, 256))
    store = ingest(tmp_path / "clinic", SIZE)
    assert len(set(duplicate_groups(np.asarray(store.images)).tolist())) == 3
    groups = {record.id: record.group for record in store.records}
    assert groups["first"] == groups["moved"] != groups["other"]


def test_what_belongs_together_does_not_depend_on_the_size_that_is_asked_for(tmp_path: Path) -> None:
    """At 33 pixels fine differences blur. A coordinator that asks for this size must not get two units as one."""
    y, x = np.mgrid[:16, :16]
    slope, chequered = (own / np.linalg.norm(own) for own in (x + y - 15.0, (-1.0) ** (x + y)))
    for number, cells in enumerate((slope, 0.94 * slope + np.sqrt(1 - 0.94**2) * chequered)):
        grey = cv2.resize(np.rint(128 + 700 * cells), (256, 256), interpolation=cv2.INTER_NEAREST).astype(np.uint8)
        save(tmp_path / "clinic" / "images" / f"{number}.png", np.repeat(grey[..., None], 3, 2))
        save(tmp_path / "clinic" / "masks" / f"{number}.png", lesion(256, 256))
    stores = {size: ingest(tmp_path / "clinic", size, tmp_path / "stores") for size in (33, 64)}
    assert duplicate_groups(np.asarray(stores[33].images)).tolist() == [0, 0]
    for store in stores.values():
        assert [record.group for record in store.records] == [0, 1]
