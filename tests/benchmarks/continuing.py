"""A hundred prompts continued as one batch, against the published loop: time in one process, memory in one each.

The published loop is arXiv 2506.13688's for language models: prompt by prompt, the whole prefix again for each token,
the hidden states of all layers and positions kept until the prompt is done. ``python -m benchmarks.continuing SIDE``
prints what a side needs beyond its model, in GiB.
"""

import gc
import sys
from pathlib import Path

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedModel

from benchmarks.harness import Side
from plateau_interp.decoding import continued
from plateau_interp.models import pretrained_model

__all__ = ["SIDES", "batched", "language_model", "prompts", "published"]

N_NEW = 8


def language_model() -> PreTrainedModel:
    """Of pythia-70m's shape; the weights are random, so no hub is asked."""
    sizes = {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "intermediate_size": 2048}
    config = GPTNeoXConfig(vocab_size=50304, max_position_embeddings=2048, bos_token_id=0, eos_token_id=0, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPTNeoXForCausalLM(config).eval()


def prompts(n: int = 100) -> list[list[int]]:
    """As long as questions are: 10 to 40 tokens, none an end of text."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(10, 41, (n,), generator=generator).tolist()
    return [torch.randint(1, 50304, (length,), generator=generator).tolist() for length in lengths]


def batched(language: PreTrainedModel, n: int = 100) -> Side:
    """Ours: left-padded, with a key/value cache, the states of the new tokens."""
    model, texts = pretrained_model(language), prompts(n)
    return lambda: continued(model, texts, N_NEW, never=[0])


def published(language: PreTrainedModel, n: int = 100) -> Side:
    """Theirs, by transformers' own `generate`."""
    inputs = [torch.tensor([one]) for one in prompts(n)]
    options = {"max_new_tokens": N_NEW, "min_new_tokens": N_NEW, "do_sample": False, "use_cache": False}
    kept = {"output_hidden_states": True, "return_dict_in_generate": True, "pad_token_id": 0}

    def final_states(tokens: torch.Tensor) -> torch.Tensor:
        written = language.generate(tokens, attention_mask=torch.ones_like(tokens), **options, **kept)
        return torch.stack([layers[-1][0, -1] for layers in written.hidden_states])

    return lambda: [final_states(tokens) for tokens in inputs]


SIDES = {"batched": batched, "published": published}


def _resident(what: str) -> float:
    """GiB of this process: ``VmRSS`` now, ``VmHWM`` at most since it was reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 2**20


def main(name: str) -> None:
    language = language_model()
    side = SIDES[name](language)
    if name == "batched":
        del language
    gc.collect()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    side()
    print(f"{_resident('VmHWM') - before:.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
