"""Hand a run to loggers: each step once, whatever happened to the run; what fails is left out."""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from typecheck import unchecked

from plateau_interp.hooks import FixAttention
from plateau_interp.loggers.contract import Log, Logger
from plateau_interp.loggers.run_log import LoggerWarning, check_loggers, logging_to
from plateau_interp.models.settings import ModelOptions
from plateau_interp.plugins import kind_of
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run, RunError
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

RECIPE = Recipe(
    MovingWindowSum(n=4, p=7),
    model=ModelOptions(d_model=16),
    training=TrainingOptions(steps=12, batch_size=8),
    measuring=MeasuringOptions(every=2, n_sequences=4),
    checkpoint_every=4,
    seed=3,
)


@dataclass(frozen=True)
class Remembering:
    """A logger whose log lasts, in this list; it fails where it is told to."""

    rows: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    told: list[object] = field(default_factory=list)
    lasting: bool = True
    failing: str = ""

    @contextmanager
    def open_log(self, run: Run) -> Iterator[Log]:
        if self.failing == "open":
            raise OSError("no way in")
        try:
            yield RememberingLog(self)
        except BaseException as error:
            self.told.append(repr(error))
            raise
        finally:
            self.told.append("closed")
        if self.failing == "close":
            raise RuntimeError("it will not close")


class RememberingLog(Log):
    def __init__(self, logger: Remembering) -> None:
        self._logger = logger
        if logger.lasting:
            self.last_step = max((step for step, _ in logger.rows), default=-1)

    def row(self, step: int, numbers: Mapping[str, float]) -> None:
        if self._logger.failing == f"row {step}":
            raise ConnectionError("nobody\nanswers")
        self._logger.rows.append((step, dict(numbers)))

    def picture(self, step: int, name: str, file: Path) -> None:
        self._logger.told.append((step, name, file))


@dataclass(frozen=True)
class Simplest:
    """As little as a logger can be."""

    @contextmanager
    def open_log(self, run: Run) -> Iterator[Log]:
        yield SimplestLog()


class SimplestLog(Log):
    def row(self, step: int, numbers: Mapping[str, float]) -> None:
        pass


def logged(run: Run, *loggers: Logger, until: int | None = None) -> Run:
    """Train to the end, or stop as a kill does: rows after the last checkpoint are there."""
    with logging_to(run, *loggers) as log:
        steps = run.train()
        for step in steps:
            log.step(step)
            if step.step == until:
                steps.close()
                break
    return run


def assert_has_all(logger: Remembering, run: Run) -> None:
    rows = [{"step": step, **numbers} for step, numbers in logger.rows]
    assert [row["step"] for row in rows] == list(run.metrics["step"])
    expected = run.metrics.to_dict("records")
    assert [{k: v for k, v in row.items() if not math.isnan(v)} for row in rows] == [
        {k: v for k, v in row.items() if not math.isnan(v)} for row in expected
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return logged(Run.create(tmp_path_factory.mktemp("made") / "run", RECIPE))


def test_each_row_comes_once_and_bits_are_the_same(whole: Run, tmp_path: Path) -> None:
    logger = Remembering()
    run = logged(Run.create(tmp_path / "run", RECIPE), logger, Simplest())
    assert_has_all(logger, run)
    assert run.metrics.equals(whole.metrics)
    assert all(torch.equal(a, b) for a, b in zip(run.model().parameters(), whole.model().parameters(), strict=True))
    assert logger.told == ["closed"]
    assert kind_of(logger) == kind_of(Simplest()) == "loggers"


@pytest.mark.parametrize("until", [1, 4, 7, 10])
def test_a_run_that_was_stopped_has_every_step_once(tmp_path: Path, until: int) -> None:
    logger, forgetful = Remembering(), Remembering(lasting=False)
    run = logged(Run.create(tmp_path / "run", RECIPE), logger, forgetful, until=until)
    assert logger.rows[-1][0] == until // 2 * 2
    del logger.rows[-1]  # what the log had not written when it was killed: only its end can be missing
    before = [step for step, _ in forgetful.rows]
    begins_at = run.step
    assert_has_all(logger, logged(Run(run.path), logger, forgetful))
    again = [step for step, _ in forgetful.rows][len(before) :]
    assert again == [step for step in range(0, 12, 2) if step >= begins_at]


def test_a_log_that_lost_its_end_is_given_it_before_training_goes_on(tmp_path: Path) -> None:
    logger = Remembering()
    run = logged(Run.create(tmp_path / "run", RECIPE), logger, until=9)
    del logger.rows[2:]  # steps 4, 6 and 8 never reached its disk; the last checkpoint is that of step 8
    assert_has_all(logger, logged(Run(run.path), logger))


def test_a_run_that_began_without_a_log_a_fork_and_a_finished_run_are_logged_whole(whole: Run, tmp_path: Path) -> None:
    fork = whole.fork(at=6, interventions=[FixAttention()], out=tmp_path / "fork")
    for logger, run in ((Remembering(), whole), (Remembering(), fork)):
        assert_has_all(logger, logged(run, logger))
        assert_has_all(logger, logged(Run(run.path), logger))
    longer = replace(RECIPE, training=replace(RECIPE.training, steps=16))
    lengthened, logger = logged(Run.create(tmp_path / "run", RECIPE)), Remembering()
    logged(lengthened, logger)
    assert_has_all(logger, logged(Run.create(lengthened.path, longer), logger))


@pytest.mark.parametrize(
    ("failing", "reason", "n_rows"),
    [
        ("open", "OSError: no way in", 0),
        ("row 6", "ConnectionError: nobody answers", 3),
        ("row 0", "ConnectionError: nobody answers", 0),
        ("close", "RuntimeError: it will not close", 6),
    ],
)
def test_one_that_fails_costs_one_warning(whole: Run, tmp_path: Path, failing: str, reason: str, n_rows: int) -> None:
    bad, good = Remembering(failing=failing), Remembering()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = logged(Run.create(tmp_path / "run", RECIPE), bad, good)
    (warning,) = caught
    assert warning.category is LoggerWarning
    assert str(warning.message).endswith(f" failed and is left out; the run goes on: {reason}")
    assert "Remembering(" in str(warning.message)
    assert len(bad.rows) == n_rows
    assert run.finished
    assert run.metrics.equals(whole.metrics)
    assert_has_all(good, run)
    assert bad.told.count("closed") == (failing != "open")


def test_an_interrupt_is_told_to_the_logs_and_goes_on_up(whole: Run) -> None:
    logger = Remembering()
    with pytest.raises(KeyboardInterrupt), logging_to(whole, logger):
        raise KeyboardInterrupt
    assert logger.told == ["KeyboardInterrupt()", "closed"]


def test_damaged_rows_are_an_error_and_logs_are_closed(tmp_path: Path) -> None:
    run = logged(Run.create(tmp_path / "run", RECIPE))
    (run.path / "metrics.jsonl").write_text("{}\n")
    logger = Remembering()
    with pytest.raises(RunError, match=r"metrics.jsonl, line 1, is damaged"):
        logged(run, logger)
    assert logger.told[-1] == "closed"


@dataclass(frozen=True)
class InBits:
    """A logger that changes the numbers it is given."""

    @contextmanager
    def open_log(self, run: Run) -> Iterator[Log]:
        yield BitsLog()


class BitsLog(Log):
    last_step = -1

    def row(self, step: int, numbers: Mapping[str, float]) -> None:
        assert isinstance(numbers, dict)
        numbers["loss"] = numbers.pop("loss") / math.log(2)
        numbers.pop("cosine")


@pytest.mark.parametrize("is_finished", [False, True])
def test_what_a_logger_does_with_its_numbers_changes_no_other_s(is_finished: bool, tmp_path: Path) -> None:
    run, logger = Run.create(tmp_path / "run", RECIPE), Remembering()
    if is_finished:
        logged(run)
    logged(run, InBits(), logger)
    assert_has_all(logger, run)


def test_pictures_are_handed_on(whole: Run, tmp_path: Path) -> None:
    logger = Remembering()
    with logging_to(whole, logger, Simplest()) as log:
        log.picture("curves", tmp_path / "curves.png")
    assert logger.told == [(12, "curves", tmp_path / "curves.png"), "closed"]


def test_what_is_no_logger_is_refused(whole: Run) -> None:
    for wrong in (3, Remembering, "tensorboard"):
        with pytest.raises(ValueError, match=r"a logger must be one such as TensorBoard\(\); got"):
            unchecked(check_loggers)([wrong])
    with (
        pytest.raises(ValueError, match=r"the logger Simplest\(\) is given twice"),
        logging_to(whole, Simplest(), Simplest()),
    ):
        pass
