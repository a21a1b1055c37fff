"""A whole config: its sections, and the checks across them."""

import re
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from fedpolyp.algorithms.finding import BUILT_IN, find
from fedpolyp.config.sections.algorithm import AlgorithmConfig
from fedpolyp.config.sections.data import DataConfig
from fedpolyp.config.sections.federation import FederationConfig
from fedpolyp.config.sections.hospitals import HospitalsConfig
from fedpolyp.config.sections.model import ModelConfig
from fedpolyp.config.sections.privacy import PrivacyConfig
from fedpolyp.config.sections.runtime import RuntimeConfig
from fedpolyp.config.sections.training import TrainingConfig
from fedpolyp.errors import UsageError
from fedpolyp.section import Section, like, sentence

LABEL = re.compile("[a-z0-9][a-z0-9._-]{0,39}")
LABEL_LIKE = "fedavg-muon: lower-case letters, digits, dots and hyphens, 40 at most"


class Config(Section):
    """A whole experiment."""

    seed: int = Field(0, ge=0, lt=2**31, description="fixes the partition, the initial weights and every random draw")
    arm_label: Annotated[str | None, like(LABEL.pattern, f"like {LABEL_LIKE}")] = Field(
        None,
        description="name of this arm in comparisons and reports; unset: that of its algorithm",
    )
    data: DataConfig = DataConfig()
    hospitals: HospitalsConfig = HospitalsConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    federation: FederationConfig = FederationConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if self.hospitals.val + self.hospitals.test >= 0.9:
            raise ValueError("hospitals.val and hospitals.test together leave less than a tenth for training")
        itself = (self.label, f"fedpolyp.algorithms.{BUILT_IN.get(self.label)}")
        if self.label in BUILT_IN and self.algorithm.name not in itself:
            raise ValueError(
                f"arm_label '{self.label}' is the name of another algorithm than the arm's, {self.algorithm.name}; "
                "choose another label"
            )
        if self.privacy.on and (reason := self._no_privacy()):
            raise ValueError(f"privacy {self.privacy.mode} {reason}")
        if self.privacy.secure_sums and (reason := self._no_secure_sums()):
            raise ValueError(reason)
        if self.algorithm.built_in:
            self._check_algorithm()
        return self

    def _no_privacy(self) -> str:
        """Why the model cannot have privacy; '' if it can."""
        model = self.model
        if model.learns_statistics:
            frozen = " and --frozen-statistics" if model.encoder != "plain" else ""
            return (
                "needs a normalization that treats each image separately: --normalization group (or none)"
                f"{frozen}; batch mixes images, and its statistics would reveal them"
            )
        if model.encoder != "plain" and model.encoder_rate not in (0.0, 1.0):
            return f"needs --encoder-rate 0 or 1: the server's optimizer cancels any other; got {model.encoder_rate:g}"
        return ""

    def _no_secure_sums(self) -> str:
        """Why the settings cannot have secure sums; '' if they can."""
        if self.privacy.mode == "joint" and self.federation.weights == "equal":
            return (
                "privacy joint takes --weights images: with equal ones a small hospital's images would need more noise "
                "than large hospitals add; got equal"
            )
        if self.federation.max_weight is not None or self.federation.per_step:
            return (
                "secure sums take a mean with weights that each hospital knows by itself: not --max-weight, nor "
                "--per-step"
            )
        if self.training.optimizer_state == "average" and not self.privacy.on:
            return (
                "secure sums use fixed-point numbers, and an optimizer's moments are too small for them: "
                "--optimizer-state reset or keep; got average"
            )
        return ""

    def _check_algorithm(self) -> None:
        """
        Raises:
            ValueError: the algorithm, which is imported, cannot be used in this config.
        """
        kind = find(self.algorithm.name)
        if self.privacy.secure_sums and not kind.takes_sums():
            raise ValueError(
                "secure sums are for algorithms that make a weighted mean of what hospitals send, as fedavg, fedprox, "
                f"fedbn or fedadam; got {self.algorithm.name}"
            )
        if self.privacy.on and not kind.takes_gradients:
            known = ", ".join(name for name in BUILT_IN if find(name).takes_gradients)
            raise ValueError(
                f"privacy {self.privacy.mode} needs an algorithm whose server takes the steps ({known}); got "
                f"{self.algorithm.name}"
            )
        if reason := kind.refuse(self, self.algorithm.settings):
            raise ValueError(reason)

    @property
    def of_a_step(self) -> list[Any]:
        """The settings that decide what a hospital computes of its images, as plain values: for digests of requests."""
        return [
            self.data.image_size,
            self.model.architecture.model_dump(mode="json"),
            self.training.model_dump(mode="json"),
        ]

    def ready(self) -> "Config":
        """The same, for an experiment that will be carried out: checked by its algorithm, which is imported.

        All settings of the algorithm are written out.

        Raises:
            UsageError: there is no such algorithm, or it refuses the config.
        """
        if self.algorithm.built_in:
            return self
        try:
            self._check_algorithm()
            return self.model_copy(update={"algorithm": self.algorithm.ready()})
        except ValidationError as error:
            raise UsageError(sentence(error)) from None
        except ValueError as error:
            raise UsageError(str(error)) from None

    def ready_to_partition(self) -> "Config":
        """The same, for images that will be partitioned: checked by its scheme, which is imported.

        A run that has its partition does not need the scheme any more, nor does a real site, which has its own images.

        Raises:
            UsageError: there is no such scheme, or one of its settings is out of bounds.
        """
        if self.hospitals.built_in:
            return self
        try:
            return self.model_copy(update={"hospitals": self.hospitals.ready()})
        except ValueError as error:
            raise UsageError(str(error)) from None

    @property
    def data_seed(self) -> int:
        """The seed of the drawn images and the partition."""
        return self.seed if self.data.seed is None else self.data.seed

    @property
    def federated(self) -> bool:
        """Whether hospitals train, each on its own images; not in the reference arms, pooled and local.

        Imports the algorithm.
        """
        return find(self.algorithm.name).federated

    @property
    def label(self) -> str:
        """The arm's name in a comparison."""
        return self.arm_label or label_of(self.algorithm.name)


def label_of(algorithm: str) -> str:
    """The label of an arm of `algorithm`: its name; for one given as module:Class, the class's."""
    return algorithm.rpartition(":")[2].lower()
