"""What is exported: a model, what it says of itself, and what is known of its run where that is here."""

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fedpolyp.data.store import Store
from fedpolyp.experiment.analysis import Analysis, Arm, analyse
from fedpolyp.inference.about import About
from fedpolyp.inference.predictor import Predictor
from fedpolyp.runs import RunFolder


@dataclass(frozen=True, eq=False)
class Subject:
    """One model."""

    predictor: Predictor
    kind: Literal["last", "best"]
    run: RunFolder | None = None  # that it was named by; None where a file was named
    analysis: Analysis | None = None  # of the run's scores; None without a run, or without held-out images

    @classmethod
    def load(cls, place: Path, kind: Literal["last", "best"] = "last") -> "Subject":
        """The model in a .keras file, or the last or best one of a run.

        Raises:
            UsageError: there is none.
            FedpolypError: it, or its run, is damaged.
        """
        predictor, run = Predictor.load(place, kind), RunFolder(place)
        if not run.config_file.exists():
            return cls(predictor, "last" if predictor.about is None else predictor.about.kind)
        scored = run.images_file.exists() and run.partition().heldout
        return cls(predictor, kind, run, analyse([run]) if scored else None)

    @property
    def about(self) -> About | None:
        """What the model says of itself."""
        return self.predictor.about

    @property
    def arm(self) -> Arm | None:
        """The run's scores."""
        return None if self.analysis is None else self.analysis.arms[0]

    @property
    def store(self) -> Store | None:
        """The run's images, where they are here and the same."""
        return None if self.analysis is None else self.analysis.store

    @property
    def at_sites(self) -> bool:
        """Whether it learnt from images of real sites, of which nobody else knows; the settings' are held out then."""
        return self.about is not None and not self.about.learnt_from

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The run's settings by section, as the model has them: nothing in them is checked."""
        if self.about is None:
            return {}
        try:
            settings = tomllib.loads(self.about.config)
        except (ValueError, RecursionError):
            return {}
        if self.at_sites and not self.about.heldout and isinstance(settings.get("data"), dict):
            settings["data"].pop("source", None)  # a default that means nothing there
        return settings

    @cached_property
    def sha256(self) -> str:
        """Of the .keras file."""
        return hashlib.sha256(self.predictor.path.read_bytes()).hexdigest()
