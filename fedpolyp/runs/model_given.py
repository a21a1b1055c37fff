"""The saved model that a user means: a file, or a run."""

from pathlib import Path
from typing import Literal

from fedpolyp.errors import UsageError
from fedpolyp.runs.folder import RunFolder


def model_given(place: Path, kind: Literal["last", "best"] = "last") -> Path:
    """The .keras file `place`, or the final model of the run in the folder `place`.

    Raises:
        UsageError: it is neither.
    """
    run = RunFolder(place)
    if run.config_file.exists():
        if (file := run.model_file(kind)).exists():
            return file
        own = sorted(path.name for path in place.glob(f"model-{kind}-*.keras"))
        raise UsageError(
            f"{place} has no model of all hospitals; name one of theirs: {', '.join(own[:4])}"
            if own
            else f"{place} has no model-{kind}.keras: it is not finished"
        )
    if place.suffix == ".keras" and place.is_file():
        return place
    raise UsageError(f"a model is a run, or a file saved as .keras; got '{place}'")
