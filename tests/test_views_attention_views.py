"""Attention views: what is in them, what they refuse, and what a notebook or a saved page holds."""

import base64
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hook_cases import recheck
from safetensors.torch import save_file
from typecheck import unchecked

from plateau_interp.analysis.observing import captured_patterns
from plateau_interp.hooks import BiasAttention, FixAttention
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.capturing import Capture, Captured
from plateau_interp.models import toy_model
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.loop import train
from plateau_interp.training.settings import TrainingOptions
from plateau_interp.types import answer_rows
from plateau_interp.views import attention_view, page
from plateau_interp.views.page import Page, bundle, script_json, side_by_side
from plateau_interp.views.readings import MAX_VALUES

LIBRARY = "CircuitsVis=(()"
HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    task = MovingWindowSum(n=4, p=5)
    recipe = Recipe(
        task, ModelOptions(d_model=16, n_heads=2), TrainingOptions(steps=6, batch_size=8), checkpoint_every=2
    )
    run = Run.create(tmp_path_factory.mktemp("runs") / "tiny", recipe)
    for _step in run.train():
        pass
    return run


class Altered:
    """A run of which one thing is different."""

    def __init__(self, run, *, metrics=None, interventions=()):
        self.run, self._metrics = run, run.metrics if metrics is None else metrics
        self.path, self.recipe = run.path, SimpleNamespace(interventions=interventions)

    @property
    def task(self):
        return self.run.task

    @property
    def checkpoints(self):
        return self.run.checkpoints

    @property
    def metrics(self):
        return self._metrics

    def model(self, step=None):
        return self.run.model(step)


def pattern(heads=2, size=4, seed=0):
    return torch.randn(heads, size, size, generator=torch.Generator().manual_seed(seed)).tril()


def decoded(spec):
    kind = {16: "<i2", 32: "<i4"}[spec["bits"]]
    return np.frombuffer(base64.b64decode(spec["data"]), kind) / 10.0 ** spec["decimals"]


def specs(html):
    """The specs that a page hands to the front end."""
    return [json.loads(found) for found in re.findall(r"\|\|\[\]\)\.push\((.*?)\)</script>", html)]


@pytest.mark.parametrize("value", [4e-301, 1e-310, 5e-324])
def test_what_is_almost_nothing_is_shown_as_nothing(value):
    view = attention_view(torch.full((1, 2, 2), value, dtype=torch.float64))
    spec = view.spec()["readings"][0]
    assert not decoded(spec).any()
    assert spec["range"] == 0 == spec["negative"]
    assert "plateauViews" in view.html


def test_values_survive_to_four_decimals():
    values = pattern()
    spec = attention_view(values).readings[0].spec()
    assert np.abs(decoded(spec) - values.numpy().ravel()).max() <= 0.5e-4
    assert spec["range"] == pytest.approx(values.abs().max().item(), abs=1e-4)
    assert spec["negative"]


def test_small_and_large_values_keep_their_digits():
    small, large = pattern() * 1e-6, pattern() * 1e4
    for values in (small, large):
        spec = attention_view(values).readings[0].spec()
        assert np.allclose(decoded(spec), values.numpy().ravel(), rtol=1e-2, atol=1e-3 * values.abs().max().item())
    assert attention_view(large).readings[0].spec()["bits"] == 32


def test_future_attention_is_shown_and_only_then():
    causal = pattern()
    assert not attention_view(causal).readings[0].spec()["upper"]
    leaking = causal.clone()
    leaking[1, 0, 3] = 1e-7
    assert attention_view(leaking).readings[0].spec()["upper"]


def test_layer_and_heads_are_chosen():
    layers = torch.stack([pattern(seed=1), pattern(heads=2, seed=2)])
    view = attention_view(layers, layer=1, heads=[1])
    assert view.heads == ("head 1",)
    assert torch.equal(torch.from_numpy(view.readings[0].values[0, 0]).float(), layers[1, 1])
    assert attention_view(pattern(), heads=0).heads == ("head 0",)


@pytest.mark.parametrize("heads", [np.int64(1), np.array([1]), np.array(1), torch.tensor([1]), range(1, 2)])
def test_heads_may_be_any_whole_numbers(heads):
    view = unchecked(attention_view)(pattern(), heads=heads)
    assert view.heads == ("head 1",)
    layers = torch.stack([pattern(seed=1), pattern(seed=2)])
    assert unchecked(attention_view)(layers, layer=np.int64(1)).title == "Attention, layer 1"


@pytest.mark.parametrize(
    "arguments",
    [
        {"heads": "0"},
        {"heads": True},
        {"heads": [1.0]},
        {"heads": torch.tensor([True, False])},
        {"layer": "0"},
        {"layer": True},
        {"layer": torch.tensor([0, 1])},
        {"steps": "0"},
    ],
)
def test_what_is_no_whole_number_is_refused(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} must be a whole number; got"):
        unchecked(attention_view)(pattern(), **arguments)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (4, (4,)),
        (np.int64(4), (4,)),
        (np.array([4]), (4,)),
        (np.array([0, 4]), (0, 4)),
        (torch.tensor([0, 4]), (0, 4)),
    ],
)
def test_steps_may_be_one_or_any_whole_numbers(run, captured, steps, expected):
    for source in (run, captured):
        view = unchecked(attention_view)(source, steps=steps)
        assert view.steps == expected
        assert specs(view.html)[0]["steps"] == list(expected)


@pytest.mark.parametrize("tokens", [[1, 2, 3, 4], (1, "2", 3, 4), torch.tensor([1, 2, 3, 4]), np.array([1, 2, 3, 4])])
def test_numbers_as_tokens_are_shown_as_text(tokens):
    view = unchecked(attention_view)(pattern(), tokens=tokens)
    assert specs(view.html)[0]["readings"][0]["tokens"] == ["1", "2", "3", "4"]


def test_tokens_default_to_positions():
    assert attention_view(pattern(size=3)).readings[0].tokens == ("0", "1", "2")
    assert attention_view(pattern(size=2), tokens=["a", "b"]).readings[0].tokens == ("a", "b")


@pytest.mark.parametrize("size", [0, 1, 512])
def test_any_length_from_none_to_512(size):
    html = attention_view(pattern(heads=1, size=size)).html
    assert len(specs(html)[0]["readings"][0]["tokens"]) == size


def test_a_view_of_twelve_heads_is_small():
    assert len(attention_view(pattern(heads=12, size=64)).html.encode()) < 2.5e6


def test_hostile_tokens_and_names_stay_text():
    view = attention_view(pattern(size=2), tokens=[HOSTILE, "<!--<script>"])
    html = Page([view, view], title=HOSTILE).html
    assert HOSTILE not in html
    assert html.count("</script>") == html.count("<script>") == 4  # library, front end and one a view
    assert "<!--" not in html
    assert specs(html)[0]["readings"][0]["tokens"] == [HOSTILE, "<!--<script>"]


def test_script_json_cannot_close_a_script():
    assert json.loads(script_json(HOSTILE)) == HOSTILE
    assert "<" not in script_json([HOSTILE, {"<": 1}])


def test_one_copy_of_the_library_however_many_views():
    html = side_by_side(*[attention_view(pattern(seed=seed)) for seed in range(5)]).html
    assert html.count(LIBRARY) == 1
    assert len(specs(html)) == 5
    assert len({spec["id"] for spec in specs(html)}) == 5


def test_a_saved_page_forbids_every_request(tmp_path):
    path = attention_view(pattern()).save(tmp_path / "folder" / "view.html")
    text = path.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=\"(?!data:)", text)


def test_what_is_no_view_is_put_on_no_page():
    with pytest.raises(ValueError, match=r"^a page holds views, such as attention_view\(run\); got 3$"):
        recheck(Page([attention_view(pattern())]), views=(3, 4))


def test_side_by_side_shares_the_scale():
    first, second = specs(side_by_side(attention_view(pattern()), attention_view(3 * pattern().abs())).html)
    assert first["group"] == second["group"]
    assert first["readings"][0]["range"] == second["readings"][0]["range"]
    assert second["readings"][0]["negative"]  # so that one colour means one number on both


def test_side_by_side_shares_the_scale_of_one_kind_alone(run):
    of_run, of_tensor = attention_view(run), attention_view(50 * pattern())
    kinds = [[reading.kind for reading in view.readings] for view in (of_run, of_tensor)]
    assert kinds == [["share of attention", "attention"], ["attention"]]
    (share, one), (tensor,) = (spec["readings"] for spec in specs(side_by_side(of_run, of_tensor).html))
    assert share["range"] == of_run.readings[0].spec()["range"]
    assert not share["negative"]
    assert one["range"] == tensor["range"] == of_tensor.readings[0].spec()["range"]
    change = attention_view(run, steps=[0, 6]).relative_to(0)
    assert not {reading.kind for reading in change.readings} & set(kinds[0])


def test_a_page_needs_a_view():
    with pytest.raises(ValueError, match="at least one view"):
        Page([])


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        (torch.zeros(3, 3), {}, r"\[head, query, key\] or \[layer, head, query, key\]; got shape \(3, 3\)"),
        (torch.zeros(2, 3, 4), {}, r"as many queries as keys; got shape \(2, 3, 4\)"),
        (torch.zeros(0, 3, 3), {}, "no head to show"),
        (torch.full((1, 2, 2), float("nan")), {}, "head 0, query 0, key 0 is nan"),
        (torch.tensor([[[0.0, 0.0], [float("-inf"), 0.0]]]), {}, "head 0, query 1, key 0 is -inf"),
        (torch.full((1, 2, 2), 1e9), {}, "raw scores"),
        (torch.ones(1, 2, 2, dtype=torch.complex64), {}, "must be real; got torch.complex64"),
        (pattern(), {"tokens": ["a"]}, "4 positions needs 4 tokens; got 1"),
        (pattern(), {"layer": 1}, r"layer=1 needs a pattern \[layer, head, query, key\]"),
        (pattern()[None], {"layer": 1}, "there is no layer 1: the model has 0 to 0"),
        (pattern(), {"heads": [2]}, "there is no head 2: the model has 0 to 1"),
        (pattern(), {"heads": []}, "no head is given; leave the argument out"),
        (pattern(), {"steps": [0]}, "steps needs a run"),
        (torch.zeros(2, 512, 512), {}, r"524,288 attention values are too many .* choose heads"),
        ({"blocks.0.hook_q": 1}, {}, "patterns there: none"),
        (3, {}, "A source is a run, a model with tokens, a cache or a tensor"),
    ],
)
def test_what_cannot_be_shown_is_refused(source, arguments, message):
    with pytest.raises(ValueError, match=message):
        attention_view(source, **arguments)


def test_the_cap_lets_one_head_of_512_tokens_through():
    assert MAX_VALUES >= 512**2


def test_a_cache_shows_its_first_sequence():
    model = toy_model(MovingWindowSum(n=4), d_model=16, n_heads=2, n_layers=2)
    _, cache = model.run_with_cache(torch.randint(1, 5, (3, 6), generator=torch.Generator().manual_seed(0)))
    view = attention_view(cache, layer=1)
    expected = cache["blocks.1.attn.hook_pattern"][0].numpy()
    assert np.array_equal(view.readings[0].values[0], expected.astype(float))
    assert "First of 3" in view.note
    with pytest.raises(ValueError, match=r"no blocks.2.attn.hook_pattern in a ActivationCache; .*blocks.1"):
        attention_view(cache, layer=2)


def test_a_run_shows_its_last_checkpoint(run):
    view = attention_view(run)
    assert view.steps == (6,)
    assert view.curve is None
    assert view.heads == ("head 0", "head 1")


def test_a_run_shows_the_mean_share_and_one_sequence(run):
    view = attention_view(run, steps=[0, 4], heads=[1])
    share, one = view.readings
    batch = run.task.sample(64, generator=torch.Generator().manual_seed(0))
    raw = captured_patterns(run.model(4), batch.inputs)[:, 1]
    by_hand = torch.zeros_like(raw[0])
    for sequence in raw:
        for query in range(len(by_hand)):
            by_hand[query] += sequence[query].abs() / sequence[query].abs().sum() / len(raw)
    assert np.allclose(share.values[1, 0], by_hand.numpy(), atol=1e-5)
    assert np.array_equal(one.values[1, 0], raw[0].double().numpy())
    assert one.tokens == tuple(run.task.tokens_to_text(batch.inputs[0]))
    target = run.task.optimal_attention(batch)[0]
    assert target is not None
    assert np.array_equal(share.targets, target[0].numpy())
    rows = answer_rows(run.task)
    assert not share.targets[: rows.start].any()
    assert "64" in share.name


def test_a_run_with_steps_has_its_loss_beside_it(run):
    curve = attention_view(run, steps=run.checkpoints).curve
    assert curve["step"] == run.metrics["step"].tolist()
    assert curve["values"] == pytest.approx(run.metrics["loss"].tolist(), abs=1e-4)
    assert [name for name, _level in curve["levels"]] == ["plateau", "floor"]
    assert curve["title"] == "training loss (nats)"


def test_steps_without_a_finite_loss_are_left_out_of_the_curve_which_says_so(run):
    metrics = run.metrics.assign(loss=run.metrics["loss"].astype(object))
    metrics.loc[[1, 3], "loss"] = [float("nan"), float("inf")]
    metrics.loc[4, "loss"] = None
    view = attention_view(Altered(run, metrics=metrics), steps=run.checkpoints)
    assert view.curve["step"] == run.metrics["step"].drop([1, 3, 4]).tolist()
    assert view.curve["values"] == pytest.approx(run.metrics["loss"].drop([1, 3, 4]).tolist(), abs=1e-4)
    assert view.curve["title"] == "training loss (nats); 3 steps without a finite one left out"
    assert "NaN" not in script_json(view.spec())
    none = attention_view(Altered(run, metrics=run.metrics.assign(loss=float("nan"))), steps=run.checkpoints)
    assert none.curve is None
    assert none.html


def test_metrics_without_a_loss_are_refused_by_the_name_of_what_is_missing(run):
    wrong = Altered(run, metrics=run.metrics.drop(columns="loss"))
    with pytest.raises(ValueError, match=r"must have the columns step and loss; loss is missing$"):
        attention_view(wrong, steps=run.checkpoints)


def test_a_long_curve_is_thinned(run):
    long = Altered(run, metrics=run.metrics.iloc[[0] * 5000])
    assert len(attention_view(long, steps=[0, 2]).curve["step"]) <= 500


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captured") / "patterns"
    task = MovingWindowSum(n=4, p=5)
    capture = Capture(("blocks.0.attn.hook_pattern",), out=str(folder), every=2, sequences=3)
    bias = BiasAttention(factor=5.0)
    for _step in train(
        toy_model(task, d_model=16, n_heads=2), task, steps=6, batch_size=8, interventions=(bias, capture)
    ):
        pass
    return Captured(folder)


def test_captured_steps_are_shown_as_they_were_captured(captured, run):
    view = attention_view(captured, steps=[0, 4], heads=[1], run=run)
    share, first = view.readings
    raw = captured[4, "blocks.0.attn.hook_pattern"][:, 1].double()
    assert np.array_equal(first.values[1, 0], raw[0].numpy())
    by_hand = (raw.abs() / raw.abs().sum(dim=-1, keepdim=True)).mean(dim=0)
    assert np.allclose(share.values[1, 0], by_hand.numpy(), atol=1e-6)
    assert view.steps == (0, 4)
    assert view.curve["step"] == run.metrics["step"].tolist()
    assert np.array_equal(share.targets, attention_view(run).readings[0].targets)
    assert view.html.count(LIBRARY) == 1


def test_captured_steps_without_a_run_have_no_curve(captured):
    view = attention_view(captured)
    assert view.steps == (4,)
    assert view.curve is None
    assert view.readings[0].targets is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": [3]}, "no captured step 3; the nearest is"),
        ({"steps": []}, "steps is empty"),
        ({"layer": 1}, "patterns holds no blocks.1.attn.hook_pattern; it holds blocks.0"),
        ({"heads": [2]}, "there is no head 2"),
        ({"tokens": ["a"]}, "needs 8 tokens; got 1"),
    ],
)
def test_what_was_not_captured_is_refused(captured, arguments, message):
    with pytest.raises(ValueError, match=message):
        attention_view(captured, **arguments)


def test_captured_steps_of_different_shapes_are_refused(tmp_path):
    for step, size in ((0, 3), (1, 4)):
        (tmp_path / str(step)).mkdir()
        file = tmp_path / str(step) / "blocks.0.attn.hook_pattern.safetensors"
        save_file({"activation": torch.zeros(2, 1, size, size)}, file)
    with pytest.raises(ValueError, match=r"differ in shape: \(2, 1, 3, 3\) at step 0, \(2, 1, 4, 4\) at step 1"):
        attention_view(Captured(tmp_path), steps=[0, 1])


def labelled(folder, *labels):
    (folder / "3").mkdir()
    for number, label in enumerate(labels):
        file = folder / "3" / f"blocks.0.attn.hook_pattern@{label}.safetensors"
        save_file({"activation": torch.ones(2, 1, 3, 3) * (number + 1)}, file)


def test_captures_that_have_labels_are_named_where_one_is_missing(tmp_path):
    labelled(tmp_path, "before", "after")
    with pytest.raises(
        ValueError, match=r"without a label; without one it holds nothing; labels are \['after', 'before'\]"
    ):
        attention_view(Captured(tmp_path))
    expected = (
        r"no blocks.1.attn.hook_pattern labelled 'after'; with that label it holds blocks.0.attn.hook_pattern; lab"
    )
    with pytest.raises(ValueError, match=expected):
        attention_view(Captured(tmp_path, label="after"), layer=1)


def test_views_of_two_labels_say_which_they_are_of(tmp_path):
    labelled(tmp_path, "before", "after")
    views = [attention_view(Captured(tmp_path, label=label)) for label in ("before", "after")]
    for view, label in zip(views, ("before", "after"), strict=True):
        assert view.title.endswith(f": captured attention ({label}), layer 0")


def recording(folder, sizes):
    """Captured patterns [size, 1, 3, 3] of ones, times the step + 1."""
    for step, size in enumerate(sizes):
        (folder / str(step)).mkdir()
        file = folder / str(step) / "blocks.0.attn.hook_pattern.safetensors"
        save_file({"activation": torch.ones(size, 1, 3, 3) * (step + 1)}, file)
    return Captured(folder)


def test_captured_batches_may_differ_in_size(tmp_path):
    view = attention_view(recording(tmp_path, [4, 2, 4]), steps=[0, 1, 2])
    share, first = view.readings
    assert share.name == "share of attention, mean of 2 to 4"
    assert "mean over 2 to 4 sequences" in view.note
    assert share.values == pytest.approx(np.full((3, 1, 3, 3), 1 / 3))
    assert first.values[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert attention_view(Captured(tmp_path), steps=[0, 2]).readings[0].name == "share of attention, mean of 4"


def test_captured_patterns_beside_a_run_of_another_size_are_refused(tmp_path, run):
    with pytest.raises(ValueError, match=r"are \(3, 3\) \[query, key\], those of the run \(8, 8\)"):
        attention_view(recording(tmp_path, [2]), run=run)


def test_a_run_beside_anything_else_is_refused(run):
    with pytest.raises(ValueError, match="run needs a run, a series or captured steps as the source; got a Tensor"):
        attention_view(pattern(), run=run)


def test_one_input_has_its_targets_in_the_layer_that_solves(tmp_path):
    recipe = Recipe(
        MovingWindowSum(n=4, p=5), ModelOptions(d_model=16, n_layers=2), TrainingOptions(steps=1, batch_size=8)
    )
    deep = Run.create(tmp_path / "deep", recipe)
    for _step in deep.train():
        pass
    whole = torch.tensor([1, 2, 3, 4, 5, 1, 3, 0, 2])
    assert attention_view(deep, tokens=whole, layer=0).readings[0].targets is None
    assert attention_view(deep, tokens=whole, layer=1).readings[0].targets.any()


def test_tokens_of_a_run_are_one_input(run):
    tokens = torch.tensor([1, 2, 3, 4, 5, 1, 3, 0])
    view = attention_view(run, tokens=tokens)
    assert view.readings[0].tokens == tuple(run.task.tokens_to_text(tokens))
    assert len(view.readings) == 1
    whole = torch.tensor([1, 2, 3, 4, 5, 1, 3, 0, 2])
    assert attention_view(run, tokens=whole).readings[0].targets.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": [3]}, "no checkpoint of step 3; the nearest is 2"),
        ({"steps": []}, "steps is empty"),
        ({"layer": 1}, "there is no layer 1"),
        ({"heads": 2}, "there is no head 2"),
        ({"tokens": ["a"]}, "token ids of one input"),
        ({"tokens": torch.tensor([99])}, "between 0 and 5; got"),
        ({"tokens": torch.ones(40, dtype=torch.long)}, "1 to 9 ids"),
    ],
)
def test_what_a_run_does_not_have_is_refused(run, arguments, message):
    with pytest.raises(ValueError, match=message):
        attention_view(run, **arguments)


def test_a_run_without_checkpoints_is_refused(tmp_path):
    run = Run.create(tmp_path / "new", Recipe(MovingWindowSum()))
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        attention_view(run)


def test_relative_to_a_step_subtracts_it(run):
    view = attention_view(run, steps=[0, 6])
    change = view.relative_to(0)
    assert not change.readings[0].values[0].any()
    assert np.array_equal(change.readings[0].values[1], np.subtract(*view.readings[0].values[::-1]))
    assert change.title.endswith("change since step 0")
    with pytest.raises(ValueError, match="no step 5; it has 0, 6"):
        view.relative_to(5)


def test_interventions_that_are_not_applied_are_named(run):
    altered = attention_view(Altered(run, interventions=("x",)))
    assert "not applied" in altered.note
    assert altered.title.endswith(", layer 0, without its interventions")
    assert "not applied" not in attention_view(run).note
    assert attention_view(run).title.endswith(", layer 0")


def test_where_no_script_runs_there_is_a_picture():
    html = attention_view(pattern(size=2), tokens=[HOSTILE, "b"]).still()
    assert 'src="data:image/png;base64,' in html
    assert "The interactive view needs scripts; in a notebook, the output of the cell" in html  # a page has no cells
    assert "no tokens" in attention_view(pattern(size=0)).still()


def test_the_bundle_is_circuitsvis_and_asks_nobody():
    text = bundle()
    assert LIBRARY in text
    assert text.count("</script>") == 2
    assert "unpkg.com" not in text
    assert "sourceMappingURL" not in text


# ---- in notebooks --------------------------------------------------------------------------------------------------


@pytest.fixture
def notebook(monkeypatch):
    """A kernel whose running cell the test sets: a list of cell id and execution count."""
    place = ["a", 1]
    monkeypatch.setattr(page, "executing_cell", lambda: tuple(place))
    monkeypatch.setattr(page, "CARRIER", page.Carrier())
    return place


def test_ten_views_in_a_notebook_add_the_library_once(notebook):
    outputs = []
    for count in range(1, 11):
        notebook[:] = [f"cell {count}", count]
        outputs.append(attention_view(pattern())._repr_html_())
    assert [LIBRARY in output for output in outputs] == [True] + [False] * 9
    assert all("data-plateau-view" in output for output in outputs)


def test_running_the_carrying_cell_again_carries_the_library_again(notebook):
    view = attention_view(pattern())
    assert LIBRARY in view._repr_html_()
    assert LIBRARY not in view._repr_html_()  # the same output holds it already
    notebook[:] = ["b", 2]
    assert LIBRARY not in view._repr_html_()
    notebook[:] = ["a", 3]
    assert LIBRARY in view._repr_html_()


def test_a_front_end_without_cell_ids_gets_the_library_once(notebook):
    notebook[:] = [None, 1]
    view = attention_view(pattern())
    assert LIBRARY in view._repr_html_()
    notebook[:] = [None, 2]
    assert LIBRARY not in view._repr_html_()


def test_in_colab_each_output_is_complete(notebook, monkeypatch):
    monkeypatch.setitem(page.sys.modules, "google.colab", SimpleNamespace())
    view = attention_view(pattern())
    assert LIBRARY in view._repr_html_()
    assert LIBRARY in view._repr_html_()


def test_outside_a_notebook_each_view_is_complete():
    view = attention_view(pattern())
    assert LIBRARY in view._repr_html_()
    assert LIBRARY in view._repr_html_()


def test_the_same_view_shown_twice_has_two_places(notebook):
    view = attention_view(pattern())
    first, second = (re.findall(r'data-plateau-view="([^"]+)"', view._repr_html_()) for _ in range(2))
    assert first != second


@pytest.mark.slow
def test_a_real_kernel_adds_the_library_once():
    import nbformat
    from nbclient import NotebookClient

    show = "attention_view(torch.eye(3)[None])"
    sources = ["import torch\nfrom plateau_interp.views import attention_view", *[show] * 10]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = [cell.outputs[0].data["text/html"] for cell in notebook.cells[1:]]
    assert sum(output.count(LIBRARY) for output in shown) == 1
    assert LIBRARY in shown[0]


def test_an_unknown_source_is_refused_also_without_type_checks():
    with pytest.raises(ValueError, match=r"no blocks\.0\.attn\.hook_pattern in a NoneType"):
        unchecked(attention_view)(None)


def test_a_model_is_shown_on_the_tokens_that_it_is_given():
    model = toy_model(MovingWindowSum(n=4), d_model=16, n_heads=2, n_layers=2)
    tokens = torch.tensor([3, 1, 4, 1, 5])
    view = attention_view(model, tokens, layer=1, heads=[1])
    _, cache = model.run_with_cache(tokens[None])
    expected = cache["blocks.1.attn.hook_pattern"][0, 1].double().numpy()
    assert np.array_equal(view.readings[0].values[0, 0], expected)
    assert view.readings[0].tokens == ("3", "1", "4", "1", "5")
    assert "First of" not in view.note
    several = attention_view(model, torch.stack([tokens, tokens.flip(0)]), layer=1, heads=[1])
    assert np.allclose(several.readings[0].values[0, 0], expected, atol=1e-6)
    assert "First of 2 sequences" in several.note


def test_a_model_is_shown_with_what_is_attached_to_it():
    task = MovingWindowSum(n=4)
    model = toy_model(task, d_model=16)
    tokens = task.sample(2, generator=torch.Generator().manual_seed(0)).inputs
    with intervening(model, FixAttention()):
        fixed = attention_view(model, tokens).readings[0].values
    assert not np.allclose(fixed, attention_view(model, tokens).readings[0].values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"a model is shown on tokens: attention_view\(model, tokens\)"),
        ({"tokens": torch.ones(2, 5)}, r"whole numbers \[query\] or \[batch, query\]; got .*float32"),
        ({"tokens": torch.ones(1, 2, 5, dtype=torch.long)}, r"got .*\(1, 2, 5\)"),
        ({"tokens": torch.ones(0, dtype=torch.long)}, "at least one token"),
        ({"tokens": torch.full((4,), 99)}, "between 0 and 17; got 99"),
        ({"tokens": torch.ones(33, dtype=torch.long)}, "reads 1 to 32 tokens; got 33"),
        ({"tokens": "a text"}, "token ids"),
        ({"tokens": torch.ones(4, dtype=torch.long), "layer": 1}, "there is no layer 1"),
        ({"tokens": torch.ones(4, dtype=torch.long), "steps": [0]}, "steps needs a run"),
    ],
)
def test_a_model_without_readable_tokens_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        unchecked(attention_view)(toy_model(MovingWindowSum(), d_model=16), **arguments)


def test_a_module_that_is_no_hooked_model_is_refused():
    with pytest.raises(ValueError, match="a Linear has no hook points"):
        attention_view(torch.nn.Linear(2, 2), torch.ones(2, dtype=torch.long))


def test_a_model_with_a_tokenizer_reads_a_text():
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    model.tokenizer = SimpleNamespace(padding_side="right")
    model.to_tokens = lambda text: torch.tensor([[int(letter) for letter in text]])
    model.to_str_tokens = lambda ids: [f"<{token}>" for token in ids.tolist()]
    view = attention_view(model, "3141")
    assert view.readings[0].tokens == ("<3>", "<1>", "<4>", "<1>")
    assert np.array_equal(view.readings[0].values, attention_view(model, [3, 1, 4, 1]).readings[0].values)
