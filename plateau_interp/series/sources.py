"""Where a series' checkpoints come from: revisions on the hub, folders, or a run.

A source lists its checkpoints, makes the files of one present, loads it, and lets its files go. `source_of` finds the
source that a name, a path or an object stands for.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub import constants

from plateau_interp.checks import listed, nearest, shown
from plateau_interp.models.checkpoint_files import (
    cached_commit,
    delete_snapshot,
    is_on_hub,
    model_folder,
    put_ref,
    revision_names,
    snapshots,
)
from plateau_interp.models.pretrained import pretrained_model
from plateau_interp.runs.identity import weights_file_digest
from plateau_interp.runs.run import Run
from plateau_interp.series.downloads import Download, Downloads
from plateau_interp.series.revisions import Revision, chosen_revisions, parsed_revisions
from plateau_interp.types import HookedModel, OfText

__all__ = ["CheckpointSource", "FolderSource", "HubSource", "RunSource", "source_of"]

READ_FROM = (
    *("model*.safetensors*", "pytorch_model*.bin*", "config.json", "generation_config.json"),
    *("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model"),
)
"""Patterns of the files that a model and its tokenizer are read from."""


class CheckpointSource(Protocol):
    """Checkpoints of one model."""

    @property
    def name(self) -> str:
        """What it is, for people and for the folder of the series."""
        ...

    @property
    def revisions(self) -> list[Revision]:
        """Those that are measured, by step."""
        ...

    def fetch(self, revision: Revision) -> None:
        """Make a checkpoint's files present; called beside the measuring of the one before.

        Raises:
            ValueError: in one line, if they are not to be had.
        """
        ...

    def load(self, revision: Revision, *, dtype: torch.dtype, device: str | torch.device) -> HookedModel:
        """The model.

        Raises:
            ValueError: in one line, if it cannot be loaded.
        """
        ...

    def release(self, revision: Revision) -> None:
        """Let the files go that `fetch` made present."""
        ...

    def files_digest(self, revision: Revision) -> str:
        """What tells the files that a model is read from, where others may come to stand in their place; else empty."""
        ...


class HubSource:
    """Revisions of a model on the hub, or of its cache where the hub cannot be asked.

    A revision that `fetch` of this very object downloads is deleted again by `release`, with all that no other revision
    needs; what was in the cache before is left there: commits, whole or in part, and what names stood for, with files
    or without. What another call downloaded is left, too, also where it was one of the same series that was killed.

    Args:
        name: on the hub, such as ``EleutherAI/pythia-14m``.
        revisions: see `plateau_interp.series.revisions.chosen_revisions`.
        notes: the folder where `plateau_interp.series.downloads.Downloads` writes down what is downloaded; without one
            nothing is deleted.
        listing: names of the model's branches, alone or with their commits, if they are not to be asked for.

    Raises:
        ValueError: if the model is not to be had, or a revision is not listed.
    """

    def __init__(
        self,
        name: str,
        revisions: str | Iterable[str | int] = "all",
        *,
        notes: Path | None = None,
        listing: Sequence[str] | Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        names = revision_names(name) if listing is None else listing
        self.revisions = chosen_revisions(name, parsed_revisions(names), revisions)
        self._downloads = None if notes is None else Downloads(notes)
        self._begun: dict[str, Download] = {}
        self._fetched: dict[str, str] = {}

    def fetch(self, revision: Revision) -> None:
        """Download what is not in the cache."""
        name = revision.name
        if self._downloads is not None and name not in self._begun:
            before, ref = frozenset(snapshots(self.name) - self._brought()), cached_commit(self.name, name)
            download = Download(name, before, ref, str(Path(constants.HF_HUB_CACHE).absolute()))
            self._downloads.begin(download)
            self._begun[name] = download
        try:
            model_folder(self.name, revision=name)
        finally:  # a part of it may be there, or a name for it
            self._fetched[name] = cached_commit(self.name, name) or ""

    def load(
        self, revision: Revision, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> HookedModel:
        """The model of a revision."""
        return pretrained_model(self.name, revision=revision.name, dtype=dtype, device=device)

    def release(self, revision: Revision) -> None:
        """Delete a revision that this source downloaded, unless it has the same commit under another name."""
        brought = self._brought()
        if self._downloads is None or (this := self._begun.pop(revision.name, None)) is None:
            return
        # Else somebody has moved the name meanwhile.
        if (cached_commit(self.name, this.revision) or "") == self._fetched.get(this.revision, ""):
            put_ref(self.name, this.revision, this.ref_before)
        for commit in brought - self._brought():
            delete_snapshot(self.name, commit)
        self._downloads.give_up(this.revision)

    def _brought(self) -> set[str]:
        """The commits that downloads which are not released yet have brought into the cache."""
        there = [(self._fetched.get(name, ""), download) for name, download in self._begun.items()]
        return {commit for commit, download in there if commit and commit not in download.there_before}

    def files_digest(self, revision: Revision) -> str:
        """The commit, whose files do not change: of what was fetched, or else that the hub lists; empty if unknown."""
        return self._fetched.get(revision.name, revision.commit)


class FolderSource:
    """Folders that Hugging Face models were saved in, each named by its step.

    Args:
        folders: as ``checkpoint-150`` or ``step512``, wherever they are.
        revisions: see `plateau_interp.series.revisions.chosen_revisions`.

    Raises:
        ValueError: for what is no folder or has no step in its name.
    """

    def __init__(self, folders: Iterable[str | Path], revisions: str | Iterable[str | int] = "all") -> None:
        paths = [Path(folder).expanduser().absolute() for folder in folders]
        if missing := [str(path) for path in paths if not path.is_dir()]:
            raise ValueError(f"no folder: {listed(missing)}")
        by_name: dict[str, Path] = {}
        for path in paths:
            if path.name in by_name:
                raise ValueError(
                    f"two folders are called {path.name}: {by_name[path.name]} and {path}; a series is of one"
                )
            by_name[path.name] = path
        there = parsed_revisions([*by_name])
        known = {revision.name for revision in there}
        if shadowed := sorted(name for name in set(by_name) - known if parsed_revisions([name])):
            raise ValueError(f"two folders are of one step: {listed(shadowed)} and another; a series is of one model")
        if unknown := sorted(set(by_name) - known):
            raise ValueError(f"a checkpoint's folder is named by its step, as step512; got {listed(unknown)}")
        self.name = os.path.commonpath([path.parent for path in paths]) if paths else "no folders"
        self.revisions = chosen_revisions(self.name, there, revisions)
        self._folders = by_name

    def fetch(self, revision: Revision) -> None:
        """Nothing: the files are here."""

    def load(
        self, revision: Revision, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> HookedModel:
        """The model of a folder."""
        return pretrained_model(self._folders[revision.name], dtype=dtype, device=device)

    def release(self, revision: Revision) -> None:
        """Nothing: the folders are the user's."""

    def files_digest(self, revision: Revision) -> str:
        """Of weights, configuration and tokenizer in a folder. They are read whole."""
        folder = self._folders[revision.name]
        files = sorted({file for pattern in READ_FROM for file in folder.glob(pattern) if file.is_file()})
        told = hashlib.sha256()
        for file in files:
            told.update(f"{file.name}\0".encode())
            with file.open("rb") as content:
                told.update(hashlib.file_digest(content, "sha256").digest())
        return told.hexdigest()


class RunSource:
    """The checkpoints of a run of ours.

    Args:
        run: trained on text.
        revisions: see `plateau_interp.series.revisions.chosen_revisions`; a checkpoint's name is ``stepN``.

    Raises:
        ValueError: for a step without a checkpoint.
    """

    def __init__(self, run: Run, revisions: str | Iterable[str | int] = "all") -> None:
        self.run, self.name = run, str(run.path)
        if not isinstance(run.task, OfText):
            raise ValueError(f"a series goes on from texts; {run.path} is of the task {run.task.name}, which has none")
        there = [Revision(step, f"step{step}") for step in run.checkpoints]
        self.revisions = chosen_revisions(self.name, there, revisions)

    def fetch(self, revision: Revision) -> None:
        """Nothing: the checkpoints are here."""

    def load(
        self, revision: Revision, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> HookedModel:
        """The run's model at a step."""
        model = self.run.model(revision.step, device=device)
        return model if model.cfg.dtype == dtype else model.to(dtype, print_details=False)

    def release(self, revision: Revision) -> None:
        """Nothing: the checkpoints are the run's."""

    def files_digest(self, revision: Revision) -> str:
        """Of the weights, which another run of the same recipe may have others of; empty if they are gone."""
        return weights_file_digest(self.run.path, revision.step)


def source_of(
    source: Any,
    revisions: str | Iterable[str | int] = "all",
    *,
    notes: Path | None = None,
    listing: Sequence[str] | Mapping[str, str] | None = None,
) -> CheckpointSource:
    """The source that a name, a path or an object stands for.

    Args:
        source: a `Run` or the folder of one; a folder of checkpoint folders, a pattern of such (``saved/step*``) or a
            list of them; a name on the hub; or a `CheckpointSource`.
        revisions: which checkpoints; see `plateau_interp.series.revisions.chosen_revisions`.
        notes: see `HubSource`.
        listing: see `HubSource`.

    Raises:
        ValueError: if it is none of these.

    Example:
        >>> source_of("EleutherAI/pythia-14m", "paper", listing=["step0"])
        Traceback (most recent call last):
            ...
        ValueError: EleutherAI/pythia-14m has no step 1; the nearest are 0
    """
    if isinstance(source, Run):
        return RunSource(source, revisions)
    if isinstance(source, list | tuple):
        return FolderSource(source, revisions)
    if not isinstance(source, str | Path):
        if isinstance(source, HubSource | FolderSource | RunSource):
            return source
        raise ValueError(f"a series is of a model on the hub, of folders or of a run; got {shown(source)}")
    path = Path(source).expanduser()
    if (path / "recipe.json").is_file():
        return RunSource(Run(path), revisions)
    if path.is_dir():
        inside = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and parsed_revisions([folder.name])]
        if not inside:
            raise ValueError(f"{path} holds no run, and no folder that is named by a step, as step512")
        return FolderSource(inside, revisions)
    if set("*?[") & set(str(source)):
        found = sorted(glob(str(path)))
        if not found:
            raise ValueError(f"no folder is like {str(source)!r}")
        return FolderSource(found, revisions)
    if isinstance(source, str) and is_on_hub(source):
        return HubSource(source, revisions, notes=notes, listing=listing)
    near = [str(each) for each in path.parent.iterdir()] if path.parent.is_dir() else []
    raise ValueError(f"there is no folder {str(source)!r}" + (f"; {nearest(str(path), near)}" if near else ""))
