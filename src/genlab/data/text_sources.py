"""Where texts come from: files, tiny-shakespeare, Python's own documentation. Nothing heavy is imported here."""

import hashlib
import http.client
import urllib.request
from importlib import import_module
from pathlib import Path
from typing import Protocol

from genlab.errors import InputError
from genlab.machine.files import write_atomically

SUFFIXES = {".txt", ".md"}


class TextSource(Protocol):
    def read(self) -> str:
        """The whole text; raises InputError where there is none."""
        ...


class TextFiles:
    """A file in UTF-8, or a folder's ``.txt`` and ``.md`` files in the order of their paths, a blank line between them.

    Args:
        path: of the file or the folder, which is searched recursively.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()

    def read(self) -> str:
        """Raises InputError where there is no file, or one that is no text."""
        if self.path.is_dir():
            files = sorted(p for p in self.path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not files:
                raise InputError(f"there are no texts in {self.path} ({', '.join(sorted(SUFFIXES))} are looked for)")
        elif self.path.exists():
            files = [self.path]
        else:
            raise InputError(f"there is no {self.path}: give a file or a folder of texts as dataset.source.path=...")
        text = "\n\n".join(map(read_text, files))
        if not text.strip():
            raise InputError(f"{self.path} is empty: give a file or a folder of texts as dataset.source.path=...")
        return text


def read_text(path: Path) -> str:
    """A file's text, without the mark of UTF-8 that some editors put before it.

    Raises:
        InputError: where it is not in UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    if (at := content.find(b"\0")) >= 0:
        raise InputError(f"{path} is no text: byte {at + 1} is NUL; give files in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not in UTF-8 (byte {error.start + 1}): convert it, as by iconv -f latin1 -t utf-8"
        ) from error


class Shakespeare:
    """tiny-shakespeare: 1,115,394 characters of the plays, downloaded once from char-rnn (Karpathy, 2015).

    Args:
        root: the folder that holds, or will hold, ``tinyshakespeare/input.txt``.
    """

    URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
    SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

    def __init__(self, root: str) -> None:
        self.path = Path(root).expanduser() / "tinyshakespeare" / "input.txt"

    def read(self) -> str:
        """Raises InputError where the file is damaged, or neither there nor to be downloaded."""
        if not self.path.is_file():
            self._download()
        content = self.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.SHA256:
            raise InputError(
                f"{self.path} is damaged (its sha256 is not tiny-shakespeare's): delete it, and it is downloaded again"
            )
        return content.decode()

    def _download(self) -> None:
        try:
            with urllib.request.urlopen(self.URL, timeout=20) as answer:
                content = answer.read()
            if hashlib.sha256(content).hexdigest() != self.SHA256:
                raise OSError("another file came")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, content)
        except (OSError, http.client.HTTPException) as error:
            raise InputError(
                f"tiny-shakespeare is not in {self.path.parent} and could not be downloaded from {self.URL}: put that "
                "file there as input.txt, or give the folder above tinyshakespeare/ as dataset.source.root=..."
            ) from error


class PythonDocs:
    """The topics of Python's ``help()``, half a million characters about the language that come with CPython.

    They differ a little from one version of Python to the next.
    """

    def read(self) -> str:
        """Raises InputError where Python was installed without them."""
        try:
            topics: dict[str, str] = import_module("pydoc_data.topics").topics
        except ImportError as error:
            raise InputError(
                "this Python was installed without pydoc_data.topics: give a text of your own as dataset=text "
                "dataset.source.path=FILE"
            ) from error
        return "\n\n".join(topics[name] for name in sorted(topics))
