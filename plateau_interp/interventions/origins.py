"""What an intervention takes from, where that lies on disk: it may change there while a run takes from it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from plateau_interp.files import digest

__all__ = ["Origin", "check_origins", "origins_digest"]

NAME = "origin"


@dataclass(frozen=True)
class Origin:
    """What an intervention takes from, by its digest; a run that is resumed or forked refuses another.

    Args:
        digest: SHA-256, in hexadecimal; None for what cannot change, such as a model in memory.

    Example:
        >>> one, other = Origin("00" * 32), Origin("01" * 32)
        >>> list(one.state()), one.known({**one.state(), "rank": torch.tensor(0)}, "Mine()")
        (['origin'], {'rank': tensor(0)})
        >>> other.known({}, "Mine()")  # kept by an earlier version, which says nothing of it
        {}
    """

    digest: str | None = None

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint remembers of it."""
        return {} if self.digest is None else {NAME: torch.tensor([*bytes.fromhex(self.digest)], dtype=torch.uint8)}

    def known(self, state: Mapping[str, Tensor], intervention: object) -> dict[str, Tensor]:
        """What else a checkpoint remembers, if this is what it was. An earlier version's says nothing of that.

        Args:
            state: what was remembered.
            intervention: who takes from it, for the message.

        Raises:
            ValueError: if it is another.
        """
        mine = self.state()
        check_origins(mine, state, intervention)
        return {name: value for name, value in state.items() if not (mine and name == NAME)}


def check_origins(now: Mapping[str, Tensor], state: Mapping[str, Tensor], intervention: object) -> None:
    """Refuse an intervention that takes from something else than it did.

    Args:
        now: what a checkpoint would remember of it, wrapped or not.
        state: what one does remember.
        intervention: who it is, for the message.

    Raises:
        ValueError: if an origin of both is not the same.
    """
    for name, mine in now.items():
        is_origin = name.rpartition(".")[2] == NAME
        if is_origin and name in state and not torch.equal(state[name].cpu(), mine.cpu()):
            raise ValueError(
                f"what {intervention!r} takes from has changed since the run took from it: put its weights back, and "
                "name the step, as in 'RUN@STEP', of a run that is trained on"
            )


def origins_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of all that interventions take from, by what they remember; empty if they take from nothing on disk.

    Example:
        >>> origins_digest({"0.rank": torch.tensor(0)})
        ''
    """
    origins = {name: bytes(value.tolist()).hex() for name, value in state.items() if name.rpartition(".")[2] == NAME}
    return digest(str(sorted(origins.items())).encode()) if origins else ""
