"""Charts that readers can read."""

import pytest
from matplotlib.figure import Figure

from fedpolyp.report.charts import _legend


@pytest.mark.parametrize(
    "labels", [["a", "b"], ["Pooled", *["Fine-tuned FedAvg, global model"] * 4], ["long label"] * 9]
)
def test_no_label_of_a_legend_is_cut_off(labels: list[str]) -> None:
    figure = Figure(figsize=(4.4, 3), layout="constrained")
    axes = figure.subplots()
    for label in labels:
        axes.plot([0, 1], label=label)
    _legend(axes, 4)
    figure.draw_without_rendering()
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == labels
    assert all(text.get_window_extent().x1 <= figure.bbox.width for text in legend.get_texts())
