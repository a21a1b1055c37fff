import subprocess
import sys
from pathlib import Path

import pytest

from fedpolyp import cli
from fedpolyp.config import Config, load

HEAVY = ("tensorflow", "keras", "ray", "flwr", "matplotlib")


def config(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["fedpolyp", "config", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_printed_config_loads_back_to_what_the_options_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "given.toml").write_text("[hospitals]\ncount = 9\n[training]\nlearning_rate = 0.01\n")
    arguments = ["--preset", "seed", "--config", str(tmp_path / "given.toml"), "--hospitals", "7", "--data", "[b]/x"]
    monkeypatch.chdir(tmp_path)
    assert config(monkeypatch, *arguments) == 0
    (tmp_path / "printed.toml").write_text(capsys.readouterr().out)
    read = load(tmp_path / "printed.toml")
    assert (read.hospitals.count, read.training.learning_rate, read.training.loss) == (7, 0.01, "bce")
    assert read.data.source == str(tmp_path / "[b]" / "x")


def test_every_setting_is_explained(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    config(monkeypatch)
    printed = capsys.readouterr().out
    for _, section in Config():
        for field in getattr(type(section), "model_fields", {}).values():
            assert f"# {field.description}" in printed


def test_a_value_out_of_bounds_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert config(monkeypatch, "--rounds", "0") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "fedpolyp: federation.rounds must be greater than or equal to 1; got 0\n"


@pytest.mark.parametrize("arguments", [["--help"], ["config"], ["runs"], ["data", "--help"], ["data", "ingest", "/no"]])
def test_nothing_heavy_is_imported_by_light_commands(arguments: list[str], tmp_path: Path) -> None:
    program = f"""
import sys
from fedpolyp.cli import main
sys.argv = ["fedpolyp", *{arguments}]
try:
    main()
except SystemExit:
    pass
print("imported:", *(name for name in {HEAVY} if name in sys.modules))
"""
    root = Path(cli.__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert ended.stdout.splitlines()[-1].strip() == "imported:", ended.stderr


def test_a_folder_of_an_unknown_user_is_a_folder_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config(monkeypatch, "--data", "~nobody-of-that-name/images") == 0
    assert '/~nobody-of-that-name/images"' in capsys.readouterr().out
