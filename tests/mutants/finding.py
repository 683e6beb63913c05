"""Where a mutant lands in a checkout: symbols by their names and tests by their files' names, wherever modules lie."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.mutants.catalogue import Mutant

TOPS = ("artifacts", "tasks", "flows", "deployments")
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Unfit(Exception):
    """A mutant does not fit a checkout."""


@dataclass(frozen=True)
class Symbol:
    """A function, method or class: its file, relative to the checkout, and its first and last line, from 1."""

    file: Path
    first: int
    last: int

    @property
    def leaf(self) -> str:
        """The last part of its module's name."""
        return self.file.parent.name if self.file.stem == "__init__" else self.file.stem


class Checkout:
    """A tree of clipsmith's sources and tests."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def symbols(self) -> dict[str, list[Symbol]]:
        """Every definition by its dotted name inside its module."""
        found: dict[str, list[Symbol]] = {}
        for top in TOPS:
            for path in sorted((self.root / top).rglob("*.py")):
                for name, node in _definitions(ast.parse(path.read_text(encoding="utf-8")), ""):
                    symbol = Symbol(path.relative_to(self.root), node.lineno, node.end_lineno or node.lineno)
                    found.setdefault(name, []).append(symbol)
        return found

    def symbol(self, text: str) -> Symbol:
        """The one that `Mutant.symbol` names.

        Raises:
            Unfit: there is none, or there are several.
        """
        for alternative in text.split("|"):
            leaf, _, name = alternative.rpartition(":")
            found = [symbol for symbol in self.symbols.get(name, ()) if leaf in ("", symbol.leaf)]
            if len(found) > 1:
                places = ", ".join(symbol.file.as_posix() for symbol in found)
                raise Unfit(f"the symbol {alternative} is in {places}: put a module's name before it")
            if found:
                return found[0]
        raise Unfit(f"there is no symbol {text}")

    def mutated(self, mutant: Mutant) -> tuple[Path, str]:
        """The file that the mutant changes, relative to the checkout, and what is in it then.

        Raises:
            Unfit: the symbol is not there once, or the text is not in it once.
        """
        symbol = self.symbol(mutant.symbol)
        lines = (self.root / symbol.file).read_text(encoding="utf-8").splitlines(keepends=True)
        parts = lines[: symbol.first - 1], lines[symbol.first - 1 : symbol.last], lines[symbol.last :]
        before, own, after = ("".join(part) for part in parts)
        if own.count(mutant.text) != 1:
            raise Unfit(f"{mutant.symbol} in {symbol.file} has the text {own.count(mutant.text)} times")
        return symbol.file, before + own.replace(mutant.text, mutant.replacement) + after

    def tests(self, mutant: Mutant) -> list[str]:
        """The mutant's tests as pytest takes them.

        Raises:
            Unfit: one is not there once.
        """
        return [self._test(text) for text in mutant.tests]

    def _test(self, text: str) -> str:
        found = [node for alternative in text.split("|") for node in self._nodes(alternative)]
        if len(found) != 1:
            raise Unfit(f"the test {text} is there {len(found)} times: {', '.join(found) or 'nowhere'}")
        return found[0]

    def _nodes(self, alternative: str) -> Iterator[str]:
        """Every `FILE` of this name, or `FILE::TEST` of the files that have the test."""
        place, colons, test = alternative.partition("::")
        folder, _, name = place.rpartition("/")
        for path in sorted((self.root / "tests" / folder).rglob(name)):
            if not test or test in _functions(path):
                yield f"{path.relative_to(self.root).as_posix()}{colons}{test}"


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Definition]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Definition) and not _is_overload(child):
            yield prefix + child.name, child
            yield from _definitions(child, f"{prefix}{child.name}.")


def _is_overload(node: _Definition) -> bool:
    """Whether it only tells types: the definition itself comes after it."""
    return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list)


def _functions(path: Path) -> set[str]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
