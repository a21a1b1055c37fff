"""What is exported: a model, its description, and what is known about its run if that is here."""

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fedpolyp.data.store import Store
from fedpolyp.experiment.analysis import analyse
from fedpolyp.experiment.findings import Analysis, Arm
from fedpolyp.inference.about import About
from fedpolyp.inference.predictor import Predictor
from fedpolyp.runs import RunFolder


@dataclass(frozen=True, eq=False)
class Subject:
    """One model."""

    predictor: Predictor
    kind: Literal["last", "best"]
    run: RunFolder | None = None  # the run that the user named; None if a file was named
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
        """The model's description of itself."""
        return self.predictor.about

    @property
    def arm(self) -> Arm | None:
        """The run's scores."""
        return None if self.analysis is None else self.analysis.arms[0]

    @property
    def store(self) -> Store | None:
        """The run's images, if they are here and unchanged."""
        return None if self.analysis is None else self.analysis.store

    @property
    def at_sites(self) -> bool:
        """Whether it was trained on images of real sites, which only they know; the settings then name the held-out
        images.
        """
        return self.about is not None and not self.about.learnt_from

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The run's settings by section, as in the model; they are not checked."""
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
        """The hash of the .keras file."""
        return hashlib.sha256(self.predictor.path.read_bytes()).hexdigest()
