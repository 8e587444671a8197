"""Hooks of your own, in one file: on a schedule like ours by ``python your_own_hook.py [STEPS]``.

With this pyproject.toml beside it, ``pip install .`` also puts them into ``plateau list hooks``, recipes and commands,
and they are resumed and forked: ``plateau train copy --hook when:intervention=pull-home,since=loss<2 --out run``

    [project]
    name = "two-hooks"
    version = "0.1"
    dependencies = ["plateau-interp"]

    [project.entry-points."plateau_interp.hooks"]
    shrink-stream = "your_own_hook:ShrinkStream"
    pull-home = "your_own_hook:PullHome"

    [tool.setuptools]
    py-modules = ["your_own_hook"]
"""

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from plateau_interp import Attached, editing


@dataclass(frozen=True, eq=False)
class ShrinkStream:
    """Multiply the residual stream by a factor."""

    factor: float = 0.5
    name = "shrink-stream"

    def attach(self, model):
        """All it takes at a hook point: `editing` counts, obeys schedules, and takes the hook away again."""
        return editing(model, self, {"blocks.0.hook_resid_post": lambda act, hook: self.factor * act})


@dataclass(frozen=True, eq=False)
class PullHome:
    """Pull the embedding back to where it was: a hook, a dial and a memory that `editing` does not cover."""

    pull: float = 0.1
    name = "pull-home"

    @contextmanager
    def attach(self, model):
        """What acts is `AttachedPull.bend`."""
        attached = AttachedPull(self, ["embed.W_E"], gradual=True)
        attached.weight, attached.home = model.embed.W_E, model.embed.W_E.detach().clone()
        with ExitStack() as stack:  # puts back, also after an error
            stack.callback(model.embed.W_E.register_hook(attached.bend).remove)
            yield attached


class AttachedPull(Attached):
    """Heeds its strength, which schedules turn, and remembers home, so that a resumed run goes on bit for bit."""

    def bend(self, gradient):
        """The formula; it counts how often it acted."""
        self.receipt.fired += self.strength > 0
        return gradient + self.strength * self.intervention.pull * (self.weight.detach() - self.home)

    def state(self):
        """What a checkpoint holds."""
        return {"home": self.home}

    def load_state(self, state):
        """What comes from it."""
        self.home = state["home"].to(self.weight)


if __name__ == "__main__":  # imported here: `plateau list hooks` need not load what trains
    from plateau_interp import hooks, tasks, toy_model, train

    task, steps = tasks.MovingWindowSum(n=4), int(sys.argv[1]) if sys.argv[1:] else 60
    both = (hooks.During(ShrinkStream(0.9), start=steps // 2), hooks.When(PullHome(), since="loss < 2.9"))
    for step in train(toy_model(task), task, steps=steps, interventions=both):
        print(step.step, f"loss {step.loss:.3f}")
