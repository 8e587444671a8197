"""Direct attribution: what each part of a model adds to a logit difference by itself, as an exact sum."""

from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from plateau_interp.analysis.circuits import check_comparison
from plateau_interp.analysis.edges import Metric, attention_biases, cutting, one_number
from plateau_interp.types import HookedModel

__all__ = ["DirectAttribution", "direct_attribution"]

BIASES = "biases"
LINEAR = 1e-3
"""How far the parts' sum may be from the metric, relative to the largest part, in float32; rounding stays far below."""


@dataclass(frozen=True, eq=False)
class DirectAttribution:
    """A metric as a sum over what writes to the residual stream.

    Attributes:
        parts: what each writer adds, in the order of the forward, and at last all biases together.
        metric: of the model.
        rest: the metric minus the sum of the parts: rounding alone.
    """

    parts: pd.Series
    metric: float
    rest: float

    def __repr__(self) -> str:
        return f"DirectAttribution of {self.metric:.4g} to {len(self.parts)} parts, {self.rest:.1g} left over"


def direct_attribution(
    model: HookedModel,
    tokens: Int[Tensor, "batch pos"],
    metric: Metric,
    *,
    attention_mask: Shaped[Tensor, "batch pos"] | None = None,
) -> DirectAttribution:
    """Split a metric that is linear in the logits into what embeddings, heads, MLPs and biases add to it.

    The last norm divides by what it divides by in this forward, so the logits are linear in the residual stream, which
    is a sum. Only the direct path counts: what a head adds to the input of a later one is the later one's.

    Args:
        model: any HookedTransformer whose residual stream is the sum of its parts.
        tokens: what it reads.
        metric: from logits to a number, linear but for a constant: a mean logit, or a difference of logits.
        attention_mask: 1 for tokens, 0 for padding.

    Raises:
        ValueError: if the parts do not add up, as for a metric that is not linear or logits that are capped, or for
            what `plateau_interp.analysis.circuits.circuit` refuses.

    Source: the logit lens of each part, as in Wang et al. 2022 (arXiv 2211.00593, section 3).

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> tokens = task.sample(4, generator=torch.Generator().manual_seed(0)).inputs
        >>> found = direct_attribution(toy_model(task, d_model=16), tokens, lambda logits: logits[:, -1, 3].mean())
        >>> list(found.parts.index), abs(found.rest) < 1e-6
        (['embed', 'pos_embed', 'L0H0', 'MLP0', 'biases'], True)
    """
    check_comparison(model, clean=tokens, corrupted=None, metric=metric, attention_mask=attention_mask)
    with cutting(
        model,
        clean=tokens,
        corrupted=None,
        metric=metric,
        ablation="zero",
        freeze_norms=True,
        attention_mask=attention_mask,
    ) as cut:
        end = cut.graph.readings[-1].point
        bias = attention_biases(model)
        stream = (cut.written.sum(dim=0) + bias).requires_grad_()

        def metric_at(stream: Tensor) -> Tensor:
            with model.hooks(fwd_hooks=[*cut.frozen(), (end, lambda act, *, hook: stream.to(act.dtype))]):
                return one_number(metric(model(tokens, **cut.options)))

        with torch.enable_grad():
            value = metric_at(stream)
        if not value.requires_grad:
            raise ValueError(f"the metric cannot be differentiated: {metric!r}")
        (slope,) = torch.autograd.grad(value, [stream])
        total = value.item()
        with torch.no_grad():
            constant = metric_at(torch.zeros_like(stream))
            parts = (cut.written * slope).sum(dim=(1, 2, 3), dtype=torch.float64)
            biases = (slope * bias).sum(dtype=torch.float64) + constant
    found = pd.Series([*parts.tolist(), float(biases)], index=[*cut.graph.writers, BIASES], name="metric")
    rest = total - float(found.sum())
    if abs(rest) > LINEAR * max(float(found.abs().max()), abs(total)):
        raise ValueError(
            f"the parts add up to {found.sum():.6g}, the metric is {total:.6g}: the metric must be linear in "
            "the logits, and these must not be capped"
        )
    return DirectAttribution(found, total, rest)
