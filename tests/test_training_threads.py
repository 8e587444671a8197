import os
import time

import pytest
import torch

from plateau_interp.training.threads import CoreTimes, advice_on_threads, core_times, threads_of_torch


def test_so_many_threads_and_afterwards_as_before() -> None:
    before = torch.get_num_threads()
    with threads_of_torch(before + 1):
        assert torch.get_num_threads() == before + 1
        with threads_of_torch(None):
            assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match="threads must be at least 1; got 0"), threads_of_torch(0):
        pass


@pytest.mark.parametrize(
    ("threads", "cores", "own", "everybody", "advised"),
    [
        (2, 2, 18.0, 18.5, None),  # alone
        (2, 2, 11.0, 20.0, "--threads 1"),
        (4, 4, 20.0, 39.0, "--threads 2"),
        (8, 4, 39.0, 39.0, "--threads 4"),  # more threads than there are cores
        (1, 2, 5.0, 20.0, None),  # fewer there cannot be
        (2, 8, 19.0, 70.0, None),  # there is room for both
        (2, 2, 18.0, 20.3, None),  # a little is always going on
    ],
)
def test_advice_where_other_programs_need_the_cores(
    threads: int, cores: int, own: float, everybody: float, advised: str | None
) -> None:
    advice = advice_on_threads(CoreTimes(10.0, own, everybody), threads=threads, cores=cores)
    assert (advice is None) == (advised is None)
    assert advice is None or (advised is not None and advice.endswith(advised))


def test_times_go_on() -> None:
    began = core_times()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        os.getpid()
    passed = core_times() - began
    assert 0.3 <= passed.clock < 30
    assert 0 < passed.own <= passed.clock
    assert passed.all >= 0
