from pathlib import Path
from typing import Any

import pytest
import torch
from typecheck import unchecked

from plateau_interp.interventions.attaching import InterventionWarning, intervening
from plateau_interp.interventions.capturing import Capture, Captured
from plateau_interp.models import ToyTransformer, toy_model
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.batches import training_batch
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter

TASK = MovingWindowSum(n=4, p=7)
PATTERN = "blocks.0.attn.hook_pattern"


class Halve:
    """An edit of the pattern, without the machinery of the hooks package."""

    def attach(self, model: ToyTransformer) -> Any:
        from plateau_interp.interventions.attaching import editing

        return editing(model, self, {PATTERN: lambda act, hook: act / 2})  # type: ignore[arg-type]


def tiny() -> ToyTransformer:
    return toy_model(TASK, d_model=16)


def test_the_training_forward_of_due_steps_is_recorded(tmp_path: Path) -> None:
    model, seen = tiny(), {}
    capture = Capture((PATTERN, "blocks.*.hook_resid_post"), out=str(tmp_path / "c"), every=2)
    for step in range(5):
        _, cache = model.run_with_cache(
            training_batch(TASK, seed=0, step=step, batch_size=8).inputs, names_filter=PATTERN
        )
        seen[step] = cache[PATTERN]
        steps = train(
            model, TASK, steps=step + 1, start=step, batch_size=8, interventions=(capture,), meter=Meter(TASK)
        )
        list(steps)
    captured = Captured(tmp_path / "c")
    assert captured.steps == [0, 2, 4]
    assert captured.names(2) == [PATTERN, "blocks.0.hook_resid_post"]
    assert len(captured) == len(list(captured)) == 6
    for step in captured.steps:
        torch.testing.assert_close(captured[step, PATTERN], seen[step], rtol=0, atol=0)


def test_before_an_edit_it_is_the_old_tensor_and_after_it_the_new(tmp_path: Path) -> None:
    before, after = Capture((PATTERN,), out=str(tmp_path / "b")), Capture((PATTERN,), out=str(tmp_path / "a"))
    model = tiny()
    with intervening(model, before, Halve(), after) as receipts:
        model(training_batch(TASK, seed=0, step=0, batch_size=2).inputs)
    old, new = Captured(tmp_path / "b")[0, PATTERN], Captured(tmp_path / "a")[0, PATTERN]
    assert old.abs().max() > 0
    assert torch.equal(new, old / 2)
    assert receipts[0].fired == 1


def test_recording_changes_no_weight_and_leaves_no_hook(tmp_path: Path) -> None:
    plain, recorded = tiny(), tiny()
    capture = Capture(("blocks.*.hook_resid_*",), out=str(tmp_path))
    list(train(plain, TASK, steps=3, batch_size=8))
    list(train(recorded, TASK, steps=3, batch_size=8, interventions=(capture,)))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), recorded.parameters(), strict=True))
    assert not any(point.has_hooks() for point in recorded.hook_dict.values())


def test_only_some_sequences_are_kept_if_asked(tmp_path: Path) -> None:
    model = tiny()
    with intervening(model, Capture((PATTERN,), out=str(tmp_path), sequences=3)):
        model(training_batch(TASK, seed=0, step=0, batch_size=8).inputs)
    assert Captured(tmp_path)[0, PATTERN].shape == (3, 1, 8, 8)


def test_a_recording_that_never_came_is_reported(tmp_path: Path) -> None:
    with (
        pytest.warns(InterventionWarning, match="never fired: nothing reached blocks.0.attn.hook_pattern"),
        intervening(tiny(), Capture((PATTERN,), out=str(tmp_path))),
    ):
        pass


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    one_name = Capture((PATTERN,), out="x")
    object.__setattr__(one_name, "names", PATTERN)  # the shape checker would refuse it first, in words of its own
    with pytest.raises(ValueError, match="names must be several hook points"):
        unchecked(Capture.__post_init__)(one_name)
    with pytest.raises(ValueError, match="names must be a hook point or several; got"):
        Capture((), out="x")
    with pytest.raises(ValueError, match="every must be at least 1; got 0"):
        Capture((PATTERN,), out="x", every=0)
    with pytest.raises(ValueError, match=r"no hook point 'blocks.0.attn.hook_patern'; the nearest"):
        next(train(tiny(), TASK, steps=1, interventions=(Capture(("blocks.0.attn.hook_patern",), out="x"),)))


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder"):
        Captured(tmp_path / "nowhere")
    model = tiny()
    with intervening(model, Capture((PATTERN,), out=str(tmp_path))):
        model(training_batch(TASK, seed=0, step=0, batch_size=2).inputs)
    with pytest.raises(KeyError, match="at step 7 is not recorded; steps are"):
        Captured(tmp_path)[7, PATTERN]
    file = tmp_path / "0" / f"{PATTERN}.safetensors"
    file.write_bytes(file.read_bytes()[:30])
    with pytest.raises(ValueError, match="is damaged"):
        Captured(tmp_path)[0, PATTERN]
