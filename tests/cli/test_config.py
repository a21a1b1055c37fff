import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from fedpolyp import cli
from fedpolyp.algorithms.finding import BUILT_IN, settings_of
from fedpolyp.cli import options
from fedpolyp.cli.options import Given
from fedpolyp.config import Config, load
from fedpolyp.section import Section
from tests.command import exit_code

HEAVY = ("tensorflow", "keras", "ray", "flwr", "matplotlib")


def config(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    return exit_code(monkeypatch, "config", *arguments)


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


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "fedyogi", "krum"])
def test_an_algorithms_own_settings_are_printed_beside_its_name_with_their_meaning(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config(monkeypatch, "--algorithm", name) == 0
    printed = capsys.readouterr().out
    table = printed[printed.index("[algorithm]") :].split("\n\n")[0].splitlines()
    own = settings_of(name).model_fields
    assert table[1].startswith(f'name = "{name}" ') and len(table) == 2 + len(own)
    for line, (setting, field) in zip(table[2:], own.items(), strict=True):
        assert line.startswith(f"{setting} = {json.dumps(field.default)} ") and line.endswith(f"# {field.description}")


def test_an_algorithms_own_setting_is_given_by_its_option_or_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for given in (["--mu", "0.5"], ["--set", "algorithm.mu=0.5"]):
        assert config(monkeypatch, "--algorithm", "fedprox", *given) == 0
        assert "\nmu = 0.5 " in capsys.readouterr().out
    assert config(monkeypatch, "--algorithm", "fedavg", "--mu", "0.5") == 2
    assert "algorithm.mu is not a setting" in capsys.readouterr().err
    assert config(monkeypatch, "--set", "algorithm.mu") == 2
    assert "--set takes NAME=VALUE, for example --set algorithm.mu=0.1; got 'algorithm.mu'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["simulate", "config"])
def test_the_help_names_every_setting_those_of_all_algorithms_among_them(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    exit_code(monkeypatch, command, "--help")
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    options = {word.strip(",") for word in said.split() if word.startswith("--")}
    for algorithm in BUILT_IN:
        for setting, field in settings_of(algorithm).model_fields.items():
            assert f"--{setting.replace('_', '-')}" in options
            assert str(field.description) in said
    for name, section in Config():
        for member, field in getattr(type(section), "model_fields", {}).items():
            assert str(field.description) in said, f"{name}.{member}"
    assert {"--algorithm", "--arm-label", "--set"} <= options


def test_a_value_out_of_bounds_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert config(monkeypatch, "--rounds", "-1") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "fedpolyp: federation.rounds must be greater than or equal to 0; got -1\n"


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


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["--rounds", "5", "--set", "federation.rounds=7"],
            "federation.rounds is given twice: with --set",
        ),
        (
            ["--set", "federation.rounds=5", "--set", "federation.rounds=7"],
            "federation.rounds is given twice with --set",
        ),
        (
            ["--set", "federation={rounds = 7}"],
            "--set takes one setting, for example --set algorithm.mu=0.1; got '",
        ),
    ],
)
def test_one_setting_is_given_once(
    given: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config(monkeypatch, *given) == 2
    assert said in capsys.readouterr().err


class Strange(Section):
    """Settings of an algorithm that does not know the command line."""

    rounds: int = Field(3, description="as --rounds is called")
    resume: str = Field("", description="as --resume of simulate is called")
    set: int = Field(1, description="as --set is called")
    table: dict[str, int] = Field({}, description="nothing that an option gives")
    own: float = Field(0.5, description="its own")


def test_algorithms_of_packages_are_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(name: str) -> type[Section]:
        if name == "broken":
            raise SyntaxError("in a package of somebody's")
        return Strange if name == "strange" else settings_of(name)

    monkeypatch.setattr(options, "known", lambda: [*BUILT_IN, "broken", "strange"])
    monkeypatch.setattr(options, "settings_of", settings)

    def command(given: Given, resume: str | None = None) -> None:
        """Do nothing."""

    names = list(inspect.signature(options.with_settings()(command)).parameters)
    assert len(names) == len({*names}) and "own" in names and "table" not in names
    app = typer.Typer()
    app.command()(options.with_settings()(command))
    assert CliRunner().invoke(app, ["--rounds", "5", "--own", "0.25"]).exit_code == 0


def test_held_out_is_the_same_option_in_every_command() -> None:
    """A fraction; the coordinator's folder of images has an option of its own."""
    found: dict[str, set[str]] = {}
    below = [typer.main.get_command(cli.app)]
    while below:
        command = below.pop()
        below += getattr(command, "commands", {}).values()
        for one in command.params:
            for option in one.opts:
                if "held" in option:
                    found.setdefault(option, set()).add(one.type.name)
    assert found == {"--held-out": {"float"}, "--held-out-camera": {"boolean"}, "--held-out-data": {"path"}}


def test_a_meaning_that_algorithms_share_is_told_once() -> None:
    help = CliRunner().invoke(cli.app, ["simulate", "--help"], env={"COLUMNS": "300"}).output
    assert help.count("how many hospitals may lie in a round") == 1
    assert "scaled crops and colour [on]" in help and "[False]" not in help
    assert help.count("decay of the mean of their squares") == 2  # of FedAdam and of FedYogi
