# %% [markdown]
"""# Train a language model, and watch it collapse.

A small Transformer learns to write Shakespeare, token by token. Early in training it repeats one token whatever it is
asked, and the hidden states that predict its words all point in one direction. This notebook shows when that begins,
when it ends, and what an intervention does to it. It takes under a minute on one core and keeps its runs in
`runs/language-model`; run again, it reads them from there.
"""

# %%
# %matplotlib inline
import pandas as pd

from plateau_interp import MeasuringOptions, ModelOptions, Recipe, Run, TrainingOptions, continued
from plateau_interp.hooks import AblateHeads
from plateau_interp.tasks import Text
from plateau_interp.tasks.text import TINY_SHAKESPEARE
from plateau_interp.training.optimizers import Adam
from plateau_interp.views import curves_figure

try:
    from IPython.display import display
except ModuleNotFoundError:  # run as a script
    display = print

# %% [markdown]
# ## The task
# `Text` reads any text file. It trains a vocabulary of byte pairs on the first nine tenths of it, and holds out the
# rest. `make corpus` fetches 40,000 lines of plays; without them the questions in the package do, which are so few
# that the model learns them by heart.

# %%
SIZES = {"n": 32, "vocabulary": 512}
try:
    task = Text(TINY_SHAKESPEARE, **SIZES)
    print(f"{task.corpus}: {len(task.train_tokens):,} tokens to train on")
except ValueError as error:
    task = Text(**SIZES)
    print(f"{error}. So this trains on {task.corpus}: {len(task.train_tokens):,} tokens, learned by heart in no time.")
print(f"in nats a token: {task.levels}, bigram entropy {task.bigram_entropy:.2f}")

# %% [markdown]
# Three losses are known without a model: `ln V`, of guessing; the *unigram entropy*, of knowing how frequent each
# token is; the *bigram entropy*, of knowing the token before as well.
#
# ## Train

# %%
recipe = Recipe(
    task,
    model=ModelOptions(n_layers=2, d_model=64),
    training=TrainingOptions(steps=240, batch_size=32, optimizer=Adam(learning_rate=3e-3)),
    measuring=MeasuringOptions(every=8),
    checkpoint_every=24,
)


def finish(run: Run) -> Run:
    """Train what is left of a run."""
    for step in run.train():
        if "cosine" in step.metrics and step.step % 40 == 0:
            print(f"{run.path.name}: step {step.step:3d}  loss {step.loss:.2f}  cosine {step.metrics['cosine']:.2f}")
    return run


run = finish(Run.create("runs/language-model/plain", recipe))
display(curves_figure(run.metrics, ["loss", "cosine", "repetition"], levels=task.levels))

# %% [markdown]
# The dotted level *plateau* is the unigram entropy. While the loss comes down to it, the model learns which tokens are
# frequent, and nothing else: each continuation repeats the most frequent one, and its states are alike. The collapse
# dissolves once the loss is well below, about half a nat here, and the model knows something of what came before:

# %%
table = run.metrics.dropna(subset=["cosine"]).set_index("step")
peak = table["cosine"].idxmax()
after = table.loc[peak:]
print(
    f"the cosine peaks at step {peak}, at {table.loc[peak, 'cosine']:.2f}, and ends at {after['cosine'].iloc[-1]:.2f}"
)
display(table.loc[::3, ["loss", "validation_loss", "cosine", "repetition", "distinct_tokens"]].round(2))

# %% [markdown]
# ## What it writes
# The same two beginnings, continued by the model at several steps.

# %%
written = pd.DataFrame(index=run.checkpoints[::2], columns=["The king", "I will not"])
for step in written.index:
    model = run.model(step)
    texts = [task.tokenizer.decode(tokens) for tokens in continued(model, list(written), 8).lists()]
    written.loc[step] = [repr(text) for text in texts]
display(written)

# %% [markdown]
# ## What if it could not look back?
# A fork goes on from a step on the very batches that its parent saw. In this one all attention is 0 from the
# beginning: each token knows itself alone, so that the bigram entropy is the best that is in reach. Does it
# collapse, and for how long?

# %%
blind = finish(run.fork(at=0, interventions=[AblateHeads([0, 1, 2, 3])], out="runs/language-model/blind"))
runs = {"plain": run, "without attention": blind}
tables = {name: each.metrics for name, each in runs.items()}
display(curves_figure(tables, ["loss", "cosine", "repetition"], levels=task.levels))

# %%
for name, metrics in tables.items():
    measured = metrics.dropna(subset=["cosine"]).set_index("step")
    last, collapsed = measured.iloc[-1], measured.index[measured["cosine"] > 0.5]
    print(f"{name}: cosine above 0.5 until step {collapsed.max()}, peak {measured['cosine'].max():.2f};", end=" ")
    print(f"at the end held-out loss {last.validation_loss:.2f}, repetition {last.repetition:.2f}")

# %% [markdown]
# On Shakespeare the loss comes down nearly as far without attention, but what the model writes goes on repeating: one
# token that follows itself is enough to go in circles, where nothing earlier can be seen.
#
# The run is a series, too, for prompts of your own and a report of what was written: on the command line,
# `plateau series runs/language-model/plain --out series/plain`, and likewise for every model of the hub.
