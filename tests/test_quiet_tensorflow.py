"""Importing TensorFlow: fast, silent, and without a trace in the process that does it."""

import subprocess
import sys

PROGRAM = """
import gc, sys
import fedpolyp.quiet_tensorflow
assert gc.isenabled()
print([name for name in ("tensorflow", "keras", "matplotlib") if name in sys.modules])
import matplotlib.pyplot
print(matplotlib.pyplot.figure is not None)
"""


def test_it_loads_keras_without_the_plots_that_keras_offers_says_nothing_and_leaves_plots_to_others() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['tensorflow', 'keras']", "True"]
    assert done.stderr == ""
