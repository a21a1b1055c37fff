"""What an actor does first in a test that counts: everything as ever, and a line in a file for whatever is done."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = "FEDPOLYP_TEST_COUNTS"


def setup() -> None:
    """Load the trainer; what is built, traced and opened from then on is written to a file of this process."""
    from fedpolyp import network
    from fedpolyp.data.store import Store
    from fedpolyp.model import registry

    file = Path(os.environ[FOLDER]) / str(os.getpid())

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            with file.open("a") as lines:
                lines.write(f"{name}\n")
            return function(*arguments, **named)

        return counting

    registry.build = counted("model", registry.build)
    network.Network._step = counted("training step traced", network.Network._step)  # type: ignore[method-assign]
    network.Network._scores = counted("scoring traced", network.Network._scores)  # type: ignore[method-assign]
    Store.open = counted("store", Store.open)  # type: ignore[method-assign]
