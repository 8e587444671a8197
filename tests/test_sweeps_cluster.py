"""plateau_interp.sweeps.cluster: engines on dask, with real schedulers and workers; and the script that SLURM gets."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pandas as pd
import psutil
import pytest
from small_sweeps import BASE, WINDOWS, longer, results
from worker_jobs import doubled, fragile, patient

from plateau_interp.sweeps import cluster, of_runs
from plateau_interp.sweeps.cluster import ClusterError, Dask, Slurm
from plateau_interp.sweeps.engines import Here, Loky, Lost
from plateau_interp.sweeps.sweep import sweep

pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("clusters"),  # each has several processes: one after the other
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


LONG = longer(80)
SHARED = {**WINDOWS, "seeds": 2}


@pytest.fixture(autouse=True)
def unreported(monkeypatch):
    monkeypatch.setattr(of_runs, "write_report", lambda runs, out: out / "index.html")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a sweep comes to that nobody disturbs."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_runs, "write_report", lambda runs, out: out / "index.html")
        sweep(LONG, SHARED, out=out, engine=Here())
    return results(out)


def wait_for(found, *, seconds=240):
    deadline = time.monotonic() + seconds
    while not (there := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return there


def dask_workers(parent=None):
    """Processes of workers below one, by default this; those that have begun work, not the nannies' helpers."""
    children = psutil.Process(parent).children(recursive=True)
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


@contextmanager
def scheduler_and_workers(count, **environment):
    """A scheduler in a process of its own, with workers; yields its process and its address."""
    code = (
        "import time\nfrom distributed import LocalCluster\n"
        "if __name__ == '__main__':\n"
        f"    sizes = dict(n_workers={count}, threads_per_worker=1, memory_limit=0)\n"
        "    with LocalCluster(**sizes, dashboard_address=':0') as c:\n"
        "        print(c.scheduler_address, flush=True)\n        time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    try:
        yield process, process.stdout.readline().strip()
    finally:
        below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for one in (process, *below):
            if one.is_running() if isinstance(one, psutil.Process) else one.poll() is None:
                one.kill()
        process.wait()
        process.stdout.close()


def test_jobs_are_done_and_one_that_kills_its_workers_is_given_up(tmp_path):
    jobs = [(how, str(tmp_path / str(index))) for index, how in enumerate(("never", "once", "always"))]
    with Dask(workers=2).opened(memory=1) as pool:
        assert sorted(pool.results(doubled, [1, 2, 3])) == [(0, 2), (1, 4), (2, 6)]
        found = dict(pool.results(fragile, jobs))
    assert (found[0], found[1]) == ("never", "once")
    assert isinstance(found[2], Lost)
    assert "KilledWorker" in found[2].reason


def test_a_loop_that_is_left_stops_the_jobs(tmp_path):
    with Dask(workers=1).opened(memory=1) as pool:
        endings = pool.results(patient, [(str(tmp_path), "one"), (str(tmp_path), "two")])
        interrupt_when(lambda: list(tmp_path.glob("*.begun")))
        with pytest.raises(KeyboardInterrupt):
            next(endings)
        endings.close()
        wait_for(lambda: list(tmp_path.glob("*.stopped")))
    assert len(list(tmp_path.glob("*.begun"))) == 1, "what had not begun is forgotten"


def interrupt_when(found):
    """Have this thread be interrupted, as by Ctrl-C, once something is there."""

    def wait():
        wait_for(found)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.kills
def test_a_worker_killed_in_the_middle_of_a_run_loses_nothing(whole, tmp_path):
    """The run goes on on the other worker, bit for bit."""
    out, killed = tmp_path / "killed", []

    def kill():
        wait_for(lambda: list(out.glob("*/*/checkpoints/20")))
        killed.append(dask_workers()[0])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    swept = sweep(LONG, SHARED, out=out, engine=Dask(workers=2))
    killer.join()
    assert killed
    assert not swept.failed
    assert results(out) == whole


@pytest.mark.kills
def test_a_scheduler_that_is_lost_is_told(tmp_path, monkeypatch):
    with scheduler_and_workers(1, PYTHONPATH=os.path.dirname(__file__)) as (process, address):

        def kill():
            wait_for(lambda: list(tmp_path.glob("*.begun")))
            process.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        told = "the dask scheduler at tcp.* was lost; what is trained is kept"
        with Dask(scheduler=address).opened(memory=1) as pool, pytest.raises(ClusterError, match=told):
            list(pool.results(patient, [(str(tmp_path), "one"), (str(tmp_path), "two")]))
        killer.join()
    monkeypatch.setattr(cluster, "ANSWER_WITHIN", 1.0)
    assert not Dask(scheduler=address).on_this_machine
    with pytest.raises(ClusterError, match="no dask scheduler answers at"):
        Dask(scheduler=address).opened(memory=1).__enter__()


def test_a_scheduler_without_workers_is_told():
    with scheduler_and_workers(0) as (_, address), pytest.raises(ClusterError, match="has no workers: start some"):
        Dask(scheduler=address).opened(memory=1).__enter__()


@pytest.mark.kills
def test_a_worker_without_the_plug_in_says_so(tmp_path):
    """The package of a task is installed here, and not on the worker."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "elsewhere.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\n"
        "from plateau_interp.tasks import MovingWindowSum\n\n\n"
        "@dataclass(frozen=True)\nclass Elsewhere(MovingWindowSum):\n    name: ClassVar[str] = 'elsewhere'\n"
    )
    info = package / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[plateau_interp.tasks]\nelsewhere = elsewhere:Elsewhere\n")
    code = (
        "import sys\nfrom plateau_interp.sweeps.cluster import Dask\nfrom plateau_interp.sweeps.sweep import sweep\n"
        "base = {'task': {'name': 'elsewhere', 'n': 4, 'p': 5}, 'model': {'d_model': 16}, "
        "'training': {'steps': 4, 'batch_size': 4}}\n"
        "swept = sweep(base, {}, out=sys.argv[2], engine=Dask(scheduler=sys.argv[1]))\nprint(swept.failed)\n"
    )
    with scheduler_and_workers(1) as (_, address):
        done = subprocess.run(
            [sys.executable, "-c", code, address, str(tmp_path / "out")],
            env={**os.environ, "PYTHONPATH": str(package)},
            capture_output=True,
            text=True,
        )
    assert "no task is called 'elsewhere'" in done.stdout
    assert "needs the package that has it, as this machine does" in done.stdout
    assert "the worker on" in done.stdout


def test_all_engines_make_the_same_rows_and_weights(tmp_path):
    """Of a sweep of 24 runs."""
    changes = {**WINDOWS, "seeds": 12}
    engines = {"here": Here(), "loky": Loky(workers=2), "dask": Dask(workers=2)}
    tables = {name: sweep(BASE, changes, out=tmp_path / name, engine=engine) for name, engine in engines.items()}
    made = {name: results(tmp_path / name) for name in engines}
    assert len(made["here"]) == 3 * 24
    assert made["loky"] == made["dask"] == made["here"]
    for swept in tables.values():
        pd.testing.assert_frame_equal(swept.table, tables["here"].table)


@pytest.mark.kills
def test_two_sweeps_of_one_folder_share_the_work(whole, tmp_path):
    """From two processes at once: each run is made by one of them, and both end with the whole table."""
    code = (
        "import sys\nfrom small_sweeps import WINDOWS, longer\nfrom plateau_interp.sweeps.engines import Here\n"
        "from plateau_interp.sweeps import of_runs\nfrom plateau_interp.sweeps.sweep import sweep\n"
        "of_runs.write_report = lambda runs, out: out / 'index.html'\n"
        "swept = sweep(longer(80), {**WINDOWS, 'seeds': 2}, out=sys.argv[1], engine=Here())\n"
        "assert swept.table['finished'].all() and not swept.failed\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "shared")]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=400)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert results(tmp_path / "shared") == whole


def test_ctrl_c_is_what_it_was_once_slurm_was_asked_for_its_script():
    code = (
        "import signal; from plateau_interp.sweeps.cluster import Slurm; Slurm('short', workers=1).job_script(); "
        "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_the_script_that_slurm_gets():
    engine = Slurm(
        "long",
        threads=2,
        memory="8GB",
        walltime="04:00:00",
        account="physics",
        directives=("--gres=gpu:1",),
        before=("source .venv/bin/activate",),
    )
    lines = engine.job_script().splitlines()
    assert lines[0].startswith("#!")
    for line in (
        "#SBATCH -p long",
        "#SBATCH -A physics",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH -n 1",
        "#SBATCH -t 04:00:00",
        "#SBATCH --gres=gpu:1",
        "source .venv/bin/activate",
    ):
        assert line in lines
    assert any(line.startswith("#SBATCH --mem=") for line in lines)
    last = lines[-1]
    assert sys.executable in last
    assert "dask_worker" in last
    assert "--nthreads" in last


def test_without_slurm_there_is_one_line():
    with (
        pytest.raises(ClusterError, match="SLURM's command sbatch is not on this machine"),
        Slurm("q").opened(memory=1),
    ):
        pass


def test_without_dask_there_is_one_line(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match=r"distributed is not installed: pip install 'plateau-interp\[cluster\]'"):
        Dask().opened(memory=1).__enter__()


def test_workers_and_a_scheduler_are_one_too_many():
    with pytest.raises(ValueError, match="workers are started where there is no scheduler"):
        Dask(scheduler="tcp://h:1", workers=2)
    assert Dask(scheduler="tcp://h:1").expected(memory=1) is None
    assert Slurm("q", workers=7).expected(memory=1) == 7
