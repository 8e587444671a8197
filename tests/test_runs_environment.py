import json
from pathlib import Path

import pytest
import torch

from plateau_interp.runs.environment import environment, write_environment


def test_it_says_what_made_a_run(tmp_path: Path) -> None:
    made = environment("cpu")
    assert (made["device"], made["threads"]) == ("cpu", torch.get_num_threads())
    assert made["cores"] >= 1
    assert "accelerator" not in made
    write_environment(tmp_path / "environment.json", "cpu")
    assert json.loads((tmp_path / "environment.json").read_text()) == made


def test_of_a_cuda_device_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a card at {device}")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    made = environment(torch.device("cuda:1"))
    assert (made["device"], made["accelerator"], made["cuda"]) == ("cuda:1", "a card at cuda:1", "13.0")
