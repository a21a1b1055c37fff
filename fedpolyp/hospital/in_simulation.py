"""The images of a hospital in a simulation."""

from fedpolyp.algorithms.pooled import POOLED
from fedpolyp.data.partition.partition import HospitalImages, Partition


def images_of(partition: Partition, name: str) -> HospitalImages:
    """The images of the hospital `name`; for 'pooled', the training images of all.

    Raises:
        ValueError: there is no such hospital in the partition.
    """
    if name in partition.hospitals:
        return partition.hospitals[name]
    if name != POOLED:
        raise ValueError(f"the request names {name}, which is not in the partition")
    return HospitalImages(tuple(sorted(id for own in partition.hospitals.values() for id in own.train)), (), ())


def parts_of(partition: Partition, name: str) -> tuple[HospitalImages, ...]:
    """The hospitals that the images of 'pooled' come from, with their cameras and annotators; otherwise none."""
    return tuple(partition.hospitals.values()) if name == POOLED and name not in partition.hospitals else ()
