"""Hands a run at real sites to the ServerApp: by a name, because Flower tells every site what it knows about a run.

'fedpolyp site run' writes the path of the run folder to a file with that name. The ServerApp, which the coordinator's
SuperLink starts, reads it there. So no path of the coordinator is sent to the sites.
"""

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from fedpolyp.config import Config
from fedpolyp.errors import FedpolypError
from fedpolyp.files import read_bytes, write_text
from fedpolyp.runs import RunFolder
from fedpolyp.sites.roster import roster_to_send
from fedpolyp.sites.settings import CoordinatorSettings

# The coordinator's folder, in the environment of the SuperLink and of the processes that it starts.
COORDINATOR = "FEDPOLYP_COORDINATOR"
_MOST_BYTES = 1 << 20
_NAME = re.compile(r"[0-9a-f]{32}")


def name_at_sites(run: RunFolder) -> str:
    """The name by which real sites know `run`; it reveals neither its path nor its folder's name."""
    return hashlib.sha256(read_bytes(run.path / "environment.json", _MOST_BYTES)).hexdigest()[:32]


def hand_over(run: RunFolder, coordinator: Path) -> str:
    """Let the ServerApp of the coordinator in the folder `coordinator` find `run`; returns the name for it."""
    name = name_at_sites(run)
    write_text(_file(coordinator, name), str(run.path.resolve()))
    return name


def handed_over(name: str) -> RunFolder:
    """The run that was handed over as `name`.

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
    """How many images the coordinator.toml of the coordinator that started this process registers for each site.

    Raises:
        UsageError: it cannot be read.
    """
    coordinator = os.environ.get(COORDINATOR)
    return {} if coordinator is None else CoordinatorSettings.load(Path(coordinator)).images


def roster_for(config: Config, sites: Collection[str]) -> str:
    """The signed roster of mask keys that the coordinator that started this process sends; '' without secure sums.

    Raises:
        UsageError: there is none, or it lacks one of `sites`.
    """
    coordinator = os.environ.get(COORDINATOR)
    if coordinator is None or not config.privacy.secure_sums:
        return ""
    return roster_to_send(CoordinatorSettings.load(Path(coordinator)), sites)


def _file(coordinator: Path, name: str) -> Path:
    return coordinator / "submitted" / name
