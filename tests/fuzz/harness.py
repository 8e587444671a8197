"""What all fuzzers share: the command in this process, what it may answer, and what it must leave alone.

An outcome is good if the work was done, or if one line on stderr names what is wrong (exit status 2) and nothing that
was there before has changed. A traceback, a second line, a silent refusal or a changed bystander is a finding.
"""

import contextlib
import hashlib
import io
import shlex
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from plateau_interp import Run
from plateau_interp.cli.main import main
from plateau_interp.views.report import write_report

__all__ = [
    "TINY",
    "Finding",
    "NotHere",
    "Outcome",
    "command",
    "contents",
    "must_be_good",
    "numbers",
    "with_reports",
    "without_reports",
]

TINY = "--n 3 --d-model 8 --batch-size 8 --n-sequences 4 --checkpoint-every 2"
"""Options of `plateau train moving-window-sum` under which a step takes milliseconds."""
LONGEST = 1_000
"""Characters of a message that a person would still read."""


class Finding(AssertionError):
    """An outcome that may not be, with what brought it about."""


class NotHere(Exception):
    """A case that cannot be made on this machine, or was not asked for."""


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    words: tuple[str, ...]
    status: int
    out: str
    err: str

    @property
    def refused(self) -> bool:
        """Whether it was told to be a mistake."""
        return self.status == 2


@contextlib.contextmanager
def without_reports() -> Iterator[None]:
    """Reports take seconds to draw: here they are an empty page, but where `with_reports` asks for them."""
    with pytest.MonkeyPatch.context() as patch:
        for place in ("plateau_interp.views.report", "plateau_interp.sweeps.of_runs"):  # which has it by name
            patch.setattr(f"{place}.write_report", lambda runs, out=None: Path("report/index.html"))
        yield


@contextlib.contextmanager
def with_reports() -> Iterator[None]:
    """Reports are drawn after all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plateau_interp.views.report.write_report", write_report)
        yield


def command(*words: str | Path) -> Outcome:
    """Run ``plateau WORDS`` here.

    Raises:
        Finding: for an exception that reaches the user.
    """
    texts = tuple(map(str, words))
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            status = main(list(texts))
    except SystemExit as stop:  # --help
        status = int(stop.code or 0)
    except Exception as error:
        raise Finding(f"plateau {shlex.join(texts)}\nends with {type(error).__name__}: {error}") from error
    return Outcome(texts, status, out.getvalue(), err.getvalue())


def must_be_good(outcome: Outcome, *, several: str = "\0") -> Outcome:
    """Let a good outcome pass.

    Args:
        outcome: of a command.
        several: how lines begin of which there may be several before the one that says why it was refused.

    Raises:
        Finding: for another.
    """
    told = [line for line in outcome.err.splitlines() if line.startswith("plateau: ") and " step " not in line[:16]]
    told = [line for line in told if not line.startswith(several)]
    wrong = ""
    if outcome.status not in (0, 2):
        wrong = f"exit status {outcome.status}"
    elif outcome.refused and len(told) != 1:
        wrong = f"{len(told)} lines say why it was refused"
    elif outcome.refused and len(told[0]) > LONGEST:
        wrong = f"a message of {len(told[0])} characters"
    elif "Traceback" in outcome.out + outcome.err:
        wrong = "a traceback"
    if wrong:
        raise Finding(f"plateau {shlex.join(outcome.words)}\n{wrong}; stderr: {outcome.err[-2000:]!r}")
    return outcome


def contents(folder: Path) -> dict[str, str]:
    """The digest of every file under a folder, by relative path; links by where they lead, without locks."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == ".lock":
            continue
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def numbers(run: Path) -> tuple[str, dict[str, bytes]]:
    """All rows of a run, and its last weights, to be compared bit for bit."""
    opened = Run(run)
    weights = {name: value.detach().numpy().tobytes() for name, value in opened.model().named_parameters()}
    return opened.metrics.to_json(orient="records", double_precision=15), weights
