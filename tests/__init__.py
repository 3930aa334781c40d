"""The tests, one ladder: CONTRIBUTING.md."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded: its threads spin while they wait
