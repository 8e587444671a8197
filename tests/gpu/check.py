"""What a machine with a CUDA device is asked: `bash tests/gpu/check.sh WHEELS`.

The same numbers as the processor, runs that go on bit for bit, no waiting for the device within a step, and how fast it
all is. Bounds were set before anything was measured. What fails is told at the end, with exit status 1.
"""

import copy
import itertools
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from every_hook import CASES, acting, llama
from hook_cases import gpt_neox, gradients, padded, toy

from plateau_interp.analysis.circuits import circuit
from plateau_interp.decoding import continued
from plateau_interp.hooks import (
    BiasAttention,
    During,
    FreezeWeights,
    ScaleActivation,
    patch_by_head,
    patch_by_position,
)
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.capturing import Capture, Captured
from plateau_interp.models import toy_model
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.series.series import CheckpointSeries
from plateau_interp.sweeps.engines import Loky
from plateau_interp.sweeps.sweep import sweep
from plateau_interp.tasks import (
    DepthTwoNet,
    Histogram,
    MatrixCompletion,
    ModularArithmetic,
    MovingWindowSum,
    OneHotArithmetic,
    Permutation,
    PrefixSum,
    Text,
)
from plateau_interp.training import graphs
from plateau_interp.training.batches import training_batch
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.training.precision import Precision, time_gained
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

CUDA = torch.device("cuda")
FORWARD, GRADIENT, SCORES, TRAINED = 1e-5, 1e-4, 1e-3, 1e-3
"""Largest difference from the processor, as a share of the largest number: of outputs, of gradients, of scores that are
differences of outputs, of the weights after 20 steps of SGD. Float32 has 6e-8; sums are made in another order."""
PEAK = {"float32": 67e12, "tf32": 495e12, "bfloat16-mixed": 989e12}
"""Products of matrices a second that NVIDIA promises of an H100 or H200 (SXM), without sparsity."""
MODELS: dict[str, Callable[[], Any]] = {
    "decoder, linear attention": lambda: toy(n_layers=1),
    "decoder, softmax, two layers": lambda: toy(attention="softmax", n_layers=2, n_heads=4),
    "encoder": lambda: toy(task=MatrixCompletion(), architecture="encoder", n_layers=2, n_heads=4),
    "post-norm decoder": lambda: toy(architecture="post-norm", n_layers=2, n_heads=4),
    "one-hot MLP": lambda: toy_model(OneHotArithmetic(p=11), d_mlp=32),
    "depth-2 net": lambda: toy_model(DepthTwoNet()),
    "GPT-NeoX": gpt_neox,
    "Llama": llama,
}

failures: list[str] = []


def tell(what: str, figure: object, *, holds: bool = True) -> None:
    print(f"{what:72} {figure}{'' if holds else '   FAILS'}")
    if not holds:
        failures.append(what)


def on_cuda(model: Any) -> Any:
    return copy.deepcopy(model).to(CUDA, print_details=False) if not hasattr(model, "task") else _toy_on_cuda(model)


def _toy_on_cuda(model: Any) -> Any:
    moved = torch.nn.Module.to(copy.deepcopy(model), CUDA)
    moved.cfg.device = str(CUDA)
    return moved


def tokens_for(model: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if hasattr(model, "task"):
        return model.task.sample(6, generator=generator).inputs
    return torch.randint(0, model.cfg.d_vocab, (6, 8), generator=generator)


def off(there: torch.Tensor, here: torch.Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    return float((there.cpu() - here).abs().max() / here.abs().max().clamp(min=1e-12))


def models_agree() -> None:
    for name, build in MODELS.items():
        here = build()
        there, tokens = on_cuda(here), tokens_for(here)
        with torch.no_grad():
            worst = off(there(tokens.to(CUDA)), here(tokens))
        tell(f"{name}: output, CUDA against processor", f"{worst:.1e}", holds=worst <= FORWARD)
        if hasattr(here, "task"):
            continue
        ours, theirs = gradients(here, tokens), gradients(there, tokens.to(CUDA))
        worst = max(off(theirs[parameter], ours[parameter]) for parameter in ours)
        tell(f"{name}: gradients", f"{worst:.1e}", holds=worst <= GRADIENT)


def interventions_agree() -> None:
    for build in (gpt_neox, llama):
        worst, where = 0.0, ""
        for case in CASES:
            here = build()
            there, tokens = on_cuda(here), tokens_for(here)
            mask = padded(tokens)
            try:
                with torch.no_grad():
                    with acting(here, case):
                        expected = here(tokens, attention_mask=mask, padding_side="left")
                    with acting(there, case):
                        found = there(tokens.to(CUDA), attention_mask=mask.to(CUDA), padding_side="left")
                    real = mask.bool()
                difference = off(found[real.to(CUDA)], expected[real])
            except Exception as error:  # told with the others
                traceback.print_exc()
                tell(f"{build.__name__}, {case}", " ".join(str(error).split())[:120], holds=False)
                continue
            if difference > worst:
                worst, where = difference, case
        tell(f"{build.__name__}: {len(CASES)} interventions, padded ({where})", f"{worst:.1e}", holds=worst <= FORWARD)


def training_agrees() -> None:
    """Of a finite task, whose batches are drawn on the processor wherever the model is."""
    task = ModularArithmetic(p=11)
    here = toy_model(task, d_model=32, n_layers=2)
    there = toy_model(task, d_model=32, n_layers=2, device="cuda")
    for model in (here, there):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaled = During(ScaleActivation("blocks.0.hook_mlp_out", 1.5), start=5)
        for _ in train(model, task, steps=20, batch_size=32, optimizer=optimizer, interventions=[scaled]):
            pass
    # Of all weights together: some, such as the keys' bias, have no gradient but for rounding, and are 1e-12.
    ours, theirs = (torch.cat([p.detach().flatten() for p in model.parameters()]) for model in (here, there))
    worst = off(theirs, ours)
    tell("20 steps of training with a scheduled edit: weights", f"{worst:.1e}", holds=worst <= TRAINED)


def difference(logits: torch.Tensor) -> torch.Tensor:
    return (logits[:, -1, 3] - logits[:, -1, 1]).mean()


def analysis_agrees() -> None:
    for build in (gpt_neox, llama):
        here, name = build(), build.__name__
        there = on_cuda(here)
        clean, corrupted = tokens_for(here), tokens_for(here).flip(1)
        prompts = [[3, 1, 4], [1, 5, 9, 2, 6], [5]]
        ours, theirs = (continued(model, prompts, 8) for model in (here, there))
        same_tokens = bool((ours.tokens == theirs.tokens.cpu()).all())
        tell(f"{name}: three prompts continued, the same tokens", same_tokens, holds=same_tokens)
        assert ours.states is not None
        assert theirs.states is not None
        worst = off(theirs.states, ours.states)
        tell(f"{name}: and the states that predicted them", f"{worst:.1e}", holds=worst <= FORWARD)
        for score in (patch_by_position, patch_by_head):
            each = [
                score(model, difference, clean=clean.to(device), corrupted=corrupted.to(device))
                for model, device in ((here, "cpu"), (there, CUDA))
            ]
            worst = off(each[1], each[0])
            tell(f"{name}: {score.__name__}", f"{worst:.1e}", holds=worst <= SCORES)
        for scoring in ("exact", "attributed"):
            found = [
                circuit(
                    model, clean=clean.to(device), corrupted=corrupted.to(device), metric=difference, scoring=scoring
                )
                for model, device in ((here, "cpu"), (there, CUDA))
            ]
            worst = off(found[1].scores.nan_to_num(), found[0].scores.nan_to_num())  # NaN: no such edge
            tell(f"{name}: {scoring} scores of all edges", f"{worst:.1e}", holds=worst <= SCORES)


def a_series_and_a_capture(folder: Path) -> None:
    """A language model is trained, captured and gone through as a series, all on the device."""
    recipe = Recipe(
        Text(),
        model=ModelOptions(d_model=64, n_layers=2, n_heads=2),
        training=TrainingOptions(steps=20, batch_size=8),
        measuring=MeasuringOptions(every=10),
        interventions=[Capture(("blocks.0.hook_resid_post",), out=str(folder / "captured"), every=10)],
        checkpoint_every=10,
    )
    run = trained(Run.create(folder / "text", recipe))
    kept = Captured(folder / "captured").steps
    tell("a Capture on the device kept the steps", list(kept), holds=list(kept) == [0, 10])
    records = {}
    for device in ("cpu", "cuda"):
        series = CheckpointSeries(run).measure(
            ["To be", "Where is the king"], out=folder / f"on-{device}", device=device
        )
        records[device] = [record.measures for record in series]
    worst = max(
        abs(there[name] - here[name])
        for here, there in zip(records["cpu"], records["cuda"], strict=True)
        for name in here
    )
    tell("a series of three checkpoints, largest difference of a measure", f"{worst:.1e}", holds=worst <= GRADIENT)


def small(precision: Precision) -> Recipe:
    return Recipe(
        MovingWindowSum(n=6, p=7),
        model=ModelOptions(d_model=64),
        training=TrainingOptions(steps=30, batch_size=32, precision=precision),
        measuring=MeasuringOptions(n_sequences=8),
        interventions=[During(BiasAttention(3.0), start=4, stop=20)],
        checkpoint_every=10,
    )


def trained(run: Run, *, stop: int | None = None) -> Run:
    for step in run.train(device="cuda"):
        if step.step + 1 == stop:
            break
    return run


def same(one: Run, other: Run) -> bool:
    weights = zip(one.model().parameters(), other.model().parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in weights) and one.metrics.equals(other.metrics)


def runs_go_on(folder: Path) -> None:
    for precision in ("float32", "tf32", "bfloat16-mixed"):
        recipe = small(precision)
        whole = trained(Run.create(folder / precision / "whole", recipe))
        again = trained(Run.create(folder / precision / "again", recipe))
        stopped = trained(Run.create(folder / precision / "stopped", recipe), stop=17)
        fork = trained(whole.fork(at=15, out=folder / precision / "fork", device="cuda"))
        tell(f"{precision}: twice the same run, bit for bit", same(whole, again), holds=same(whole, again))
        resumed = trained(Run(stopped.path))
        tell(f"{precision}: stopped at step 17 and gone on with", same(whole, resumed), holds=same(whole, resumed))
        forked = all(
            torch.equal(a, b) for a, b in zip(whole.model().parameters(), fork.model().parameters(), strict=True)
        )
        tell(f"{precision}: forked at step 15, nothing changed", forked, holds=forked)


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    yield
    setattr(owner, name, before)


def watched(model: Any) -> Any:
    """With a hook that does nothing: every step is then made as always, none from a graph."""
    model.embed.register_forward_hook(lambda *_: None)
    return model


class Asking(MovingWindowSum):
    """A task that asks for a number within each step, which no graph can hold."""

    def loss(self, output: torch.Tensor, batch: Any) -> torch.Tensor:
        assert output.isfinite().all().item()
        return super().loss(output, batch)


def graphs_are_honest() -> None:
    """Steps from a graph have the bits of those made as always, whatever comes and goes in between."""

    def after(task: Any, change: Callable[[Any], Any] | None, precision: Precision, *, made: bool) -> torch.Tensor:
        sizes = {} if task.name == OneHotArithmetic.name else {"d_model": 64}
        model = toy_model(task, device="cuda", **sizes)
        steps = train(
            watched(model) if made else model,
            task,
            steps=20,
            batch_size=32,
            meter=Meter(task, every=4),
            precision=precision,
            grad_clip=1.0,
        )
        losses = [next(steps).loss_tensor for _ in range(7)]
        with change(model) if change else nullcontext():
            losses += [next(steps).loss_tensor for _ in range(4)]
        losses += [step.loss_tensor for step in steps]
        return torch.cat([torch.stack(losses), *(weight.detach().flatten() for weight in model.parameters())])

    recordings: list[int] = []
    record = graphs.record_gradients

    def recorded(*args: Any, **options: Any) -> Any:
        made = record(*args, **options)
        recordings.append(options["step"])
        return made

    def agree(task: Any, precision: Precision = "float32", *, change: Any = None, asked: Any = None) -> bool:
        recordings.clear()
        repeated = after(asked or task, change, precision, made=False)
        some = bool(recordings) == (asked is None)
        return some and torch.equal(repeated, after(task, change, precision, made=True))

    def moved(model: Any) -> Any:
        for weight in model.parameters():
            weight.data = weight.data.clone()
        return nullcontext()

    changes: dict[str, Callable[[Any], Any]] = {
        "an edit": lambda model: intervening(model, ScaleActivation("blocks.0.hook_mlp_out", 3.0)),
        "frozen weights": lambda model: intervening(model, FreezeWeights("blocks.0.mlp.*")),
        "weights elsewhere": moved,
        "another activation function": lambda model: replaced(model.blocks[0].mlp, "act_fn", torch.relu),
    }
    graphs.record_gradients = recorded
    windows = MovingWindowSum()
    others = (PrefixSum(), Histogram(), Permutation(), ModularArithmetic(p=11), OneHotArithmetic(p=11))
    for task in (windows, *others):
        same = agree(task)
        tell(f"{task.name}: 20 steps, those not measured from a graph, bit for bit", same, holds=same)
    words: tuple[Precision, ...] = ("tf32", "bfloat16-mixed")
    for precision in words:
        same = agree(windows, precision)
        tell(f"{precision}: bit for bit", same, holds=same)
    for what, change in changes.items():
        same = agree(windows, change=change)
        tell(f"for four steps {what}: bit for bit", same, holds=same)
    same = agree(windows, asked=Asking())
    tell("a task that asks for a number: no graph, bit for bit", same, holds=same)
    as_before = torch.cuda.current_stream() == torch.cuda.default_stream()
    tell("and the stream is the one that it was", as_before, holds=as_before)
    graphs.record_gradients = record


def nothing_waits() -> None:
    """Within a step nothing asks for a number, with a meter at work, too; torch itself would refuse it."""
    tasks = (MovingWindowSum(), PrefixSum(), Histogram(), Permutation(), MatrixCompletion(), OneHotArithmetic())

    for task, measured in itertools.product(tasks, (False, True)):
        model = toy_model(task, device="cuda")
        meter = Meter(task, every=1) if measured else None
        steps = train(model, task, steps=9, batch_size=16, meter=meter)
        for _ in range(4):  # the second is recorded as a graph, once
            next(steps)
        what = f"{task.name}: a step that is {'measured' if measured else 'not measured'} waits for the device"
        try:
            torch.cuda.set_sync_debug_mode("error")
            for _ in range(4):
                next(steps)
            waits = "never"
        except RuntimeError as error:
            traceback.print_exc()
            waits = str(error).splitlines()[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        tell(what, waits, holds=waits == "never")


def seconds(work: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def flops(model: Any, n_positions: int) -> float:
    """Of a forward and a backward: six a weight of a matrix and position; attention's own products are left out."""
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim > 1 and "embed.W_E" not in name)
    return 6.0 * matrices * n_positions


def time_of_a_step(model: Any, task: Any, n_steps: int, **options: Any) -> float:
    """Seconds, after ten steps."""
    steps = train(model, task, steps=10 + n_steps, **options)
    for _ in range(10):
        next(steps)
    return seconds(lambda: list(steps)) / n_steps


def steps_are_fast() -> None:
    """The default setting, and the paper's own of matrix completion; both unmeasured, after 10 steps."""
    windows = MovingWindowSum()
    matrices = MatrixCompletion(shapes=((7, 7),), rank=2, grid_step=0.01, largest=10.0)
    full_size = {"n_layers": 4, "n_heads": 8, "d_model": 768, "init_std": 0.02}
    settings: list[tuple[str, Any, dict[str, Any], int, int]] = [
        ("moving-window sum, default", windows, {}, windows.defaults.batch_size, 100),
        ("moving-window sum, width 1,024, batch 4,096", windows, {"d_model": 1024}, 4096, 30),
        ("matrix completion, full size", matrices, full_size, 256, 60),
    ]
    for name, task, sizes, batch_size, n_steps in settings:
        for precision in ("float32", "tf32", "bfloat16-mixed"):
            model = toy_model(task, device="cuda", **sizes)
            options = {"batch_size": batch_size, "precision": precision}
            each = time_of_a_step(model, task, n_steps, **options)
            without = time_of_a_step(watched(copy.deepcopy(model)), task, n_steps, **options)
            batch = training_batch(task, seed=0, step=0, batch_size=batch_size, device="cuda")
            share = flops(model, batch.inputs.numel()) / each / PEAK[precision]
            gained = time_gained(precision, model, task, batch)
            tell(
                f"{name}, {precision}: ms a step",
                f"{1e3 * each:.2f} from a graph, {1e3 * without:.2f} without; {100 * share:.1f} % of the peak; forward "
                f"and backward without {gained:.2f} times float32's",
            )


def busy_share() -> None:
    """How much of a step's time the device works, default setting: the rest waits for Python."""
    task = MovingWindowSum()
    steps = train(toy_model(task, device="cuda"), task, steps=40)
    for _ in range(10):
        next(steps)
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        taken = seconds(lambda: [next(steps) for _ in range(20)])
    events = profile.key_averages()
    busy = sum(event.self_device_time_total for event in events) / 1e6
    kernels = sum(event.count for event in events if event.self_device_time_total) / 20
    tell(
        "default setting: share of a step in which the device works",
        f"{busy / taken:.2f}, {kernels:.0f} kernels a step",
    )


def runs_are_fast(folder: Path) -> None:
    recipe = Recipe(MovingWindowSum())
    run = Run.create(folder / "default", recipe)
    taken = seconds(lambda: trained(run))
    tell(
        "default run, 400 steps, measured at each: seconds", f"{taken:.1f}, final loss {run.metrics.loss.iloc[-1]:.3f}"
    )
    short = replace(recipe, training=replace(recipe.training, steps=100), checkpoint_every=100)
    for workers, seeds in ((1, 2), (16, 16)):
        with warmed(workers) as engine:
            began = time.perf_counter()
            swept = sweep(short, {"seeds": seeds}, out=folder / f"{workers}", engine=engine, device="cuda")
            taken = time.perf_counter() - began
        holds = not swept.failed
        tell(
            f"{seeds} seeds of 100 steps, {workers} workers on one card: seconds a run",
            f"{taken / seeds:.2f}",
            holds=holds,
        )


@contextmanager
def warmed(workers: int) -> Iterator[Loky]:
    """Processes that have torch and the device already, as in a sweep of many runs."""
    engine = Loky(workers=workers)
    with tempfile.TemporaryDirectory() as folder:
        recipe = replace(small("float32"), training=TrainingOptions(steps=2, batch_size=8))
        sweep(recipe, {"seeds": 2 * workers}, out=Path(folder) / "first", engine=engine, device="cuda")
        yield engine


PARTS: dict[str, Callable[..., None]] = {
    "models": models_agree,
    "interventions": interventions_agree,
    "analysis": analysis_agrees,
    "series": a_series_and_a_capture,
    "training": training_agrees,
    "runs": runs_go_on,
    "graphs": graphs_are_honest,
    "waiting": nothing_waits,
    "steps": steps_are_fast,
    "busy": busy_share,
    "speed": runs_are_fast,
}


def main(words: list[str]) -> int:
    name = torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        for part in words or PARTS:
            began = time.perf_counter()
            try:
                PARTS[part](*([Path(folder)] if part in ("series", "runs", "speed") else []))
            except Exception as error:  # the other parts are worth their time
                traceback.print_exc()
                tell(part, " ".join(str(error).split())[:200], holds=False)
            print(f"  ({part}: {time.perf_counter() - began:.0f} s)")
    print("fails: " + "; ".join(failures) if failures else "all of it holds")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
