"""Formats have names, and one whose packages are missing says what to install."""

import importlib.util

import pytest

from fedpolyp.errors import UsageError
from fedpolyp.inference.export.finding import find, make
from fedpolyp.inference.export.formats import FORMATS


def test_each_file_is_one_format() -> None:
    assert FORMATS == ("huggingface", "litert", "monai", "onnx", "savedmodel")
    assert len({find(name) for name in FORMATS}) == len(FORMATS)


def test_an_unknown_format_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match="--to must be one of huggingface, litert, monai, onnx, savedmodel; got 'x'"):
        make("x")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "onnx",
            "--to onnx needs tf2onnx, onnxruntime, which are not installed: pip install --editable '.[export-onnx]'",
        ),
        ("monai", "--to monai needs tf2onnx, onnxruntime, which are not installed: "),
        (
            "litert",
            "--to litert needs ai-edge-litert, which is not installed: pip install --editable '.[export-litert]'",
        ),
    ],
)
def test_without_its_packages_a_format_says_what_to_install(
    name: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    gone = ("tf2onnx", "onnxruntime", "ai_edge_litert")
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module in gone else there(module))
    with pytest.raises(UsageError) as refused:
        make(name)
    assert str(refused.value).startswith(sentence)
    make("savedmodel"), make("huggingface")
