"""Masks that look wrong as a whole stop the ingest in one sentence, unless the user says that they are meant so."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedpolyp.data.ingest import ingest
from fedpolyp.data.masks import MaskSettings
from fedpolyp.errors import UsageError
from tests.picture_folders import HEIGHT, WIDTH, encoded, picture, shape, with_palette, write_pair

COUNT = 6
Files = Callable[[int], tuple[bytes, bytes]]  # image and mask by number


def inverted(number: int) -> tuple[bytes, bytes]:
    return encoded(picture(number)), encoded(255 - 255 * shape(number))


def inverted_jpeg(number: int) -> tuple[bytes, bytes]:
    return encoded(picture(number)), encoded(255 - 255 * shape(number), ".jpg")


def inverted_palette(number: int) -> tuple[bytes, bytes]:
    return encoded(picture(number)), with_palette(1 - shape(number), (255, 255, 255), (0, 0, 0))


def photographs(number: int) -> tuple[bytes, bytes]:
    return encoded(picture(number)), encoded(picture(number + 50))


def photographs_jpeg(number: int) -> tuple[bytes, bytes]:
    return encoded(picture(number), ".jpg"), encoded(picture(number + 50), ".jpg")


def grey_photographs(number: int) -> tuple[bytes, bytes]:
    return encoded(picture(number)), encoded(picture(number + 50)[..., 0])


def images_twice(number: int) -> tuple[bytes, bytes]:
    return encoded(picture(number)), encoded(picture(number))


def masks_twice(number: int) -> tuple[bytes, bytes]:
    return encoded(255 * shape(number)), encoded(255 * shape(number))


def masks_twice_in_other_formats(number: int) -> tuple[bytes, bytes]:
    return encoded(np.dstack([255 * shape(number)] * 3), ".jpg"), encoded(shape(number))


def exchanged(number: int) -> tuple[bytes, bytes]:
    return encoded(255 * shape(number)), encoded(picture(number))


def exchanged_jpeg(number: int) -> tuple[bytes, bytes]:
    return encoded(255 * shape(number), ".jpg"), encoded(picture(number), ".jpg")


def one_all_lesion(number: int) -> tuple[bytes, bytes]:
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8) if number == 2 else 255 * shape(number)
    return encoded(picture(number)), encoded(mask)


def all_lesion(number: int) -> tuple[bytes, bytes]:
    return encoded(picture(number)), encoded(np.full((HEIGHT, WIDTH), 255, np.uint8))


def no_background(number: int) -> tuple[bytes, bytes]:
    return encoded(picture(number)), encoded(1 + shape(number))


def border_of_255(number: int) -> tuple[bytes, bytes]:
    mask = shape(number)
    mask[:6] = 255
    return encoded(picture(number)), encoded(mask)


def heatmaps(number: int) -> tuple[bytes, bytes]:
    x = np.linspace(-1, 1, 1024)
    heat = 255 * np.exp(-((x[:, None] - 0.1 * number) ** 2 + x[None] ** 2) * 3)
    return encoded(picture(number, 1024, 1024)), encoded(heat.astype(np.uint8))


def faint_heatmaps(number: int) -> tuple[bytes, bytes]:
    x = np.linspace(-1, 1, 1024)
    heat = 40 * np.exp(-((x[:, None] - 0.1 * number) ** 2 + x[None] ** 2) * 3)
    return encoded(picture(number, 1024, 1024)), encoded(heat.astype(np.uint8))


def two_kinds(number: int) -> tuple[bytes, bytes]:
    return encoded(picture(number)), encoded(shape(number) * np.uint8(255 if number % 2 else 1))


WRONG: list[tuple[Files, str]] = [
    (inverted, r"in 6 of 6 more than half of the image is lesion \(median 9\d%\), as if lesion and background"),
    (inverted_jpeg, r"in 6 of 6 more than half of the image is lesion"),
    (inverted_palette, r"in 6 of 6 more than half of the image is lesion"),
    (photographs, r"6 of 6 have many grey levels or colours, as photographs have \(first: masks/0\.png\)"),
    (photographs_jpeg, r"6 of 6 have many grey levels or colours, as photographs have \(first"),
    (grey_photographs, r"6 of 6 have many grey levels or colours, as photographs have \(first"),
    (images_twice, r"6 of 6 have many grey levels .*, and are the same files as their images \(first"),
    (masks_twice, r"6 of 6 show the same as their images \(first: masks/0\.png\)"),
    (masks_twice_in_other_formats, r"6 of 6 show the same as their images"),
    (exchanged, r"6 of 6 have many .* their images look like masks: images/ and masks/ may be exchanged"),
    (exchanged_jpeg, r"6 of 6 have many .* their images look like masks: images/ and masks/ may be exchanged"),
    (heatmaps, r"6 of 6 have many grey levels or colours"),
    (faint_heatmaps, r"6 of 6 have many grey levels or colours"),
    (one_all_lesion, r"in 1 of 6 every pixel is lesion \(first: masks/2\.png\)"),
    (all_lesion, r"they have no background: no value of 0, but 255"),
    (no_background, r"they have no background: no value of 0, but 1, 2"),
    (border_of_255, r"they have areas of 1 beside 255, noise or a class"),
    (two_kinds, r"3 of 6 are unlike the others \(first: masks/0\.png: unknown: its values are 0, 1"),
]


def folder_of(folder: Path, files: Files, count: int = COUNT) -> Path:
    for number in range(count):
        image, mask = files(number)
        write_pair(folder, str(number), image, mask)
    return folder


@pytest.mark.parametrize(("files", "said"), WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_implausible_masks_stop_in_one_sentence_that_names_the_way_out(tmp_path: Path, files: Files, said: str) -> None:
    folder = folder_of(tmp_path / "clinic", files)
    with pytest.raises(UsageError, match=said) as stopped:
        ingest(folder, 32, tmp_path / "stores")
    sentence = str(stopped.value)
    assert sentence.startswith(f"the masks in {folder} look wrong: ")
    assert "--masks as-they-are" in sentence and "--lesion-values" in sentence and "\n" not in sentence
    assert not (tmp_path / "stores").exists()


@pytest.mark.parametrize("files", [files for files, _ in WRONG], ids=lambda value: value.__name__)
def test_masks_that_are_meant_so_are_taken_as_they_are(tmp_path: Path, files: Files) -> None:
    folder = folder_of(tmp_path / "clinic", files)
    store = ingest(folder, 32, tmp_path / "stores", MaskSettings.of("as-they-are", None))
    assert store.report.used + len(store.report.rejected) == COUNT
    assert store.report.used >= COUNT // 2
    if files in (inverted, inverted_palette):
        assert np.mean(store.masks) > 0.85
    if files is no_background:
        assert np.mean(store.masks) < 0.15
    if files is border_of_255:
        assert 0.1 < np.mean(store.masks) < 0.25  # the shape and the border


def test_large_lesions_here_and_there_are_plausible_and_named_in_a_note(tmp_path: Path) -> None:
    def files(number: int) -> tuple[bytes, bytes]:
        mask = 255 * shape(number)
        if number in (1, 4):
            mask[4:-4, 4:] = 255  # up to one border
        return encoded(picture(number)), encoded(mask)

    report = ingest(folder_of(tmp_path / "clinic", files), 32, tmp_path / "stores").report
    assert report.used == COUNT
    assert report.notes[1:] == ("2 of 6 masks are more than half lesion (first: masks/1.png)",)


def two_of_five_inverted(number: int) -> tuple[bytes, bytes]:
    return inverted(number) if number % 5 < 2 else (encoded(picture(number)), encoded(255 * shape(number)))


def all_but_a_pixel(number: int) -> tuple[bytes, bytes]:
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[0, 0] = 0
    return encoded(picture(number)), encoded(mask if number % 3 == 0 else 255 * shape(number))


def large_and_inverted(number: int) -> tuple[bytes, bytes]:
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[10:-10, 10:-10] = 0
    return encoded(picture(number)), encoded(mask)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            two_of_five_inverted,
            r"in 8 of 20 more than half of the border is lesion, as if lesion and background were exchanged \(first",
        ),
        (all_but_a_pixel, r"in 7 of 20 more than half of the border is lesion"),
        (large_and_inverted, r"in 20 of 20 more than half of the border is lesion"),
    ],
)
def test_a_minority_of_inverted_masks_stops_above_a_tenth(tmp_path: Path, files: Files, said: str) -> None:
    folder = folder_of(tmp_path / "clinic", files, 20)
    with pytest.raises(UsageError, match=said) as stopped:
        ingest(folder, 32, tmp_path / "stores")
    assert "--masks as-they-are" in str(stopped.value)
    store = ingest(folder, 32, tmp_path / "stores", MaskSettings.of("as-they-are", None))
    assert store.report.used == 20
    assert len(store.report.notes) == 1


def test_inverted_masks_up_to_a_tenth_are_named_in_notes(tmp_path: Path) -> None:
    def files(number: int) -> tuple[bytes, bytes]:
        return inverted(number) if number % 10 == 3 else (encoded(picture(number)), encoded(255 * shape(number)))

    report = ingest(folder_of(tmp_path / "clinic", files, 20), 32, tmp_path / "stores").report
    assert report.used == 20
    assert report.notes[1:] == (
        "2 of 20 masks are more than half lesion (first: masks/13.png)",
        "2 of 20 masks are lesion on more than half of their border, as inverted masks are (first: masks/13.png)",
    )


@pytest.mark.parametrize(
    ("lesion", "background"),
    [((220, 50, 30), (20, 20, 20)), ((0, 0, 0), (255, 255, 255)), ((60, 60, 60), (90, 60, 60))],
)
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_images_that_are_their_masks_in_any_colours_stop(
    tmp_path: Path, lesion: tuple[int, ...], background: tuple[int, ...], suffix: str
) -> None:
    def files(number: int) -> tuple[bytes, bytes]:
        mask = shape(number)
        image = np.where(mask[..., None], np.array(lesion, np.uint8), np.array(background, np.uint8))
        return encoded(image, suffix), encoded(255 * mask)

    with pytest.raises(UsageError, match="6 of 6 show the same as their images"):
        ingest(folder_of(tmp_path / "clinic", files), 32, tmp_path / "stores")


def test_images_that_are_nearly_black_are_named_in_a_note(tmp_path: Path) -> None:
    def files(number: int) -> tuple[bytes, bytes]:
        twelve_bits = picture(number).astype(np.uint16) * 16
        images: list[np.ndarray] = [picture(number) // 100, twelve_bits, picture(number)]
        return encoded(images[number % 3]), encoded(255 * shape(number))

    report = ingest(folder_of(tmp_path / "clinic", files), 32, tmp_path / "stores").report
    said = "4 of 6 images are nearly black, no pixel above 63 of 255 (first: images/0.png)"
    assert report.notes[1:] == (said,)
    meant = MaskSettings.of("as-they-are", None)
    assert ingest(tmp_path / "clinic", 32, tmp_path / "stores", meant).report.notes[1:] == (said,)


def test_masks_that_are_mostly_the_same_are_named_in_a_note(tmp_path: Path) -> None:
    def files(number: int) -> tuple[bytes, bytes]:
        return encoded(picture(number)), encoded(255 * shape(0 if number > 1 else number + 7))

    report = ingest(folder_of(tmp_path / "clinic", files), 32, tmp_path / "stores").report
    assert report.notes[1:] == ("4 of 6 masks are the same (first: masks/2.png)",)


def all_empty(number: int) -> tuple[bytes, bytes]:
    return encoded(picture(number)), encoded(0 * shape(number))


def most_empty(number: int) -> tuple[bytes, bytes]:
    return encoded(picture(number)), encoded(255 * shape(number) * (number < 2))


@pytest.mark.parametrize(("files", "count"), [(all_empty, 6), (most_empty, 4)])
def test_masks_of_which_more_than_half_are_empty_stop_unless_they_are_meant_so(
    tmp_path: Path, files: Files, count: int
) -> None:
    folder = folder_of(tmp_path / "clinic", files)
    with pytest.raises(UsageError, match=rf"look wrong: {count} of 6 are empty, .*--masks as-they-are"):
        ingest(folder, 32, tmp_path / "stores")
    assert not (tmp_path / "stores").exists()
    store = ingest(folder, 32, tmp_path / "stores", MaskSettings.of("as-they-are", None))
    assert [record.lesion_fraction == 0 for record in store.records].count(True) == count
    assert any(note.startswith(f"{count} of 6 are frames without a polyp") for note in store.report.notes)


def test_half_of_the_frames_may_be_without_a_polyp_and_black_ones_are_no_copies(tmp_path: Path) -> None:
    def files(number: int) -> tuple[bytes, bytes]:
        if number % 2:
            return encoded(0 * picture(number)), encoded(0 * shape(number))
        return encoded(picture(number)), encoded(255 * shape(number))

    store = ingest(folder_of(tmp_path / "clinic", files), 32, tmp_path / "stores")
    assert store.report.rejected == () and len(store.records) == 6
    assert [bool(mask.any()) for mask in store.masks] == [True, False] * 3
    assert store.report.notes == (
        "masks by grey level: background 0, lesion 255",
        "3 of 6 are frames without a polyp (first: masks/1.png)",
        "3 of 6 images are nearly black, no pixel above 63 of 255 (first: images/1.png)",
    )


def test_unknown_values_do_not_make_a_frame_without_a_polyp(tmp_path: Path) -> None:
    def files(number: int) -> tuple[bytes, bytes]:
        return encoded(picture(number)), encoded((2 if number == 0 else 255) * shape(number))

    for said in ("checked", "as-they-are"):
        folder = folder_of(tmp_path / "clinic", files, 20)
        report = ingest(folder, 32, tmp_path / "stores", MaskSettings.of(said, None)).report
        assert report.used == 19
        assert [one.reason.split(":")[0] for one in report.rejected] == ["unknown"]


@pytest.mark.parametrize("given", ["1", "#010101"])
def test_a_mask_without_the_values_given_is_left_out_unless_it_is_all_background(tmp_path: Path, given: str) -> None:
    def files(number: int) -> tuple[bytes, bytes]:
        return encoded(picture(number)), encoded((0 if number == 0 else 2 if number == 1 else 1) * shape(number))

    folder = folder_of(tmp_path / "clinic", files, 20)
    store = ingest(folder, 32, tmp_path / "stores", MaskSettings.of("checked", given))
    assert [one.file for one in store.report.rejected] == ["masks/1.png"]
    assert store.report.rejected[0].reason.startswith("no lesion: ")
    assert [record.id for record in store.records if record.lesion_fraction == 0] == ["0"]
