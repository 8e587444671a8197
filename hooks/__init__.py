"""The interventions: small immutable values that edit activations, parameters or gradients.

Give them to `plateau_interp.intervening`, to `plateau_interp.train` or to a recipe; wrap them in `During` or `When` to
say at which training steps they act. To write one of your own, see `plateau_interp.editing`, and
`plateau_interp.Attached` for what that does not cover.
"""

from plateau_interp.analysis.patching import patch_by_head, patch_by_position
from plateau_interp.hooks.ablated_heads import AblateHeads
from plateau_interp.hooks.activations import AblateActivation, AddDirection, PatchActivation, ScaleActivation
from plateau_interp.hooks.gradients import AmplifySlowGradient, ClipGradient, ScaleGradient
from plateau_interp.hooks.patched_attention import MixAttention, PatchAttention
from plateau_interp.hooks.schedule import During, When
from plateau_interp.hooks.targeted_attention import BiasAttention, FixAttention, MaskAttention
from plateau_interp.hooks.weights import FreezeWeights, TransplantWeights, transplant_weights_

__all__ = [
    "AblateActivation",
    "AblateHeads",
    "AddDirection",
    "AmplifySlowGradient",
    "BiasAttention",
    "ClipGradient",
    "During",
    "FixAttention",
    "FreezeWeights",
    "MaskAttention",
    "MixAttention",
    "PatchActivation",
    "PatchAttention",
    "ScaleActivation",
    "ScaleGradient",
    "TransplantWeights",
    "When",
    "patch_by_head",
    "patch_by_position",
    "transplant_weights_",
]
