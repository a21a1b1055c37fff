"""A run is found again by its name, and the name tells nothing."""

from pathlib import Path

import pytest

from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.runs import RunFolder
from fedpolyp.sites.handover import COORDINATOR, hand_over, handed_over, registered_images


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = tmp_path / "elsewhere" / "secret-trial"
    folder.mkdir(parents=True)
    (folder / "environment.json").write_text('{"started": "2026-01-31"}')
    return RunFolder(folder)


def test_a_run_anywhere_is_found_by_a_name_that_tells_no_path(
    tmp_path: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = hand_over(RunFolder(Path("elsewhere/secret-trial")), tmp_path / "coordinator")
    assert len(name) == 32 and set(name) <= set("0123456789abcdef")
    monkeypatch.setenv(COORDINATOR, str(tmp_path / "coordinator"))
    monkeypatch.chdir("/")
    assert handed_over(name) == run


@pytest.mark.parametrize("name", ["0" * 32, "../coordinator.toml", "/etc/passwd", ""])
def test_what_was_not_handed_over_is_not_found(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COORDINATOR, str(tmp_path))
    with pytest.raises(FedpolypError, match="no run was handed over as"):
        handed_over(name)


def test_another_superlink_than_the_coordinators_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COORDINATOR, raising=False)
    with pytest.raises(FedpolypError, match="need the SuperLink of 'fedpolyp site serve'"):
        handed_over("0" * 32)


def test_numbers_of_images_are_registered_in_coordinator_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COORDINATOR, raising=False)
    assert registered_images() == {}
    monkeypatch.setenv(COORDINATOR, str(tmp_path))
    file = tmp_path / "coordinator.toml"
    file.write_text('host = "localhost"\nsites = ["oslo"]\n[images]\noslo = 900\n')
    assert registered_images() == {"oslo": 900}
    for number in ("0", "-1", '"many"', "[1]"):
        file.write_text(f'host = "localhost"\nsites = ["oslo"]\n[images]\noslo = {number}\n')
        with pytest.raises(UsageError, match=r"images\.oslo"):
            registered_images()
