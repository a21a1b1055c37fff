"""An arm looks the same in every picture, and no two arms of a report look alike."""

from fedpolyp.algorithms.finding import BUILT_IN
from fedpolyp.report.style import Look, looks

OKABE_ITO = {"pooled": "#0072B2", "local": "#009E73", "fedavg": "#D55E00", "fedprox": "#CC79A7"}


def test_built_in_algorithms_have_a_look_of_their_own_that_nothing_changes() -> None:
    every = looks(BUILT_IN)
    assert {label: every[label].colour for label in OKABE_ITO} == OKABE_ITO
    assert (
        len({look.colour for look in every.values()}) == len({look.marker for look in every.values()}) == len(BUILT_IN)
    )
    assert all(looks([label, "near", "far"])[label] == every[label] for label in BUILT_IN)


def test_another_arms_look_follows_from_its_label_in_whatever_order_and_company() -> None:
    near = looks(["near"])["near"]
    assert looks(["pooled", "local", "near"])["near"] == looks(["near", "fedavg", "local"])["near"] == near
    labels = ["fedavg", *(f"arm-{number}" for number in range(9))]
    assert looks(labels) == looks(reversed(labels))


def test_no_two_arms_of_a_report_look_alike_and_there_is_a_look_for_any_number() -> None:
    labels = ["scaffold", "krum", *(f"arm-{number}" for number in range(9))]
    assert len(set(looks(labels).values())) == len(labels)
    many = looks(f"arm-{number}" for number in range(100))
    assert len(many) == 100 and all(isinstance(look, Look) for look in many.values())
