"""The page about parts of one's own is followed to the letter: its examples, in the run that it calls smallest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fedpolyp.runs import RunFolder
from tests.test_command_line import ROOT


@pytest.mark.slow
def test_the_smallest_run_tries_all_examples_at_once(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "extending.md").read_text()
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        file = tmp_path / code.splitlines()[0].removeprefix("# ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
    (command,) = re.findall(r"^PYTHONPATH=.* python (?=tried\.py$)", page, re.MULTILINE)
    shell = f"{command.removesuffix('python ')} exec {sys.executable} tried.py"
    made = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, env=made, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = RunFolder(Path(done.stdout.split(" ")[0]))
    assert [record["round"] for record in run.rounds()] == [0, 1, 2]
    assert len((run.path / "norms.csv").read_text().splitlines()) == 3
    config = run.config()
    assert (config.algorithm.own, config.hospitals.own) == ({"part": 0.5}, {"jitter": 0.1})
