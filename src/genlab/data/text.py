"""The DataModule of text: contiguous splits, cut into windows of tokens so that each token is predicted once."""

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
from genlab.data.folders import say
from genlab.data.module import DataModule
from genlab.data.text_sources import TextFiles, TextSource
from genlab.data.tokenizers import TOKENIZER, Recipe, Tokenizer
from genlab.distributions.noise import mix
from genlab.errors import InputError
from genlab.machine.files import write_atomically
from genlab.modalities.text import Text

FORMAT = 1  # version of cached tokens; increase it if the same text must be tokenized anew


class TextDataModule(DataModule):
    """Data set of text: each example is a window of L tokens and the token before it, int64 ``(B, 1 + L)``.

    A model predicts the L tokens of a window given the token before them. Adjacent windows therefore predict each
    token of a split exactly once (except the first). A remainder shorter than L is dropped. All training windows are
    shifted by a common offset in [0, L) that changes with the epoch; validation and test windows are never shifted.

    Args:
        source: source of the text; its first part is for training, the next for validation, the last for test.
        name: name of the data set.
        shape: shape ``(L,)``, where L is the number of predicted tokens in a window.
        tokenizer: tokenizer, or function that makes one from the text.
        vocab_size: number of tokens in the vocabulary, checked against the tokenizer; ``None`` for no check.
        val_size: fraction of the characters of the text for validation.
        test_size: fraction for test; if 0, the validation text is also the test text.
        cache_dir: folder in which tokens are cached and from which they are memory-mapped; ``None`` to keep them in
            memory only.
        num_classes: ignored, because a text has no classes; configs of earlier versions set it to the vocabulary size.
        kind: name of the modality, for the config.
        levels: always ``None``, because a text has no levels; for the config.
        **options: arguments of :class:`~genlab.data.module.DataModule`; sizes are numbers of windows.

    Raises:
        InputError: if ``val_size`` and ``test_size`` leave no part of the text for a split.
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
        """The tokenizer; the text is loaded first, because the tokenizer may have to be made from it."""
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
            }
            if self.test_size == 0:
                protocol["test"] = "the validation text"
        return protocol

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        if isinstance(self._text.source, TextFiles):
            say(self._text.source.found)

    def sha256(self, split: Split) -> str:
        """Give the SHA-256 of the text of a split."""
        self.setup()
        return self._text.sha256[split]

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
        """Give the function from an epoch to the offset of its windows."""
        if split != "train" or not augment:
            return lambda epoch: 0
        return lambda epoch: mix(self.seed, epoch, 1) % self.shape[0]

    def per_example(self, split: Split) -> dict[str, float]:
        self.setup()
        if split not in self._per_example:
            counts = torch.zeros(self.tokenizer.vocab_size, dtype=torch.long)
            for x, _ in self.batches(split, augment=False):
                counts += x[:, 1:].flatten().bincount(minlength=len(counts))  # the predicted tokens
            num = len(self.splits[split])
            self._per_example[split] = {
                "nats_per_token": float(self.shape[0]),
                "bits_per_char": math.log(2) * int(counts.numpy() @ self.tokenizer.num_chars) / num,
                "bits_per_byte": math.log(2) * int(counts.numpy() @ self.tokenizer.num_bytes) / num,
            }
        return self._per_example[split]

    def text(self, tokens: Tensor) -> list[str]:
        """Decode tokens ``(N, T)`` to N texts."""
        return [self.tokenizer.decode(row) for row in tokens.tolist()]


@dataclass(frozen=True)
class Windows(Examples):
    """Overlapping windows of a text; each token is in memory only once.

    Attributes:
        images: windows ``(N, span)``, a view of ``tokens``.
        labels: zeros ``(N,)``, because a text has no classes.
        tokens: tokens of the text, ``(T,)``.
        step: number of tokens from the start of a window to the start of the next.
    """

    tokens: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    step: int = 1

    @classmethod
    def of(cls, tokens: Tensor, span: int, step: int) -> "Windows":
        """Cut tokens ``(T,)`` into windows of ``span`` tokens that start every ``step`` tokens."""
        windows = tokens.unfold(0, span, step)
        labels = torch.zeros(len(windows), dtype=torch.long, device=tokens.device)
        return cls(windows, labels, tokens=tokens, step=step)

    def to(self, device: torch.device) -> "Windows":
        assert self.images is not None
        return Windows.of(self.tokens.to(device), self.images.shape[1], self.step)


class TokenizedText:
    """Source of a :class:`TextDataModule`: the splits of a text as windows of tokens.

    A stored window of validation or test is the token before it and L more. A stored window of training has 2 L
    tokens, so that it can be shifted by up to L - 1.

    Args:
        source: source of the text.
        name: name of the data set, for messages and cached files.
        tokenizer: tokenizer, or function that makes one from the text.
        length: number L of predicted tokens in a window.
        val_size: fraction of the characters of the text for validation.
        test_size: fraction for test; if 0, the validation text is also the test text.
        cache_dir: folder in which tokens are cached; ``None`` for no cache.

    Attributes:
        tokenizer: the tokenizer; ``None`` until the text is loaded, unless one was given.
        left_out: number of tokens at the end of each split that are in no window.
        sha256: SHA-256 of the text of each split.
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
        self.sha256: dict[Split, str] = {}

    def load(self) -> dict[Split, Examples]:
        """Read the text, split it and tokenize it.

        Raises:
            InputError: if a part of the text does not fill a window.
        """
        text = self.source.read()
        if not isinstance(text, str):
            raise InputError(f"dataset {self.name}: its source's read() gives {type(text).__name__}; give a str")
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
        parts.setdefault("test", parts["val"])
        self.sha256 = {split: hashlib.sha256(part.encode()).hexdigest() for split, part in parts.items()}
        return splits

    def _tokens(self, split: Split, text: str) -> Tensor:
        """Give the tokens of a text, ``(T,)``, memory-mapped from the cache, or encoded and cached.

        The name of the cached file contains a hash of the text and the tokenizer, and the file is written atomically.
        A damaged file is replaced. If the cache cannot be written, the tokens are kept in memory.
        """
        assert self.tokenizer is not None
        if self.cache_dir is None:
            return torch.from_numpy(self._encoded(text).copy())
        made_of = {"format": FORMAT, "text": hashlib.sha256(text.encode()).hexdigest(), **self.tokenizer.facts}
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:24]
        path = Path(self.cache_dir).expanduser() / f"{self.name}-{split}-{key}.npy"
        if (kept := _mapped(path)) is not None:
            return kept
        tokens = self._encoded(text)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            np.save(content, tokens)
            write_atomically(path, content.getvalue())
        except OSError as error:
            warnings.warn(f"tokens could not be kept in {path.parent} ({error})", stacklevel=2)
        kept = _mapped(path)
        return torch.from_numpy(tokens.copy()) if kept is None else kept

    def _encoded(self, text: str) -> np.ndarray:
        """Encode a text, and check that its tokens are of the vocabulary."""
        assert self.tokenizer is not None
        tokens, size = self.tokenizer.encode(text), self.tokenizer.vocab_size
        if not isinstance(tokens, np.ndarray) or tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise InputError(f"dataset {self.name}: its tokenizer's encode() must give an array (T,) of integers")
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < size:
            raise InputError(
                f"dataset {self.name}: its tokenizer gives tokens from {int(tokens.min())} to {int(tokens.max())}, and "
                f"its vocabulary has {size}, from 0 to {size - 1}"
            )
        return tokens


def _mapped(path: Path) -> Tensor | None:
    """Memory-map cached tokens, ``(T,)``; give ``None`` if the file is missing or damaged."""
    if not path.is_file():
        return None
    try:
        # Copy-on-write ("c"), although nothing writes to it: PyTorch warns about read-only arrays.
        return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        warnings.warn(f"{path} is damaged ({error}): the text is tokenized again", stacklevel=2)
        return None


def contiguous(text: str, val_size: float, test_size: float) -> dict[Split, str]:
    """Split a text into train, val and test, in this order, by fractions of its characters.

    Args:
        text: the whole text.
        val_size: fraction for validation.
        test_size: fraction for test; if 0, there is no test part.
    """
    val, test = (int((1 - held_out) * len(text)) for held_out in (val_size + test_size, test_size))
    parts: dict[Split, str] = {"train": text[:val], "val": text[val:test], "test": text[test:]}
    return parts if test_size else {"train": parts["train"], "val": text[val:]}
