"""Importing TensorFlow: fast, silent, and without a trace in the process that does it."""

import subprocess
import sys

PROGRAM = """
import gc, sys
import fedpolyp.quiet_tensorflow
assert gc.isenabled()
print([name for name in ("tensorflow", "keras", "matplotlib", "sklearn") if name in sys.modules])
import matplotlib.pyplot, sklearn.base
print(matplotlib.pyplot.figure is not None)
"""


def test_it_loads_keras_without_what_keras_offers_beside_says_nothing_and_leaves_that_to_others() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['tensorflow', 'keras']", "True"]
    assert done.stderr == ""
