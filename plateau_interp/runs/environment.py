"""What made a run, as far as it is not in the recipe: versions, machine, device, threads."""

import json
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from plateau_interp.files import write_atomically

__all__ = ["environment", "write_environment"]

PACKAGES = ("plateau-interp", "torch", "transformer-lens", "numpy")


def environment(device: str | torch.device) -> dict[str, Any]:
    """This process's environment, as plain data; of a CUDA device its name and version, too.

    Args:
        device: where the run is trained.

    Example:
        >>> sorted(environment("cpu"))
        ['cores', 'device', 'machine', 'packages', 'processor', 'python', 'threads']
    """
    known = {
        "packages": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
    if torch.device(device).type == "cuda":
        return {**known, "accelerator": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return known


def write_environment(file: Path, device: str | torch.device) -> None:
    """Write `environment` as JSON.

    Raises:
        OSError: as from `write_atomically`.
    """
    write_atomically(file, json.dumps(environment(device), indent=2) + "\n")


def _processor() -> str:
    """The processor's name, as far as the system tells."""
    source = Path("/proc/cpuinfo")
    text = source.read_text(encoding="utf-8") if source.is_file() else ""
    match = re.search(r"^model name\s*: *(.+?) *$", text, flags=re.MULTILINE)
    return platform.processor() if match is None else str(match[1])
