"""Prompts: the texts that a language model is to continue, with their origin and a hash.

One hundred general questions of our own are in the package, for use without a network. The paper's are those of
ARC-Easy, a data set of the hub: `ARC_EASY`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, overload

from plateau_interp.checks import listed, shown, whole_number
from plateau_interp.files import digest

__all__ = ["ARC_EASY", "GENERAL_QUESTIONS", "Prompts", "read_prompts"]

ARC_EASY = "allenai/ai2_arc:ARC-Easy:test"
"""The paper's prompts, with ``first=100``: the questions alone, without their options."""
GENERAL_QUESTIONS = "general"
"""The questions in the package."""
FIELDS = ("prompt", "question", "text")
"""Where a record's text is looked for."""


@dataclass(frozen=True)
class Prompts(Sequence[str]):
    """Texts to continue.

    Attributes:
        texts: the prompts, in order.
        origin: where they are from, for people.

    Example:
        >>> prompts = Prompts(("Why is the sky blue?",), "by hand")
        >>> len(prompts), prompts[0], prompts.digest[:8]
        (1, 'Why is the sky blue?', 'b42d0d44')
    """

    texts: tuple[str, ...] = field(repr=False)
    origin: str

    def __post_init__(self) -> None:
        texts = tuple(self.texts)
        if not texts:
            raise ValueError(f"there are no prompts in {self.origin}")
        for number, text in enumerate(texts, start=1):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"prompt {number} of {self.origin} must be a text; got {shown(text)}")
        object.__setattr__(self, "texts", texts)

    @property
    def digest(self) -> str:
        """SHA-256 of the texts, in hexadecimal; the origin does not count."""
        return digest(json.dumps(self.texts, ensure_ascii=True).encode())

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self.texts[index]


def read_prompts(
    source: "str | Path | Sequence[str] | Prompts" = GENERAL_QUESTIONS,
    *,
    key: str | None = None,
    first: int | None = None,
) -> Prompts:
    """Prompts from wherever they are.

    Args:
        source: `GENERAL_QUESTIONS`; a file with a prompt a line (``.txt``), or a JSON text or record a line
            (``.jsonl``); a data set of the hub as ``owner/name:configuration:split``, such as `ARC_EASY`; or texts. A
            file of that name goes first.
        key: the field of a record that holds the prompt; by default ``prompt``, ``question`` or ``text``.
        first: take so many from the beginning; by default all.

    Raises:
        ValueError: naming file and line, if there is no such file or data set, or a line is no prompt.

    Example:
        >>> prompts = read_prompts(first=2)
        >>> len(prompts), prompts.origin
        (2, 'general questions of plateau-interp, the first 2')
    """
    prompts = _read(source, key)
    if first is None:
        return prompts
    if whole_number("first", first, least=1) > len(prompts):
        raise ValueError(f"first={first} of the {len(prompts)} prompts in {prompts.origin}")
    return Prompts(prompts[:first], f"{prompts.origin}, the first {first}")


def _read(source: Any, key: str | None) -> Prompts:
    if isinstance(source, Prompts):
        return source
    if not isinstance(source, str | Path):
        if isinstance(source, Sequence):
            return Prompts(tuple(source), "a list of texts")
        raise ValueError(f"prompts must be a file, a data set or a list of texts; got {shown(source)}")
    path = Path(source).expanduser()
    if path.is_file():
        return Prompts(tuple(_in_file(path, key)), path.name)
    if source == GENERAL_QUESTIONS:
        file = resources.files("plateau_interp").joinpath("general_questions.txt")
        return Prompts(tuple(file.read_text(encoding="utf-8").splitlines()), "general questions of plateau-interp")
    if isinstance(source, str) and source.count(":") == 2 and "/" in source.split(":")[0]:
        return Prompts(tuple(_in_data_set(source, key)), source)
    raise ValueError(
        f"{shown(str(source))} is no file; prompts are a .txt or .jsonl file, {GENERAL_QUESTIONS!r}, or a data set of "
        f"the hub as owner/name:configuration:split, such as {ARC_EASY}"
    )


def _in_file(path: Path, key: str | None) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # U+2028 and the like may stand in a prompt
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if path.suffix != ".jsonl":
            yield line
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(f"{path}, line {number} is no JSON: {shown(line)}") from None
        yield _text_of(record, key, f"{path}, line {number}")


def _text_of(record: Any, key: str | None, where: str) -> str:
    if isinstance(record, str) and key is None:
        return record
    if isinstance(record, Mapping):
        for name in FIELDS if key is None else (key,):
            if isinstance(record.get(name), str):
                return str(record[name])
    fields = f"; it has {listed(list(map(str, record)))}" if isinstance(record, Mapping) else ""
    raise ValueError(f"{where} has no text under {' or '.join(FIELDS if key is None else (key,))}{fields}")


def _in_data_set(source: str, key: str | None) -> Iterator[str]:
    import datasets

    name, configuration, split = source.split(":")
    try:
        records = datasets.load_dataset(name, configuration or None, split=split)
    except Exception as error:  # whatever the hub, the network or the data set's own format raise
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"the data set {source} is not to be had: {first}; a file of prompts works offline") from None
    for number, record in enumerate(records):
        yield _text_of(record, key, f"{source}, record {number}")
