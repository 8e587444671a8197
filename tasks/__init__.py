"""The tasks: distributions over token sequences, each with the attention that solves it."""

from plateau_interp.tasks.addition import MultiDigitAddition
from plateau_interp.tasks.completion import MatrixCompletion
from plateau_interp.tasks.concatenated import ConcatenatedWindows
from plateau_interp.tasks.copying import Copy, Repeat, Reverse
from plateau_interp.tasks.depth_two import DepthTwoNet
from plateau_interp.tasks.histogram import Histogram
from plateau_interp.tasks.mixture import Mixture
from plateau_interp.tasks.modular import ModularArithmetic
from plateau_interp.tasks.one_hot import OneHotArithmetic
from plateau_interp.tasks.permutation import Permutation
from plateau_interp.tasks.prefix_sum import PrefixSum
from plateau_interp.tasks.text import Text
from plateau_interp.tasks.window import (
    MovingWindowDifference,
    MovingWindowProduct,
    MovingWindowQuotient,
    MovingWindowSum,
)
from plateau_interp.tasks.written import WrittenCompletion

__all__ = [
    "ConcatenatedWindows",
    "Copy",
    "DepthTwoNet",
    "Histogram",
    "MatrixCompletion",
    "Mixture",
    "ModularArithmetic",
    "MovingWindowDifference",
    "MovingWindowProduct",
    "MovingWindowQuotient",
    "MovingWindowSum",
    "MultiDigitAddition",
    "OneHotArithmetic",
    "Permutation",
    "PrefixSum",
    "Repeat",
    "Reverse",
    "Text",
    "WrittenCompletion",
]
