"""Python reads this at its start where PYTHONPATH names the folder. At SIGUSR1 it collects its garbage, and writes into
the file SOMA_COUNT_FILE how many blocks of memory its objects hold."""

import gc
import os
import signal
import sys

if "SOMA_COUNT_FILE" in os.environ:

    def count(*_: object) -> None:
        file = os.environ["SOMA_COUNT_FILE"]
        gc.collect()
        with open(f"{file}.half", "w") as half:  # noqa: PTH123 - nothing more is loaded than must be
            half.write(str(sys.getallocatedblocks()))
        os.replace(f"{file}.half", file)  # noqa: PTH105

    signal.signal(signal.SIGUSR1, count)
