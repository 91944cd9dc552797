"""The DataModule of text: contiguous parts of it, as windows of tokens that are predicted each once."""

import hashlib
import io
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from genlab.data.batches import Transform
from genlab.data.examples import Examples, Split
from genlab.data.module import DataModule
from genlab.data.text_sources import TextSource
from genlab.data.tokenizers import TOKENIZER, Recipe, Tokenizer
from genlab.distributions.noise import mix
from genlab.errors import InputError
from genlab.machine.files import write_atomically
from genlab.modalities.text import Text

FORMAT = 1  # of the kept tokens; another one where the same text must be tokenized anew


class TextDataModule(DataModule):
    """Windows of L tokens, each after the token before it: int64 ``(B, 1 + L)``.

    A model predicts a window's L tokens given the token before them, so that windows side by side predict every token
    of a split but its first once; up to L - 1 at the end, which fill no window, are left out. The windows of training
    are shifted together by an offset in [0, L) that changes with the epoch; those of validation and test never are.

    Args:
        source: of the text. Its first part is trained on, validation follows, and test is last.
        name: of the data set.
        shape: ``(L,)``, the tokens of a window that are predicted.
        tokenizer: or what makes one.
        vocab_size: as stated; checked against the tokenizer.
        val_size: a share of the text's characters.
        test_size: likewise; with 0 there is no third part, and test is the validation text.
        cache_dir: where tokens are kept and mapped into memory from; ``None`` for in memory alone.
        num_classes: not used, for a text has no classes; configs of earlier versions state the vocabulary's size.
        kind: name of the modality, for the config; a text has no levels.
        **options: of :class:`~genlab.data.module.DataModule`; sizes are numbers of windows.
    """

    def __init__(
        self,
        source: TextSource,
        name: str,
        shape: tuple[int],
        tokenizer: Tokenizer | Recipe,
        vocab_size: int | None = None,
        val_size: float = 0.1,
        test_size: float = 0.1,
        cache_dir: str | None = None,
        num_classes: int | None = None,
        kind: Literal["tokens"] = "tokens",
        levels: None = None,
        **options: Any,
    ) -> None:
        self.modality.check(shape)
        if not (0 < val_size < 1 and 0 <= test_size < 1 and val_size + test_size < 1):
            raise InputError(
                f"dataset {name}: val_size={val_size}, test_size={test_size}; they are shares of the text, above 0 "
                "(or test_size=0, to test on the validation text) and below 1 together"
            )
        self._text = TokenizedText(source, name, tokenizer, shape[0], val_size, test_size, cache_dir)
        super().__init__(
            self._text,
            name,
            shape,
            val_size=val_size,
            test_size=test_size,
            levels=None,
            **options,
        )
        self.vocab_size = vocab_size
        self._per_example: dict[Split, dict[str, float]] = {}

    @property
    def modality(self) -> Text:
        return Text(self.text)

    @property
    def tokenizer(self) -> Tokenizer:
        """Made from the text where it has to be."""
        self.setup()
        assert self._text.tokenizer is not None
        return self._text.tokenizer

    @property
    def protocol(self) -> dict[str, object]:
        protocol = super().protocol
        if self.splits:
            protocol |= {
                **self.tokenizer.facts,
                "windows": f"of {self.shape[0]} tokens, side by side",
                "left_out": {split: self._text.left_out[split] for split in ("val", "test")},  # tokens at the end
                "test_sha256": self._text.test_sha256,  # every text has the same name
            }
            if self.test_size == 0:
                protocol["test"] = "the validation text"
        return protocol

    def keep(self, folder: Path) -> None:
        self.tokenizer.save(folder / TOKENIZER)

    def check(self, split: Split, examples: Examples) -> None:
        assert self._text.tokenizer is not None
        found = self._text.tokenizer.vocab_size
        if self.vocab_size is not None and self.vocab_size != found:
            raise InputError(
                f"dataset {self.name}: vocab_size={self.vocab_size} is stated, the tokenizer has {found} tokens"
            )

    def transform(self, split: Split, augment: bool = True) -> Transform:
        span, offset = 1 + self.shape[0], self._offset(split, augment)
        return lambda tokens, index, epoch: tokens[:, offset(epoch) : offset(epoch) + span].long()

    def _offset(self, split: Split, augment: bool) -> Callable[[int], int]:
        """Of an epoch's windows."""
        if split != "train" or not augment:
            return lambda epoch: 0
        return lambda epoch: mix(self.seed, epoch, 1) % self.shape[0]

    def per_example(self, split: Split) -> dict[str, float]:
        self.setup()
        if split not in self._per_example:
            counts = torch.zeros(self.tokenizer.vocab_size, dtype=torch.long)
            for x, _ in self.batches(split, augment=False):
                counts += x[:, 1:].flatten().bincount(minlength=len(counts))  # what is predicted
            num = len(self.splits[split])
            self._per_example[split] = {
                "nats_per_token": float(self.shape[0]),
                "bits_per_char": math.log(2) * int(counts.numpy() @ self.tokenizer.num_chars) / num,
                "bits_per_byte": math.log(2) * int(counts.numpy() @ self.tokenizer.num_bytes) / num,
            }
        return self._per_example[split]

    def text(self, tokens: Tensor) -> list[str]:
        """What ``(N, T)`` tokens say."""
        return [self.tokenizer.decode(row) for row in tokens.tolist()]


@dataclass(frozen=True)
class Windows(Examples):
    """Windows of a text, of which only the text is in memory.

    Attributes:
        images: ``(N, span)``, a view of the tokens, in which windows overlap.
        labels: zeros ``(N,)``, for a text has no classes.
        tokens: the text, ``(T,)``.
        step: from one window's first token to the next one's.
    """

    tokens: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    step: int = 1

    @classmethod
    def of(cls, tokens: Tensor, span: int, step: int) -> "Windows":
        windows = tokens.unfold(0, span, step)
        labels = torch.zeros(len(windows), dtype=torch.long, device=tokens.device)
        return cls(windows, labels, tokens=tokens, step=step)

    def to(self, device: torch.device) -> "Windows":
        assert self.images is not None
        return Windows.of(self.tokens.to(device), self.images.shape[1], self.step)


class TokenizedText:
    """The source of a :class:`TextDataModule`, whose arguments these are.

    A window of validation or test is the token before it and L more. One of training is 2 L tokens, so that it can be
    shifted by up to L - 1.

    Attributes:
        tokenizer: ``None`` until the text is loaded, unless one was given.
        left_out: tokens at the end of each split that are in no window.
        test_sha256: of the test text.
    """

    def __init__(
        self,
        source: TextSource,
        name: str,
        tokenizer: Tokenizer | Recipe,
        length: int,
        val_size: float,
        test_size: float,
        cache_dir: str | None,
    ) -> None:
        self.source, self.name, self.length = source, name, length
        self.val_size, self.test_size, self.cache_dir = val_size, test_size, cache_dir
        self.tokenizer = tokenizer if isinstance(tokenizer, Tokenizer) else None
        self._make = None if isinstance(tokenizer, Tokenizer) else tokenizer
        self.left_out: dict[Split, int] = {}
        self.test_sha256 = ""

    def load(self) -> dict[Split, Examples]:
        """Raises InputError where a part of the text does not fill a window."""
        text = self.source.read()
        parts = contiguous(text, self.val_size, self.test_size)
        if self._make is not None:
            self.tokenizer = self._make(text, parts["train"])
        splits: dict[Split, Examples] = {}
        for split, part in parts.items():
            tokens = self._tokens(split, part)
            span = 2 * self.length if split == "train" else self.length + 1
            if len(tokens) < span:
                raise InputError(
                    f"dataset {self.name}: the {split} text has {len(tokens)} tokens, and {span} are the least for "
                    f"windows of {self.length}; give a longer text, or lower dataset.shape=[{self.length}]"
                )
            splits[split] = Windows.of(tokens, span, self.length)
            self.left_out[split] = (len(tokens) - 1) % self.length
        if "test" not in splits:
            splits["test"], self.left_out["test"] = splits["val"], self.left_out["val"]
        self.test_sha256 = hashlib.sha256(parts.get("test", parts["val"]).encode()).hexdigest()
        return splits

    def _tokens(self, split: Split, text: str) -> Tensor:
        """``(T,)``, mapped from the cache, or encoded and put there.

        The file's name holds a hash of the text and the tokenizer, and it appears whole or not at all. A damaged file
        is made anew, and a cache that cannot be written to costs memory, not the result.
        """
        assert self.tokenizer is not None
        if self.cache_dir is None:
            return torch.from_numpy(self.tokenizer.encode(text).copy())
        made_of = {"format": FORMAT, "text": hashlib.sha256(text.encode()).hexdigest(), **self.tokenizer.facts}
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:24]
        path = Path(self.cache_dir).expanduser() / f"{self.name}-{split}-{key}.npy"
        if (kept := _mapped(path)) is not None:
            return kept
        tokens = self.tokenizer.encode(text)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            np.save(content, tokens)
            write_atomically(path, content.getvalue())
        except OSError as error:
            warnings.warn(f"tokens could not be kept in {path.parent} ({error})", stacklevel=2)
        kept = _mapped(path)
        return torch.from_numpy(tokens.copy()) if kept is None else kept


def _mapped(path: Path) -> Tensor | None:
    """Kept tokens, ``(T,)``, read as they are asked for; ``None`` where there are none."""
    if not path.is_file():
        return None
    try:
        # Copied where written to, which nobody does: PyTorch knows no arrays that are only read.
        return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        warnings.warn(f"{path} is damaged ({error}): the text is tokenized again", stacklevel=2)
        return None


def contiguous(text: str, val_size: float, test_size: float) -> dict[Split, str]:
    """Train, then val, then test, by shares of the characters; no test where its share is 0."""
    val, test = (int((1 - held_out) * len(text)) for held_out in (val_size + test_size, test_size))
    parts: dict[Split, str] = {"train": text[:val], "val": text[val:test], "test": text[test:]}
    return parts if test_size else {"train": parts["train"], "val": text[val:]}
