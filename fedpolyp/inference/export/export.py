"""Writes a model in another format, and keeps the export only if its predictions are the model's."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedpolyp import __version__
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.files import to_json, write_text
from fedpolyp.inference.export.check import BOUND, Check, compare, trial
from fedpolyp.inference.export.format import Format, Written, described
from fedpolyp.inference.export.network import converting
from fedpolyp.inference.export.subject import Subject

FACTS = "export.json"


def export(subject: Subject, name: str, format: Format, out: Path) -> Check:
    """Write the model as `format`, which is called `name`, into the new or empty folder `out`.

    Nothing is left in `out` unless the export's predictions are the model's.

    Raises:
        UsageError: `out` cannot be made.
        FedpolypError: the model cannot be converted, or the export's predictions differ.
    """
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)  # a GPU's rounding must not hide an error
    shown = trial(subject)
    expected = subject.predictor.probabilities(shown.squares)
    with _whole(out) as folder:
        written = format.write(subject, folder)
        with converting(subject, name):
            found = format.probabilities(folder, written, shown.squares)
        check = compare(shown, expected, found, subject.predictor.threshold)
        if not check.passed:
            raise FedpolypError(
                f"the export to {name} is not the model: on {check.images} images ({check.of}) its probabilities "
                f"differ from Keras's by up to {check.difference:.2g}, where {BOUND:g} is allowed; it was not kept"
            )
        _open_to_others(folder)
        write_text(folder / FACTS, to_json(_facts(subject, name, format, written, check, folder), indent=1) + "\n")
    return check


def _facts(subject: Subject, name: str, format: Format, written: Written, check: Check, folder: Path) -> dict[str, Any]:
    file, about, predictor = folder / written.file, subject.about, subject.predictor
    hidden = {"learnt_from", "config"}  # hashes of patients' images stay in the model's own file
    return {
        "format": name,
        "file": written.file,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None,
        **described(written, predictor),
        "check": {
            "against": f"keras {version('keras')}",
            "read_by": format.reader(),
            "images": check.images,
            "of": check.of,
            "largest_difference": check.difference,
            "bound": BOUND,
            "pixels_on_the_other_side_of_the_threshold": check.flipped,
            "lowest_probability": check.low,
            "highest_probability": check.high,
        },
        "versions": {
            "fedpolyp": __version__,
            **{package: version(package) for package in ("tensorflow", "keras", "numpy", *format.needs)},
        },
        "model": {
            "sha256": subject.sha256,
            "says": None if about is None else about.sentence(),
            "about": None if about is None else about.model_dump(exclude=hidden),
            "settings": subject.settings or None,
        },
        "notice": "for research only; not a medical device",
    }


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder whose content is in `out` when the block ends without an exception, and is deleted otherwise.

    Raises:
        UsageError: `out` cannot be made.
    """
    there = out.exists()
    try:
        if not there:
            out.parent.mkdir(parents=True, exist_ok=True)
        # `out` may exist, as a mount or somebody's working folder, and then cannot be replaced.
        draft = Path(tempfile.mkdtemp(prefix=".export.", dir=out if there else out.parent))
    except OSError as error:
        raise UsageError(f"cannot make the folder {out}: {error.strerror}") from None
    moved: list[Path] = []
    try:
        yield draft
        if not there:
            draft.rename(out)
            return
        # The description comes last: once it is there, everything is.
        for path in sorted(draft.iterdir(), key=lambda path: path.name == FACTS):
            moved.append(out / path.name)
            path.rename(moved[-1])
        draft.rmdir()
    except BaseException:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _open_to_others(folder: Path) -> None:
    """Let others read the folder as the process's umask allows: mkdtemp restricts it to one user."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)
