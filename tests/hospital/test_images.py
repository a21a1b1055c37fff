"""What a hospital of a simulation has: its camera's images in all its sets, its annotator's masks in training alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedpolyp.data.annotation import Annotation
from fedpolyp.data.camera import Camera
from fedpolyp.data.digest import Digest
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.errors import FedpolypError
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.hospital.in_simulation import images_of, parts_of
from tests.image_tables import make_config, make_store, record

RECORDS = [record(i, i, 0.1) for i in range(12)]
IDS = [r.id for r in RECORDS]
STORE: Any = make_store(RECORDS, side=32)
CAMERA, ANNOTATION = Camera(balance=(0.5, 1.0, 1.0), noise=0.1, seed=3), Annotation(dilation=0.1)
PARTITION = Partition(
    (IDS[11],),
    {
        "a": HospitalImages((IDS[0], IDS[3]), (IDS[1],), (IDS[2],), CAMERA, ANNOTATION),
        "b": HospitalImages((IDS[4], IDS[7]), (IDS[5],), (IDS[6],)),
    },
)


def images(name: str, kind: str, partition: Partition = PARTITION) -> tuple[Any, Any]:
    hospital = Hospital(
        name, make_config(), STORE, images_of(partition, name), Path("state"), parts_of(partition, name)
    )
    return hospital.images(kind)


def test_a_camera_takes_all_sets_of_its_hospital_and_no_others() -> None:
    for kind in ("train", "val", "test"):
        ids = getattr(PARTITION.hospitals["a"], kind)
        rows = STORE.positions(ids)
        assert (images("a", kind)[0] == CAMERA.take(STORE.images[rows], ids)).all()
        assert (images("a", kind)[0] != STORE.images[rows]).any()
        rows = STORE.positions(getattr(PARTITION.hospitals["b"], kind))
        assert (images("b", kind)[0] == STORE.images[rows]).all()


def test_errors_of_annotation_are_in_training_alone() -> None:
    ids = PARTITION.hospitals["a"].train
    assert (images("a", "train")[1] == ANNOTATION.draw(STORE.masks[STORE.positions(ids)], ids)).all()
    assert images("a", "train")[1].sum() > STORE.masks[STORE.positions(ids)].sum()
    for kind in ("val", "test"):
        ids = getattr(PARTITION.hospitals["a"], kind)
        assert (images("a", kind)[1] == STORE.masks[STORE.positions(ids)]).all()


def test_pooled_training_has_each_image_as_its_hospital_has_it() -> None:
    pooled, masks = images("pooled", "train")
    wanted = {}
    for name, own in PARTITION.hospitals.items():
        for row, id in enumerate(own.train):
            wanted[id] = [of[row] for of in images(name, "train")]
    assert len(pooled) == len(wanted) == 4
    for row, id in enumerate(sorted(wanted)):
        assert (pooled[row] == wanted[id][0]).all() and (masks[row] == wanted[id][1]).all()


def test_nothing_of_it_reaches_the_store() -> None:
    before = STORE.images.copy(), STORE.masks.copy()
    images("a", "train")
    assert (STORE.images == before[0]).all() and (STORE.masks == before[1]).all()


def test_the_held_out_set_is_as_it_is_unless_it_has_a_camera() -> None:
    rows = STORE.positions(PARTITION.heldout)
    assert (PARTITION.heldout_of(STORE)[0] == STORE.images[rows]).all()
    taken = Partition(PARTITION.heldout, PARTITION.hospitals, heldout_camera=CAMERA)
    assert (taken.heldout_of(STORE)[0] == CAMERA.take(STORE.images[rows], PARTITION.heldout)).all()
    assert (taken.heldout_of(STORE)[1] == STORE.masks[rows]).all()


def test_a_run_knows_its_partition_by_cameras_and_annotators_too() -> None:
    plain = {name: HospitalImages(own.train, own.val, own.test) for name, own in PARTITION.hospitals.items()}
    others = [
        PARTITION,
        Partition(PARTITION.heldout, plain),
        Partition(PARTITION.heldout, plain, heldout_camera=CAMERA),
        Partition(PARTITION.heldout, plain | {"a": replace(plain["a"], camera=CAMERA)}),
        Partition(PARTITION.heldout, plain | {"b": replace(plain["b"], annotation=ANNOTATION)}),
    ]
    assert len({Digest.of(one, None).partition for one in others}) == 5


@pytest.mark.parametrize(
    ("there", "instead"),
    [('"noise": 0.1', '"noise": -1'), ('"dilation": 0.1', '"dilation": 9'), ('"blur": 0.0', '"blurr": 0.0')],
)
def test_a_saved_camera_out_of_bounds_or_with_an_unknown_property_is_refused(
    tmp_path: Path, there: str, instead: str
) -> None:
    path = tmp_path / "partition.json"
    PARTITION.save(path)
    assert Partition.load(path) == PARTITION
    text = path.read_text()
    assert there in text
    path.write_text(text.replace(there, instead))
    with pytest.raises(FedpolypError, match=r"is not a partition: 'hospitals\.a\."):
        Partition.load(path)
