"""A disk that is full at a random byte: one line says which file, and with room again the same command goes on."""

import os
import random
import subprocess
from pathlib import Path

from fuzz.harness import TINY, Finding, NotHere, command, must_be_good, numbers

SIZE = 600_000
"""Bytes of the disk."""


def fuzz(rng: random.Random, folder: Path) -> str:
    """Train on a small disk that a file has filled up to a random rest.

    It is mounted on request alone: ``PLATEAU_FUZZ_MOUNT=1``, as in ``make fuzz``.

    Raises:
        NotHere: without that, or the right to mount.
        Finding: for anything but a line with a path, and for other numbers after making room.
    """
    if os.environ.get("PLATEAU_FUZZ_MOUNT") != "1":
        raise NotHere("a disk is mounted on request alone: PLATEAU_FUZZ_MOUNT=1, as in `make fuzz`")
    disk = folder / "disk"
    disk.mkdir()
    capture = f'capture:names=["blocks.0.hook_resid_post"],out="{disk}/c"'
    options = [*TINY.split(), "--steps", "8", "--hook", capture]
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        raise NotHere(f"no disk could be mounted: {mounted.stderr.decode().strip()}")
    try:
        (disk / "filler").write_bytes(b"x" * (SIZE - 4096 * rng.randrange(1, 120)))
        words = ["train", "moving-window-sum", *options, "--out", str(disk / "run")]
        first = must_be_good(command(*words))
        if first.refused and str(disk) not in first.err:
            raise Finding(f"a full disk is told without a path: {first.err!r}")
        (disk / "filler").unlink()
        if first.refused:
            again = must_be_good(command(*words))
            if again.refused:
                raise Finding(f"with room again: {again.err!r}; before: {first.err!r}")
        whole = [word.replace(str(disk), str(folder / "roomy")) for word in words]
        must_be_good(command(*whole))
        if numbers(disk / "run") != numbers(folder / "roomy" / "run"):
            raise Finding(f"after a full disk other numbers came out: {first.err!r}")
        return "refused" if first.refused else "done"
    finally:
        subprocess.run(["umount", str(disk)], capture_output=True, check=True)
