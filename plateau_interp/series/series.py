"""`CheckpointSeries`: the same measurements at each checkpoint of a model, written down as they are made.

One checkpoint is measured while the next is fetched; what the call itself downloaded is deleted again. It may be
killed at any moment: the same call goes on, and measures nothing twice.
"""

import gc
import importlib.metadata
import logging
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from plateau_interp.checks import listed, shown, whole_number
from plateau_interp.codec import encode
from plateau_interp.files import digest
from plateau_interp.freed_memory import give_back_memory
from plateau_interp.interventions.attached import Intervention, attached_state, check_interventions
from plateau_interp.interventions.attaching import attaching
from plateau_interp.interventions.clock import advance
from plateau_interp.interventions.measuring import attached_measures
from plateau_interp.interventions.origins import origins_digest
from plateau_interp.models.fitting import check_device
from plateau_interp.models.weights import weights_digest
from plateau_interp.positions import input_length
from plateau_interp.runs.captures import captures_in
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.series.attention import KeptAttention, attention_on
from plateau_interp.series.downloads import Downloads, tell_left_behind
from plateau_interp.series.folder import RECORD_COLUMNS, Record, SeriesError, SeriesFolder
from plateau_interp.series.functions import function_digest
from plateau_interp.series.measures import (
    WINDOW,
    OwnMeasure,
    check_own_measures,
    free_running,
    teacher_forced,
    windows_of,
)
from plateau_interp.series.prompts import GENERAL_QUESTIONS, Prompts, read_prompts
from plateau_interp.series.revisions import Revision
from plateau_interp.series.same_series import (
    FUNCTIONS,
    SOURCE_PATH,
    TRAINED_UNDER,
    functions_unknown,
    trained_under_alone,
)
from plateau_interp.series.sources import CheckpointSource, RunSource, source_of

__all__ = ["CheckpointSeries", "check_measuring"]

_log = logging.getLogger(__name__)

LONG_NAME = 400
"""Characters of a path that messages do not cut."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


class CheckpointSeries:
    """Checkpoints of one model, to be measured one after the other.

    Args:
        source: a model on the hub, such as ``EleutherAI/pythia-14m``; a folder of folders that are named by their step,
            a pattern of such, or a list; a `Run` on text, or its folder.
        revisions: which checkpoints: ``"all"``; ``"paper"``; ``"log:16"``, evenly in the logarithm of the step; a
            pattern such as ``"step1*"``; or steps and names.
        listing: names of the branches of a model on the hub, alone or with their commits, if they are not to be asked
            for.

    Raises:
        ValueError: if there are no such checkpoints.

    Example:
        >>> CheckpointSeries("EleutherAI/pythia-14m", [0, "step512"], listing=["main", "step0", "step512"])
        CheckpointSeries('EleutherAI/pythia-14m', 2 checkpoints from step 0 to 512)
        >>> series = CheckpointSeries("EleutherAI/pythia-14m", revisions="paper")  # doctest: +SKIP
        >>> for record in series.measure("general", out="series/14m"):  # doctest: +SKIP
        ...     print(record.step, record.measures["cosine"])
    """

    def __init__(
        self,
        source: Any,
        revisions: str | Iterable[str | int] = "all",
        *,
        listing: Sequence[str] | Mapping[str, str] | None = None,
    ) -> None:
        self._given = source
        self._source = source_of(source, revisions, listing=listing)

    def __repr__(self) -> str:
        steps = [revision.step for revision in self.revisions]
        return f"CheckpointSeries({self.name!r}, {len(steps)} checkpoints from step {steps[0]} to {steps[-1]})"

    @property
    def name(self) -> str:
        """The model."""
        return self._source.name

    @property
    def revisions(self) -> list[Revision]:
        """The checkpoints, by step."""
        return list(self._source.revisions)

    def measure(
        self,
        prompts: "str | Path | Sequence[str] | Prompts" = GENERAL_QUESTIONS,
        *,
        out: str | Path,
        n_new: int = 8,
        interventions: Sequence[Intervention] = (),
        held_out: str | Path | None = None,
        measures: Mapping[str, OwnMeasure] | None = None,
        dtype: str = "float32",
        device: str | torch.device = "cpu",
        keep: bool = False,
    ) -> Iterator[Record]:
        """Measure each checkpoint that is not measured yet, and yield what was found.

        What a checkpoint attends to in the first prompt is kept, too, for the report and `attention_view`. One that is
        not to be had is recorded with the reason, and tried again by the next call.

        Args:
            prompts: see `plateau_interp.series.prompts.read_prompts`.
            out: the folder of the series.
            n_new: tokens that each prompt is continued with.
            interventions: attached while a checkpoint is measured; plain data, such as a recipe can hold. Schedules
                hear the step of the checkpoint. Those that a run was trained under act here only if they are given, as
                ``run.recipe.interventions``: that they are left out is logged, and told in the report.
            held_out: a text file that is read, too, for its loss and its teacher-forced cosine: 32 pieces of 128 tokens
                each, evenly spaced, or all of a shorter one (`plateau_interp.series.measures.windows_of`).
            measures: your own, by names that are none of ours: functions of the model and the `Continuation` that give
                one number, or one a prompt (a tensor or a sequence), of which the record has the mean and
                `SeriesFolder.answers` a column. A changed function of the same name is refused, as far as code tells
                (`plateau_interp.series.functions`); where that cannot be told, as by another Python, this is logged.
            dtype: of the parameters; what is measured is float32 anyway.
            device: where it runs.
            keep: keep what is downloaded, which else is deleted once it is measured. What a call that was stopped had
                downloaded is kept in any case: the next one logs how to remove it.

        Yields:
            A `Record` a checkpoint, when it is on disk.

        Raises:
            ValueError: for prompts, a folder or an argument that cannot be; `SeriesError`, which is one, for a folder
                that holds another series or other files, lies in another of ours, is moved meanwhile, or measured other
                files than the source has now. What is wrong with a prompt or an intervention is raised at the first
                checkpoint.
        """
        asked = _asked(prompts, n_new, interventions, held_out, measures, dtype)
        check_device(device)
        settings = self._settings(asked)
        folder = SeriesFolder.opened(out, settings)
        if measures and (why := functions_unknown(folder.settings)):
            _log.warning(
                "%s was begun by %s: whether the functions of its measures (%s) are the same cannot be told",
                folder.path,
                why,
                listed(sorted(measures)),
            )
        if left_out := trained_under_alone(settings):
            told = (
                "%s was trained under %s, and is measured without: give its interventions to measure what was trained"
            )
            _log.warning(told, self.name, listed(left_out))
        names = {revision.name: revision.commit for revision in self.revisions}  # a hub is not asked twice
        source = source_of(self._given, [*names], notes=None if keep else folder.path, listing=names)
        with folder.writing() as check_still_there:
            earlier = Downloads(folder.path)
            if not keep:
                tell_left_behind(self.name, earlier)
            earlier.give_up_all()
            _check_unchanged(source, folder)
            for revision, fetched in _fetched(source, _left(source, folder)):
                found = asked.measured(source, revision, fetched, device=device)
                check_still_there()
                _check_same_origins(found[0], folder)
                folder.add(*found)
                give_back_memory()
                yield folder.records()[-1]
                check_still_there()  # that a download is let go is noted there

    def left(
        self,
        prompts: "str | Path | Sequence[str] | Prompts" = GENERAL_QUESTIONS,
        *,
        out: str | Path,
        n_new: int = 8,
        interventions: Sequence[Intervention] = (),
        held_out: str | Path | None = None,
        measures: Mapping[str, OwnMeasure] | None = None,
        dtype: str = "float32",
    ) -> list[Revision]:
        """The checkpoints that `measure` would measure, with these arguments; nothing is written.

        Raises:
            ValueError: as `measure`; `SeriesError` if the folder holds another series.
        """
        asked = _asked(prompts, n_new, interventions, held_out, measures, dtype)
        done = _done(SeriesFolder.found(out, self._settings(asked)))
        return [revision for revision in self.revisions if revision.step not in done]

    def _settings(self, asked: "_Asked") -> dict[str, Any]:
        """What the folder of a series says of it, by which another call knows its own."""
        of_run: dict[str, Any] = {}
        if isinstance(self._source, RunSource):
            run = self._source.run
            of_run = {SOURCE_PATH: os.path.realpath(run.path), "recipe_sha256": recipe_digest(run.recipe)}
            if run.recipe.interventions:
                of_run[TRAINED_UNDER] = _encoded(run.recipe.interventions)
            # Earlier versions read a token more, at a position that is never trained, and did not say so.
            if asked.text is not None and (length := input_length(run.task)) < WINDOW:
                of_run["held_out_window"] = length
        return {"source": self.name, **asked.plain(), "versions": _versions(), **of_run}


def _encoded(interventions: Sequence[Intervention]) -> list[Any]:
    return [encode("hooks", each, path=f"interventions[{index}]") for index, each in enumerate(interventions)]


def check_measuring(*, n_new: Any, interventions: Any, dtype: Any) -> None:
    """Refuse arguments of `CheckpointSeries.measure` that cannot be.

    Raises:
        ValueError: for no number of tokens, what are no interventions or record one model alone, and no dtype.
    """
    check_interventions(interventions)
    if any([*captures_in(intervention)] for intervention in interventions):
        raise ValueError("a Capture records one model, and a series has many: take a measure of your own")
    whole_number("n_new", n_new, least=1)
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {shown(dtype)}")


def _asked(prompts: Any, n_new: Any, interventions: Any, held_out: Any, measures: Any, dtype: Any) -> "_Asked":
    prompts = read_prompts(prompts)
    check_measuring(n_new=n_new, interventions=interventions, dtype=dtype)
    check_own_measures(measures or {})
    return _Asked(
        prompts=prompts,
        n_new=n_new,
        interventions=interventions,
        held_out=None if held_out is None else Path(held_out),
        measures=measures or {},
        dtype=dtype,
    )


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is to be found of each checkpoint: the arguments of `CheckpointSeries.measure`."""

    prompts: Prompts
    n_new: int
    interventions: Sequence[Intervention]
    held_out: Path | None
    measures: Mapping[str, OwnMeasure]
    dtype: str
    text: str | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", None if self.held_out is None else _read(self.held_out))

    def plain(self) -> dict[str, Any]:
        """All that the numbers hang on beside the checkpoints."""
        functions = {name: function_digest(self.measures[name]) for name in sorted(self.measures)}
        return {
            "prompts": list(self.prompts),
            "prompts_origin": self.prompts.origin,
            "prompts_sha256": self.prompts.digest,
            "held_out": None if self.held_out is None else self.held_out.name,
            "held_out_sha256": None if self.text is None else digest(self.text.encode()),
            "n_new": self.n_new,
            "interventions": _encoded(self.interventions),
            "measures": sorted(self.measures),
            **({FUNCTIONS: functions} if functions else {}),
            "dtype": self.dtype,
        }

    def measured(
        self, source: CheckpointSource, revision: Revision, fetched: "Future[None]", *, device: str | torch.device
    ) -> tuple[Record, pd.DataFrame, KeptAttention | None]:
        """What is found of a checkpoint, or the reason why it is not to be had."""
        start = time.monotonic()
        try:
            fetched.result()
            files = source.files_digest(revision)  # before: who replaces them meanwhile has others afterwards
            model = source.load(revision, dtype=DTYPES[self.dtype], device=device)
        except ValueError as error:
            failed = Record(revision.step, revision.name, "", time.monotonic() - start, error=str(error))
            return failed, pd.DataFrame(), None
        weights = weights_digest(model)
        with attaching(model, *self.interventions) as attached:
            if deaf := [one for one in attached if one.hears_metrics]:
                # Nothing is measured before a checkpoint is: no condition would be judged, and nobody would hear of it.
                raise ValueError(
                    f"{deaf[0].intervention!r} waits for what training measures, and a series trains nothing"
                )
            if idle := [one for one in attached if one.trains_only]:
                raise ValueError(f"{idle[0].intervention!r} holds up updates, and a series makes none")
            advance(model, step=revision.step)
            numbers, answers = free_running(model, list(self.prompts), n_new=self.n_new, own=self.measures)
            if self.text is not None:
                numbers |= teacher_forced(model, windows_of(model, self.text))
            origins = origins_digest(attached_state(attached))
            told = attached_measures(model, taken=[*RECORD_COLUMNS, *numbers])
            numbers |= {name: float(value) for name, value in told.items()}
            # Interventions may look at the whole batch; without them the first prompt alone is the same, and less work.
            beside = list(self.prompts)[1:] if self.interventions else []
            attention = attention_on(model, self.prompts[0], beside=beside)
        answers.insert(0, "step", revision.step)
        del model
        gc.collect()  # a model holds cycles, and two of them at once may be more than there is memory for
        seconds = time.monotonic() - start
        record = Record(revision.step, revision.name, weights, seconds, numbers, files=files, origins=origins)
        return record, answers, attention


def _done(folder: SeriesFolder | None) -> set[int]:
    """The steps that are measured."""
    return set() if folder is None else {record.step for record in folder.records() if not record.error}


def _check_unchanged(source: CheckpointSource, folder: SeriesFolder) -> None:
    """Whether the files of what is measured are those that were.

    Raises:
        SeriesError: naming the first that are others.
    """
    revisions = {revision.step: revision for revision in source.revisions}
    for record in folder.records():
        if not record.files or record.step not in revisions:
            continue
        if source.files_digest(revisions[record.step]) not in ("", record.files):
            raise SeriesError(
                f"{folder.path} measured other files than {record.revision} of {source.name} has now: move the series, "
                "or use another folder for it"
            )


def _check_same_origins(record: Record, folder: SeriesFolder) -> None:
    """Whether interventions took from what they took from at the checkpoints before.

    Raises:
        SeriesError: if they did not. What earlier versions measured says nothing of it.
    """
    others = [earlier.revision for earlier in folder.records() if earlier.origins not in ("", record.origins)]
    if record.origins and others:
        raise SeriesError(
            f"what the interventions of {folder.path} take from has changed since {others[0]} was measured: put it "
            "back, or use another folder"
        )


def _left(source: CheckpointSource, folder: SeriesFolder) -> list[Revision]:
    """The checkpoints that are not measured."""
    done = _done(folder)
    return [revision for revision in source.revisions if revision.step not in done]


def _fetched(source: CheckpointSource, revisions: Sequence[Revision]) -> Iterator[tuple[Revision, "Future[None]"]]:
    """Each revision with what becomes of fetching it; the next is fetched meanwhile, and then the last one released.

    All of it in one thread: nothing is deleted while something is being downloaded.
    """
    if not revisions:
        return
    with ThreadPoolExecutor(max_workers=1) as worker:
        coming = worker.submit(source.fetch, revisions[0])
        for index, revision in enumerate(revisions):
            this, fetched = revision, coming
            if index + 1 < len(revisions):
                coming = worker.submit(source.fetch, revisions[index + 1])
            yield this, fetched
            worker.submit(source.release, this).result()


def _read(path: Path) -> str:
    """A text with the line ends that it has, as a task of text reads its corpus."""
    name = str(path) if len(str(path)) < LONG_NAME else shown(str(path))  # somebody may give the text itself
    try:
        return path.expanduser().read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"the held-out text {name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the held-out text {name} is no text in UTF-8") from None


def _versions() -> dict[str, str]:
    names = ("plateau-interp", "torch", "transformers", "transformer-lens")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
