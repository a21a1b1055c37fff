"""`[hospitals]`: how images are assigned to hospitals."""

from typing import Any, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from fedpolyp.data.partition.finding import SCHEMES, find
from fedpolyp.section import Section, sentence


class HospitalsConfig(Section):
    """How the images that are not held out are assigned to hospitals: a scheme, with its own settings."""

    model_config = ConfigDict(extra="allow")

    count: int = Field(
        5, ge=1, le=10_000, description="number of hospitals (the schemes source and file set their own)"
    )
    scheme: str = Field("iid", description=f"how images are assigned to hospitals: {', '.join(SCHEMES)}")
    skew: float = Field(
        0.5,
        ge=0,
        le=1,
        description="strength of lesion-size, appearance and acquisition: 0 is like iid, 1 as skewed as can be",
    )
    min_images: int = Field(
        3, ge=3, le=1_000_000, description="fewest images of a hospital; with fewer, the partition is refused"
    )
    val: float = Field(0.1, ge=0, lt=0.5, description="fraction of each hospital's images kept for validation")
    test: float = Field(0.1, ge=0, lt=0.5, description="fraction of each hospital's images kept for its own test")
    partition: str | None = Field(
        None, description="a partition.json, as 'fedpolyp hospitals' saves one; it replaces all of the above"
    )
    partition_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 of that file; unset: noted when the run begins"
    )

    @model_validator(mode="after")
    def _own(self) -> Self:
        self.__pydantic_extra__ = self.settings.model_dump()  # its defaults are written out with all others
        return self

    @property
    def own(self) -> dict[str, Any]:
        """The scheme's own settings, by name."""
        return dict(self.model_extra or {})

    @property
    def settings(self) -> Section:
        """The scheme's own settings, checked by its `Settings`.

        Raises:
            ValueError: there is no such scheme, or a setting is unknown or out of bounds.
        """
        kind = find(self.scheme).Settings
        try:
            return kind.model_validate(self.own)
        except ValidationError as error:
            raise ValueError(sentence(error, "hospitals.")) from None
