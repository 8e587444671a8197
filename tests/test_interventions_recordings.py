"""plateau_interp.interventions.recordings: a recording that is not what was written there is refused."""

import shutil
from pathlib import Path

import pytest
import torch
from recorded_steps import PATTERN, recorded, tiny
from safetensors.torch import save_file

from plateau_interp.interventions.capturing import Capture, Captured


def two_steps(folder: Path, *, label: str | None = None) -> list[Path]:
    """The files of two steps that a model recorded."""
    recorded(tiny(), Capture((PATTERN,), out=str(folder), label=label), 4, 8)
    return sorted(folder.glob("*/*.safetensors"))


def test_a_flipped_bit_of_a_recording_is_told_wherever_it_is(tmp_path: Path) -> None:
    _, file = two_steps(tmp_path)
    content = file.read_bytes()
    start = int.from_bytes(content[:8], "little") + 8
    for place in [*range(start + 4), start + 100, len(content) - 1]:
        for bit in (0, 5):
            file.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            if b"  " in content[place - 1 : place + 1] or content[place : place + 1] == b" ":
                continue  # the header's padding says nothing
            with pytest.raises(ValueError, match=r"hook_pattern\.safetensors is damaged: "):
                Captured(tmp_path)[8, PATTERN]
    file.write_bytes(content)
    assert Captured(tmp_path)[8, PATTERN].shape == (2, 1, 8, 8)


def test_a_recording_of_another_step_point_label_or_run_is_refused(tmp_path: Path) -> None:
    four, eight = two_steps(tmp_path / "c")
    (labelled, _), (others, _) = two_steps(tmp_path / "d", label="x"), two_steps(tmp_path / "e")
    for other, message in (
        (eight, f"it was recorded at step 8 as {PATTERN}.safetensors"),
        (labelled, f"it was recorded at step 4 as {PATTERN}@x.safetensors"),
        (others, "another run, or another model, recorded it"),
    ):
        shutil.copy(other, four)
        with pytest.raises(ValueError, match=f"4/{PATTERN}.safetensors is damaged: {message}"):
            Captured(tmp_path / "c")[4, PATTERN]
        assert Captured(tmp_path / "c")[8, PATTERN].shape == (2, 1, 8, 8)


def test_a_recording_from_before_there_were_digests_is_read(tmp_path: Path) -> None:
    four, _ = two_steps(tmp_path)
    save_file({"activation": torch.ones(2)}, four)
    assert torch.equal(Captured(tmp_path)[4, PATTERN], torch.ones(2))
    for other in ({"other": torch.ones(2)}, {"activation": torch.ones(2)}):
        save_file(other, four, metadata={"capture": "{}"} if "activation" in other else None)
        with pytest.raises(ValueError, match=r"is damaged: '(activation|step)'"):
            Captured(tmp_path)[4, PATTERN]
