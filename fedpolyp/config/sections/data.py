"""`[data]`: the images."""

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from fedpolyp.data import places
from fedpolyp.data.places import PHANTOM
from fedpolyp.section import NO_TEXT, Section
from fedpolyp.text import printable

CHECKED: Final = "checked"
AS_THEY_ARE: Final = "as-they-are"
_LESION_VALUE = re.compile(r"\d{1,5}|#[0-9a-fA-F]{6}")


def _lesion_values(given: Any) -> Any:
    """Lesion values given as the text '1,2', the list [1, 2] or the number 1, as text."""
    if given is None:
        return None
    words = [str(word).strip() for word in (given if isinstance(given, list) else str(given).split(","))]
    right = all(_LESION_VALUE.fullmatch(word) and (word[0] == "#" or int(word) < 2**16) for word in words)
    if not words or not right or len({word[0] == "#" for word in words}) > 1:
        raise ValueError(
            "lesion_values must be whole numbers from 0 to 65535, as in 1,2, or colours, as in #ff0000,#00ff00; "
            f"got '{given}'"
        )
    return ",".join(words)


Masks = Annotated[
    Literal["checked", "as-they-are"],
    Field(description="checked: stop if the masks look wrong; as-they-are: accept them"),
]
LesionValues = Annotated[
    str | None,
    BeforeValidator(_lesion_values),
    Field(description="mask values that are lesion, such as 1,2, or colours; unset: decided from all masks"),
]


def _expression(given: str | None) -> str | None:
    try:
        re.compile(given or "")
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"group_by must be a regular expression; got '{given}': {error}") from None
    return given


GroupBy = Annotated[
    str | None,
    AfterValidator(_expression),
    Field(
        description="regular expression, e.g. '^(p[0-9]+)_': images with the same match in their names stay together"
    ),
]


class DataConfig(Section):
    """Which images, at what size, and which of them no hospital ever sees."""

    source: str | dict[str, str] = Field(
        PHANTOM,
        description="'phantom' for synthetic images, or a folder of images and masks (or .zip, .tar.gz, IMAGES:MASKS, "
        ".csv); repeat the option for several sources, each with a name: kvasir=FOLDER",
    )
    group_by: GroupBy = None
    image_size: int = Field(128, ge=32, le=1024, multiple_of=16, description="side of the square images, pixels")
    held_out: float = Field(0.12, gt=0, lt=0.9, description="fraction of the images in the held-out set")
    seed: int | None = Field(
        None, ge=0, lt=2**31, description="seed of the phantom and of the partition; unset: the experiment's seed"
    )
    lists: str | None = Field(
        None, description="folder with train.txt and val.txt: val.txt becomes the held-out set instead of a random one"
    )
    unseen: str | None = Field(
        None, description="names of sources that no hospital gets, such as clinicdb,etis; models are scored on them"
    )
    unseen_every: int = Field(5, ge=1, description="number of rounds between two scores on unseen sources")
    masks: Masks = CHECKED
    lesion_values: LesionValues = None
    phantom_images: int = Field(320, ge=20, le=100_000, description="how many frames the phantom draws")
    phantom_looks: int = Field(5, ge=1, le=1000, description="number of looks (scope and lamp) of the phantom's frames")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not isinstance(self.source, str):
            if not self.source:
                raise ValueError("data.source names no source")
            for name, place in self.source.items():
                if not places.NAME.fullmatch(name):
                    raise ValueError(f"the name of a source has {places.NAME_LIKE}; got '{printable(name, 80)}'")
                if not place or NO_TEXT.search(place):
                    raise ValueError(
                        f"data.source.{name} must be a path in UTF-8 without a NUL character; got {place!r}"
                    )
        return self

    @property
    def places(self) -> dict[str, str]:
        """The places of the images, by the sources' names; '' is the name of the only one."""
        return places.by_name(self.source)

    @property
    def called(self) -> str:
        """A short name for the images."""
        return places.called(self.source)

    @property
    def unseen_sources(self) -> tuple[str, ...]:
        """The sources that no hospital has."""
        return tuple(name.strip() for name in (self.unseen or "").split(",") if name.strip())
