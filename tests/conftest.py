"""Settings of the whole test suite."""

import gc
import os
import signal

# Before torch is imported, and inherited by subprocesses: tiny models gain nothing from threads, and two processes with
# two threads each on two cores wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import pytest

from plateau_interp import shapes

# The same examples on every machine: a red test can be run again. No deadline: the first call pays for torch.
hypothesis.settings.register_profile("plateau", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("plateau")

# A shell that began the tests in the background had Ctrl-C ignored, here and in all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Before a test imports any of it: a wrong shape fails the test in which it turns up.
shapes.check()


def pytest_addoption(parser):
    parser.addoption("--times", type=int, default=1, help="how often tests that kill workers run, in a row")


def pytest_generate_tests(metafunc):
    """What a kill leaves behind hangs on the moment: once is not enough."""
    times = metafunc.config.getoption("--times")
    if times > 1 and metafunc.definition.get_closest_marker("kills"):
        metafunc.fixturenames.append("time_of_many")
        metafunc.parametrize("time_of_many", range(1, times + 1))


def pytest_runtest_setup():
    """Tables are as wide as where nobody says how wide; pytest-xdist tells its workers 80 columns."""
    os.environ.pop("COLUMNS", None)


def pytest_collection_finish():
    """What is imported stays: the collector need not go through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def undrawn(monkeypatch):
    """Reports without their figures, for tests of what a report says: drawing takes nine tenths of the time."""
    from plateau_interp.views.saving import report_mark

    def picture(_drawn, name):
        return report_mark(name).encode()  # by which a report knows its own

    monkeypatch.setattr(
        "plateau_interp.views.report.page_picture", lambda draw, name: ("<svg></svg>", picture(draw, name))
    )
    monkeypatch.setattr("plateau_interp.views.report.themed_svg", lambda draw, name: "<svg></svg>")
    monkeypatch.setattr("plateau_interp.views.report.report_picture", picture)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """The runs of the paper in tests/tiny_paper.py; whoever changes one copies it first."""
    from tiny_paper import train_all

    return train_all(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def blank_pictures(monkeypatch):
    """Pages of reproductions without their pictures: drawing takes most of the time."""
    from matplotlib.figure import Figure

    monkeypatch.setattr(
        "plateau_interp.reproductions.results.seeds_figure", lambda experiment, outcomes: Figure(figsize=(1, 1))
    )


@pytest.fixture
def timed():
    """Which recipes `plateau_interp.sweeps.pace` timed, and how to watch it."""
    recipes = []

    def watching(missing):
        for one in missing:
            recipes.append(one)
            yield one

    return recipes, watching


@pytest.fixture
def _registry():
    """Leaves what is registered as it was."""
    from plateau_interp.plugins import plugins

    before = {kind: dict(plugins(kind)) for kind in ("tasks", "hooks", "optimizers")}
    yield
    for kind, there in before.items():
        plugins(kind).clear()
        plugins(kind).update(there)
