"""`fedpolyp`, and `python -m fedpolyp`: the command line as a process."""

import os
import sys
import threading


def main() -> None:
    """Run the command line; ends the process with 0 (done), 1 (failed) or 2 (usage)."""
    try:
        from fedpolyp import interrupts

        interrupts.hear()
        from fedpolyp.imports import keep_out_the_working_folder

        keep_out_the_working_folder()
        from fedpolyp.cli import main
        from fedpolyp.cli.output import tolerate_readers_that_go_away
    except KeyboardInterrupt:  # while the program was loading
        sys.exit("fedpolyp: interrupted")
    tolerate_readers_that_go_away()
    try:
        main()
    except SystemExit as end:
        interrupts.ignore()
        sys.stdout.flush()
        sys.stderr.flush()
        threads = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
        if end.code and not all(thread.daemon for thread in threads):
            os._exit(int(end.code))  # one of Flower's threads may wait for ever
        raise


if __name__ == "__main__":
    main()
