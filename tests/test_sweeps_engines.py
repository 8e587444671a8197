"""plateau_interp.sweeps.engines, and those on dask: workers that do jobs, and what becomes of those that die."""

import os
import signal
import threading
import time
from types import SimpleNamespace

import joblib
import psutil
import pytest
from small_sweeps import BASE, WINDOWS, longer, results
from typecheck import unchecked
from worker_jobs import doubled, fragile, heeds_ctrl_c, patient

from plateau_interp.codec import decode, encode
from plateau_interp.plugins import plugins
from plateau_interp.sweeps import of_runs
from plateau_interp.sweeps.endings import never
from plateau_interp.sweeps.engines import Engine, Here, Loky, Lost, workers_that_fit
from plateau_interp.sweeps.plan import planned
from plateau_interp.sweeps.sweep import sweep, train_sweep

GIB = 2**30


@pytest.fixture(autouse=True)
def unreported(monkeypatch):
    monkeypatch.setattr(of_runs, "write_report", lambda runs, out: out / "index.html")


def test_every_engine_is_plain_data():
    for name in plugins("engines"):
        engine = decode("engines", {"name": name, **({"queue": "q"} if name == "slurm" else {})})
        assert isinstance(engine, Engine)
        assert encode("engines", engine)["name"] == name
        assert engine.threads == 1


def test_as_many_workers_as_there_are_cores_and_room_for(monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10 * GIB))
    assert workers_that_fit(GIB, threads=1) == 8
    assert workers_that_fit(3 * GIB, threads=1) == 3
    assert workers_that_fit(GIB, threads=3) == 2
    assert workers_that_fit(100 * GIB, threads=16) == 1
    assert Loky().expected(memory=3 * GIB) == 3
    assert Loky(workers=5).expected(memory=100 * GIB) == 5
    assert Here().expected(memory=1) == 1


@pytest.mark.parametrize("engine", [Here, Loky])
def test_numbers_that_cannot_be_are_refused(engine):
    with pytest.raises(ValueError, match="threads must be at least 1; got 0"):
        engine(threads=0)


def test_what_is_no_engine_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"engine must be one of `plateau list engines`, such as Loky\(\); got 'loky'"):
        unchecked(train_sweep)(planned(BASE, WINDOWS), out=tmp_path / "out", engine="loky")


def test_this_process_does_one_job_after_the_other():
    with Here().opened(memory=1) as pool:
        assert list(pool.results(doubled, [1, 2, 3])) == [(0, 2), (1, 4), (2, 6)]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.filterwarnings("ignore:A worker stopped")
def test_a_worker_that_dies_takes_no_other_job_with_it(workers, tmp_path):
    jobs = [(how, str(tmp_path / str(index))) for index, how in enumerate(("never", "once", "always", "never"))]
    with Loky(workers=workers).opened(memory=1) as pool:
        found = dict(pool.results(fragile, jobs))
    assert [found[index] for index in (0, 1, 3)] == ["never", "once", "never"]
    assert isinstance(found[2], Lost)
    assert "its worker was killed" in found[2].reason


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_leave_ctrl_c_to_the_engine(workers):
    """A terminal sends it to them, too, and each would print where it was."""
    with Loky(workers=workers).opened(memory=1) as pool:
        assert dict(pool.results(heeds_ctrl_c, [None, None])) == {0: False, 1: False}
    assert heeds_ctrl_c(None, never)  # this process does


def test_ctrl_c_ends_the_workers(tmp_path):
    """Also where it reaches this process alone, as by `kill -INT`."""

    def interrupt():
        while len(list(tmp_path.glob("*.begun"))) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with Loky(workers=2).opened(memory=1) as pool, pytest.raises(KeyboardInterrupt):
        list(pool.results(patient, [(str(tmp_path), name) for name in ("one", "two", "three")]))
    interrupter.join()
    begun = [int(file.read_text()) for file in tmp_path.glob("*.begun")]
    deadline = time.monotonic() + 30
    while any(map(psutil.pid_exists, begun)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(begun) == 2


@pytest.mark.kills
@pytest.mark.slow
def test_a_killed_worker_s_run_goes_on_bit_for_bit(tmp_path):
    sweep(longer(80), WINDOWS, out=tmp_path / "whole", engine=Here())
    out = tmp_path / "killed"
    killed = []

    def kill():
        while not list(out.glob("*/*/checkpoints/20")):
            time.sleep(0.02)
        killed.extend(children())
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    swept = sweep(longer(80), WINDOWS, out=out, engine=Loky(workers=2))
    killer.join()
    assert not swept.failed
    assert results(out) == results(tmp_path / "whole")


def children() -> list[int]:
    """The workers of this process."""
    return [
        child.pid for child in psutil.Process().children(recursive=True) if "popen_loky" in " ".join(child.cmdline())
    ]
