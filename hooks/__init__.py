"""The interventions: small immutable values that edit activations, parameters or gradients.

Give them to `plateau_interp.intervening`, to `plateau_interp.train` or to a recipe; wrap them in `During` or `When` to
say at which training steps they act. To write one of your own, see `plateau_interp.editing`, and
`plateau_interp.Attached` for what that does not cover.

* Of attention: `targeted_attention` biases, fixes and masks it at target positions, `patched_attention` brings in that
  of others, `ablated_heads` takes heads away. What they share: `targets` says which entries are meant, `targeted_edit`
  is the base of edits there, `attention_maps` checks maps that users give, `named_maps` has those that go by a name,
  `readable` knows which keys a row may read.
* Of activations at any hook point: `activations`; of the logits, and so of the loss: `logits`; of the loss, by what is
  added to it: `penalties` of weights, `cosine_penalty` of states. Of gradients: `gradients`. Of parameters: `weights`,
  and `updates` acts after each update; `plateau_interp.models.parameters` says which are meant. `villani` and
  `capacity` change nothing and measure.
* `backward` edits gradients as they come; `sources` is where patches and transplants come from; `schedule` says at
  which training steps something acts.
"""

from plateau_interp.analysis.patching import patch_by_head, patch_by_position
from plateau_interp.hooks.ablated_heads import AblateHeads
from plateau_interp.hooks.activations import AblateActivation, AddDirection, PatchActivation, ScaleActivation
from plateau_interp.hooks.capacity import QueryKeyCapacity
from plateau_interp.hooks.cosine_penalty import CosinePenalty
from plateau_interp.hooks.gradients import AmplifySlowGradient, ClipGradient, OrthogonalGradient, ScaleGradient
from plateau_interp.hooks.logits import OutputTemperature, StableMax
from plateau_interp.hooks.patched_attention import MixAttention, PatchAttention
from plateau_interp.hooks.penalties import CapacityRegulariser, FrobeniusPenalty
from plateau_interp.hooks.schedule import During, When
from plateau_interp.hooks.targeted_attention import BiasAttention, FixAttention, MaskAttention
from plateau_interp.hooks.updates import ClipRows, KeepNorm
from plateau_interp.hooks.villani import VillaniDiagnostic
from plateau_interp.hooks.weights import FreezeWeights, TransplantWeights, transplant_weights_

__all__ = [
    "AblateActivation",
    "AblateHeads",
    "AddDirection",
    "AmplifySlowGradient",
    "BiasAttention",
    "CapacityRegulariser",
    "ClipGradient",
    "ClipRows",
    "CosinePenalty",
    "During",
    "FixAttention",
    "FreezeWeights",
    "FrobeniusPenalty",
    "KeepNorm",
    "MaskAttention",
    "MixAttention",
    "OrthogonalGradient",
    "OutputTemperature",
    "PatchActivation",
    "PatchAttention",
    "QueryKeyCapacity",
    "ScaleActivation",
    "ScaleGradient",
    "StableMax",
    "TransplantWeights",
    "VillaniDiagnostic",
    "When",
    "patch_by_head",
    "patch_by_position",
    "transplant_weights_",
]
