"""Run folders that earlier versions wrote, kept in tests/data: copies to work on, and how alike results must be."""

import shutil
from pathlib import Path

import pytest

ALMOST = {"rtol": 1e-4, "atol": 1e-5}
"""Another processor rounds in another way."""


def copy_kept(number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of the folders of a format, in the folder from which their recipes name the donor."""
    shutil.copytree(Path(__file__).parent / "data" / f"run-format-{number}", folder, dirs_exist_ok=True)
    monkeypatch.chdir(folder)
