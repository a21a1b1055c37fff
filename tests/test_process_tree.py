import os
import subprocess
import sys

from fedpolyp.process_tree import descendants, is_alive

# Starts a process, tells its number, and waits for a line.
STARTER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
input()
child.communicate(b"\\n")
"""


def test_descendants_are_children_and_theirs_and_one_that_has_ended_is_not_alive() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        grandchild = int(child.stdout.readline())
        assert {child.pid, grandchild} <= descendants(os.getpid()) and descendants(child.pid) == {grandchild}
        assert is_alive(child.pid) and is_alive(grandchild)
        child.stdin.write("\n")
        child.stdin.flush()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, but nobody has waited for it
        assert not is_alive(child.pid) and not is_alive(grandchild)
    assert descendants(child.pid) == set()
