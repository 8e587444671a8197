import inspect
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ragged import Ragged
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig
from typecheck import unchecked

from plateau_interp.analysis import probing
from plateau_interp.analysis.probing import probe
from plateau_interp.hooks import AblateActivation, AblateHeads, During, FixAttention, PatchAttention
from plateau_interp.interventions.attached import Intervention
from plateau_interp.interventions.attaching import intervening
from plateau_interp.models import ToyTransformer, toy_model
from plateau_interp.tasks import Copy, MatrixCompletion, MovingWindowSum, OneHotArithmetic
from plateau_interp.training.batches import stream_generator
from plateau_interp.types import IGNORE, Batch, answer_rows

TASK = Copy(n=6, high=7)
POINT = "blocks.0.hook_attn_out"
SIZES = {"n_sequences": 160, "n_train_sequences": 80}


@contextmanager
def planting(model: ToyTransformer, make: Any) -> Iterator[None]:
    """Activations at the hook point as a function of those that were there."""
    with model.hooks(fwd_hooks=[(POINT, lambda act, hook: make(act))]):
        yield


def noise(generator: torch.Generator) -> Any:
    return lambda act: torch.randn(act.shape, generator=generator)


def reading_model() -> ToyTransformer:
    """A model whose attention output is the normalised embedding of the token it looks at; it looks nowhere."""
    model = toy_model(TASK, d_model=16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            kind = name.rsplit(".", 1)[-1]
            if kind in ("W_Q", "W_K", "W_pos"):
                parameter.zero_()
            elif kind in ("W_E", "W_V", "W_O"):
                parameter.copy_(torch.eye(*parameter.shape[-2:]).expand_as(parameter))
    return model


def test_what_attention_carries_over_is_read_and_nothing_where_it_carries_nothing() -> None:
    model = reading_model()
    with intervening(model, FixAttention()):
        fixed = probe(model, TASK, **SIZES)
    assert fixed.train_accuracy == fixed.test_accuracy == 1.0
    blind = probe(model, TASK, **SIZES)
    assert blind.test_accuracy < 0.25  # a constant: the best guess is right once in seven


def test_the_answers_row_is_the_one_that_predicts_it() -> None:
    late = reading_model()
    with intervening(late, FixAttention()), planting(late, lambda act: act.roll(1, dims=1)):
        assert probe(late, TASK, **SIZES).test_accuracy < 0.25


def test_of_a_point_that_fires_several_times_in_a_forward_one_counts() -> None:
    config = HookedTransformerConfig(
        n_layers=1, d_model=8, n_ctx=TASK.n_pos, d_head=8, d_vocab=TASK.d_vocab, act_fn="relu", normalization_type="LN"
    )
    result = probe(HookedTransformer(config), TASK, hook_point="blocks.0.ln1.hook_normalized", **SIZES)
    assert 0 <= result.test_accuracy <= 1


def test_random_activations_are_near_chance_on_unseen_sequences_alone() -> None:
    model = toy_model(TASK, d_model=64)
    with planting(model, noise(torch.Generator().manual_seed(0))):
        result = probe(model, TASK, **SIZES)
    # 480 tokens at 1/7: standard deviation 0.016; five of them.
    assert abs(result.test_accuracy - 1 / 7) < 0.08
    assert result.train_accuracy > 0.95


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the classifier is given."""
    import sklearn.neural_network

    told: dict[str, Any] = {"scored": []}

    class Recorder(sklearn.neural_network.MLPClassifier):  # type: ignore[misc]
        def fit(self, features: Any, labels: Any) -> Any:
            told.update(settings=self.get_params(), features=features, labels=labels)
            return super().fit(features, labels)

        def score(self, features: Any, labels: Any) -> float:
            told["scored"].append((features, labels))
            return float(super().score(features, labels))

    monkeypatch.setattr(sklearn.neural_network, "MLPClassifier", Recorder)
    return told


@pytest.mark.parametrize("n_train_sequences", [64, 7, 1])
def test_whole_sequences_go_to_one_set(n_train_sequences: int, fitted: dict[str, Any]) -> None:
    task, model = MovingWindowSum(), toy_model(MovingWindowSum(), d_model=16)
    seen = 0

    def number(act: Tensor) -> Tensor:
        """The sequence's number and the row's in place of the activation."""
        nonlocal seen
        numbered = torch.zeros_like(act)
        numbered[..., 0] = torch.arange(seen, seen + len(act))[:, None]
        numbered[..., 1] = torch.arange(act.shape[1])
        seen += len(act)
        return numbered

    with planting(model, number):
        probe(model, task, n_sequences=100, n_train_sequences=n_train_sequences, max_iterations=1, seed=3)
    places = [{(int(sequence), int(row)) for sequence, row in features[:, :2]} for features, _ in fitted["scored"]]
    rows = range(16, 32)
    assert places[0] == {(sequence, row) for sequence in range(n_train_sequences) for row in rows}
    assert places[1] == {(sequence, row) for sequence in range(n_train_sequences, 100) for row in rows}
    assert len(fitted["labels"]) == 16 * n_train_sequences


def test_what_is_not_labelled_is_not_learnt(fitted: dict[str, Any]) -> None:
    task = Ragged()
    batch = task.sample(20, generator=stream_generator(3, "probing", 0))
    probe(toy_model(task, d_model=16), task, n_sequences=20, n_train_sequences=12, max_iterations=1, seed=3)
    for (features, labels), some in zip(fitted["scored"], (batch.labels[:12], batch.labels[12:]), strict=True):
        assert labels.tolist() == some[some != IGNORE].tolist()
        assert len(features) == len(labels)


def test_a_probe_without_a_labelled_answer_is_refused() -> None:
    class Silent(Ragged):
        def sample(self, n: int, *, generator: torch.Generator) -> Batch:
            batch = super().sample(n, generator=generator)
            return Batch(batch.tokens, torch.full_like(batch.labels, IGNORE))

    with pytest.raises(ValueError, match="no answer of the sequences to train on is labelled"):
        probe(toy_model(Silent(), d_model=16), Silent(), n_sequences=20, n_train_sequences=12)


@pytest.mark.parametrize(
    "interventions",
    [
        [],
        [AblateHeads([0], by="mean")],
        [AblateActivation("blocks.0.hook_resid_pre", by="common")],
        [AblateActivation(POINT, by="resample")],
        [During(AblateHeads([0], by="mean"), start=0)],
        [PatchAttention(torch.rand(SIZES["n_sequences"], 1, TASK.n_pos - 1, TASK.n_pos - 1).tril())],
    ],
    ids=repr,
)
def test_how_many_sequences_a_forward_holds_changes_nothing(
    interventions: list[Intervention], fitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = toy_model(TASK, d_model=16, dtype=torch.float64)
    seen = []
    for chunk in (SIZES["n_sequences"], 30):
        monkeypatch.setattr(probing, "CHUNK", chunk)
        with intervening(model, *interventions):
            probe(model, TASK, **SIZES, max_iterations=1)
        seen.append(np.concatenate([features for features, _ in fitted["scored"][-2:]]))
    assert np.allclose(*seen, rtol=0, atol=1e-6)  # given to the classifier in single precision


def test_the_default_split_is_the_published_one() -> None:
    defaults = inspect.signature(unchecked(probe)).parameters
    n_sequences, n_train = defaults["n_sequences"].default, defaults["n_train_sequences"].default
    rows = len(range(*answer_rows(MovingWindowSum()).indices(n_sequences)))
    assert n_train * rows == n_sequences // 2  # the first n_sequences // 2 tokens of the sequences laid end to end


def test_the_classifier_is_the_papers(fitted: dict[str, Any]) -> None:
    probe(toy_model(TASK, d_model=16), TASK, **SIZES, max_iterations=2, seed=5)
    settings = fitted["settings"]
    assert {name: settings[name] for name in ("hidden_layer_sizes", "activation", "solver", "alpha", "batch_size")} == {
        "hidden_layer_sizes": (256,),
        "activation": "relu",
        "solver": "adam",
        "alpha": 1e-4,
        "batch_size": "auto",
    }
    assert (settings["learning_rate_init"], settings["max_iter"], settings["random_state"]) == (1e-3, 2, 5)


def test_the_seed_says_everything_and_nothing_else_is_touched() -> None:
    model = toy_model(TASK, d_model=16)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    one = probe(model, TASK, **SIZES, max_iterations=20, seed=1)
    assert probe(model, TASK, **SIZES, max_iterations=20, seed=1) == one
    other = probe(model, TASK, **SIZES, max_iterations=20, seed=2)
    assert replace(other, iterations=one.iterations) != one
    assert probe(model, TASK, **SIZES, max_iterations=20, seed=2**40 + 2**32).iterations > 0
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]  # type: ignore[index]
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_a_fit_that_was_cut_short_says_so() -> None:
    model = reading_model()
    with intervening(model, FixAttention()):
        short, whole = (probe(model, TASK, **SIZES, max_iterations=most) for most in (3, 2000))
    assert (short.iterations, short.converged) == (3, False)
    assert whole.converged
    assert 3 < whole.iterations < 2000


def test_heads_are_put_side_by_side(fitted: dict[str, Any]) -> None:
    model = toy_model(TASK, d_model=16, n_heads=2, dtype=torch.float64)
    probe(model, TASK, hook_point="blocks.0.attn.hook_z", **SIZES, max_iterations=1)
    assert fitted["features"].shape == (80 * 6, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "m"}, r"^expected a model; got 'm'$"),
        ({"task": 5}, r"^task must be a task such as MovingWindowSum\(\); got 5$"),
        ({"n_sequences": "x"}, r"^n_sequences must be a whole number; got 'x'$"),
        ({"max_iterations": 2.5}, r"^max_iterations must be a whole number; got 2.5$"),
    ],
)
def test_values_of_another_kind_are_refused(changes: dict[str, Any], message: str) -> None:
    given = {"model": toy_model(TASK, d_model=16), "task": TASK, **SIZES, **changes}
    with pytest.raises(ValueError, match=message):
        unchecked(probe)(given.pop("model"), given.pop("task"), **given)


@pytest.mark.parametrize("task", [OneHotArithmetic(p=5), MatrixCompletion()], ids=["classes", "numbers"])
def test_answers_that_are_no_tokens_are_refused(task: Any) -> None:
    model = toy_model(task)
    with pytest.raises(ValueError, match=f"^a probe reads off tokens, but the answers of {task.name} are no tokens$"):
        probe(model, task, hook_point="*", **SIZES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_train_sequences": 160}, "n_train_sequences must be from 1 to n_sequences - 1 = 159; got 160"),
        ({"n_train_sequences": 0}, "n_train_sequences must be from 1 to .*; got 0"),
        ({"max_iterations": 0}, "max_iterations must be at least 1; got 0"),
        ({"hook_point": "blocks.0.hook_attn_in"}, "does not fire"),
        ({"hook_point": "blocks.0.hook_atn_out"}, "no hook point 'blocks.0.hook_atn_out'; the nearest .*hook_attn_out"),
        (
            {"hook_point": "blocks.*.hook_attn_out"},
            "hook_point must be one hook point; .* is blocks.0.hook_attn_out, b",
        ),
        ({"hook_point": "blocks.0.attn.hook_pattern"}, r"hook_pattern holds \(160, 1, 12, 12\): a probe needs"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    model = toy_model(TASK, d_model=16, n_layers=2)
    with pytest.raises(ValueError, match=message):
        probe(model, TASK, **{**SIZES, **options})
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_scikit_learn_is_loaded_for_a_probe_alone() -> None:
    code = "import sys, plateau_interp.analysis.probing; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
