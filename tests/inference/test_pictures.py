"""Whatever somebody names, each readable picture comes once, and each other is told."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fedpolyp.errors import UsageError
from fedpolyp.inference.pictures import Picture, files, pictures


def draw(path: Path, shape: tuple[int, int] = (6, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*shape, 3), 100, np.uint8))
    return path


def seen(these: list[Path], every: int = 1) -> tuple[list[Picture], list[tuple[str, str]]]:
    unusable: list[tuple[str, str]] = []
    return list(pictures(these, every, unusable)), unusable


def test_files_folders_and_patterns_name_each_picture_once(tmp_path: Path) -> None:
    one, two = draw(tmp_path / "a" / "one.png"), draw(tmp_path / "a" / "two.jpg")
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    (tmp_path / "a" / "more").mkdir()
    left_out: list[str] = []
    assert files([str(tmp_path / "a"), str(one), str(tmp_path / "a" / "*.jpg")], left_out) == [one, two]
    assert left_out == [str(tmp_path / "a" / "more"), str(tmp_path / "a" / "notes.txt")]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("nothing", "there is no file or folder"), ("kvasir", r"\(there is images/ in it: name that\)")],
)
def test_a_name_that_leads_to_nothing_is_refused(tmp_path: Path, name: str, sentence: str) -> None:
    draw(tmp_path / "kvasir" / "images" / "x.png")
    with pytest.raises(UsageError, match=sentence):
        files([str(tmp_path / name)], [])


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    good, bad, pipe = draw(tmp_path / "good.png"), tmp_path / "bad.png", tmp_path / "pipe.png"
    bad.write_bytes(b"no picture")
    os.mkfifo(pipe)
    found, unusable = seen([bad, pipe, good])
    assert [picture.name for picture in found] == ["good"]
    assert [reason for _, reason in unusable] == [
        "cannot be decoded: damaged, or not the format its name says",
        "a named pipe, not a regular file",
    ]


def test_pictures_of_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    found, _ = seen([draw(tmp_path / part / f"{name}.png") for part, name in (("a", "x"), ("b", "X"), ("c", "x"))])
    assert [picture.name for picture in found] == ["x", "X-2", "x-3"]


def test_a_picture_comes_upright(tmp_path: Path) -> None:
    tagged = Image.new("RGB", (8, 6))
    exif = tagged.getexif()
    exif[274] = 6
    tagged.save(tmp_path / "turned.jpg", exif=exif)
    ((picture,), _) = seen([tmp_path / "turned.jpg"])
    assert picture.pixels.shape == (8, 6, 3)


def test_of_a_video_every_so_many_frames_are_taken(tmp_path: Path) -> None:
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (32, 16))
    for value in (0, 60, 120, 180, 240):
        video.write(np.full((16, 32, 3), value, np.uint8))
    video.release()
    found, unusable = seen([tmp_path / "v.avi"], every=2)
    assert not unusable and [picture.name for picture in found] == ["v-000000", "v-000002", "v-000004"]
    assert [round(float(picture.pixels.mean()), -1) for picture in found] == [0, 120, 240]
    (tmp_path / "w.avi").write_bytes(b"no video")
    assert seen([tmp_path / "w.avi"]) == ([], [(str(tmp_path / "w.avi"), "no frame of it can be decoded")])


def test_a_video_that_breaks_off_is_told_and_its_first_frames_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (32, 16))
    for value in range(40):
        video.write(np.full((16, 32, 3), 6 * value, np.uint8))
    video.release()
    assert len(seen([path])[0]) == 40
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found, unusable = seen([path])
    assert 0 < len(found) < 40
    assert unusable == [(str(path), f"it is damaged: only {len(found)} of its 40 frames can be decoded")]


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "MJPG"), ("webm", "VP80")])
def test_a_video_whose_header_has_only_its_length_is_told_when_it_breaks_off(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    path, rng = tmp_path / f"v.{suffix}", np.random.default_rng(0)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 5, (32, 16))
    for _ in range(60):
        video.write(rng.integers(0, 256, (16, 32, 3), np.uint8))
    video.release()
    found, unusable = seen([path])
    assert (len(found), unusable) == (60, [])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found, unusable = seen([path], every=7)
    assert 0 < len(found) < 8
    (reason,) = [reason for _, reason in unusable]
    assert reason.startswith("it is damaged: only ") and reason.endswith(" of its 12.0 seconds can be decoded")
