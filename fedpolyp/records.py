"""The records of rounds.jsonl as they are read back: types and names are checked, for somebody else may write them."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fedpolyp.errors import FedpolypError
from fedpolyp.names import check_hospital, shown

_Count = Annotated[int, Field(ge=0, lt=2**62)]
_Name = Annotated[str, AfterValidator(check_hospital)]


class _Read(BaseModel):
    # What a later version adds is let through.
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Hospital(_Read):
    images: _Count = 0
    train_loss: float = 0.0
    val_dice: float = 0.0
    test_dice: float = 0.0


class _Refusal(_Read):
    hospital: str
    reason: str


class _Record(_Read):
    round: _Count
    dice: float
    iou: float
    val_dice: float | None
    loss: float | None  # null: it was not finite
    seconds: float
    steps: _Count = 0  # the oldest runs have none
    bytes_up: _Count
    bytes_down: _Count
    hospitals: dict[_Name, _Hospital]
    refused: list[_Refusal]


def checked(record: dict[str, Any], where: str) -> dict[str, Any]:
    """`record`, which is a round's.

    Raises:
        FedpolypError: it is none; the message names `where` and what is wrong.
    """
    try:
        _Record.model_validate(record)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = shown(".".join(str(part) for part in problem["loc"]))
        raise FedpolypError(f"{where} is damaged: {name}: {problem['msg']}") from None
    return record
