"""What tests share: a place for stores, the real images, and an eye on Ray's processes."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from fedpolyp.processor import choose_kernels
from tests import own_process

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tests.tiny import Whole

choose_kernels()  # before a test module imports Keras, and with it TensorFlow

# The same examples every time, and none too slow for a machine that does much else: a change is judged by itself.
settings.register_profile("fedpolyp", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fedpolyp")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is marked so in a process of its own."""
    if not own_process.wanted(pyfuncitem):
        return None
    own_process.run(pyfuncitem)
    return True


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Settle TensorFlow's threads, where a test module has loaded it, before a test computes without a trainer.

    Not by an environment variable: the processes that tests start would have it, too.
    """
    if "tensorflow" in sys.modules:
        from fedpolyp.network import prepare_tensorflow

        prepare_tensorflow(1)


@pytest.fixture(autouse=True, scope="session")
def _details_once() -> Iterator[None]:
    """Look for the details of an image once: it is most of the time of reading one, and tests draw the same again."""
    with pytest.MonkeyPatch.context() as patch:
        if "fedpolyp.data.alike" in sys.modules:
            from fedpolyp.data.alike import Looks

            found: dict[bytes, Looks] = {}
            search = Looks.of

            def of(image: "NDArray[np.uint8]") -> Looks:
                key = sha256(image.tobytes()).digest()
                if key not in found:
                    found[key] = search(image)
                return found[key]

            patch.setattr(Looks, "of", of)
        yield


@pytest.fixture(autouse=True, scope="session")
def _stores_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the stores that tests make out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDPOLYP_STORES", str(tmp_path_factory.mktemp("stores")))
        yield


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> "Whole":
    """The finished run of a config, carried out once for all tests, which only read it."""
    from tests.tiny import the_whole_run  # which loads TensorFlow

    folder = tmp_path_factory.mktemp("whole")
    return lambda config: the_whole_run(config, folder)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports whose charts have titles and descriptions, and no drawing, which takes most of a report's time."""
    from fedpolyp.report import charts

    def chart(figure: object, file: str, title: str, description: str, **_: object) -> charts.Chart:
        return charts.Chart(file, title, description, "<svg></svg>", b"")

    monkeypatch.setattr(charts, "_chart", chart)


@pytest.fixture
def kvasir() -> Path:
    """The folder of Kvasir-SEG's images and masks."""
    folder = os.environ.get("FEDPOLYP_KVASIR")
    if not folder:
        pytest.skip("FEDPOLYP_KVASIR does not name the folder of Kvasir-SEG")
    return Path(folder)


@pytest.fixture
def ray_processes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[int, str]]:
    """The Ray processes that this test has started, by number, with their command lines."""
    mark = uuid4().hex
    monkeypatch.setenv("FEDPOLYP_TEST", mark)

    def find() -> dict[int, str]:
        commands, parents, marked = {}, {}, set()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                if not re.search(r"raylet|ray::|gcs_server", command):
                    continue
                number = int(entry.name)
                commands[number] = command
                parents[number] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if mark in (entry / "environ").read_bytes().decode(errors="replace"):
                    marked.add(number)
            except OSError:
                continue
        # An actor writes its title over its environment, but its parent, the raylet, does not.
        return {number: c for number, c in commands.items() if number in marked or parents.get(number) in marked}

    return find
