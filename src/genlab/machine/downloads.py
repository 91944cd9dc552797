"""Downloading of files whose content is known beforehand."""

import hashlib
import http.client
import urllib.request
from pathlib import Path

from genlab.machine.files import write_atomically


def download(url: str, path: Path, digest: str, algorithm: str = "sha256", timeout: float = 20) -> None:
    """Download a file and move it into place once its hash is verified.

    Args:
        url: address of the file.
        path: path to write; its folder is made.
        digest: expected hash of the content, in hexadecimal digits.
        algorithm: hashlib's name of the hash.
        timeout: seconds without an answer after which the download fails.

    Raises:
        OSError: if the address does not answer, or the content has another hash.
    """
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            content = answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"{url}: {type(error).__name__}") from error
    if hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() != digest:
        raise OSError(f"the {algorithm} of what {url} sent is wrong")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
