"""Damaged run and capture folders: every file truncated, swapped, flipped, removed or added to, at random.

What comes out is either one line that names a file of the folder, or the very numbers of the undamaged run.
"""

import random
import shutil
from pathlib import Path

from fuzz.harness import TINY, Finding, Outcome, command, contents, must_be_good, numbers, with_reports
from plateau_interp.interventions.capturing import Captured

STEPS = 6


def fuzz(rng: random.Random, folder: Path) -> str:
    """Damage one run in one place, then use it in one way.

    Raises:
        Finding: for another number, a traceback, or a bystander that changed.
    """
    run = folder / "run"
    hooks = [
        "--hook",
        "during:intervention=bias-attention,start=1",
        f'capture:names=["blocks.0.hook_resid_post"],out="{folder}/c"',
    ]
    words = ["train", "moving-window-sum", *TINY.split(), "--steps", str(STEPS), *hooks, "--out", str(run)]
    must_be_good(command(*words))
    rows, weights = numbers(run)
    if rng.random() < 0.5:  # as if it had been stopped
        shutil.rmtree(run / "checkpoints" / str(STEPS))
        (run / "metrics.parquet").unlink()
    (run / "notes.txt").write_text("mine")
    use = rng.choice(["train", "train", "fork", "report", "read", "captured", "prune"])
    told = _told(use, words, folder)
    harm = damage(rng, rng.choice([run, run, run, folder / "c"]))
    before, table = contents(folder), _table(run)
    outcome = _use(use, words, folder)
    if (folder / "run" / "notes.txt").read_text() != "mine":
        raise Finding(f"{harm}, then {use}: the notes changed")
    if outcome is None or outcome.refused:
        lost = [name for name, digest in before.items() if contents(folder).get(name) != digest]
        if use == "train" and _was_taken_up(table, run):
            lost = [name for name in lost if name not in ("run/metrics.jsonl", "run/seconds.jsonl")]
        if lost:
            raise Finding(f"{harm}, then {use}: refused, and changed {lost}")
        if outcome is not None and str(folder) not in outcome.err:
            raise Finding(f"{harm}, then {use}: no file is named in {outcome.err!r}")
        return "refused"
    if use == "train":
        again = numbers(run)
        if again != (rows, weights):
            raise Finding(f"{harm}, then train: other numbers came out")
    cited = ("environment.json", "seconds.jsonl")  # on the page, and under no digest
    if _page(folder) != told and not any(name in harm for name in cited):
        raise Finding(f"{harm}, then {use}: another page came out")
    return "done"


def _told(use: str, words: list[str], folder: Path) -> dict[str, str]:
    """The page of the undamaged run, if a page is to be compared."""
    if use == "report":
        _use(use, words, folder)
    return _page(folder)


def _page(folder: Path) -> dict[str, str]:
    return contents(folder / "page") if (folder / "page").is_dir() else {}


def _table(run: Path) -> bytes:
    file = run / "metrics.jsonl"
    return file.read_bytes() if file.is_file() else b""


def _was_taken_up(table: bytes, run: Path) -> bool:
    """Whether the rows changed as they do when a run goes on: those behind the last checkpoint are made again."""
    now, reached = (
        _table(run),
        max(int(place.name) for place in (run / "checkpoints").iterdir() if place.name.isdigit()),
    )
    return now != table and (now.startswith(table) or table.startswith(now)) and len(now.splitlines()) >= reached


def damage(rng: random.Random, where: Path) -> str:
    files = sorted(path for path in where.rglob("*") if path.is_file() and path.name not in (".lock", "notes.txt"))
    file = rng.choice(files)
    content = file.read_bytes()
    kind = rng.choice(["truncate", "flip", "remove", "swap", "empty", "add", "folder", "append"])
    if kind == "truncate":
        file.write_bytes(content[: rng.randrange(len(content) or 1)])
    elif kind == "flip" and content:
        place = rng.randrange(len(content))
        file.write_bytes(content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :])
    elif kind == "remove":
        file.unlink()
    elif kind == "swap":
        other = rng.choice(files)
        file.write_bytes(other.read_bytes())
        return f"{other} copied over {file}"
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "add":
        name = rng.choice(["7", "notes", ".6.tmp", "0x1", "-1", "07"])
        (file.parent / name).write_text("added") if rng.random() < 0.5 else (file.parent / name).mkdir(exist_ok=True)
        return f"{name} added beside {file}"
    elif kind == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(
            content + rng.choice([b"\n", b"{}\n", b"x", b'{"step": "a"}\n', b"\xff\xfe", b"1" * 400 + b"\n"])
        )
    return f"{kind} {file}"


def _use(use: str, words: list[str], folder: Path) -> Outcome | None:
    run = folder / "run"
    if use == "train":
        return must_be_good(command(*words))
    if use == "fork":
        return must_be_good(command("fork", run, "--at", "3", "--hook", "fix-attention", "--out", folder / "fork"))
    if use == "prune":
        return must_be_good(command("prune", run))
    if use == "report":
        with with_reports():
            return must_be_good(command("report", run, "--out", folder / "page"))
    try:
        if use == "read":
            numbers(run)
        else:
            dict(Captured(folder / "c"))
    except (ValueError, OSError):  # RunError is a ValueError
        return None
    return Outcome((use,), 0, "", "")
