"""One recorded tensor as a file that says what it is, so that a changed or a swapped one is refused by name.

A safetensors file with the tensor ``activation``. Its metadata ``capture`` is a JSON object: the step, the file's name,
whose it is (``origin``), and a SHA-256 digest of these and of the tensor's type, shape and bytes. What earlier versions
wrote has no metadata and is taken as it is. A list of digests beside the files would be wrong after each kill between a
file and its line; here both are one file, written whole or not at all.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

__all__ = ["is_recording", "load_recording", "recording"]

TENSOR, KEY = "activation", "capture"
LONGEST = 1 << 20
"""Bytes of a header that is read to see whose a file is: ours have some hundred."""


def recording(activation: Tensor, *, step: int, name: str, origin: str) -> bytes:
    """The content of a file.

    Args:
        activation: to be read back with the same type, shape and bits.
        step: at which it was recorded, the name of the file's folder.
        name: the file's.
        origin: 32 hexadecimal digits that say whose it is.

    Example:
        >>> import torch
        >>> content = recording(torch.ones(2), step=3, name="hook_embed.safetensors", origin="0" * 32)
        >>> safetensors.torch.load(content)
        {'activation': tensor([1., 1.])}
    """
    tensors = {TENSOR: activation.detach().contiguous()}
    place = {"step": step, "name": name, "origin": origin}
    header, data = _parts(safetensors.torch.save(tensors))
    seal = {**place, "digest": _digest(place, header[TENSOR], data)}
    # One key: several would come in any order, and the same recording would not be the same bytes.
    return safetensors.torch.save(tensors, metadata={KEY: json.dumps(seal, sort_keys=True)})


def load_recording(file: Path, *, origins: Collection[str]) -> Tensor:
    """The tensor in a file.

    Args:
        file: in a folder named by the step.
        origins: whose recordings belong here; none if nobody knows.

    Raises:
        ValueError: if the file was damaged, or written for another place.
        OSError: if it cannot be read.
    """
    try:
        content = file.read_bytes()
        activation = safetensors.torch.load(content)[TENSOR]
        header, data = _parts(content)
        fault = _fault(header, data, step=file.parent.name, name=file.name, origins=origins)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        fault = str(error)
    if fault:
        raise ValueError(f"{file} is damaged: {fault}")
    return activation


def is_recording(file: Path) -> bool:
    """Whether a safetensors file is one of ours, by its header; a damaged one may be: loading refuses it."""
    try:
        with file.open("rb") as content:
            size = int.from_bytes(content.read(8), "little")
            header = json.loads(content.read(min(size, LONGEST)))
    except (OSError, ValueError, RecursionError):
        return True
    return not isinstance(header, dict) or TENSOR in header


def _fault(header: dict[str, Any], data: memoryview, *, step: str, name: str, origins: Collection[str]) -> str:
    """What is wrong with a file, nothing if it is whole or of the time before digests."""
    if "__metadata__" not in header:
        return ""
    seal = json.loads(header["__metadata__"][KEY])
    place = {key: seal[key] for key in ("step", "name", "origin")}
    if seal["digest"] != _digest(place, header[TENSOR], data):
        return "it was changed after it was written"
    if (str(place["step"]), place["name"]) != (step, name):
        return f"it was recorded at step {place['step']} as {place['name']}"
    if origins and place["origin"] not in origins:
        return "another run, or another model, recorded it"
    return ""


def _parts(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """Header and data of a safetensors file: a length of 8 bytes, so much JSON, the rest."""
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), memoryview(content)[start:]


def _digest(place: dict[str, Any], entry: dict[str, Any], data: memoryview) -> str:
    """Of where a tensor belongs, its type and shape, and its bytes."""
    found = hashlib.sha256(json.dumps([place, entry], sort_keys=True).encode())
    found.update(data)
    return found.hexdigest()
