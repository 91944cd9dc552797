"""Conversion of text to tokens and back: characters, bytes, or byte pairs merged into longer tokens."""

import hashlib
import json
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from genlab.errors import InputError
from genlab.machine.files import write_atomically

TOKENIZER = "tokenizer.json"  # file name in the folder of a run on text


class Tokenizer(ABC):
    """A vocabulary of pieces of UTF-8, and the way to cut a text into them; decoding gives the same text back.

    Attributes:
        name: name of the kind of tokenizer.
        pieces: bytes that each token stands for.
    """

    name: ClassVar[str]
    pieces: list[bytes]

    @property
    def vocab_size(self) -> int:
        """Number of tokens in the vocabulary."""
        return len(self.pieces)

    @property
    def facts(self) -> dict[str, object]:
        """Facts about the tokenizer that must accompany every result measured on its tokens."""
        digest = hashlib.sha256(repr(self._identity()).encode()).hexdigest()[:16]
        return {"tokenizer": self.name, "vocab_size": self.vocab_size, "tokenizer_sha256": digest}

    @cached_property
    def num_bytes(self) -> np.ndarray:
        """Number of bytes in each token, int64 ``(vocab_size,)``."""
        return np.array([len(piece) for piece in self.pieces])

    @cached_property
    def num_chars(self) -> np.ndarray:
        """Number of characters that begin in each token, int64 ``(vocab_size,)``; a token may be a part of one."""
        return np.array([sum(byte & 0xC0 != 0x80 for byte in piece) for piece in self.pieces])

    @property
    def dtype(self) -> type[np.integer]:
        """The smallest integer type that holds every token, among those that PyTorch can index on every device."""
        return np.uint8 if self.vocab_size <= 2**8 else np.int16 if self.vocab_size <= 2**15 else np.int32

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Convert a text to tokens, ``(T,)`` of :attr:`dtype`.

        Raises:
            InputError: if the vocabulary has no tokens for a part of the text.
        """

    def decode(self, tokens: Iterable[int]) -> str:
        """Convert tokens to text; bytes that form no complete character become U+FFFD."""
        return b"".join([self.pieces[token] for token in tokens]).decode("utf-8", errors="replace")

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as JSON, for :func:`load_tokenizer`."""
        write_atomically(Path(path), self.to_json())

    @abstractmethod
    def to_json(self) -> str:
        """Describe the tokenizer as JSON, for :func:`load_tokenizer`."""
        ...

    def _identity(self) -> object:
        """Give a value that differs between tokenizers that give different tokens."""
        return self.pieces


# Function that makes a tokenizer from a text and the part of it for training.
Recipe = Callable[[str, str], Tokenizer]


class Characters(Tokenizer):
    """Tokenizer with one token per character.

    Args:
        characters: characters of the vocabulary.

    Raises:
        InputError: if there are no characters.
    """

    name = "characters"

    def __init__(self, characters: str) -> None:
        if not characters:
            raise InputError("a tokenizer of no characters: give a text that has some")
        self.characters = "".join(sorted(set(characters)))
        self.pieces = [_utf8(character) for character in self.characters]
        self._codes = _codes(self.characters)

    @classmethod
    def of(cls, text: str, train: str) -> "Characters":
        """Make a tokenizer for all characters of the whole text.

        Args:
            text: the whole text.
            train: part of the text for training; not used.
        """
        return cls(text)

    def encode(self, text: str) -> np.ndarray:
        codes = _codes(text)
        tokens = self._codes.searchsorted(codes).clip(max=self.vocab_size - 1)
        if (unknown := self._codes[tokens] != codes).any():
            missing = list(dict.fromkeys(map(chr, codes[unknown].tolist())))
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise InputError(
                f"the vocabulary of {self.vocab_size} characters lacks {', '.join(map(repr, missing[:5]))}{more}: "
                "leave them out; a model with text/tokenizer=bytes reads any text"
            )
        return tokens.astype(self.dtype)

    def to_json(self) -> str:
        return json.dumps({"kind": self.name, "characters": self.characters})


class Bytes(Tokenizer):
    """Tokenizer with one token per byte of UTF-8."""

    name = "bytes"

    def __init__(self) -> None:
        self.pieces = [bytes([byte]) for byte in range(256)]

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(_utf8(text), dtype=np.uint8)

    def to_json(self) -> str:
        return json.dumps({"kind": self.name})


class BytePairs(Tokenizer):
    """Byte-level BPE tokenizer, as in GPT-2: bytes, and merges of frequent pairs of tokens (arXiv:1508.07909).

    Args:
        saved: content of a ``tokenizer.json`` in the format of Hugging Face's library.

    Raises:
        InputError: if it is another kind of tokenizer, or the library is not installed.
    """

    name = "byte_pairs"

    def __init__(self, saved: str) -> None:
        library = _library()
        try:
            described = json.loads(saved)
            model = described["model"]
            vocabulary: dict[str, int] = model["vocab"]
            model["dropout"] = None  # BPE dropout would give random tokens
            self._merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
            self._encoder = library.Tokenizer.from_str(json.dumps(described))
        except Exception as error:  # the library raises no narrower class
            raise InputError(f"not a byte-pair tokenizer ({_first_line(error)})") from error
        self._encoder.no_truncation()
        self._encoder.no_padding()
        self.pieces = _pieces(vocabulary, described.get("added_tokens") or [])
        if self.decode(self.encode(PROBE)) != PROBE:
            raise InputError("it changes texts: give a tokenizer of bytes that neither normalizes nor adds spaces")

    @classmethod
    def of(cls, text: str, train: str, vocab_size: int, cache_dir: str | None = None) -> "BytePairs":
        """Learn merges from the training text until there are ``vocab_size`` tokens, including the 256 bytes.

        Args:
            text: the whole text; not used.
            train: part of the text for training.
            vocab_size: number of tokens in the vocabulary.
            cache_dir: folder in which the tokenizer is cached for the next run on this text; ``None`` for no cache. A
                damaged file is replaced; if the cache cannot be written, the merges are learned again each time.

        Raises:
            InputError: if ``vocab_size`` is below 256, or the text has too few different pairs for it.
        """
        if vocab_size < 256:
            raise InputError(f"tokenizer.vocab_size={vocab_size}: at least 256, one token for each byte")
        library = _library()
        path = None
        if cache_dir is not None:
            key = hashlib.sha256(f"{library.__version__} {vocab_size} ".encode() + _utf8(train)).hexdigest()[:24]
            path = Path(cache_dir).expanduser() / f"bpe-{vocab_size}-{key}.json"
            if path.is_file():
                try:
                    return cls(path.read_text(encoding="utf-8"))
                except (InputError, OSError, ValueError) as error:
                    warnings.warn(f"{path} is damaged ({_first_line(error)}): the merges are made again", stacklevel=2)
        encoder = library.Tokenizer.from_str(json.dumps(_described({}, [])))
        encoder.train_from_iterator(
            _chunks(train),
            library.trainers.BpeTrainer(
                vocab_size=vocab_size, initial_alphabet=sorted(BYTE_SYMBOLS), show_progress=False
            ),
        )
        if (found := encoder.get_vocab_size()) < vocab_size:
            raise InputError(f"tokenizer.vocab_size={vocab_size}: the training text has {found}; set it to that")
        made = cls(encoder.to_str())
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.save(path)
            except OSError as error:
                warnings.warn(f"the merges could not be kept in {path.parent} ({error})", stacklevel=2)
        return made

    @classmethod
    def read(cls, path: str) -> "BytePairs":
        """Read a ``tokenizer.json``, or a folder with one, or a folder with GPT-2's ``vocab.json`` and ``merges.txt``.

        Raises:
            InputError: if a file is missing, damaged, or not a byte-level BPE tokenizer.
        """
        at = Path(path).expanduser()
        if at.is_dir() and (at / "tokenizer.json").is_file():
            at = at / "tokenizer.json"
        try:
            if not at.is_dir():
                return cls(at.read_text(encoding="utf-8"))
            vocabulary = json.loads((at / "vocab.json").read_text(encoding="utf-8"))
            lines = (at / "merges.txt").read_text(encoding="utf-8").splitlines()
            merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
            return cls(json.dumps(_described(vocabulary, merges)))
        except FileNotFoundError as error:
            raise InputError(
                f"there is no {error.filename}: put a byte-level tokenizer.json, or GPT-2's vocab.json and merges.txt "
                "(huggingface.co/openai-community/gpt2), there, or give their place as tokenizer.path=..."
            ) from error
        except InputError as error:
            raise InputError(f"{at}: {error}") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{at} cannot be read as a tokenizer ({_first_line(error)})") from error

    def encode(self, text: str) -> np.ndarray:
        _utf8(text)
        tokens = [self._encoder.encode(chunk, add_special_tokens=False).ids for chunk in _chunks(text)]
        return np.concatenate([np.array(part, dtype=self.dtype) for part in [[], *tokens]])

    def to_json(self) -> str:
        return self._encoder.to_str()

    def _identity(self) -> object:
        return self.pieces, self._merges


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a tokenizer that :meth:`Tokenizer.save` wrote, without running any code from the file.

    Raises:
        InputError: if the file is missing or damaged.
    """
    try:
        content = Path(path).read_text(encoding="utf-8")
        saved = json.loads(content)
        if "model" in saved:
            return BytePairs(content)
        return {"characters": lambda: Characters(saved["characters"]), "bytes": Bytes}[saved["kind"]]()
    except FileNotFoundError as error:
        raise InputError(f"there is no tokenizer {path}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: it is no tokenizer ({_first_line(error)})") from error


def vocabulary(tokenizer: Tokenizer | Recipe, read: Callable[[], str], stated: int | None = None) -> int:
    """Give the number of tokens in a vocabulary, without tokenizing any text.

    Args:
        tokenizer: tokenizer, or function that makes one from the text.
        read: function that reads the text; called only if the size depends on the text.
        stated: vocabulary size from the config, if the tokenizer is trained to a fixed size; ``None`` otherwise.
    """
    if isinstance(tokenizer, Tokenizer):
        return tokenizer.vocab_size
    if stated is not None:
        return stated
    text = read()
    return tokenizer(text, text).vocab_size


# -- bytes -------------------------------------------------------------------------------------------------------------


def _symbols() -> dict[str, int]:
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


# The byte for which each symbol stands in GPT-2's files.
BYTE_SYMBOLS = _symbols()
# Text that a tokenizer changes if it normalizes, lowercases or adds spaces.
PROBE = "Ab é\r\n  \t☃ 1ﬁ e\u0301\N{GRINNING FACE} "


def _pieces(vocabulary: dict[str, int], added: list[dict[str, Any]]) -> list[bytes]:
    """Give the bytes of each token, by token number; the files contain added tokens as plain text."""
    if missing := BYTE_SYMBOLS.keys() - vocabulary.keys():
        raise InputError(f"not a byte-level tokenizer: it lacks {len(missing)} of the 256 bytes")
    written = {token["id"]: token["content"] for token in added}
    pieces = [b""] * (1 + max(*vocabulary.values(), *written))
    for symbols, token in vocabulary.items():
        if token not in written:
            if not set(symbols) <= BYTE_SYMBOLS.keys():
                raise InputError(f"not a byte-level tokenizer: its token {symbols!r} does not consist of byte symbols")
            pieces[token] = bytes([BYTE_SYMBOLS[symbol] for symbol in symbols])
    for token, content in written.items():
        pieces[token] = content.encode()
    return pieces


def _described(vocabulary: dict[str, int], merges: list[list[str]]) -> dict[str, Any]:
    """Describe a tokenizer that splits words as GPT-2 does, in the format of ``tokenizer.json``."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    }


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise InputError(
            "byte pairs are merged by the library tokenizers, which is not installed: pip install 'genlab[text]'"
        ) from error
    return tokenizers


_WORD_ENDS = re.compile(r"(?<=\S)(?=\n)")


def _chunks(text: str, size: int = 2**20) -> Iterator[str]:
    """Cut a text into parts of a little more than ``size`` characters, at places that no token of GPT-2 crosses.

    The library needs hundreds of bytes of memory for each token of a text that it encodes in one call.
    """
    start = 0
    while start < len(text):
        cut = _WORD_ENDS.search(text, start + size)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def _codes(text: str) -> np.ndarray:
    """Give the code points of a text, uint32 ``(T,)``."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"a text with {text[error.start]!a}, which is half a character: correct the text") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
