"""Where the files of a pretrained model are: a folder given, or one in the hub's cache, fetched where it must be.

What cannot be had is told in one line that says what was tried and what works instead. Weights are safetensors:
nothing is ever unpickled.
"""

import json
import shutil
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# What every failed request is, a lost connection and a proxy's refusal among them; httpx's or, later, httpx2's.
from huggingface_hub.errors import HTTPError as RequestError  # type: ignore[attr-defined]
from huggingface_hub.file_download import repo_folder_name

from plateau_interp.checks import first_line, listed, nearest, shown

__all__ = [
    "cached_commit",
    "delete_snapshot",
    "has_tokenizer",
    "is_on_hub",
    "model_folder",
    "put_ref",
    "revision_names",
    "snapshots",
]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FETCHED = ("*.json", "model*.safetensors", "*.model", "*.txt", "*.jinja")
"""Configuration, weights and tokenizer; no pickles, no copies of the weights for other programs."""
PICKLES = {".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth"}
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
ELSE = "a local folder or a Hugging Face model in memory works without the hub"


def model_folder(source: str | Path, *, revision: str | None = None) -> Path:
    """The folder with a model's configuration and safetensors.

    Args:
        source: a folder, or a name on the hub; what is a folder here is taken for one.
        revision: branch, tag or commit on the hub; None for its main branch.

    Raises:
        ValueError: where there is none, or none that is whole, in one line.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"a revision is of a model on the hub; got revision={revision!r} and the folder {folder}")
        there = [file.name for file in folder.iterdir()]
    elif not is_on_hub(source):
        what = "a file: give its folder" if folder.is_file() else "no folder, and no name on the hub"
        raise ValueError(f"{shown(str(source))} is {what}")
    else:
        folder = _from_hub(str(source), revision)
        there = [file.name for file in folder.iterdir()]
        if not {WEIGHTS, INDEX} & {*there}:
            there += _files_on_hub(str(source), revision)
    _check_complete(folder, there)
    return folder


def is_on_hub(source: str | Path) -> bool:
    """Whether a source can only be a name on the hub: no folder of that name is here, and no path looks like it.

    Example:
        >>> is_on_hub("EleutherAI/pythia-14m"), is_on_hub("./pythia-14m"), is_on_hub(Path("pythia-14m"))
        (True, False, False)
    """
    folder = Path(source).expanduser()
    is_path = isinstance(source, Path) or folder.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1
    return not (is_path or folder.exists())


def revision_names(name: str) -> dict[str, str]:
    """The branches and tags of a model on the hub, each with the commit that it stands for.

    Where the hub cannot be asked, those that are in the cache, with an empty text for the commit.

    Raises:
        ValueError: if there is no such model, or it is gated, in one line; if neither hub nor cache know any.
    """
    cached = _cached_names(name)
    if constants.HF_HUB_OFFLINE:
        asked, why = None, f"{name}: HF_HUB_OFFLINE is set"
    else:
        try:
            asked, why = HfApi().list_repo_refs(name), ""
        except GatedRepoError:  # it is a RepositoryNotFoundError, too
            asked, why = None, _gated(name)
        except RepositoryNotFoundError:
            asked, why = None, f"{name}: the hub has no such model that you may see"
        except HFValidationError:
            raise ValueError(f"{shown(name)} is no folder here and can be no name on the hub (owner/name)") from None
        except (RequestError, OSError) as error:
            asked, why = None, f"{name}: the hub cannot be reached ({first_line(error)})"
    if asked is not None:
        return {ref.name: ref.target_commit for ref in (*asked.branches, *asked.tags)}
    if not cached:
        raise ValueError(f"{why}, and {_cached(name)}; {ELSE}")
    return dict.fromkeys(cached, "")


def cached_commit(name: str, revision: str, *, cache: str | None = None) -> str | None:
    """The commit that a revision of a model of the hub is in a cache, by default ours; None if it is not."""
    file = _cache_folder(name, cache) / "refs" / revision
    return file.read_text().strip() if file.is_file() else None


def snapshots(name: str, *, cache: str | None = None) -> set[str]:
    """The commits of a model of the hub of which a cache, by default ours, has files, whole or not."""
    folder = _cache_folder(name, cache) / "snapshots"
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def put_ref(name: str, revision: str, commit: str | None) -> None:
    """Let the cache have a commit under the name of a revision; None for no such name."""
    file = _cache_folder(name) / "refs" / revision
    if commit is None:
        file.unlink(missing_ok=True)
    elif cached_commit(name, revision) != commit:
        file.write_text(commit)  # as the client does; a temporary file beside it would be a name


def delete_snapshot(name: str, commit: str) -> None:
    """Delete a commit of a model of the hub from the cache, but for the files that other commits have, too.

    Names of the commit stay: see `put_ref`.

    The client's own `scan_cache_dir` reads all models of the cache, and deletes nothing of one that a failed download
    left a name without files of.
    """
    folder = _cache_folder(name)
    needed = {file.resolve() for other in snapshots(name) - {commit} for file in _files_of(folder, other)}
    for file in _files_of(folder, commit):
        blob = file.resolve()
        file.unlink()
        if blob not in needed:
            blob.unlink(missing_ok=True)  # where there are no links, it was the file itself
    shutil.rmtree(folder / "snapshots" / commit, ignore_errors=True)
    # What the client has noted of the hub's listing, which it asks for again.
    shutil.rmtree(folder / ".no_exist" / commit, ignore_errors=True)
    (folder / "trees" / f"{commit}.json").unlink(missing_ok=True)


def _files_of(folder: Path, commit: str) -> list[Path]:
    return [file for file in (folder / "snapshots" / commit).rglob("*") if file.is_symlink() or file.is_file()]


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer was saved there."""
    return any((folder / name).is_file() for name in TOKENIZERS)


def _check_complete(folder: Path, there: list[str]) -> None:
    if "config.json" not in there:
        raise ValueError(f"{folder} has no config.json: no Hugging Face model was saved there")
    if WEIGHTS in there:
        return
    if INDEX not in there:
        pickles = sorted({name for name in there if Path(name).suffix in PICKLES})
        if pickles:
            told = f"{folder} has its weights as pickle files alone ({listed(pickles)}), which can run any code"
            raise ValueError(f"{told}: load them yourself if you trust them, and give the model in memory")
        raise ValueError(f"{folder} has no weights: neither {WEIGHTS} nor {INDEX}")
    try:
        shards = {*json.loads((folder / INDEX).read_text())["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / INDEX} cannot be read: {error!r}") from None
    if missing := sorted(shards - {*there}):
        raise ValueError(f"{folder} is not whole: {INDEX} lists {listed(missing)}, not there")


def _from_hub(name: str, revision: str | None) -> Path:
    of_revision = "" if revision is None else f" of revision {revision!r}"
    try:
        # Files that are in the cache are taken from there, also where the hub cannot be reached.
        return Path(snapshot_download(name, revision=revision, allow_patterns=[*FETCHED], ignore_patterns=["*/*"]))
    except HFValidationError:
        raise ValueError(f"{shown(name)} is no folder here and can be no name on the hub (owner/name)") from None
    except GatedRepoError:
        raise ValueError(_gated(name, revision)) from None
    except RevisionNotFoundError:
        raise ValueError(f"{name} has no revision {revision!r}; {_revisions(name, str(revision))}") from None
    except RepositoryNotFoundError:
        told = f"there is no folder {name} here, and no model {name} on the hub that you may see"
        raise ValueError(f"{told} (private ones need HF_TOKEN); {ELSE}") from None
    except LocalEntryNotFoundError as error:
        told = f"{name}: its files{of_revision} are not in the cache {constants.HF_HUB_CACHE}"
        unreachable = f"the hub cannot be reached ({first_line(error.__cause__ or error)})"
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else unreachable
        raise ValueError(f"{told}, and {why}; {_cached(name)}; {ELSE}") from None
    except (RequestError, OSError) as error:
        raise ValueError(f"{name}: fetching its files{of_revision} failed: {first_line(error)}; {ELSE}") from None


def _gated(name: str, revision: str | None = None) -> str:
    what = name if revision is None else f"revision {revision!r} of {name}"
    where = f"at {constants.ENDPOINT}/{name}, where its owner grants access"
    return f"{what} is gated: accept its licence {where}; then log in with `hf auth login`, or set HF_TOKEN"


def _files_on_hub(name: str, revision: str | None) -> list[str]:
    """What else the hub has, to say what is wrong; nothing where it cannot be asked."""
    try:
        return list(HfApi().list_repo_files(name, revision=revision))
    except (RequestError, OSError):
        return []


def _revisions(name: str, wrong: str) -> str:
    try:
        refs = HfApi().list_repo_refs(name)
    except (RequestError, OSError):
        return _cached(name)
    return nearest(wrong, [ref.name for ref in (*refs.branches, *refs.tags)])


def _cache_folder(name: str, cache: str | None = None) -> Path:
    return Path(cache or constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="model"))


def _cached_names(name: str) -> list[str]:
    refs = _cache_folder(name) / "refs"
    return sorted(file.relative_to(refs).as_posix() for file in refs.rglob("*") if file.is_file())


def _cached(name: str) -> str:
    there = snapshots(name)  # a name may be there without files
    names = [revision for revision in _cached_names(name) if cached_commit(name, revision) in there]
    return f"of {name} the cache has {listed(names)}" if names else f"of {name} the cache has nothing"
