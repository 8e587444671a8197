"""Random command lines: words that are nearly right, in any order, in any number."""

import random
from pathlib import Path

from fuzz.harness import TINY, Finding, command, contents, must_be_good

VERBS = [
    "train",
    "fork",
    "compare",
    "report",
    "check",
    "prune",
    "reproduce",
    "list",
    "",
    "trian",
    "--help",
    "TRAIN",
    "-x",
]
TASKS = [
    "moving-window-sum",
    "copy",
    "mixture",
    "modular-arithmetic",
    "histogram",
    "moving-window-sun",
    "",
    "*",
    "x.yaml",
]
JUNK = [
    "0",
    "1",
    "-1",
    "2.5",
    "1e400",
    "nan",
    "None",
    "true",
    "[]",
    "[0]",
    "{}",
    "''",
    "é",
    "../..",
    "--",
    "-",
    "=",
    "a=b",
    "0x10",
    "inf",
    "1_000",
    "adam",
    "adam:",
    "adam:learning_rate=x",
    ":",
    "sgd:momentum",
    "--seed",
    "-h",
    "a b",
    " 3",
    "9" * 30,
    "x" * 300,
    "\x00",
    "",
]
OPTIONS = {
    "--seed": ["0", "7"],
    "--steps": ["1", "2"],
    "--n": ["3", "4"],
    "--k": ["2"],
    "--d-model": ["8", "16"],
    "--n-heads": ["1", "2", "3"],
    "--n-layers": ["1", "2"],
    "--attention": ["softmax", "linear"],
    "--dtype": ["float64", "float16"],
    "--batch-size": ["1", "4"],
    "--optimizer": ["adamw", "sgd:momentum=0.9", "muon", "adam:learning_rate=0"],
    "--grad-clip": ["1.0", "0"],
    "--out": ["elsewhere", "run", "bystander.txt"],
    "--device": ["cpu", "cuda:7", "tpu"],
    "--json": [],
    "--at": ["0", "2", "3"],
    "--checkpoint-every": ["1", "50"],
    "--every": ["1", "3"],
    "--help": [],
    "--cosine-at": ["blocks.0.hook_resid_post", "blocks.9.hook_resid_post"],
    "--warm-up": ["2"],
    "--cosine-until": ["9"],
    "--tasks": ["copy", "copy:n=4"],
    "--no-such-option": ["1"],
}
HOOKS = [
    "bias-attention",
    "bias-attention:factor=3",
    "bias-attention:factor=x",
    "bias-attention:factor=",
    "fix-attention:layers=[9]",
    "ablate-heads",
    "ablate-heads:heads=[0]",
    "during:intervention=fix-attention,start=2",
    "during:start=2",
    "freeze-weights:where=*",
    "freeze-weights:where=mlp",
    "freeze-weights:where=",
    "when:intervention=fix-attention,condition=loss < 3",
    "capture:out=c",
    "capture:names=[blocks.0.hook_resid_post],out=c",
    'capture:names=["blocks.0.hook_resid_post"],out="c"',
    'patch-attention:source="nowhere"',
    "add-direction:at=x",
    "mask-attention:keys=[0]",
    "mask-attention:keys=[-99]",
    "mix-attention:weight=2",
    "no-such-hook",
]


def fuzz(rng: random.Random, folder: Path) -> str:
    """One command line in a folder with a bystander and a finished run.

    Raises:
        Finding: if it ends with anything but work or one line, or touches what it should not.
    """
    (folder / "bystander.txt").write_text("mine")
    must_be_good(command("train", "moving-window-sum", *TINY.split(), "--steps", "4", "--out", folder / "run"))
    before = contents(folder)
    words = _words(rng, folder)
    outcome = must_be_good(command(*words))
    after = contents(folder)
    changed = {name for name in before if after.get(name) != before[name]}
    reached_run = any(word in ("run", str(folder / "run")) for word in words)
    if changed - {name for name in changed if reached_run and not outcome.refused and name.startswith("run/")}:
        raise Finding(f"plateau {words} changed {sorted(changed)}")
    if outcome.refused and (new := {name for name in after if name not in before}):
        raise Finding(f"plateau {words} was refused ({outcome.err.strip()[-300:]}) and left {sorted(new)}")
    return "refused" if outcome.refused else "done"


def _words(rng: random.Random, folder: Path) -> list[str]:
    if rng.random() < 0.15:
        return [rng.choice([*VERBS, *TASKS, *OPTIONS, *JUNK]) for _ in range(rng.randrange(5))]
    run = str(folder / "run")
    verb = rng.choice(["train"] * 5 + ["fork", "compare", "report", "check", "prune", "list"])
    words = {
        "train": ["train", rng.choice([*TASKS[:5] * 3, *TASKS]), "--out", str(folder / "new")],
        "fork": ["fork", run, "--at", rng.choice(["0", "2", "3", "4", "9", "-1", "x"]), "--out", str(folder / "fork")],
        "compare": ["compare", run, run, "--out", str(folder / "page")],
        "report": ["report", run, "--out", str(folder / "page")],
        "check": ["check", run],
        "prune": ["prune", run],
        "list": ["list", rng.choice(["tasks", "hooks", "optimizers", "experiments", "hats"])],
    }[verb]
    if verb == "train":
        words += ["--d-model=8", "--batch-size=4", "--n-sequences=2", "--steps=2"]
    for option in rng.sample([*OPTIONS, "--hook"], rng.choice([0, 1, 1, 2, 3])):
        given = [word for word in words if word.partition("=")[0] == option]
        if option == "--hook":
            words += [option, *rng.choices(HOOKS, k=rng.randrange(3))]
        elif rng.random() < 0.7:
            words = [word for word in words if word not in given or "=" not in word]
            words += [option, *rng.sample(OPTIONS[option], min(1, len(OPTIONS[option])))]
        else:
            words += [option, *rng.choices(JUNK, k=rng.choice([0, 1, 1, 2]))]
    if rng.random() < 0.1:
        del words[rng.randrange(len(words))]
    return words
