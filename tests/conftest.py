"""Settings of the whole test suite."""

import os

# Before torch is imported, and inherited by subprocesses: tiny models gain nothing from threads, and two processes with
# two threads each on two cores wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis

from plateau_interp import shapes

# The same examples on every machine: a red test can be run again. No deadline: the first call pays for torch.
hypothesis.settings.register_profile("plateau", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("plateau")

# Before a test imports any of it: a wrong shape fails the test in which it turns up.
shapes.check()
