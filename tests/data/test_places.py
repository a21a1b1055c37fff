"""What a user writes of where images lie is read as it is meant, or refused in one sentence."""

from pathlib import Path

import pytest

from fedpolyp.data import places
from fedpolyp.errors import UsageError


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["folder"], "folder"),
        (["/a=b/c"], "/a=b/c"),
        (["a b=c"], "a b=c"),
        (["kvasir=/a"], {"kvasir": "/a"}),
        (["kvasir=/a=b", "clinic_2=x:y"], {"kvasir": "/a=b", "clinic_2": "x:y"}),
    ],
)
def test_places_with_and_without_names(given: list[str], meant: object) -> None:
    assert places.parse(given) == meant


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["a", "b"], "several sources need a name each, as in kvasir=FOLDER .*; got 'a'"),
        (["kvasir=a", "b"], "several sources need a name each.*; got 'b'"),
        (["kvasir=a", "kvasir=b"], "two sources are called kvasir"),
        (["kvasir="], "the source kvasir names no folder"),
    ],
)
def test_places_that_cannot_be_told_apart_are_refused(given: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        places.parse(given)


def test_a_folder_that_is_there_is_meant_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    (tmp_path / "x:y").mkdir()
    assert places.parse(["a=b"]) == "a=b"
    assert places.absolute("x:y") == str(tmp_path / "x:y")


def test_paths_become_absolute_in_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    assert places.absolute("phantom") == "phantom"
    assert places.absolute("x:y") == f"{tmp_path}/x:{tmp_path}/y"
    assert places.absolute({"a": "x", "b": "gone"}) == {"a": f"{tmp_path}/x", "b": f"{tmp_path}/gone"}
