"""An archive is unpacked whole or not at all, and nothing of it lands outside its folder."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fedpolyp.data.store import DRAFT, DRAFT_LIFE
from fedpolyp.data.unpack import Limits, is_archive, unpack
from fedpolyp.errors import FedpolypError, UsageError

FILES = {"set/images/a.jpg": b"image" * 1000, "set/masks/a.png": b"mask", "set/empty": b""}


def zipped(path: Path, files: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            packed.writestr(info, content)
    return path


def tarred(path: Path, files: dict[str, bytes], kinds: dict[str, bytes] | None = None) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.type = (kinds or {}).get(name, tarfile.REGTYPE)
            info.linkname = "/etc/passwd"
            info.size = len(content) if info.isreg() else 0
            packed.addfile(info, io.BytesIO(content))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder beside the archives; what a refusal must leave empty."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_every_file_comes_out_as_it_went_in(tmp_path: Path, here: Path, name: str) -> None:
    archive = (zipped if name == "a.zip" else tarred)(tmp_path / name, FILES)
    unpack(archive, here / "deep" / "out")
    assert content(here / "deep" / "out") == FILES
    assert os.listdir(here / "deep") == ["out"]
    assert stat.S_IMODE((here / "deep" / "out").stat().st_mode) == 0o700  # the images may be patients'


def test_the_kind_is_told_by_the_content_not_by_the_name(tmp_path: Path, here: Path) -> None:
    unpack(tarred(tmp_path / "a.tar.gz", FILES).rename(tmp_path / "b.zip"), here / "out")
    assert content(here / "out") == FILES


def test_windows_names_become_folders_and_what_a_mac_adds_is_left_out(tmp_path: Path, here: Path) -> None:
    files = {"set\\images\\a.jpg": b"1", "__MACOSX/set/._a.jpg": b"2", "set/.DS_Store": b"3"}
    unpack(zipped(tmp_path / "a.zip", files), here / "out")
    assert content(here / "out") == {"set/images/a.jpg": b"1"}


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "C:/out.txt", "..", "a/.."])
def test_a_name_that_leads_out_of_the_folder_is_refused(
    tmp_path: Path, here: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    archive = make(tmp_path / "a", {"good.txt": b"x", name: b"x"})
    with pytest.raises(UsageError, match="leads out of the folder"):
        unpack(archive, here / "out")
    assert os.listdir(here) == [] and not (tmp_path / "out.txt").exists()


def test_a_backslash_leads_out_no_more_than_a_slash(tmp_path: Path, here: Path) -> None:
    with pytest.raises(UsageError, match="leads out of the folder"):
        unpack(zipped(tmp_path / "a.zip", {"a\\..\\..\\b": b"x"}), here / "out")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, here: Path, kind: bytes, said: str) -> None:
    archive = tarred(tmp_path / "a.tar", {"good.txt": b"x", "bad": b""}, {"bad": kind})
    with pytest.raises(UsageError, match=f"'bad' is {said}"):
        unpack(archive, here / "out")
    assert os.listdir(here) == []


@pytest.mark.parametrize(
    ("kind", "said"), [(stat.S_IFLNK, "a link"), (stat.S_IFCHR, "a device"), (stat.S_IFIFO, "a dev")]
)
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, here: Path, kind: int, said: str) -> None:
    archive = zipped(tmp_path / "a.zip", {"good.txt": b"x", "bad": b"/etc/passwd"}, {"bad": kind | 0o777})
    with pytest.raises(UsageError, match=f"'bad' is {said}"):
        unpack(archive, here / "out")
    assert os.listdir(here) == []


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(
    ("files", "limits", "said"),
    [
        ({f"{n}": b"" for n in range(4)}, Limits(entries=3), "more than 3 files and folders"),
        ({"a": b"x" * 3000, "b": b"x" * 3000}, Limits(bytes=5000), "more than"),
        ({"a": b"x" * 100_000}, Limits(growth=0, floor=99_999), "more than"),
    ],
)
def test_an_archive_beyond_the_limits_is_refused(
    tmp_path: Path,
    here: Path,
    make: Callable[[Path, dict[str, bytes]], Path],
    files: dict[str, bytes],
    limits: Limits,
    said: str,
) -> None:
    with pytest.raises(UsageError, match=said):
        unpack(make(tmp_path / "a.gz", files), here / "out", limits)
    assert os.listdir(here) == []
    unpack(tmp_path / "a.gz", here / "out", Limits(entries=4, bytes=200_000))  # and only beyond them


def test_a_small_archive_may_not_grow_a_hundredfold_beyond_a_gigabyte() -> None:
    assert Limits().most(50) == 1000**3
    assert Limits().most(46_200_000) == 100 * 46_200_000
    assert Limits().most(58_000_000_000) == 100 * 1000**3


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path, here: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1000 * 1024**2
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(4096))
    with pytest.raises(UsageError, match="header is too large"):
        unpack(tmp_path / "a.tar", here / "out")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_no_cut_archive_is_taken_for_a_whole_one(tmp_path: Path, here: Path, name: str) -> None:
    whole = (zipped if name == "a.zip" else tarred)(tmp_path / name, FILES).read_bytes()
    # The tar's headers are at 0, 5632, 6656 and 7168, where its end is marked.
    for length in {1, 511, 512, 513, 3000, 5632, 5633, 6656, 7168, 7679, len(whole) // 2} - set(
        range(len(whole), 8000)
    ):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(UsageError, match="damaged or incomplete|not a supported archive"):
            unpack(tmp_path / name, here / "out")
    assert os.listdir(here) == []


def test_no_flipped_byte_of_a_file_comes_out_unnoticed(tmp_path: Path, here: Path) -> None:
    for name, make in (("a.zip", zipped), ("a.tar.gz", tarred)):
        whole = bytearray(make(tmp_path / name, {"a": os.urandom(5000)}).read_bytes())
        whole[2500] ^= 1
        (tmp_path / name).write_bytes(whole)
        with pytest.raises(UsageError, match="damaged or incomplete"):
            unpack(tmp_path / name, here / "out")


def test_a_broken_header_in_the_middle_of_a_tar_is_not_its_end(tmp_path: Path, here: Path) -> None:
    whole = bytearray(tarred(tmp_path / "a.tar", {"a": b"x", "b": b"y"}).read_bytes())
    whole[1024] ^= 1  # of the second file's name
    (tmp_path / "a.tar").write_bytes(whole)
    with pytest.raises(UsageError, match="damaged or incomplete"):
        unpack(tmp_path / "a.tar", here / "out")


@pytest.mark.parametrize("files", [{"a": b"1", "./a": b"2"}, {"a": b"1", "a/b": b"2"}, {"a/b": b"1", "a": b"2"}])
@pytest.mark.parametrize("make", [zipped, tarred])
def test_what_is_there_twice_is_refused(
    tmp_path: Path, here: Path, make: Callable[[Path, dict[str, bytes]], Path], files: dict[str, bytes]
) -> None:
    with pytest.raises(UsageError, match="occurs twice"):
        unpack(make(tmp_path / "a", files), here / "out")


def test_an_encrypted_zip_is_refused(tmp_path: Path, here: Path) -> None:
    whole = bytearray(zipped(tmp_path / "a.zip", {"a": b"x"}).read_bytes())
    whole[whole.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(whole)
    with pytest.raises(UsageError, match="'a' is encrypted"):
        unpack(tmp_path / "a.zip", here / "out")


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"Rar!\x1a\x07\x00", "unpack it with another program first"),
        (b"", "not a supported archive"),
        (b"\x1f\x8b", "damaged"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, here: Path, start: bytes, said: str) -> None:
    (tmp_path / "a").write_bytes(start)
    with pytest.raises(UsageError, match=said):
        unpack(tmp_path / "a", here / "out")


def test_an_archive_without_a_file_or_that_is_not_there_is_refused(tmp_path: Path, here: Path) -> None:
    with pytest.raises(UsageError, match="no file in it"):
        unpack(zipped(tmp_path / "a.zip", {}), here / "out")
    with pytest.raises(UsageError, match="No such file"):
        unpack(tmp_path / "b.zip", here / "out")


def test_nothing_is_unpacked_over_what_exists(tmp_path: Path, here: Path) -> None:
    archive = zipped(tmp_path / "a.zip", FILES)
    (here / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="already exists"):
        unpack(archive, here / "out")
    assert not (tmp_path / "nowhere").exists()


def test_a_disk_that_refuses_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FedpolypError, match="File exists"):
        unpack(zipped(tmp_path / "a.zip", FILES), tmp_path / "file" / "out")


def test_the_draft_of_a_writer_that_died_long_ago_is_removed(tmp_path: Path, here: Path) -> None:
    for name, age in (("old", DRAFT_LIFE + 60), ("young", DRAFT_LIFE - 3600)):
        (here / f"{DRAFT}out-{name}").mkdir()
        then = os.stat(here).st_mtime - age
        os.utime(here / f"{DRAFT}out-{name}", (then, then))
    unpack(zipped(tmp_path / "a.zip", FILES), here / "out")
    assert sorted(os.listdir(here)) == [f"{DRAFT}out-young", "out"]


def test_a_draft_that_another_process_finishes_meanwhile_is_no_fault(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft, lstat = here / f"{DRAFT}out-other", Path.lstat
    draft.mkdir()

    def gone(path: Path) -> os.stat_result:
        if path == draft and draft.exists():
            draft.rmdir()
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", gone)
    unpack(zipped(tmp_path / "a.zip", FILES), here / "out")
    assert os.listdir(here) == ["out"]


def test_gzip_around_no_tar_is_refused(tmp_path: Path, here: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(b"no tar" * 1000))
    with pytest.raises(UsageError, match="damaged"):
        unpack(tmp_path / "a.tar.gz", here / "out")


def test_archives_are_known_by_name() -> None:
    assert all(is_archive(Path(name)) for name in ("a.zip", "b.TAR.GZ", "c.tgz", "d.tar"))
    assert not any(is_archive(Path(name)) for name in ("zip", "a.gz", "a.rar", "a.jpg"))
