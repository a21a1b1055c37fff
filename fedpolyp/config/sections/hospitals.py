"""`[hospitals]`: how images are assigned to hospitals."""

from typing import ClassVar

from pydantic import Field

from fedpolyp.config.sections.own import WithOwn
from fedpolyp.data.partition.finding import NAME, NAME_LIKE, SCHEMES, find
from fedpolyp.section import Section, Sha256
from fedpolyp.text import printable


class HospitalsConfig(WithOwn):
    """How the images that are not held out are assigned to hospitals: a scheme, with its own settings."""

    table: ClassVar[str] = "hospitals"

    count: int = Field(
        5, ge=1, le=10_000, description="number of hospitals (the schemes source and file set their own)"
    )
    scheme: str = Field(
        "iid", description=f"how images are assigned to hospitals: {', '.join(SCHEMES)}, or module:Class"
    )
    skew: float = Field(
        0.5,
        ge=0,
        le=1,
        description="strength of lesion-size, appearance and acquisition: 0 is like iid, 1 is the strongest",
    )
    min_images: int = Field(
        3,
        ge=3,
        le=1_000_000,
        description="smallest number of images of a hospital; with fewer, the partition is refused",
    )
    val: float = Field(0.1, ge=0, lt=0.5, description="fraction of each hospital's images kept for validation")
    test: float = Field(0.1, ge=0, lt=0.5, description="fraction of each hospital's images kept for its own test")
    partition: str | None = Field(
        None, description="a partition.json that 'fedpolyp hospitals' saved; replaces the settings above"
    )
    partition_sha256: Sha256 = Field(None, description="SHA-256 of that file; unset: recorded when the run begins")

    @property
    def built_in(self) -> bool:
        """See `WithOwn`."""
        if not NAME.fullmatch(self.scheme):
            raise ValueError(f"hospitals.scheme must be {NAME_LIKE}; got '{printable(self.scheme, 100)}'")
        return self.scheme in SCHEMES

    def _kind(self) -> type[Section]:
        return find(self.scheme).Settings
