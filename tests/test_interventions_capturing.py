"""plateau_interp.interventions.capturing: what is recorded of which steps, and where it may be written.

What is in a file is of plateau_interp.interventions.recordings.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hook_cases import recheck
from recorded_steps import PATTERN, TASK, recorded, tiny
from safetensors.torch import save_file
from typecheck import unchecked

from plateau_interp.hooks import During
from plateau_interp.interventions.attached import attached_state, load_attached_state
from plateau_interp.interventions.attaching import InterventionWarning, attaching, intervening
from plateau_interp.interventions.capturing import Capture, Captured
from plateau_interp.interventions.clock import advance
from plateau_interp.models import ToyTransformer
from plateau_interp.training.batches import training_batch
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter


class Halve:
    """An edit of the pattern, without the machinery of the hooks package."""

    def attach(self, model: ToyTransformer) -> Any:
        from plateau_interp.interventions.attaching import editing

        return editing(model, self, {PATTERN: lambda act, hook: act / 2})  # type: ignore[arg-type]


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


@pytest.mark.parametrize("within", [".", "deeper/still"])
def test_a_file_is_no_folder_to_record_to(tmp_path: Path, within: str) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    capture = Capture((PATTERN,), out=str(file / within))
    with pytest.raises(ValueError, match=r"cannot be a folder: .*file is a file$"):
        next(train(tiny(), TASK, steps=1, interventions=(capture,)))
    assert file.read_text() == "kept"


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


# Whose a folder is


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_two_captures_of_one_place_in_one_folder_are_refused(tmp_path: Path) -> None:
    model, capture = tiny(), Capture((PATTERN, "blocks.0.hook_resid_pre"), out=str(tmp_path / "c"))
    message = r"two Captures write blocks\.0\.attn\.hook_pattern\.safetensors to .*c: give one of them .* label='after'"
    for other in (Capture((PATTERN,), out=str(tmp_path / "x" / ".." / "c")), During(Capture((PATTERN,), capture.out))):
        with pytest.raises(ValueError, match=message), intervening(model, capture, Halve(), other):
            pass
        outer = intervening(model, capture)
        outer.__enter__()
        with pytest.raises(ValueError, match=message), intervening(model, other):
            pass
        with pytest.warns(InterventionWarning, match="never fired"):
            outer.__exit__(None, None, None)
    assert not (tmp_path / "c").exists()
    elsewhere = Capture(("unembed.hook_in",), out=capture.out)
    with intervening(model, capture, elsewhere):
        model(training_batch(TASK, seed=0, step=0, batch_size=2).inputs)
    assert len(Captured(tmp_path / "c").names(0)) == 3
    recorded(model, capture, 1)  # when the other has left there is room again


def test_labels_tell_two_places_of_one_hook_point_apart(tmp_path: Path) -> None:
    model = tiny()
    before, after = (Capture((PATTERN,), out=str(tmp_path), label=label) for label in ("before", "after"))
    with intervening(model, before, Halve(), after):
        model(training_batch(TASK, seed=0, step=0, batch_size=2).inputs)
    assert Captured(tmp_path).labels == ["after", "before"]
    assert Captured(tmp_path).steps == []  # of what has no label
    old, new = (Captured(tmp_path, label=label) for label in ("before", "after"))
    assert list(old) == list(new) == [(0, PATTERN)]
    assert torch.equal(new[0, PATTERN], old[0, PATTERN] / 2)
    assert list(Captured(tmp_path)) == []
    with pytest.raises(KeyError, match=r"labels are \['after', 'before'\]"):
        Captured(tmp_path)[0, PATTERN]
    with pytest.raises(KeyError, match=r"hook_pattern labelled 'after' at step 7 is not recorded; steps are \[0\]"):
        new[7, PATTERN]


def test_a_label_that_is_not_there_is_refused(tmp_path: Path) -> None:
    recorded(tiny(), Capture((PATTERN,), out=str(tmp_path / "plain")), 0)
    with pytest.raises(ValueError, match=r"plain holds nothing labelled 'before'; nothing there has a label"):
        Captured(tmp_path / "plain", label="before")
    recorded(tiny(), Capture((PATTERN,), out=str(tmp_path / "after"), label="after"), 0)
    for label in ("aftr", ""):
        with pytest.raises(ValueError, match=rf"after holds nothing labelled {label!r}; labels are \['after'\]"):
            Captured(tmp_path / "after", label=label)


def test_a_file_of_somebody_else_is_no_hook_point_and_a_damaged_recording_is_one(tmp_path: Path) -> None:
    recorded(tiny(), Capture((PATTERN, "hook_embed"), out=str(tmp_path)), 0)
    for name in ("mine", "mine@after"):
        save_file({"weight": torch.ones(2)}, tmp_path / "0" / f"{name}.safetensors")
    captured = Captured(tmp_path)
    assert captured.names(0) == [PATTERN, "hook_embed"]
    assert captured.labels == []
    assert len(dict(captured)) == len(captured) == 2
    for length in (40, 5, 0):
        damaged = tmp_path / "0" / "hook_embed.safetensors"
        damaged.write_bytes(damaged.read_bytes()[:length])
        assert captured.names(0) == [PATTERN, "hook_embed"]
        with pytest.raises(ValueError, match="is damaged"):
            captured[0, "hook_embed"]


def test_a_folder_of_another_model_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    one, other = tiny(), tiny()
    capture = Capture((PATTERN,), out=str(tmp_path))
    recorded(one, capture, 0, 1)
    before = content(tmp_path)
    assert sum(name.startswith("origin-") for name in before) == 1
    for again in (capture, Capture(("unembed.hook_in",), out=str(tmp_path), label="other")):
        with pytest.raises(ValueError, match="holds what another run, or another model, captured; nothing was written"):
            recorded(other, again, 1)
        assert content(tmp_path) == before
    recorded(one, Capture((PATTERN,), out=str(tmp_path)), 2)  # the first goes on, in a context of its own
    assert Captured(tmp_path).steps == [0, 1, 2]


def test_a_second_training_of_a_model_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    model, capture = tiny(), Capture((PATTERN,), out=str(tmp_path / "c"))
    list(train(model, TASK, steps=3, batch_size=8, interventions=(capture,)))
    before = content(tmp_path)
    elsewhere = Capture(("unembed.hook_in",), out=capture.out)
    for again, options in ((capture, {"seed": 1}), (elsewhere, {}), (capture, {"start": 2})):
        with pytest.raises(ValueError, match="holds what another run, or another model, captured; nothing was written"):
            next(train(model, TASK, steps=4, batch_size=8, interventions=(again,), **options))  # type: ignore[arg-type]
        assert content(tmp_path) == before
    list(train(model, TASK, steps=4, start=3, batch_size=8, interventions=(capture,)))
    assert Captured(capture.out).steps == [0, 1, 2, 3]
    shutil.rmtree(capture.out)
    for _ in range(2):  # once for the folder that is gone, once more for what is there then
        list(train(model, TASK, steps=1, batch_size=8, interventions=(capture,)))
        assert Captured(capture.out).steps == [0]
        shutil.rmtree(capture.out)


def test_a_folder_from_before_there_were_origins_is_refused_and_goes_on_with_its_run(tmp_path: Path) -> None:
    capture = Capture((PATTERN,), out=str(tmp_path))
    recorded(tiny(), capture, 0)
    (signature,) = tmp_path.glob("origin-*")
    signature.unlink()
    with pytest.raises(ValueError, match="holds what another run"):
        recorded(tiny(), capture, 1)
    model = tiny()
    with attaching(model, capture) as attached:
        load_attached_state(attached, {})  # as a checkpoint of that time has it
        advance(model, step=1)
        model(training_batch(TASK, seed=0, step=1, batch_size=2).inputs)
    assert Captured(tmp_path).steps == [0, 1]


def test_memory_lets_a_resumed_model_go_on_in_its_folder(tmp_path: Path) -> None:
    capture, model, again = Capture((PATTERN,), out=str(tmp_path)), tiny(), tiny()
    with attaching(model, During(capture)) as attached:
        advance(model, step=0)
        model(training_batch(TASK, seed=0, step=0, batch_size=2).inputs)
        memory = attached_state(attached)
    assert {name: value.dtype for name, value in memory.items()} == {
        "0.origin": torch.uint8,
        "0.recorded": torch.bool,
    }
    assert len(memory["0.origin"]) == 16
    with attaching(again, During(capture)) as attached:
        load_attached_state(attached, memory)
        advance(again, step=1)
        again(training_batch(TASK, seed=0, step=1, batch_size=2).inputs)
    assert Captured(tmp_path).steps == [0, 1]
    assert len(list(tmp_path.glob("origin-*"))) == 1


def test_of_two_that_sign_at_the_same_time_none_has_the_folder(tmp_path: Path, monkeypatch: Any) -> None:
    touch = Path.touch

    def rival(self: Path) -> None:
        touch(self)
        touch(self.with_name("origin-" + "0" * 32))

    monkeypatch.setattr(Path, "touch", rival)
    with pytest.raises(ValueError, match="was taken by another run at the same time"):
        recorded(tiny(), Capture((PATTERN,), out=str(tmp_path)), 0)
    assert list(content(tmp_path)) == ["origin-" + "0" * 32]


# Steps


def test_a_capture_under_a_schedule_records_when_it_lets_it(tmp_path: Path) -> None:
    schedule = During(Capture((PATTERN,), out=str(tmp_path), every=2), start=3, stop=7)
    recorded(tiny(), schedule, *range(10))
    assert Captured(tmp_path).steps == [4, 6]
    recorded(tiny(), During(Capture((PATTERN,), out=str(tmp_path), every=10), start=3, stop=7), *range(10))


def test_a_loop_that_tells_no_step_is_reported(tmp_path: Path) -> None:
    model = tiny()
    inputs = training_batch(TASK, seed=0, step=0, batch_size=2).inputs
    message = r"recorded one forward alone: nobody told this model a step; call advance\(model, step=...\)"
    with (
        pytest.warns(InterventionWarning, match=message) as warned,
        intervening(model, Capture((PATTERN, "unembed.hook_in"), out=str(tmp_path))),
    ):
        model(inputs), model(inputs), model(inputs)
    assert len(warned) == 1
    advance(model, step=1)
    with intervening(model, Capture((PATTERN,), out=str(tmp_path))):
        model(inputs), model(inputs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"every": 1.5}, "every must be a whole number; got 1.5"),
        ({"every": "2"}, "every must be a whole number; got '2'"),
        ({"sequences": 2.0}, "sequences must be a whole number; got 2.0"),
        ({"sequences": 0}, "sequences must be at least 1; got 0"),
        ({"names": 3}, "names must be a hook point or several; got 3"),
        ({"names": (PATTERN, 3)}, "names must be a hook point or several"),
        ({"out": 3}, "out must be a folder, such as 'runs/captured'; got 3"),
        ({"out": ""}, "out must be a folder, such as 'runs/captured'; got ''"),
        ({"label": ""}, "label must be a word of letters, digits, - and _, such as 'before'; got ''"),
        ({"label": "a/b"}, "label must be a word"),
        ({"label": 1}, "label must be a word"),
    ],
)
def test_every_wrong_field_is_refused_in_our_words(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recheck(Capture((PATTERN,), out="x"), **fields)


def test_a_path_will_do_for_the_folder() -> None:
    capture = Capture((PATTERN,), out="x")
    recheck(capture, out=Path("runs") / "x")
    assert capture.out == str(Path("runs") / "x")


def test_a_folder_that_is_moved_meanwhile_is_not_made_again(tmp_path: Path) -> None:
    capture = Capture(("hook_embed",), out=str(tmp_path / "captured"))
    steps = train(tiny(), TASK, steps=4, interventions=(capture,))
    assert [next(steps).step, next(steps).step] == [0, 1]
    (tmp_path / "captured").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"captured is gone: it was moved or removed while this Capture wrote to it"):
        next(steps)
    assert not (tmp_path / "captured").exists()
    assert Captured(tmp_path / "moved").steps == [0, 1]


def test_of_a_step_that_is_told_before_each_of_its_forwards_the_first_is_recorded(tmp_path: Path) -> None:
    model = tiny()
    batches = [training_batch(TASK, seed=seed, step=0, batch_size=2).inputs for seed in range(5)]
    expected = [model.embed(batch) for batch in batches]
    with intervening(model, Capture(("hook_embed",), out=str(tmp_path))):
        model(batches[0])  # before the training
        for step, batch in ((0, 1), (0, 2), (1, 3), (1, 4)):
            advance(model, step=step)
            model(batches[batch])
    captured = Captured(tmp_path)
    assert torch.equal(captured[0, "hook_embed"], expected[1])
    assert torch.equal(captured[1, "hook_embed"], expected[3])


def test_a_loop_whose_step_stays_the_same_is_reported(tmp_path: Path) -> None:
    model = tiny()
    batches = [training_batch(TASK, seed=seed, step=0, batch_size=2).inputs for seed in range(3)]
    message = "recorded one forward alone: the step was 4 each time it was told; have it count on"

    def epochs_of_one_batch() -> None:
        with intervening(model, Capture(("hook_embed",), out=str(tmp_path))):
            for batch in batches:
                advance(model, step=4)
                model(batch)

    with pytest.warns(InterventionWarning, match=message) as warned:
        epochs_of_one_batch()
    assert len(warned) == 1
    assert torch.equal(Captured(tmp_path)[4, "hook_embed"], model.embed(batches[0]))


def test_a_step_that_comes_again_in_one_context_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    model, capture = tiny(), Capture((PATTERN, "hook_embed"), out=str(tmp_path / "c"))
    message = r"c has step 0 of hook_embed already: have the steps count on from one epoch, or training, to the next"

    def begin_anew() -> None:
        before = content(tmp_path)
        advance(model, step=0)
        with pytest.raises(ValueError, match=message):
            model(training_batch(TASK, seed=1, step=0, batch_size=2).inputs)
        assert content(tmp_path) == before

    with intervening(model, capture):
        for _ in train(model, TASK, steps=2, batch_size=8):
            pass
        begin_anew()
        for _ in train(model, TASK, steps=3, start=2, batch_size=8):  # that counts on
            pass
    assert Captured(capture.out).steps == [0, 1, 2]
    with intervening(model, capture):  # a context that counts on at first
        advance(model, step=3)
        model(training_batch(TASK, seed=0, step=3, batch_size=2).inputs)
        begin_anew()


def test_steps_in_any_order_are_recorded_once_each(tmp_path: Path) -> None:
    model, capture = tiny(), Capture((PATTERN,), out=str(tmp_path))
    recorded(model, capture, 9, 2, 5)
    assert Captured(tmp_path).steps == [2, 5, 9]
    with pytest.raises(ValueError, match="holds what another run, or another model, captured"):
        recorded(model, capture, 9)
    assert Captured(tmp_path).steps == [2, 5, 9]


def test_steps_that_a_resumed_model_makes_again_are_recorded_again(tmp_path: Path) -> None:
    model, capture = tiny(), Capture((PATTERN,), out=str(tmp_path))
    recorded(model, capture, 0, 1, 2)
    with attaching(model, capture) as attached:
        load_attached_state(attached, attached_state(attached))
        for step in (1, 2):
            advance(model, step=step)
            model(training_batch(TASK, seed=1, step=step, batch_size=2).inputs)
        assert torch.equal(
            Captured(tmp_path)[2, PATTERN],
            model.run_with_cache(training_batch(TASK, seed=1, step=2, batch_size=2).inputs)[1][PATTERN],
        )
        advance(model, step=1)
        with pytest.raises(ValueError, match=r"has step 1 of blocks\.0\.attn\.hook_pattern already"):
            model(training_batch(TASK, seed=1, step=1, batch_size=2).inputs)


def test_what_a_kill_left_of_a_recording_goes_when_it_goes_on(tmp_path: Path) -> None:
    captures = [Capture(("hook_embed",), out=str(tmp_path / "captured"), label=label) for label in ("one", "two")]
    model = tiny()
    with attaching(model, *captures) as attached:
        model(training_batch(TASK, seed=0, step=0, batch_size=2).inputs)
        memory = attached_state(attached)
    halves = [tmp_path / "captured" / "0" / f".hook_embed@{label}.safetensors.0123abcd.tmp" for label in ("one", "two")]
    for half in halves:
        half.write_bytes(b"half")
    with attaching(model, captures[0]) as attached:
        load_attached_state(attached, {name: state for name, state in memory.items() if name.startswith("0.")})
        model(training_batch(TASK, seed=0, step=0, batch_size=2).inputs)
    assert [half.exists() for half in halves] == [False, True]
    assert Captured(tmp_path / "captured", label="one").steps == [0]
