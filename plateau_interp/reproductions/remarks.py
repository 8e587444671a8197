"""Remarks: what a person adds to the measured numbers, in ``results/<paper>/remarks.md``.

```text
## about                        what goes for all runs
## holds                        what holds, in sentences: {fig2: Hidden states collapse} stands for what was measured
## fig2                         an experiment: what was seen; the cover's first paragraph is on the first page
### Answers repeat themselves   one of its claims: why it does not hold
## machine                      what the runs were made on
```

Each part may be missing. Numbers that a claim measures are better not typed: the braces keep them true.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plateau_interp.checks import nearest
from plateau_interp.reproductions.claims import Statement
from plateau_interp.reproductions.markdown import headed

__all__ = ["Remarks", "read_remarks"]

GENERAL = ("about", "holds", "machine")
N_SEEDS = re.compile(r" \([^()]*seeds?\b[^()]*\)$")
"""At the end of what was measured: how many seeds, which would stop the eye in a sentence."""


@dataclass(frozen=True)
class Remarks:
    """A person's remarks, with the measured numbers filled in.

    Args:
        parts: by experiment, or ``about``, ``holds`` and ``machine``.
        reasons: by experiment and claim, why the claim does not hold.
    """

    parts: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def of(self, part: str) -> str:
        """The remarks of a part; empty if there are none."""
        return self.parts.get(part, "")

    def why(self, statement: Statement) -> str:
        """Why a statement does not hold, as far as it was said."""
        return self.reasons.get((statement.experiment, statement.claim.text), "")


def read_remarks(file: Path, experiments: Sequence[str], statements: Sequence[Statement]) -> Remarks:
    """Read a page of remarks; no remarks if there is no page.

    Args:
        file: the page.
        experiments: names that its headings may have.
        statements: claims that it may speak of, with what was measured.

    Raises:
        ValueError: if a heading or a pair of braces names an experiment or a claim that there is not, with the nearest.
    """
    if not file.is_file():
        return Remarks()
    by_name = {(one.experiment, one.claim.text): one for one in statements}
    parts, reasons = {}, {}
    for name, text in headed(file.read_text(encoding="utf-8"), level=2).items():
        _check_known(name, [*GENERAL, *experiments], "experiment", file)
        claims = headed(text, level=3)
        for claim, reason in claims.items():
            _check_known(claim, [text for experiment, text in by_name if experiment == name], f"claim of {name}", file)
            reasons[name, claim] = _filled(reason, by_name, file)
        alone = re.split(r"^### ", text, maxsplit=1, flags=re.MULTILINE)[0].strip()
        parts[name] = _filled(alone, by_name, file)
    return Remarks(parts, reasons)


def _filled(text: str, by_name: Mapping[tuple[str, str], Statement], file: Path) -> str:
    """The text with what was measured in place of the braces; a claim that does not hold is told there, too."""

    def measured(braces: re.Match[str]) -> str:
        experiment, claim = braces[1], " ".join(braces[2].split())  # a line may be broken inside the braces
        _check_known(f"{experiment}: {claim}", [f"{one}: {text}" for one, text in by_name], "claim", file)
        finding = by_name[experiment, claim].finding
        shown = N_SEEDS.sub("", finding.measured) or "-"
        return f"{shown}, **does not hold**" if finding.verdict == "does not hold" else shown

    filled = re.sub(r"\{([^{}:\s]+):\s+([^{}]+)\}", measured, text)
    # Numbers are shorter than their names: list items that were broken for the names go on one line.
    return filled if filled == text else re.sub(r"\n +(?=\S)", " ", filled)


def _check_known(name: str, known: Iterable[str], what: str, file: Path) -> None:
    known = list(known)
    if name not in known:
        raise ValueError(f"{file} names {name!r}, and there is no such {what}; {nearest(name, known)}")
