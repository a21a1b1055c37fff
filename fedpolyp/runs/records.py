"""The records of rounds.jsonl as they are read: types and names are checked, because somebody else may write them."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fedpolyp.errors import FedpolypError
from fedpolyp.names import check_hospital, check_id, shown

_Count = Annotated[int, Field(ge=0, le=10**15)]
_Score = Annotated[float, Field(ge=0, le=1)]
_Source = Annotated[str, AfterValidator(check_id)]
_Name = Annotated[str, AfterValidator(check_hospital)]


class _Read(BaseModel):
    # Additions of a later version are accepted.
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Hospital(_Read):
    images: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    val_images: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    test_images: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    train_loss: float = 0.0
    # With privacy on, these replace the images and the loss.
    units: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    epsilon: Annotated[float, Field(ge=0, le=1e9)] | None = None
    # null: the hospital has no such images
    val_dice: _Score | None = None
    test_dice: _Score | None = None
    own_test_dice: _Score | None = None
    # With privacy on, in the last round: as it came, so it may be below 0 or above 1; and the noise in it.
    noisy_test_dice: Annotated[float, Field(ge=-1e6, le=1e6)] | None = None
    noise_deviation: Annotated[float, Field(gt=0, le=1e6)] | None = None


class _Refusal(_Read):
    hospital: str
    reason: str


class _WithoutPolyp(_Read):
    images: Annotated[float, Field(ge=0, le=1_000_000)]
    rate: _Score
    area: _Score


class _Record(_Read):
    round: _Count
    dice: _Score
    iou: _Score
    val_dice: _Score | None
    loss: float | None  # null: it was not finite
    seconds: Annotated[float, Field(ge=0, le=1e9)]
    steps: _Count = 0  # the oldest runs have none
    bytes_up: _Count
    bytes_down: _Count
    hospitals: dict[_Name, _Hospital]
    refused: list[_Refusal]
    without_polyp: _WithoutPolyp | None = None  # there are none
    unseen: dict[_Source, _Score] = {}
    stopped: str = ""
    lost: str = ""


def checked(record: dict[str, Any], where: str) -> dict[str, Any]:
    """`record`, if it is a valid record of a round.

    Raises:
        FedpolypError: it is not; the message names `where` and what is wrong.
    """
    try:
        _Record.model_validate(record)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = shown(".".join(str(part) for part in problem["loc"]))
        raise FedpolypError(f"{where} is damaged: {name}: {problem['msg']}") from None
    return record
