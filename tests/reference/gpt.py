"""The paper's GPT once more, as plain as it can be written: the oracle of test_models_toy.py and of the benchmarks.

Written from the description of arXiv 2506.13688 and its published settings alone, not from `plateau_interp.models`:
pre-LayerNorm, learned positions, four square projections with biases, tanh-GELU, no bias in the head. LayerNorm and
GELU are spelled out as in minGPT, nothing is fused, no trick is used.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn


class LayerNorm(nn.Module):
    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=-1, keepdim=True)
        variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
        return self.gain * (x - mean) / torch.sqrt(variance + 1e-5) + self.bias


class GELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class SelfAttention(nn.Module):
    def __init__(self, d_model: int, n_heads: int, attention: str) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention = attention
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        batch, n, d_model = x.shape
        d_head = d_model // self.n_heads
        q = self.query(x).view(batch, n, self.n_heads, d_head).transpose(1, 2)
        k = self.key(x).view(batch, n, self.n_heads, d_head).transpose(1, 2)
        v = self.value(x).view(batch, n, self.n_heads, d_head).transpose(1, 2)
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(d_head)
        future = torch.ones(n, n, dtype=torch.bool).triu(1)
        if self.attention == "linear":
            attention_map = scores.masked_fill(future, 0.0)
        else:
            attention_map = torch.softmax(scores.masked_fill(future, -math.inf), dim=-1)
        mixed = (attention_map @ v).transpose(1, 2).contiguous().view(batch, n, d_model)
        return self.output(mixed), attention_map


class Block(nn.Module):
    def __init__(self, d_model: int, n_heads: int, d_mlp: int, attention: str) -> None:
        super().__init__()
        self.norm1 = LayerNorm(d_model)
        self.attention = SelfAttention(d_model, n_heads, attention)
        self.norm2 = LayerNorm(d_model)
        self.mlp = nn.Sequential(nn.Linear(d_model, d_mlp), GELU(), nn.Linear(d_mlp, d_model))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        attended, attention_map = self.attention(self.norm1(x))
        x = x + attended
        return x + self.mlp(self.norm2(x)), attention_map


class ReferenceGPT(nn.Module):
    def __init__(
        self, *, d_vocab: int, n_ctx: int, n_layers: int, n_heads: int, d_model: int, d_mlp: int, attention: str
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(d_vocab, d_model)
        self.position_embedding = nn.Embedding(n_ctx, d_model)
        self.blocks = nn.ModuleList(Block(d_model, n_heads, d_mlp, attention) for _ in range(n_layers))
        self.norm = LayerNorm(d_model)
        self.head = nn.Linear(d_model, d_vocab, bias=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits [batch, pos, d_vocab] and each layer's attention map [batch, head, query, key]."""
        positions = torch.arange(tokens.shape[1])
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        attention_maps = []
        for block in self.blocks:
            x, attention_map = block(x)
            attention_maps.append(attention_map)
        return self.head(self.norm(x)), attention_maps

    def loss(self, tokens: Tensor) -> Tensor:
        """Mean cross-entropy of every next token of whole sequences, random inputs included."""
        logits, _ = self(tokens[:, :-1])
        log_probabilities = logits.log_softmax(dim=-1)
        return -log_probabilities.gather(-1, tokens[:, 1:, None]).mean()


def copy_of(model: nn.Module) -> ReferenceGPT:
    """A ReferenceGPT with the weights of a toy model."""
    cfg = model.cfg
    reference = ReferenceGPT(
        d_vocab=cfg.d_vocab,
        n_ctx=cfg.n_ctx,
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        d_model=cfg.d_model,
        d_mlp=cfg.d_mlp,
        attention=model.attention,
    ).to(cfg.dtype)
    converted = as_reference({name: parameter.detach() for name, parameter in model.named_parameters()})
    reference.load_state_dict({name: tensor.clone() for name, tensor in converted.items()})
    return reference


def as_reference(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A toy model's parameters, or their gradients, under the reference's names and shapes.

    TransformerLens multiplies from the right (``x @ W``), `nn.Linear` from the left (``x @ W.T``).
    """
    converted = {
        "token_embedding.weight": tensors["embed.W_E"],
        "position_embedding.weight": tensors["pos_embed.W_pos"],
        "norm.gain": tensors["ln_final.w"],
        "norm.bias": tensors["ln_final.b"],
        "head.weight": tensors["unembed.W_U"].T,
    }
    n_layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))
    for layer in range(n_layers):
        block = f"blocks.{layer}"
        for norm in ("1", "2"):
            converted[f"{block}.norm{norm}.gain"] = tensors[f"{block}.ln{norm}.w"]
            converted[f"{block}.norm{norm}.bias"] = tensors[f"{block}.ln{norm}.b"]
        for letter, word in {"Q": "query", "K": "key", "V": "value"}.items():
            weight, bias = tensors[f"{block}.attn.W_{letter}"], tensors[f"{block}.attn.b_{letter}"]
            weight = rearrange(weight, "head d_model d_head -> (head d_head) d_model")
            converted[f"{block}.attention.{word}.weight"] = weight
            converted[f"{block}.attention.{word}.bias"] = rearrange(bias, "head d_head -> (head d_head)")
        output = rearrange(tensors[f"{block}.attn.W_O"], "head d_head d_model -> d_model (head d_head)")
        converted[f"{block}.attention.output.weight"] = output
        converted[f"{block}.attention.output.bias"] = tensors[f"{block}.attn.b_O"]
        for index, end in {"0": "in", "2": "out"}.items():
            converted[f"{block}.mlp.{index}.weight"] = tensors[f"{block}.mlp.W_{end}"].T
            converted[f"{block}.mlp.{index}.bias"] = tensors[f"{block}.mlp.b_{end}"]
    return converted
