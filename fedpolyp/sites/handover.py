"""How a run at real sites reaches the ServerApp: by a name, for what Flower is told of a run it tells every site.

'fedpolyp site run' writes down where the run folder lies, in a file that the run's name names; the ServerApp, which the
coordinator's SuperLink starts, looks there. So no path of the coordinator's travels.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from fedpolyp.errors import FedpolypError
from fedpolyp.files import read_bytes, write_text
from fedpolyp.runs import RunFolder
from fedpolyp.sites.settings import CoordinatorSettings

# The coordinator's folder, in the environment of the SuperLink and so of what it starts.
COORDINATOR = "FEDPOLYP_COORDINATOR"
_MOST_BYTES = 1 << 20
_NAME = re.compile(r"[0-9a-f]{32}")


def name_at_sites(run: RunFolder) -> str:
    """By which real sites know `run`; it tells nothing of where it lies or what it is called."""
    return hashlib.sha256(read_bytes(run.path / "environment.json", _MOST_BYTES)).hexdigest()[:32]


def hand_over(run: RunFolder, coordinator: Path) -> str:
    """Let the ServerApp of the coordinator in the folder `coordinator` find `run`; returns the name to give it."""
    name = name_at_sites(run)
    write_text(_file(coordinator, name), str(run.path.resolve()))
    return name


def handed_over(name: str) -> RunFolder:
    """The run that was handed over by `name`.

    Raises:
        FedpolypError: this process was not started by a coordinator, or there is no such run.
    """
    coordinator = os.environ.get(COORDINATOR)
    if coordinator is None:
        raise FedpolypError(f"{COORDINATOR} is not set: runs at sites need the SuperLink of 'fedpolyp site serve'")
    file = _file(Path(coordinator), name)
    try:
        if _NAME.fullmatch(name):
            return RunFolder(Path(read_bytes(file, _MOST_BYTES).decode()))
    except (OSError, UnicodeDecodeError):
        pass
    raise FedpolypError(f"no run was handed over as '{name}': 'fedpolyp site run' starts runs at sites")


def registered_images() -> Mapping[str, int]:
    """How many images were registered for sites in the coordinator.toml of the coordinator that started this process.

    Raises:
        UsageError: it cannot be read.
    """
    coordinator = os.environ.get(COORDINATOR)
    return {} if coordinator is None else CoordinatorSettings.load(Path(coordinator)).images


def _file(coordinator: Path, name: str) -> Path:
    return coordinator / "submitted" / name
