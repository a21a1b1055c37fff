"""`[privacy]`: what hospitals protect about their images."""

from typing import Literal, Self

from pydantic import Field, model_validator

from fedpolyp.section import Section


class PrivacyConfig(Section):
    """Differential privacy and secure sums: what hospitals protect about their images."""

    mode: Literal["off", "local", "joint"] = Field(
        "off",
        description="local: each hospital sends one gradient a round, clipped image by image, with its own noise; "
        "joint: with a share of the noise that the secure sum needs; off: ordinary training, without a guarantee",
    )
    epsilon: float = Field(
        8.0,
        gt=0,
        le=1e9,
        description="the guarantee for all rounds together; smaller is stronger, and 1e9 is clipping alone, without a "
        "guarantee",
    )
    delta: float = Field(1e-3, gt=0, lt=1, description="of the guarantee; below 1 / units of the smallest hospital")
    clip: float = Field(1.0, gt=0, le=1e6, description="length to which the gradient of a unit is clipped")
    unit: Literal["group", "image", "patient"] = Field(
        "group",
        description="what the guarantee protects: a group of near-duplicates (or of a patient), an image, or a "
        "patient; patients must be known for all images (group_by, or a CSV with a column patient)",
    )
    secure_sums: bool = Field(
        False, description="hospitals mask their updates, so that the coordinator can read only their sum"
    )
    secure_least: int = Field(3, ge=2, le=1000, description="secure sums: the fewest hospitals whose sum may be read")
    colluders: int = Field(
        1,
        ge=0,
        le=998,
        description="secure sums: how many hospitals may tell the coordinator all they know without harm to others",
    )

    @model_validator(mode="after")
    def _hides_something(self) -> Self:
        if self.mode == "joint" and not self.secure_sums:
            raise ValueError(
                "privacy joint needs secure sums (--secure-sums): the noise of one hospital alone protects too little"
            )
        if self.secure_sums and self.secure_least < self.colluders + 2:
            raise ValueError(
                f"a sum over {self.secure_least} hospitals of which {self.colluders} tell all they know hides nothing: "
                f"privacy.secure_least must be {self.colluders + 2} at least, or privacy.colluders smaller"
            )
        return self

    @property
    def on(self) -> bool:
        """Whether the run has differential privacy."""
        return self.mode != "off"

    @property
    def sharers(self) -> int:
        """How many hospitals make the noise of a sum together: the fewest in a sum that keep their share secret."""
        return self.secure_least - self.colluders if self.mode == "joint" else 1

    def sigma(self, rounds: int) -> float:
        """The noise that this number of rounds needs, in units of the clip."""
        from fedpolyp.privacy.accounting import sigma_for  # SciPy takes a moment

        return sigma_for(self.epsilon, self.delta, rounds)
