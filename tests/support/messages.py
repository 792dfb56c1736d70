"""Collect every text that the program may show: string literals, the help of each command, the schemas.

    python tests/support/messages.py

prints all texts, a module at a time, so that a person can read them as a whole. Braces stand for a value.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import reconciler
from reconciler.cli.schema import SCHEMAS
from reconciler.manifest.schema import schema_text

ROOT = Path(reconciler.__file__).parent
_NO_MESSAGE = re.compile(r"(CREATE|SELECT|INSERT|PRAGMA|BEGIN)\b|[\w.]+\[.*\]$")


def messages() -> Iterator[tuple[str, int, str]]:
    """Yield (module or schema, line, text) of each text; the line is 0 if there is none."""
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for line, text in _texts(ast.parse(path.read_text(encoding="utf-8")), is_help=name.startswith("cli/")):
            if (" " in text.strip() or text.isupper()) and not _NO_MESSAGE.match(text):
                yield name, line, text
    for name in SCHEMAS:
        for text in _descriptions(json.loads(schema_text(f"{name}.schema.json"))):
            yield f"{name}.schema.json", 0, text


def _texts(node: ast.AST, *, is_help: bool) -> Iterator[tuple[int, str]]:
    """Yield the texts below a node. The docstring of a function counts if click shows it as help."""
    if isinstance(node, ast.JoinedStr):
        parts = (
            "{" + ast.unparse(v.value) + "}" if isinstance(v, ast.FormattedValue) else _text(v) for v in node.values
        )
        yield node.lineno, "".join(parts)
        for value in node.values:
            yield from _texts(value, is_help=is_help) if isinstance(value, ast.FormattedValue) else ()
        return
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.lineno, node.value
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            is_command = isinstance(node, ast.FunctionDef) and bool(node.decorator_list)
            if not (is_help and is_command):
                continue
        yield from _texts(child, is_help=is_help)


def _text(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _descriptions(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("description", "title") and isinstance(inner, str):
                yield inner
            else:
                yield from _descriptions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _descriptions(inner)


if __name__ == "__main__":
    before = ""
    for module, line, text in messages():
        if module != before:
            print(f"\n## {module}\n")
            before = module
        print(f"{line:>5}  {text}" if line else f"       {text}")
