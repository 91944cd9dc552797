"""Mutants of a source file: what cosmic-ray's operators make of it, each with a name that outlasts edits elsewhere."""

import hashlib
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator, operator_names
from parso.python.tree import Keyword
from parso.tree import NodeOrLeaf

from support.paths import ROOT

# The files in which a silent fault costs most: what is trained on, kept, averaged over processes, or reported.
FILES = (
    "callbacks/best_checkpoint.py",
    "data/batches.py",
    "distributions/pixel.py",
    "layers/attention.py",
    "metrics/quality.py",
    "models/gan/regularizers.py",
    "models/vae/objectives.py",
    "runs/checkpoints.py",
    "training/ema.py",
    "training/processes.py",
)
SEED = 1706


class RemoveStatement(Operator):
    """An operator that cosmic-ray lacks: a statement that has an effect becomes ``pass``.

    These are calls, assignments to attributes and elements, augmented assignments and raised errors; without any other
    assignment, a name would be unknown, which every test finds.
    """

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        if node.type != "simple_stmt":
            return
        what = node.children[0]
        effect = what.type in ("atom_expr", "power", "raise_stmt", "await")
        if what.type == "expr_stmt":
            target, sign = what.children[:2]
            effect = sign.type != "annassign" and (target.type != "name" or sign != "=")
        if effect:
            yield what.start_pos, what.end_pos

    def mutate(self, node: NodeOrLeaf, index: int) -> NodeOrLeaf:
        what = node.children[0]
        node.children[0] = Keyword("pass", what.start_pos, prefix=what.get_first_leaf().prefix)
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("f(x)\n", "pass\n"), Example("x += 1\n", "pass\n"), Example("a.b = 1\n", "pass\n"))


# Not used: bits and shifts in place of arithmetic, which no floating-point number has, so that every test kills them;
# identity in place of a comparison, which is equality for small numbers.
WITHOUT = re.compile(r"ReplaceBinaryOperator_.*_(Bit\w+|.Shift)|ReplaceComparisonOperator_.*_Is(Not)?")

OPERATORS: dict[str, Operator] = {
    name: operator()
    for name, operator in ((name.partition("/")[2], get_operator(name)) for name in operator_names())
    if not operator.arguments()  # the others are for single variables
    and (
        not WITHOUT.fullmatch(name)
        or name in ("ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is")
    )
}
OPERATORS["RemoveStatement"] = RemoveStatement()


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        file: path below src/genlab.
        where: function or class that is changed.
        operator: name of cosmic-ray's operator.
        line: the line that is changed, stripped.
        column: position of the change in the stripped line.
        nth: number of those before it in the file with all of the above the same.
        occurrence: number of those before it in the file by the same operator.
        row: line number.
    """

    file: str
    where: str
    operator: str
    line: str
    column: int
    nth: int
    occurrence: int = field(compare=False)
    row: int = field(compare=False)

    @cached_property
    def name(self) -> str:
        """A short name that is the same as long as the line is, wherever it stands in its function."""
        parts = (self.file, self.where, self.operator, self.line, self.column, self.nth)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    @property
    def place(self) -> tuple[object, ...]:
        """What the mutants of one place have in common."""
        number = self.nth // 2 if self.operator == "NumberReplacer" else self.nth  # one more, and one less
        return self.file, self.where, self.line, self.column, number, self.operator == "RemoveStatement"

    @cached_property
    def source(self) -> str | None:
        """The file's content with the change; None if Python cannot read it."""
        code = mutate_code(source_of(self.file), OPERATORS[self.operator], self.occurrence)
        assert code is not None, self
        try:
            with warnings.catch_warnings(action="ignore"):
                compile(code, self.file, "exec")
        except SyntaxError:
            return None
        return str(code)

    def difference(self) -> tuple[str, str]:
        """The changed lines before and after, stripped."""
        before, after = source_of(self.file).splitlines(), (self.source or "").splitlines()
        changed = [(a, b) for a, b in itertools.zip_longest(before, after, fillvalue="") if a != b]
        if len(before) != len(after):  # a decorator less
            at = next(i for i, (a, b) in enumerate(itertools.zip_longest(before, after)) if a != b)
            return before[at].strip(), ""
        return "; ".join(a.strip() for a, _ in changed), "; ".join(b.strip() for _, b in changed)


def source_of(file: str) -> str:
    return (ROOT / "src/genlab" / file).read_text(encoding="utf-8")


def all_mutants(file: str) -> list[Mutant]:
    """All mutants of a file but those of annotations, which no program heeds."""
    source = source_of(file)
    lines, tree = source.splitlines(), get_ast(source)
    nodes = [(node, in_annotation(node)) for node in ast_nodes(tree)]
    found: list[Mutant] = []
    counts: Counter[object] = Counter()
    for name, operator in OPERATORS.items():
        occurrence = itertools.count()
        for node, annotation in nodes:
            for (row, column), _ in operator.mutation_positions(node):
                number = next(occurrence)
                if annotation:
                    continue
                line = lines[row - 1]
                key = (ASTQuery(node).get_definition_name() or "", name, line.strip(), column - indent(line))
                found.append(Mutant(file, *key, nth=counts[key], occurrence=number, row=row))
                counts[key] += 1
    return found


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def in_annotation(node: NodeOrLeaf) -> bool:
    """Tell whether a node is part of the type of an argument, a result or a variable."""
    while node.parent is not None:
        parent = node.parent
        if parent.type == "tfpdef" or (parent.type == "funcdef" and node is parent.annotation):
            return True
        if parent.type == "annassign" and node is parent.children[1]:  # and not the value that follows
            return True
        node = parent
    return False


def drawn(num: int, seed: int = SEED, files: Sequence[str] = FILES, least: int = 12) -> list[Mutant]:
    """Draw mutants of the files, at most one of each place; a function of the seed and of the files' contents.

    Each mutant has a random number of its own, made of the seed and its name, so that an edit changes the draw only in
    so far as it changes lines. A place has the lowest number of its mutants, and is represented by the mutant with the
    lowest number that Python can read. The places with the lowest numbers are drawn: first ``least`` of every file,
    which has them all if there are fewer, then the rest of all files together.
    """
    first: list[list[Mutant]] = []
    rest: list[list[Mutant]] = []
    for file in files:
        places: dict[object, list[Mutant]] = {}
        for mutant in sorted(all_mutants(file), key=lambda mutant: rank(mutant, seed)):
            places.setdefault(mutant.place, []).append(mutant)
        first += list(places.values())[:least]
        rest += list(places.values())[least:]
    rest.sort(key=lambda mutants: rank(mutants[0], seed))
    represented = (next((m for m in mutants if m.source is not None), None) for mutants in (*first, *rest))
    chosen = itertools.islice((mutant for mutant in represented if mutant is not None), num)
    return sorted(chosen, key=lambda mutant: (mutant.file, mutant.row, mutant.column, mutant.operator))


def rank(mutant: Mutant, seed: int) -> str:
    return hashlib.sha256(f"{seed} {mutant.name}".encode()).hexdigest()
