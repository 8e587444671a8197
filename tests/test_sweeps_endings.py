"""plateau_interp.sweeps.endings: they load nothing heavy, reach other processes, and are the same by what they say."""

import pickle
import subprocess
import sys

from plateau_interp.sweeps.endings import Ending, never


def test_a_worker_begins_without_torch():
    code = "import sys; import plateau_interp.sweeps.endings; print({'torch', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_an_ending_is_plain_data():
    ending = Ending("failed", "training diverged", ("a warning",))
    assert pickle.loads(pickle.dumps(ending)) == ending
    assert Ending("done") == Ending("done", "", ())


def test_who_is_stopped_in_another_way_is_never_told_so():
    assert not never()
    assert pickle.loads(pickle.dumps(never)) is never
