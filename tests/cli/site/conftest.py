"""A federation of two sites, before anything is served."""

from pathlib import Path

import pytest

from tests.cli.site.called import fedpolyp


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    said = fedpolyp("init", "--coordinator", "localhost", "--sites", "oslo,bergen", "--out", str(tmp_path / "deploy"))
    assert "keep it offline" in said
    return tmp_path / "deploy"
