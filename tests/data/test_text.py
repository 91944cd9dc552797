"""Text: tokens that give it back, and windows that predict each of them once."""

import io
import json
import math
import os
import sys
import warnings
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genlab.composition.building import build, plain
from genlab.composition.configs import composed
from genlab.composition.explaining import explain
from genlab.data import tokenizers
from genlab.data.batches import Batches
from genlab.data.text import TextDataModule, contiguous
from genlab.data.text_sources import PythonDocs, Shakespeare, TextFiles
from genlab.data.tokenizers import BYTE_SYMBOLS, BytePairs, Bytes, Characters, Tokenizer, load_tokenizer
from genlab.errors import InputError

PROSE = "".join(f"Clause {i}: für jeden Fall — 値 {i * i} ✓\n\n  (see {i % 7})\r\n" for i in range(400))


class Given:
    """A source that holds its text."""

    def __init__(self, text: str = PROSE) -> None:
        self.text = text

    def read(self) -> str:
        return self.text


def pairs(text: str, train: str) -> BytePairs:
    return BytePairs.of(text, train, vocab_size=300)


def data(text: str = PROSE, length: int = 16, tokenizer: object = None, **options: object) -> TextDataModule:
    options = {"batch_size": 8, **options}
    module = TextDataModule(Given(text), "prose", (length,), tokenizer or Characters.of, **options)  # type: ignore
    module.setup()
    return module


def tokens_of(module: TextDataModule, split: str, text: str = PROSE) -> np.ndarray:
    """Encoded at once, int64."""
    parts = contiguous(text, module.val_size, module.test_size)
    return module.tokenizer.encode(parts[split]).astype(np.int64)  # type: ignore[index]


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# -- tokenizers --------------------------------------------------------------------------------------------------------

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200)
PAIRS = pairs(PROSE, PROSE)


def comes_back(text: str) -> None:
    kinds: list[Tokenizer] = [Bytes(), PAIRS]
    if text:
        kinds.append(Characters.of(text, text))
    for tokenizer in kinds:
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == text
        assert tokens.dtype == tokenizer.dtype
        # What the protocol's units are counted by.
        assert tokenizer.num_bytes[tokens].sum() == len(text.encode())
        assert tokenizer.num_chars[tokens].sum() == len(text)


@given(ANY_TEXT)
def test_a_text_comes_back(text: str) -> None:
    comes_back(text)


@pytest.mark.slow
@given(ANY_TEXT)
@settings(max_examples=2000, derandomize=False)
def test_any_text_comes_back(text: str) -> None:
    comes_back(text)


@pytest.mark.parametrize("make", [Characters.of, lambda *_: Bytes(), pairs])
def test_a_saved_tokenizer_is_the_same(make: Callable[[str, str], Tokenizer], tmp_path: Path) -> None:
    tokenizer = make(PROSE, PROSE)
    tokenizer.save(tmp_path / "tokenizer.json")
    json.loads((tmp_path / "tokenizer.json").read_text())
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert loaded.facts == tokenizer.facts
    assert loaded.facts["vocab_size"] == tokenizer.vocab_size == len(tokenizer.pieces)
    assert np.array_equal(loaded.encode(PROSE), tokenizer.encode(PROSE))


def test_characters_are_sorted_and_unknown_ones_are_named() -> None:
    tokenizer = Characters("bac\n")
    assert tokenizer.encode("abc\n").tolist() == [1, 2, 3, 0]
    assert tokenizer.encode("").tolist() == []
    assert Characters("".join(map(chr, range(300)))).encode("\u012b").dtype == np.int16
    with pytest.raises(InputError, match=r"lacks 'x', 'y', '✓': .* text/tokenizer=bytes") as error:
        tokenizer.encode("axay✓\n")
    one_line(error)
    with pytest.raises(InputError, match="'h' and 3 more"):
        tokenizer.encode("defghijk")


def test_half_a_character_is_no_text() -> None:
    for tokenizer in (Bytes(), PAIRS):
        with pytest.raises(InputError, match="half a character") as error:
            tokenizer.encode("a\udc80")
        one_line(error)
    assert Bytes().decode([0x61, 0xE2, 0x9C]) == "a\N{REPLACEMENT CHARACTER}"


def test_pairs_are_learned_alike_every_time_and_shorten_the_text() -> None:
    again = pairs(PROSE, PROSE)
    assert again.facts == PAIRS.facts
    assert again.to_json() == PAIRS.to_json()
    assert PAIRS.vocab_size == 300
    assert len(PAIRS.encode(PROSE)) < 0.7 * len(PROSE.encode())
    # Of the part that is trained on alone.
    assert BytePairs.of(PROSE + "zzzz" * 1000, PROSE, vocab_size=300).facts == PAIRS.facts


def test_merges_are_made_once_for_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = BytePairs.of(PROSE, PROSE, vocab_size=300, cache_dir=str(tmp_path))
    (kept,) = tmp_path.iterdir()
    with monkeypatch.context() as no_training:
        no_training.setattr("tokenizers.trainers.BpeTrainer", None)
        assert BytePairs.of(PROSE, PROSE, vocab_size=300, cache_dir=str(tmp_path)).facts == made.facts == PAIRS.facts
    BytePairs.of(PROSE, PROSE, vocab_size=301, cache_dir=str(tmp_path))
    BytePairs.of(PROSE, PROSE * 2, vocab_size=300, cache_dir=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 3
    kept.write_text(kept.read_text()[:100])
    with pytest.warns(UserWarning, match="is damaged"):
        assert BytePairs.of(PROSE, PROSE, vocab_size=300, cache_dir=str(tmp_path)).facts == made.facts
    assert BytePairs.of(PROSE, PROSE, vocab_size=300, cache_dir=str(tmp_path)).facts == made.facts


def test_a_cache_that_cannot_be_written_to_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="could not be kept"):
        assert BytePairs.of(PROSE, PROSE, vocab_size=300, cache_dir=str(tmp_path / "file")).facts == PAIRS.facts


def test_a_long_text_is_cut_where_no_pair_crosses(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = PAIRS.encode(PROSE)
    chunks = tokenizers._chunks
    monkeypatch.setattr(tokenizers, "_chunks", lambda text: chunks(text, 50))
    assert len(list(tokenizers._chunks(PROSE))) > 100
    assert np.array_equal(PAIRS.encode(PROSE), whole)
    assert pairs(PROSE, PROSE).facts == PAIRS.facts


def write_gpt2(folder: Path) -> None:
    """Files in the format of GPT-2's: bytes in its order, two merges, and its mark between documents."""
    symbols = [*BYTE_SYMBOLS, "th", "Ġth", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(symbols)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nĠ th\n", encoding="utf-8")


def test_gpt2s_files_are_read(tmp_path: Path) -> None:
    write_gpt2(tmp_path / "gpt2")
    tokenizer = BytePairs.read(str(tmp_path / "gpt2"))
    assert tokenizer.vocab_size == 259
    assert tokenizer.encode("the thé").tolist() == [
        256,
        ord("e") - 33,
        257,
        *(list(BYTE_SYMBOLS).index(s) for s in "Ã©"),
    ]
    assert tokenizer.decode([258, 256]) == "<|endoftext|>th"
    tokenizer.save(tmp_path / "tokenizer.json")
    assert BytePairs.read(str(tmp_path / "tokenizer.json")).facts == tokenizer.facts
    assert BytePairs.read(str(tmp_path)).facts == tokenizer.facts  # its folder


def test_what_is_no_tokenizer_of_bytes_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "gpt2"
    with pytest.raises(InputError, match=r"there is no .*gpt2: put .* tokenizer\.path=") as error:
        BytePairs.read(str(folder))
    one_line(error)
    write_gpt2(folder)
    (folder / "merges.txt").unlink()
    with pytest.raises(InputError, match=r"there is no .*merges\.txt"):
        BytePairs.read(str(folder))
    (folder / "merges.txt").write_text("t h\nx q\n")
    with pytest.raises(InputError, match="not a byte-pair tokenizer"):
        BytePairs.read(str(folder))
    (folder / "merges.txt").write_text("")
    (folder / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(InputError, match="it lacks 255 of the 256"):
        BytePairs.read(str(folder))
    saved = json.loads(PAIRS.to_json())
    (tmp_path / "lower.json").write_text(json.dumps({**saved, "normalizer": {"type": "Lowercase"}}))
    with pytest.raises(InputError, match=r"lower\.json: it changes texts"):
        BytePairs.read(str(tmp_path / "lower.json"))
    for content in ("{", "[]", '{"kind": "words"}', '{"kind": "characters"}', '{"model": {}}'):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(InputError, match=r"tokenizer\.json") as error:
            load_tokenizer(tmp_path / "tokenizer.json")
        one_line(error)
    with pytest.raises(InputError, match="there is no tokenizer"):
        load_tokenizer(tmp_path / "none.json")
    with pytest.raises(InputError, match="vocab_size=100: at least"):
        BytePairs.of("", "", vocab_size=100)
    with pytest.raises(InputError, match="vocab_size=500: the training text has 258; set it to that"):
        BytePairs.of("", "aa aa", vocab_size=500)


def test_without_the_library_a_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"pip install 'genlab\[text\]'"):
        pairs(PROSE, PROSE)


# -- windows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("length", [1, 7, 16])
def test_every_token_but_the_first_is_predicted_once(split: str, length: int) -> None:
    module, batches = data(length=length), []
    for x, y in module.batches(split, batch_size=5):  # type: ignore[arg-type]
        assert x.dtype == y.dtype == torch.int64
        assert x.shape == (len(y), 1 + length)
        assert not y.any()  # a text has no classes
        batches.append(x)
    windows, expected = torch.cat(batches), torch.from_numpy(tokens_of(module, split))
    num = (len(expected) - 1) // length
    assert len(windows) == len(module.splits[split]) == num  # type: ignore[index]
    assert torch.equal(windows[:, 1:].flatten(), expected[1 : 1 + num * length])
    assert torch.equal(windows[:, 0], expected[: num * length : length])
    assert module.protocol["left_out"][split] == len(expected) - 1 - num * length  # type: ignore[index]
    assert torch.equal(module.first(split, 3), windows[:3])  # type: ignore[arg-type]
    x, _ = module.some(split, 10**6)  # type: ignore[arg-type]
    assert torch.equal(x, windows)
    assert torch.equal(x, torch.cat([x for x, _ in module.val_dataloader()])) == (split == "val")


def numbered(num: int, length: int, **options: object) -> TextDataModule:
    """Of a training text in which every token is another one: its place."""
    text = "".join(map(chr, range(0x4E00, 0x4E00 + num)))
    return data(text, length, **{"batch_size": 1, "val_size": 0.1, "test_size": 0, **options})


def windows_of(batches: object) -> list[list[int]]:
    """Each with the token before it."""
    return [x.flatten().tolist() for x, _ in batches]  # type: ignore[attr-defined]


def test_an_epoch_of_training_covers_the_text_once_shifted() -> None:
    module = numbered(1000, 10)
    loader, offsets, orders = module.train_dataloader(), [], []
    for _ in range(20):
        windows = windows_of(loader)
        starts = sorted(window[0] for window in windows)
        assert all(window == list(range(window[0], window[0] + 11)) for window in windows)
        assert all(after - before == 10 for before, after in pairwise(starts))
        # 900 training tokens: up to the edges, whatever the offset.
        assert len(windows) == len(loader) == 89
        assert 0 <= starts[0] < 10
        offsets.append(starts[0])
        orders.append([window[0] - starts[0] for window in windows])
    assert len(set(offsets)) > 5
    assert orders[0] != orders[1]
    assert windows_of(numbered(1000, 10).train_dataloader()) == windows_of(numbered(1000, 10).train_dataloader())
    assert windows_of(numbered(1000, 10, seed=1).train_dataloader()) != windows_of(module.train_dataloader())
    # Looked at, and not trained on, they are not shifted.
    assert windows_of(module.batches("train", batch_size=1, augment=False))[1] == list(range(10, 21))
    assert module.some("train", 5)[0][:, 0].tolist() == [0, 220, 440, 660, 880]
    assert len(numbered(1000, 10, train_size=7).train_dataloader()) == 7


@pytest.mark.parametrize("stop", [1, 30, 89])
def test_an_interrupted_epoch_goes_on_where_it_was(stop: int) -> None:
    whole = numbered(1000, 10).train_dataloader()
    expected = windows_of(whole) + windows_of(whole)
    cut = numbered(1000, 10)
    running = iter(cut.train_dataloader())
    seen = windows_of(next(running) for _ in range(stop))
    resumed = numbered(1000, 10)
    resumed.load_state_dict(cut.state_dict())
    loader = resumed.train_dataloader()
    while len(seen) < len(expected):
        seen += windows_of(loader)
    assert seen == expected


def test_two_processes_share_every_batch() -> None:
    module = numbered(1000, 10, batch_size=8)

    def rows(rank: int, world_size: int) -> list[list[int]]:
        loader = Batches(
            module.splits["train"], module.transform("train"), 8, shuffle=True, seed=3, device=torch.device("cpu"),
            rank=rank, world_size=world_size,
        )  # fmt: skip
        return [x[:, 0].tolist() for x, _ in loader]

    alone, ranks = rows(0, 1), [rows(rank, 2) for rank in range(2)]
    assert len(alone) == 11
    for batch, *shares in zip(alone, *ranks, strict=True):
        assert sorted(chain(*shares)) == sorted(batch)
        assert len(shares[0]) == len(shares[1]) == 4


def test_splits_are_contiguous_and_in_order() -> None:
    parts = contiguous(PROSE, 0.1, 0.2)
    assert "".join(parts.values()) == PROSE
    assert list(parts) == ["train", "val", "test"]
    sizes = [len(part) / len(PROSE) for part in parts.values()]
    assert sizes == pytest.approx([0.7, 0.1, 0.2], abs=1e-3)
    module = data(test_size=0)
    assert len(contiguous(PROSE, 0.1, 0)["train"]) == int(0.9 * len(PROSE))
    assert torch.equal(module.first("val"), module.first("test"))
    assert module.protocol["test"] == "the validation text"
    assert "test" not in data().protocol
    # A vocabulary of characters is the whole text's; a test text of another alphabet is none of pairs' business.
    assert data("ab" * 500 + "cd" * 500).tokenizer.vocab_size == 4


@pytest.mark.parametrize("make", [Characters.of, Bytes(), pairs])
def test_units_are_counted_from_the_text(make: object) -> None:
    for split in ("train", "val", "test"):
        module = data(tokenizer=make)
        tokenizer, num = module.tokenizer, len(module.splits[split])  # type: ignore[index]
        # The text of the tokens that are predicted; a token may be a part of a character, which is then its first's.
        tokens = tokens_of(module, split)[1 : 1 + num * 16].tolist()
        said = b"".join(tokenizer.pieces[token] for token in tokens)
        starts = sum(byte & 0b1100_0000 != 0b1000_0000 for byte in said)
        per_example = module.per_example(split)  # type: ignore[arg-type]
        assert per_example["nats_per_token"] == 16
        assert per_example["bits_per_byte"] == pytest.approx(len(said) / num * math.log(2))
        assert per_example["bits_per_char"] == pytest.approx(starts / num * math.log(2))
        assert abs(starts - len(said.decode(errors="ignore"))) <= 1
        assert module.per_example(split) is per_example  # type: ignore[arg-type]
        assert per_example["bits_per_char"] < per_example["bits_per_byte"]


def test_tokens_say_what_the_text_says() -> None:
    module = data(tokenizer=pairs)
    x = module.first("val", 4)
    texts = module.text(x)
    assert len(texts) == 4
    assert "Clause" in "".join(texts)
    assert module.text(x[:1])[0] in PROSE


# -- kept tokens -------------------------------------------------------------------------------------------------------


def test_kept_tokens_are_mapped_and_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = str(tmp_path / "kept")
    first = data(cache_dir=kept)
    files = sorted(Path(kept).iterdir())
    assert [file.name.rpartition("-")[0] for file in files] == ["prose-test", "prose-train", "prose-val"]
    assert all(np.load(file).dtype == np.uint8 for file in files)

    def never(self: Tokenizer, text: str) -> np.ndarray:
        raise AssertionError("a text was tokenized")

    with monkeypatch.context() as patch:
        patch.setattr(Characters, "encode", never)
        second = data(cache_dir=kept)
        with pytest.raises(AssertionError, match="a text was tokenized"):
            numbered(1000, 10, cache_dir=kept)  # another text
    for split in ("train", "val", "test"):
        expected = data().splits[split].images  # type: ignore[index]
        for module in (first, second):
            assert torch.equal(module.splits[split].images, expected)  # type: ignore[index, arg-type]
    # Windows overlap, and none is copied.
    images = second.splits["train"].images
    assert images is not None
    assert images.untyped_storage().nbytes() < 1.1 * len(PROSE)
    data(tokenizer=Bytes(), cache_dir=kept)
    numbered(1000, 10, cache_dir=kept)
    assert len(list(Path(kept).iterdir())) == 3 + 3 + 2


def test_a_damaged_file_is_made_anew_and_no_cache_costs_no_result(tmp_path: Path) -> None:
    expected = data().first("test")
    data(cache_dir=str(tmp_path))
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:90])
    with pytest.warns(UserWarning, match="is damaged"):
        assert torch.equal(data(cache_dir=str(tmp_path)).first("test"), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(data(cache_dir=str(tmp_path)).first("test"), expected)
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="could not be kept"):
        assert torch.equal(data(cache_dir=str(tmp_path / "file" / "x")).first("test"), expected)


# -- sources -----------------------------------------------------------------------------------------------------------


def test_files_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes("zwei\r\n".encode("utf-8-sig"))
    (tmp_path / "a.md").write_bytes(b"eins")
    (tmp_path / "c.py").write_bytes(b"three")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "e.TXT").write_bytes("三".encode())
    assert TextFiles(str(tmp_path)).read() == "eins\n\nzwei\r\n\n\n三"
    assert TextFiles(str(tmp_path / "c.py")).read() == "three"


def test_faults_of_files_are_named(tmp_path: Path) -> None:
    def fault(path: Path, message: str) -> None:
        with pytest.raises(InputError, match=message) as error:
            TextFiles(str(path)).read()
        one_line(error)

    fault(tmp_path / "none", r"there is no .*none: give a file or a folder of texts as dataset\.source\.path=")
    fault(tmp_path, "there are no texts in")
    for name, content, message in (
        ("empty.txt", b" \n", "is empty"),
        ("latin.txt", "grün".encode("latin1"), r"latin\.txt is not in UTF-8 \(byte 3\)"),
        ("binary.txt", b"PK\x00\x01", r"binary\.txt is no text: byte 3 is NUL"),
    ):
        (tmp_path / name).write_bytes(content)
        fault(tmp_path / name, message)
        (tmp_path / name).unlink()
    (tmp_path / "closed.txt").symlink_to(tmp_path / "closed.txt")
    fault(tmp_path / "closed.txt", "there is no")


def test_pythons_documentation_is_a_text() -> None:
    text = PythonDocs().read()
    assert len(text) > 300_000
    assert '\nThe "if" statement\n' in text


def test_python_without_its_documentation_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(InputError, match="dataset=text") as error:
        PythonDocs().read()
    one_line(error)


def test_shakespeare_out_of_reach_says_how_to_place_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(InputError, match=r"put that file there as input\.txt") as error:
        Shakespeare(str(tmp_path)).read()
    one_line(error)
    assert not list(tmp_path.rglob("*.txt"))


def test_another_shakespeare_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO(b"<html>"))
    with pytest.raises(InputError, match="could not be downloaded"):
        Shakespeare(str(tmp_path)).read()
    assert not list(tmp_path.rglob("*.txt"))
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text("To be, or")
    with pytest.raises(InputError, match="is damaged") as error:
        Shakespeare(str(tmp_path)).read()
    one_line(error)


@pytest.fixture
def shakespeare_root() -> str:
    root = os.environ.get("GENLAB_DATA", "data")
    if not Shakespeare(root).path.is_file():
        pytest.skip(f"tiny-shakespeare is not in {root}")
    return root


def test_shakespeare_is_whole_and_split_as_nanogpts(shakespeare_root: str) -> None:
    module = TextDataModule(Shakespeare(shakespeare_root), "shakespeare", (64,), Characters.of, test_size=0)
    module.setup()
    text = Shakespeare(shakespeare_root).read()
    assert len(text) == 1_115_394
    assert module.tokenizer.vocab_size == 65
    assert contiguous(text, 0.1, 0)["train"] == text[: int(0.9 * len(text))]
    # nanoGPT's prepare.py prints 1,003,854 and 111,540 tokens.
    assert len(module.splits["train"]) == 1_003_854 // 64 - 1
    assert len(module.splits["val"]) == (111_540 - 1) // 64
    assert module.protocol["sizes"]["val"] == module.protocol["sizes"]["test"]  # type: ignore[index]
    assert module.per_example("val")["bits_per_char"] == pytest.approx(64 * math.log(2))


# -- what is stated ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "ab" * 20}, "the val text has 4 tokens, and 17 are the least for windows of 16; give a longer text"),
        ({"text": "ab" * 100, "length": 100}, r"the train text has 160 tokens, and 200 .* dataset\.shape=\[100\]"),
        ({"batch_size": 10**6}, "lower dataset.batch_size"),
        ({"vocab_size": 7}, "vocab_size=7 is stated, the tokenizer has"),
        ({"val_size": 0.0}, "val_size=0.0"),
        ({"val_size": 500}, "they are shares of the text"),
        ({"val_size": 0.5, "test_size": 0.5}, "below 1 together"),
        ({"length": 0}, r"shape=\[0\]; give \[L\]"),
    ],
)
def test_faults_of_a_dataset_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        data(**options)  # type: ignore[arg-type]
    one_line(error)


def resolved(*overrides: str) -> dict[str, object]:
    cfg = composed("train", ["model=transformer/gpt", *overrides])
    return plain(cfg)["dataset"]


def test_a_config_knows_its_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(PROSE)
    write_gpt2(tmp_path / "gpt2")
    source = f"dataset.source.path={tmp_path / 'text.txt'}"
    for overrides, num in (
        (["dataset=text", source], 256),
        (["dataset=text", "text/tokenizer=characters", source], len(set(PROSE))),
        (["dataset=text", "text/tokenizer=bpe", "tokenizer.vocab_size=290", source], 290),
        (["dataset=text", "text/tokenizer=gpt2", f"tokenizer.path={tmp_path / 'gpt2'}", source], 259),
        (["dataset=python_docs"], len(set(PythonDocs().read()))),
    ):
        dataset = resolved(*overrides)
        assert dataset["vocab_size"] == num
        # Configs of earlier versions state the vocabulary's size as a number of classes.
        module = build({**dataset, "num_classes": num, "batch_size": 1, "shape": [32]}, "dataset")
        module.setup()
        assert module.num_classes is None
        assert module.tokenizer.vocab_size == num


def test_a_wrong_text_ends_the_command_with_a_line(tmp_path: Path) -> None:
    for overrides, said in (
        (["dataset=text"], "no value for dataset.source.path (give it as dataset.source.path=...)"),
        (["dataset=text", "text/tokenizer=characters", f"dataset.source.path={tmp_path / 'none'}"], "there is no "),
        (
            ["dataset=python_docs", "text/tokenizer=gpt2", f"tokenizer.path={tmp_path / 'none'}"],
            "tokenizer: there is no ",
        ),
    ):
        with pytest.raises(Exception) as error:  # noqa: PT011
            resolved(*overrides)
        line = explain(error.value)
        assert line is not None
        assert line.startswith(said)
        assert "\n" not in line
