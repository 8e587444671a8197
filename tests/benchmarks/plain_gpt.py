"""The training step of a plain GPT in a process of its own, where PyTorch is as it comes.

`plateau_interp.training.loop.train` has its process keep the memory that it frees, which nearly halves what a plain
loop beside it wastes: who trains without the suite does not have that. ``python -m benchmarks.plain_gpt`` makes a step
for each line that it is given, and answers with a line.
"""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from reference.gpt import copy_of

from benchmarks.harness import Side
from plateau_interp.models import toy_model
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.batches import training_batch

__all__ = ["in_a_process_of_its_own", "plain_step"]

TASK = MovingWindowSum()


def plain_step(batch_size: int) -> Side:
    """Each call makes a training step with PyTorch's Adam, from our weights on our batches, and gives its loss."""
    reference = copy_of(toy_model(TASK))
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-4)
    counter = itertools.count()

    def step() -> float:
        batch = training_batch(TASK, seed=0, step=next(counter), batch_size=batch_size)
        optimizer.zero_grad()
        loss = reference.loss(batch.tokens)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


@contextmanager
def in_a_process_of_its_own(batch_size: int) -> Iterator[Side]:
    """`plain_step` in another process, on as many threads as this one has, while the context is open."""
    command = [sys.executable, "-m", "benchmarks.plain_gpt", str(batch_size), str(torch.get_num_threads())]
    pipe = subprocess.PIPE
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1, env=paths) as process:
        asked, answers = process.stdin, process.stdout
        assert asked is not None
        assert answers is not None

        def step() -> float:
            asked.write("\n")
            return float(answers.readline())

        try:
            yield step
        finally:
            process.kill()


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    make = plain_step(int(sys.argv[1]))
    for _ in sys.stdin:
        print(make(), flush=True)
