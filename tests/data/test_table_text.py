"""Tables as other programs write them: every number arrives, or one line says what is wrong."""

import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from genlab.data.table import Table, TableDataModule
from genlab.errors import InputError
from support.command import Genlab

RNG = np.random.default_rng(0)


def load(path: Path, content: str | bytes, **options: object) -> tuple[list[list[float]], str]:
    """The values of a table and where its header was found."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = Table(str(path), **options)  # type: ignore[arg-type]
    values = table.load()["train"].images
    assert values is not None
    return values.tolist(), table.header_found


def fault(path: Path, content: str, **options: object) -> str:
    with pytest.raises(InputError) as error:
        load(path, content, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "rows", "header"),
    [
        ("0,1,2\n.5,.6,.7\n", [[0.5, 0.6, 0.7]], "the first row"),
        ("1,2,3\n5,6,7\n", [[5, 6, 7]], "the first row"),
        ("0\n0.5\n0.25\n", [[0.5], [0.25]], "the first row"),
        ("1\n2\n3\n", [[1], [2], [3]], "none"),  # one column of counts is no header and its rows
        ("0.0,1.0\n5,6\n", [[0, 1], [5, 6]], "none"),
        ("1,0\n5,6\n", [[1, 0], [5, 6]], "none"),
        ("0,1,3\n5,6,7\n", [[0, 1, 3], [5, 6, 7]], "none"),
        (",0,1\n7,.5,.6\n", [[7, 0.5, 0.6]], "the first row"),  # pandas with its index
        ("# a,b\n1.5,2\n", [[1.5, 2]], "the comment above the rows"),
        ("# written by hand\n# a b\n1.5 2\n3 4\n", [[1.5, 2], [3, 4]], "the comment above the rows"),
        ("# one comment, of three, words\na,b\n1,2\n", [[1, 2]], "the first row"),
        ("1.5,2\n3,4\n# the end\n", [[1.5, 2], [3, 4]], "none"),
        ("a,b\n1,2  \n3,4\t\n", [[1, 2], [3, 4]], "the first row"),
        ("a,b\n1,2,\n3,4,\n", [[1, 2], [3, 4]], "the first row"),
        ("a,b,\n1,2,\n", [[1, 2]], "the first row"),
        ("a,b,\n1,2\n", [[1, 2]], "the first row"),
        ("  1.5   2 \n 3 4\n", [[1.5, 2], [3, 4]], "none"),
        ("a\tb\t\n1\t2\t\n", [[1, 2]], "the first row"),
        ("\ufeffa,b\r\n\r\n1,2\r\n   \r\n3,4", [[1, 2], [3, 4]], "the first row"),
        ('"weight; kg","h"\n"1",2\n', [[1, 2]], "the first row"),
        ("a;b\n1.5;2\n", [[1.5, 2]], "the first row"),
        ("x\n5\n", [[5]], "the first row"),
        ("7\n", [[7]], "none"),
    ],
)
def test_tables_of_other_programs(tmp_path: Path, content: str, rows: list[list[float]], header: str) -> None:
    assert load(tmp_path / "a.csv", content) == (rows, header)


def test_what_pandas_and_numpy_write(tmp_path: Path) -> None:
    values = RNG.random((30, 64))
    head = ",".join(map(str, range(64)))
    body = "\n".join(",".join(map(repr, row)) for row in values.tolist())
    assert load(tmp_path / "a.csv", f"{head}\n{body}\n") == (values.tolist(), "the first row")
    for options in ({"header": "a b c"}, {"header": "a,b,c", "delimiter": ","}, {"header": "a,b,c", "fmt": "%25.18e"}):
        written = io.BytesIO()
        np.savetxt(written, values[:, :3], footer="the end", **options)  # type: ignore[arg-type]
        assert load(tmp_path / "a.txt", written.getvalue())[0] == values[:, :3].tolist()


def test_what_is_a_header_can_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    assert load(path, "0,1\n5,6\n", header=False) == ([[0, 1], [5, 6]], "none")
    assert load(path, "0,1\n5,6\n", header="text") == ([[0, 1], [5, 6]], "none")  # as earlier versions read it
    assert load(path, "2019,2020\n5,6\n") == ([[2019, 2020], [5, 6]], "none")
    assert capsys.readouterr().err == ""
    assert load(path, "2019,2020\n5,6\n", header=True) == ([[5, 6]], "the first row")
    assert load(path, "# a,b\n5,6\n", header=False) == ([[5, 6]], "none")
    assert load(path, "2019,x\n5,6\n", columns=["x"], header=True) == ([[6]], "the first row")
    load(path, "0,1\n5,6\n")
    assert "the first row, 0,1, is taken for a header" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            "x,2020\n5,6\n",
            "row 1, column 1 is x, not a number (if the first row holds names, give dataset.source.header",
        ),
        ("a;b\n1,5;2\n", "column a is 1,5, not a number (decimals are written with a point)"),
        ("a,b\n1,2,3\n", "row 1 has 3 cells, and the table has 2 columns (its header has)"),
        ("a,b\n1,2\n3,\n", "row 2, column b is empty"),
        ("a,b,c\n1,2,\n3,4,\n", "row 1, column c is empty"),
        (",\n1,2\n", "row 1, column 1 is empty"),
        ("a,b\n1,2\n#3,4\n", "the line #3,4 is a comment, but has numbers"),
        ("# a,b\n", "has no rows"),
        ("a,b\n1,1e400\n", "column b is 1e400, not a number"),
        (
            "id\n9223372036854775809\n9223372036854775810\n",
            "9223372036854775809 and 9223372036854775810, which are the",
        ),
        ("a,b\n1,2\0\n", "NUL"),
        ('a,b\n1,"2\n', "cannot be read as a table"),
    ],
)
def test_faults_of_tables_in_a_line(tmp_path: Path, content: str, line: str) -> None:
    assert line in fault(tmp_path / "a.csv", content)


def test_a_name_that_two_columns_have(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert "2 columns of the name a; give their numbers" in fault(path, "a,a,b\n1,2,3\n", columns=["a"])
    assert load(path, "a,a,b\n1,2,3\n", columns=[2, "b"])[0] == [[2, 3]]
    assert load(path, "# a,b\n1.5,2\n", columns=["# a"])[0] == [[1.5]]  # the name that earlier versions gave it


def test_ids_that_float64_would_make_equal(tmp_path: Path) -> None:
    ids = np.array([[2**63 + 1, 1], [2**63 + 2, 2]], np.uint64)
    np.save(tmp_path / "a.npy", ids)
    with pytest.raises(
        InputError, match="column 1 has 9223372036854775809 and 9223372036854775810, which are the same"
    ):
        Table(str(tmp_path / "a.npy")).load()
    # Large integers that stay apart are numbers like others.
    assert load(tmp_path / "a.csv", f"a\n{10**18}\n{10**18 + 4096}\n")[0] == [[1e18], [1e18 + 4096]]


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize(
    ("value", "line"),
    [(1e300, "too large for float32"), (1e39, "too large|so far from the others"), (1e30, "so far from|too large")],
)
def test_a_value_that_float32_cannot_hold(tmp_path: Path, value: float, line: str, standardize: bool) -> None:
    rows = RNG.standard_normal((300, 2))
    for row in range(0, 300, 7) if not standardize else [5]:
        rows[row, 1] = value
    np.save(tmp_path / "a.npy", rows)
    data = TableDataModule(Table(str(tmp_path / "a.npy")), "table", (2,), batch_size=10, standardize=standardize)
    if value == 1e30 and not standardize:
        data.setup()  # float32 holds 1e30, and all others
        return
    with pytest.raises(InputError, match=line) as error:
        data.setup()
    assert "column 2 of 2" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_header_is_in_the_protocol(tmp_path: Path) -> None:
    def protocol(content: str) -> dict[str, object]:
        (tmp_path / "a.csv").write_text(content, encoding="utf-8")
        data = TableDataModule(Table(str(tmp_path / "a.csv")), "table", (3,), batch_size=10)
        data.setup()
        assert sum(len(split) for split in data.splits.values()) == 100
        return data.protocol

    body = "\n".join(",".join(map(repr, row)) for row in RNG.random((100, 3)).tolist())
    assert protocol(body)["header"] == "none"
    assert protocol("0,1,2\n" + body)["header"] == "the first row"
    assert protocol("# 0;1;2\n" + body)["header"] == "none"


def test_the_command_takes_header(genlab: Genlab, tmp_path: Path) -> None:
    path = tmp_path / "a table (1).csv"
    path.write_text("0,1\n" + "\n".join(f"{a},{b}" for a, b in RNG.random((60, 2))), encoding="utf-8")
    given = ["model=flow/nsf", "dataset=table", "dataset.shape=[2]", "dataset.batch_size=8", "debug=fast_dev_run"]
    wrong = genlab("train", *given, f"dataset.source.path={path}", "dataset.source.header=maybe")
    assert wrong.code == 2
    assert "dataset.source.header='maybe'" in wrong.err


# -- any table ---------------------------------------------------------------------------------------------------------

FLOATS = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False) | st.integers(-20, 20)
NAMES = ["alpha", "b_2", "größe", "x.y"]


@st.composite
def tables(draw: Callable[..., object]) -> tuple[str, list[list[float]]]:
    """The text of a table in one of many dialects, and its values."""

    def one(*of: object) -> object:
        return draw(st.sampled_from(of))

    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(FLOATS, min_size=width, max_size=width), min_size=1, max_size=6))  # type: ignore
    separator = str(one(",", ";", "\t", " ", ", "))
    kind = one("none", "names", "from 0", "from 1", "comment")
    quote = str(one("", '"'))
    cells = [[f"{quote}{value!r}{quote}" for value in row] for row in rows]  # type: ignore
    names = {"names": NAMES, "comment": NAMES, "from 0": "0123", "from 1": "1234"}.get(str(kind))
    first = [str(name) for name in names][:width] if names is not None else None  # type: ignore
    if kind in ("none", "comment"):
        numbers = [list(map(repr, range(start, start + width))) for start in (0, 1)]
        assume([cell.strip('"') for cell in cells[0]] not in numbers)
    if kind in ("from 0", "from 1"):
        assume(width > 1 or not any(isinstance(row[0], int) for row in rows))  # type: ignore
    lines = [*([first] if first is not None else []), *cells]
    end = str(one("", separator.strip(" "), " ", "  ")) if separator != "\t" else str(one("", "\t"))
    text = [separator.join(line) + end for line in lines]
    if kind == "comment":
        text[0] = f"# {text[0]}"
    newline = str(one("\n", "\r\n"))
    blank = str(one("", newline, newline + "  " + newline))
    return str(one("", "\ufeff")) + (newline + blank).join(text) + str(one("", newline)), rows  # type: ignore


def _check(table: tuple[str, list[list[float]]]) -> None:
    text, rows = table
    with TemporaryDirectory() as folder:
        try:
            values, _ = load(Path(folder, "a.csv"), text.encode())
        except InputError as error:
            refused = str(error)
        else:
            refused = ""
    if refused:
        assert "which are the same in float64" in refused, text
        return
    assert values == [[float(value) for value in row] for row in rows], text


@given(tables())
def test_any_table_arrives_whole(table: tuple[str, list[list[float]]]) -> None:
    _check(table)


@pytest.mark.slow
@settings(max_examples=500)
@given(tables())
def test_many_tables_arrive_whole(table: tuple[str, list[list[float]]]) -> None:
    _check(table)


@pytest.mark.slow
@settings(max_examples=500)
@given(st.text(st.sampled_from("01.5,;\t \n\r\"'#abe-é"), max_size=60) | st.text(max_size=40) | st.binary(max_size=40))
def test_any_file_is_read_or_refused_in_a_line(content: str | bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        table = Table(str(path))
        refused, values = "", None
        try:
            values = table.load()["train"].images
        except InputError as error:
            refused = str(error)
        if refused:
            assert len(refused.splitlines()) == 1, refused
            return
        assert values is not None
        assert bool(values.isfinite().all())
        # Nothing is lost: a line is a row, the header, a comment or blank. (A quoted cell may hold a line's end.)
        text = path.read_text(encoding="utf-8-sig")
        lines = [line for line in text.split("\n") if line.strip()]
        if '"' not in text:
            comments = sum(line.lstrip().startswith("#") for line in lines)
            assert len(values) == len(lines) - comments - (table.header_found == "the first row")
