"""Two tasks of text with vocabularies of one size and other pieces."""

from pathlib import Path

from plateau_interp.tasks import Text

WORDS = {"sea": "the salt sea swells and the ship sails on\n", "sky": "a cold moon climbs over our open fold\n"}


def two_texts(folder: Path, *, n: int = 8) -> tuple[Text, Text]:
    """``sea`` and ``sky``, which share the 256 bytes and no piece beyond them."""
    for name, words in WORDS.items():
        (folder / f"{name}.txt").write_text(words * 40, encoding="utf-8")
    sea, sky = (Text(str(folder / f"{name}.txt"), n=n, vocabulary=260) for name in WORDS)
    assert sea.d_vocab == sky.d_vocab == 260
    return sea, sky
