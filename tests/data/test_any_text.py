"""Any file as a text: it arrives whole, or one line says what is wrong."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genlab.data.text import TextDataModule
from genlab.data.text_sources import TextFiles
from genlab.data.tokenizers import Bytes, Characters
from genlab.errors import InputError

CONTENTS = st.text(st.characters(codec="utf-8"), max_size=80).map(str.encode) | st.binary(max_size=60)


def _arrives(content: bytes) -> None:
    refused, text, splits = "", "", {}
    with TemporaryDirectory() as folder:
        path = Path(folder, "a text (1).txt")
        path.write_bytes(content)
        try:
            text = TextFiles(str(path)).read()
            for tokenizer in (Bytes(), Characters.of):
                data = TextDataModule(TextFiles(str(path)), "text", (2,), tokenizer, batch_size=1)
                data.setup()
                splits = {split: len(examples) for split, examples in data.splits.items()}
                assert data.tokenizer.decode(data.tokenizer.encode(text).tolist()) == text
        except InputError as error:
            refused = str(error)
    if refused:
        assert len(refused.splitlines()) == 1, refused
        assert not text or len(text) < 40, "a text that is long enough for all splits is read"
        return
    assert text == content.decode("utf-8-sig")
    assert min(splits.values()) >= 1


@given(CONTENTS)
@example(b"\xef\xbb\xbfa text with a mark at its beginning\r\nand another line")
@example(b"caf\xe9")
@example("né ".encode() * 40)
def test_any_text_arrives_whole(content: bytes) -> None:
    _arrives(content)


@pytest.mark.slow
@settings(max_examples=500)
@given(CONTENTS)
def test_many_texts_arrive_whole(content: bytes) -> None:
    _arrives(content)
