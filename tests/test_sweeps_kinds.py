"""plateau_interp.sweeps.kinds: what a sweep asks of runs and of series, and their folders' names."""

import pickle

import pytest

from plateau_interp.sweeps.kinds import Kind, PlannedRun
from plateau_interp.sweeps.of_runs import OfRuns
from plateau_interp.sweeps.of_series import OfSeries


def test_a_folder_is_named_by_setting_and_seed():
    assert PlannedRun("k=3", 4, {}, None).name == "k=3/seed-4"
    assert PlannedRun("plain", None, {}, None).name == "plain"


@pytest.mark.parametrize("kind", [OfRuns(), OfSeries()])
def test_what_workers_are_to_do_reaches_them(kind):
    assert pickle.loads(pickle.dumps(kind.work)) is kind.work


def test_a_kind_says_all_that_a_sweep_asks():
    class Half(Kind):
        def read(self, data):
            return data

    with pytest.raises(TypeError, match="abstract"):
        Half()
