"""What the design promises about speed and size, row by row: ``make bench``, or ``python -m benchmarks WORD...``.

Words choose the rows whose text contains one of them. The exit status is 1 if a bound is broken, 130 after Ctrl-C.
All rows are meant to take about seven minutes on two quiet cores, so what takes seconds is repeated little.
"""

import dataclasses
import shutil
import statistics
import subprocess
import sys
import tempfile
import timeit
import warnings
from pathlib import Path

import torch
from long_run import Long
from transformer_lens import HookedTransformer, HookedTransformerConfig

from benchmarks import continuing, plain_gpt, side_by_side
from benchmarks.harness import Lacking, Result, Row, anew, peak_memory, ratio, report, wall_time
from plateau_interp import tasks
from plateau_interp.analysis.circuits import answer_difference, circuit
from plateau_interp.decoding import greedy_answers
from plateau_interp.hooks import (
    AddDirection,
    BiasAttention,
    During,
    FixAttention,
    MaskAttention,
    ScaleGradient,
    patch_by_head,
    patch_by_position,
)
from plateau_interp.models import toy_model
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.batches import training_batch
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.training.threads import threads_of_torch
from plateau_interp.views.attention_views import attention_view

TASK = MovingWindowSum()
BATCH = 256
PLATEAU = str(Path(sys.executable).with_name("plateau"))


def training_step(*, batch_size=BATCH, **options):
    """Each call makes one default training step, from drawing the batch to the update."""
    steps = train(toy_model(TASK), TASK, steps=10**6, batch_size=batch_size, **options)
    return lambda: next(steps)


def bare_matmuls():
    """The matrix products of one training step and nothing else: forward, input gradient, weight gradient."""
    model = toy_model(TASK)
    n_rows, n_query, d_model, d_mlp = BATCH * (TASK.n_pos - 1), TASK.n_pos - 1, model.cfg.d_model, model.cfg.d_mlp
    products = []
    layers = [(d_model, d_model)] * 4 + [(d_model, d_mlp), (d_mlp, d_model), (d_model, TASK.d_vocab)]
    for d_in, d_out in layers:
        x, weight, gradient = torch.randn(n_rows, d_in), torch.randn(d_in, d_out), torch.randn(n_rows, d_out)
        products += [(x, weight), (gradient, weight.T), (x.T, gradient)]
    states, pattern = torch.randn(BATCH, n_query, d_model), torch.randn(BATCH, n_query, n_query)
    scores_forward, z_forward = (states, states.mT), (pattern, states)
    scores_backward, z_backward = [(pattern, states), (pattern.mT, states)], [(states, states.mT), (pattern.mT, states)]
    products += [scores_forward, z_forward, *scores_backward, *z_backward]

    def multiply():
        for a, b in products:
            torch.matmul(a, b)

    return multiply


def training_step_of_a_plain_gpt():
    """Several processes: what a plain step wastes on memory differs between them by a fifth."""

    def go():
        with plain_gpt.in_a_process_of_its_own(BATCH) as plain_step:
            return ratio(training_step(), plain_step, rounds=5, warm_ups=1)

    return anew(go, goes=5)


def mixed_precision():
    if not torch.cpu.get_capabilities().get("amx_bf16"):
        raise Lacking("this processor has no AMX")
    with threads_of_torch(1):
        return ratio(training_step(precision="bfloat16-mixed"), bare_matmuls())


FIVE_INTERVENTIONS = (
    BiasAttention(factor=10.0),
    MaskAttention(keys=[3]),
    FixAttention(rows=[20]),
    AddDirection("blocks.0.hook_attn_out", torch.full((256,), 1e-3)),
    ScaleGradient(0.5, where="attention map"),
)
"""None cuts the gradient of all queries and keys: a step that has less to do would look cheap."""

INACTIVE = During(BiasAttention(factor=10.0), start=10**9)


def decoding(*, cached):
    model = toy_model(TASK)
    tokens = training_batch(TASK, seed=0, step=0, batch_size=320).tokens
    return lambda: greedy_answers(model, TASK, tokens, cached=cached)


def continuing_texts():
    """Time in this process, memory in one each."""
    language = continuing.language_model()
    for side in (continuing.batched, continuing.published):
        side(language, 5)()  # warms up; a hundred prompts take many seconds
    result = ratio(continuing.batched(language), continuing.published(language), rounds=3, warm_ups=0)
    command = [sys.executable, "-m", "benchmarks.continuing"]
    ours, theirs = (
        subprocess.run([*command, side], check=True, capture_output=True, text=True).stdout.strip()
        for side in ("batched", "published")
    )
    return dataclasses.replace(result, details=f"{result.details}; {ours} / {theirs} GiB beyond the model")


def patching_of_a_language_model():
    """Both patchings at SmolLM2's shape on five tokens, against a whole forward for each patch (one is timed)."""
    model = small_language_model()
    clean, corrupted = (torch.randint(model.cfg.d_vocab, (1, 5), generator=seeded(seed)) for seed in (0, 1))

    def patch():
        for by in (patch_by_position, patch_by_head):
            by(model, lambda logits: (logits[:, -1, 3] - logits[:, -1, 1]).mean(), clean=clean, corrupted=corrupted)

    @torch.no_grad()
    def forward():
        model(corrupted)

    n_patches = model.cfg.n_layers * (clean.shape[1] + model.cfg.n_heads)
    return ratio(patch, forward, rounds=3, warm_ups=1, for_each=n_patches)


def circuit_of_a_toy_model():
    """Attributed scores of every edge of the default model, on as many pairs as a training step has sequences."""
    model, generator = toy_model(TASK), seeded(0)
    clean = TASK.sample(BATCH, generator=generator)
    corrupted = TASK.corrupt(clean, generator=generator)
    metric = answer_difference(TASK, clean, corrupted)
    return lambda: circuit(model, clean=clean.inputs, corrupted=corrupted.inputs, metric=metric)


def circuit_of_a_language_model(n_pairs=8, n_tokens=16):
    """Attributed scores of every edge at SmolLM2's shape, against a forward and a backward on the same tokens."""
    model = small_language_model()
    clean, corrupted = (
        torch.randint(model.cfg.d_vocab, (n_pairs, n_tokens), generator=seeded(seed)) for seed in (0, 1)
    )

    def metric(logits):
        return (logits[:, -1, 3] - logits[:, -1, 1]).mean()

    def both_ways():
        embedded = []
        with model.hooks(fwd_hooks=[("hook_embed", lambda act, *, hook: embedded.append(act.requires_grad_()))]):
            metric(model(clean)).backward(inputs=embedded)

    def score():
        scored.append(circuit(model, clean=clean, corrupted=corrupted, metric=metric))

    scored = []
    result = ratio(score, both_ways, rounds=3, warm_ups=1)
    return dataclasses.replace(result, details=f"{scored[-1].n_edges:,} edges, {n_pairs} pairs: {result.details}")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def small_language_model():
    """SmolLM2-135M's shape with random weights."""
    cfg = HookedTransformerConfig(
        n_layers=30,
        n_heads=9,
        n_key_value_heads=3,
        d_model=576,
        d_head=64,
        d_mlp=1536,
        d_vocab=49152,
        n_ctx=256,
        act_fn="silu",
        gated_mlp=True,
        normalization_type="RMS",
        final_rms=True,
        positional_embedding_type="rotary",
        rotary_dim=64,
        rotary_base=100000,
        eps=1e-5,
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of HookedTransformer, by its makers
        return HookedTransformer(cfg)


def two_runs():
    with side_by_side.both() as (workers, threads):
        return ratio(workers, threads, rounds=5, warm_ups=1)


def two_runs_beside_a_neighbour():
    """Few steps: threads that wait for a core are several times slower."""
    with side_by_side.both(n_steps=2) as (workers, threads), side_by_side.busy_neighbour():
        return ratio(workers, threads, rounds=3, warm_ups=1)


def sampling(task):
    generator = torch.Generator().manual_seed(0)
    return lambda: task.sample(BATCH, generator=generator)


def slowest_sampling():
    """Of all tasks at their defaults, over the default step: smaller than the task's own, but for addition's."""
    medians = {}
    for name in tasks.__all__:
        task = getattr(tasks, name)()
        draw = sampling(task)
        medians[task] = statistics.median(timeit.repeat(draw, number=1, repeat=15))
    slowest = max(medians, key=medians.get)
    result = ratio(sampling(slowest), training_step())
    return dataclasses.replace(result, details=f"{slowest.name}: {result.details}")


def imported_torch_modules():
    code = "import sys, plateau_interp; print(sum(name.split('.')[0] == 'torch' for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return Result(float(done.stdout), "torch modules in sys.modules")


def memory_of_a_run():
    """The default run, its checkpoints and its report, but 60 steps: later ones need no more memory."""
    with tempfile.TemporaryDirectory() as folder:
        return peak_memory([PLATEAU, "train", TASK.name, "--steps", "60", "--out", str(Path(folder, "run"))])


def opening_a_page():
    """From starting the browser to the first picture, of a view with a slider and of a page that says one word."""
    if not shutil.which("chromium"):
        raise Lacking("there is no chromium")
    with tempfile.TemporaryDirectory() as folder:
        view = attention_view(Long(), steps=Long.checkpoints).save(Path(folder, "view.html"))
        empty = Path(folder, "empty.html")
        empty.write_text("<!DOCTYPE html><title>empty</title>empty", encoding="utf-8")

        def opens(page):
            picture = Path(folder, "picture.png")
            options = ["--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={picture}"]
            return lambda: subprocess.run(["chromium", *options, page.as_uri()], check=True, capture_output=True)

        return ratio(opens(view), opens(empty), rounds=7)


def an_inactive_schedule():
    """One percent drowns in the noise of large steps; small ones can be many, and ask for more."""

    def go():
        return ratio(training_step(batch_size=8, interventions=(INACTIVE,)), training_step(batch_size=8), rounds=101)

    return anew(go, goes=5)


def five_interventions():
    """Models made anew several times."""
    return anew(lambda: ratio(training_step(interventions=FIVE_INTERVENTIONS), training_step(), rounds=9, warm_ups=1))


ROWS = [
    Row("training step / its bare matmuls", 1.35, lambda: ratio(training_step(), bare_matmuls())),
    Row("bfloat16-mixed training step / float32's bare matmuls, one thread", 0.65, mixed_precision),
    Row("training step / the same of a plain GPT", 0.6, training_step_of_a_plain_gpt),
    Row(
        "measured training step / unmeasured",
        1.2,
        lambda: ratio(training_step(meter=Meter(TASK)), training_step()),
    ),
    Row("five interventions attached / none", 1.05, five_interventions),
    Row("an intervention whose time has not come / none", 1.01, an_inactive_schedule),
    Row("two measured runs on two one-thread workers / one after the other on two threads", 0.95, two_runs),
    Row("two measured runs, on workers / on threads, beside a busy neighbour", 0.4, two_runs_beside_a_neighbour),
    Row("patching a language model by position and head / a forward for each", 0.125, patching_of_a_language_model),
    Row(
        "attributed circuit of the default model / its training step",
        4,
        lambda: ratio(circuit_of_a_toy_model(), training_step(), rounds=9, warm_ups=1),
    ),
    Row("attributed circuit of a language model / a forward and a backward", 8, circuit_of_a_language_model),
    Row(
        "cached decoding of 320 answers / uncached",
        0.2,
        lambda: ratio(decoding(cached=True), decoding(cached=False), rounds=7, warm_ups=1),
    ),
    Row("continuing 100 prompts by 8 tokens, with states / the published loop", 0.125, continuing_texts),
    Row(
        "sampling a batch of the default task / its training step",
        0.02,
        lambda: ratio(sampling(TASK), training_step()),
    ),
    Row("sampling a batch of the slowest task / the default training step", 0.02, slowest_sampling),
    Row("plateau --help", 0.3, lambda: wall_time([PLATEAU, "--help"])),
    Row("import plateau_interp loads torch", 0, imported_torch_modules),
    Row("memory of the default run", 1.0, memory_of_a_run),
    Row("a view of 21 checkpoints opens in Chromium / an empty page", 3, opening_a_page),
]


def main(words: list[str]) -> int:
    rows = [row for row in ROWS if not words or any(word in row.what for word in words)]
    if not rows:
        sys.exit(f"no row contains {' or '.join(words)}; there are: " + "; ".join(row.what for row in ROWS))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
    try:
        return 0 if report(rows) else 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
