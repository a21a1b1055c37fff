"""Where tests keep their stores, and where real images are."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def _stores_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the stores that tests make out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDPOLYP_STORES", str(tmp_path_factory.mktemp("stores")))
        yield


@pytest.fixture
def kvasir() -> Path:
    """The folder of Kvasir-SEG's images and masks."""
    folder = os.environ.get("FEDPOLYP_KVASIR")
    if not folder:
        pytest.skip("FEDPOLYP_KVASIR does not name the folder of Kvasir-SEG")
    return Path(folder)
