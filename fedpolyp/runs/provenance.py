"""Where and with what a run is made."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedpolyp import __version__, processor

_PACKAGES = ("tensorflow", "keras", "flwr", "ray", "numpy", "opencv-python")


def _commit(root: Path) -> str:
    """The commit of a checkout, with '+' if files were changed since; '' for an installed package."""
    if not (root / ".git").exists():
        return ""
    git = ["git", "-C", str(root)]
    try:
        said = [
            subprocess.run([*git, *words], capture_output=True, text=True, timeout=10, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return ""
    return said[0] + ("+" if said[1] else "")


def environment(store: Path | None = None) -> dict[str, Any]:
    """Where and with what a run was made: versions, processor, command, images."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor.name(),
        "kernels": processor.kernels(),
        "cores": os.cpu_count(),
        "store": None if store is None else str(store.resolve()),
        **({"commit": commit} if (commit := _commit(Path(__file__).parents[2])) else {}),
        "packages": {"fedpolyp": __version__, **{name: version(name) for name in _PACKAGES}},
    }
