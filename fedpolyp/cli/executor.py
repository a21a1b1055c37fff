"""Starts Flower's executor at a site, which starts a process for each request: `python -m` this module.

Flower 1.41 writes the token with which a process reads a request and replies to it onto its command line, which every
user of the machine can read. Here it is passed in memory. And a request can start only a ClientApp.
"""

import os
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flwr.supercore.superexec.executor.types import ExecutionSpec, LaunchResult


def main() -> None:
    """Start the executor; arguments: those of `flower-superexec`."""
    from flwr.supercore.cli.flower_superexec import flower_superexec
    from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor

    SubprocessExecutor.launch = launch  # type: ignore[method-assign,assignment]
    SubprocessExecutor.get_eligible_capacity = only_client_apps  # type: ignore[method-assign]
    flower_superexec()


def only_client_apps(*_: Any, **__: Any) -> tuple[set[Any], set[str]]:
    """The kind of requests that this executor asks for."""
    from flwr.supercore.constant import TaskType

    return {TaskType.CLIENT_APP}, set()


def launch(_: Any, spec: "ExecutionSpec") -> "LaunchResult":
    """Start the process that a request needs, as Flower does, but with its token in a file in memory."""
    from flwr.supercore.superexec.executor.types import LaunchResult

    token = os.memfd_create("token")
    try:
        os.write(token, spec.token.encode())
        subprocess.Popen(
            [
                "flwr-clientapp",
                f"--runtime-api-address={spec.runtime_api_address}",
                f"--root-certificates={spec.root_certificates_path}",
                f"--parent-pid={spec.parent_pid}",
                f"--token-file=/proc/self/fd/{token}",
            ],
            pass_fds=[token],
        )
    finally:
        os.close(token)
    return LaunchResult.accepted()


if __name__ == "__main__":
    main()
