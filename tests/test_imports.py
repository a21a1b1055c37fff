"""Where this program, and what it starts, import from."""

import json
import os
import subprocess
import sys
from pathlib import Path

from fedpolyp.imports import kept
from tests.hostile_folder import HOSTILE, executed, hostile_folder
from tests.test_command_line import ROOT

SCRIPT = """
import json, os, sys
sys.argv = ["fedpolyp", "--version"]
from fedpolyp.__main__ import main
try:
    main()
except SystemExit:
    print(json.dumps([sys.path, os.environ.get("PYTHONPATH"), os.environ["PYTHONSAFEPATH"]]))
"""


def test_the_working_folder_is_on_the_path_neither_of_the_program_nor_of_what_it_starts(tmp_path: Path) -> None:
    folder = hostile_folder(tmp_path / "own", *HOSTILE)
    given = os.pathsep.join([str(ROOT), "", ".", str(folder), str(tmp_path)])
    environment = os.environ | {"PYTHONPATH": given}
    command = [sys.executable, "-P", "-c", SCRIPT]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    path, passed_on, safe = json.loads(done.stdout.splitlines()[-1])
    assert str(folder) not in path and "" not in path and "." not in path
    assert str(ROOT) in path and str(tmp_path) in path
    assert (passed_on, safe) == (f"{ROOT}{os.pathsep}{tmp_path}", "1")
    assert executed(folder) == []


def test_an_installation_in_the_working_folder_stays(monkeypatch: object) -> None:
    here = os.getcwd()
    os.chdir(ROOT)
    try:
        assert kept(["", ".", str(ROOT), "/elsewhere"]) == [str(ROOT), "/elsewhere"]
    finally:
        os.chdir(here)
