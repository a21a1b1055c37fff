"""The record of a round."""

import json

from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.runs import RoundRecord

PARTITION = Partition(("a",), {"hospital-1": HospitalImages(("b",), ("c",), ("d",))})


def test_a_round_record_becomes_the_promised_line() -> None:
    record = RoundRecord(4, scores={"dice": 0.5, "iou": 0.4, "loss": 1.5}, val_dice=0.6)
    record.hospital("hospital-1")["images"] = 3
    record.hospital("hospital-1")["train_loss"] = 0.1
    plain = record.to_plain()
    promised = "round dice iou val_dice loss seconds steps bytes_up bytes_down hospitals refused"
    assert list(plain) == promised.split()
    assert plain["hospitals"] == {"hospital-1": {"images": 3, "train_loss": 0.1}}
    assert json.loads(json.dumps(plain)) == plain
