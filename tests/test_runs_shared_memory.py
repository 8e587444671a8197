"""plateau_interp.runs.shared_memory: which tensors have memory in common, and which only lie beside each other."""

import pytest
import torch
from torch import Tensor

from plateau_interp.runs.shared_memory import sharing

FLAT = torch.arange(12.0)
LONE = torch.ones(3)


@pytest.mark.parametrize(
    ("kept", "others", "found"),
    [
        ([FLAT, FLAT[3:5]], [], ("kept 1", "kept 0")),
        ([FLAT[3:5], FLAT], [], ("kept 1", "kept 0")),
        ([FLAT[:5], FLAT[5:9], FLAT[8:]], [], ("kept 2", "kept 1")),
        ([FLAT, FLAT.detach()], [], ("kept 1", "kept 0")),
        ([FLAT.view(3, 4)], [FLAT], ("kept 0", "other 0")),
        ([FLAT], [LONE, FLAT], ("kept 0", "other 1")),
        ([FLAT.view(3, 4)[:, 1], FLAT.view(3, 4)[1]], [], ("kept 1", "kept 0")),
        ([FLAT[4:].view(torch.int16), FLAT[11:]], [], ("kept 1", "kept 0")),
        ([FLAT[4:5].view(torch.int16)[1:], FLAT[4:]], [], ("kept 1", "kept 0")),
        ([FLAT[:1].expand(4), FLAT[:2]], [], ("kept 1", "kept 0")),
        ([FLAT[:5], FLAT[5:]], [], None),
        ([FLAT[::2], FLAT[1::2]], [], None),
        ([FLAT.view(3, 4)[:, 1], FLAT.view(3, 4).T[2]], [], None),
        ([FLAT[:2].view(torch.int16)[:2], FLAT[1:]], [], None),
        ([FLAT[:1].expand(4)], [FLAT[1:]], None),
        ([FLAT.view(3, 4).T], [], None),
        ([torch.empty(0), torch.empty(0), FLAT[:0], FLAT], [torch.empty(0)], None),
        ([LONE, LONE.clone()], [FLAT, FLAT], None),
        ([LONE], [FLAT[:3].to_sparse(), LONE.to("meta")], None),
    ],
)
def test_tensors_share_what_both_reach(kept: list[Tensor], others: list[Tensor], found: tuple[str, str] | None) -> None:
    named = [(f"kept {number}", tensor) for number, tensor in enumerate(kept)]
    assert sharing(named, [(f"other {number}", tensor) for number, tensor in enumerate(others)]) == found
