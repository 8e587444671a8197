"""Writing files whole or not at all, what tells one content from another, and folders with an entry a training step."""

import errno
import hashlib
import io
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "check_file",
    "check_folder",
    "digest",
    "is_step_name",
    "names_in",
    "naming",
    "read_table",
    "readable",
    "remove_halves",
    "steps_in",
    "sync_folder",
    "write_atomically",
    "write_table",
]

STEP = re.compile("0|[1-9][0-9]*")  # not isdigit(): "²" is a digit
HALF_WRITTEN = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")


def check_file(path: Path) -> None:
    """Refuse a path that can be no file, because a folder lies there, or a file above it.

    Raises:
        ValueError: naming what is there.

    Example:
        >>> check_file(Path("runs/curves.png"))
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the path of a file in it, such as {path / 'NAME'}")
    check_folder(path.parent)


def check_folder(path: Path) -> None:
    """Refuse a path that can be no folder, because a file lies there or above it.

    Raises:
        ValueError: naming the file.

    Example:
        >>> check_folder(Path("runs/mws"))
    """
    for place in (path, *path.parents):
        if place.is_dir():
            return
        if place.exists():
            raise ValueError(f"{path} cannot be a folder: {place} is a file")


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal, as the command ``sha256sum`` prints it.

    (It is faster than BLAKE2 where the processor has instructions for it, as nearly all do.)

    Example:
        >>> digest(b"")[:16]
        'e3b0c44298fc1c14'
    """
    return hashlib.sha256(content).hexdigest()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an OSError of this block name the file: a full disk is told by calls that know no name.

    Raises:
        OSError: the block's own, with a ``filename``.

    Example:
        >>> with naming(Path("runs/mws/metrics.jsonl")):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
            ...
        OSError: [Errno 28] No space left on device: 'runs/mws/metrics.jsonl'
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def readable(path: str | Path) -> str:
    r"""A path as text that every file and terminal takes: of a name that is not UTF-8, the bytes as ``\xe9``.

    Example:
        >>> readable(os.fsdecode(b"caf\xe9"))
        'caf\\xe9'
    """
    return os.fsencode(path).decode(errors="backslashreplace")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, now or after a crash, finds the old content or the new, never a part.

    The content goes to a temporary file in the same folder, ``.NAME.….tmp``, is forced to disk, and takes the name in
    one step; of several processes that write the same file, the last has it. The folder is made if it is missing.

    Raises:
        OSError: naming the file, if the disk is full or the folder cannot be written; the old content stays.
        IsADirectoryError: if it is a folder.
        NotADirectoryError: naming the file that lies where it needs a folder.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        place = next((place for place in path.parents if place.exists()), path.parent)
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place)) from None
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:  # Ctrl-C too
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None  # nobody knows the temporary file
        raise


def remove_halves(folder: Path, *, of: Callable[[str], bool], within: bool = True) -> None:
    """Remove what a kill left of files that `write_atomically` was writing, in a folder.

    Args:
        folder: which need not be there.
        of: tells by a file's name whether nobody else can be writing it now.
        within: in the folders within it, too.
    """
    for half in folder.glob("**/.*.tmp" if within else ".*.tmp"):
        if (name := HALF_WRITTEN.fullmatch(half.name)) and of(name[1]):
            half.unlink(missing_ok=True)


def write_table(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as Parquet, without its index, like `write_atomically`."""
    content = table.to_parquet(index=False, compression="zstd")
    assert content is not None
    write_atomically(path, content)


def read_table(path: Path) -> "pd.DataFrame":
    """What `write_table` wrote.

    Raises:
        ValueError: naming the file, if it is no Parquet, or damaged.
        OSError: naming the file, if it cannot be read.
    """
    import pandas as pd

    content = io.BytesIO(path.read_bytes())  # pandas takes no name that is not UTF-8
    try:
        return pd.read_parquet(content)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def sync_folder(path: Path) -> None:
    """Force to disk which names a folder holds, so that a file renamed into it is there after a power cut.

    Does nothing on Windows, which cannot open folders.
    """
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_step_name(name: str) -> bool:
    """Whether a folder of this name holds what belongs to a training step.

    Example:
        >>> is_step_name("120"), is_step_name("012")
        (True, False)
    """
    return STEP.fullmatch(name) is not None


def names_in(folder: Path) -> list[str]:
    """What lies in a folder, sorted, but hidden files; nothing if there is no folder.

    Example:
        >>> names_in(Path("nowhere"))
        []
    """
    if not folder.is_dir():
        return []
    return sorted(child.name for child in folder.iterdir() if not child.name.startswith("."))


def steps_in(folder: Path) -> list[int]:
    """The training steps that have an entry in a folder, in order; whatever else lies there is left out."""
    return sorted(int(child.name) for child in folder.iterdir() if is_step_name(child.name))
