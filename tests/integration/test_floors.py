"""What the floors keep to: who speaks and exits, how long a module may be, which names say something, and what stays
within the engines."""

import ast
import importlib
import re
from collections.abc import Iterator

import pytest

from checkout import ROOT
from reconciler.model import errors

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "reconciler").rglob("*.py"))
}

SHELL = ("reconciler.cli", "reconciler.host.terminal", "reconciler.engines.local.processes")
"""The last one ends processes that were forked for a run, and not the command."""
NOT_NAMES = {"sync", "process", "handle", "data", "info", "manager", "util", "utils", "helper", "helpers", "misc"}

MOST_LINES_OF_A_FILE = 450
MOST_LINES_OF_A_FUNCTION = 40


def speech(source: str) -> list[str]:
    """Each place that prints, asks, exits or reaches for the terminal's streams."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id="print" | "input" | "exit" | "quit" | "SystemExit" as word):
                found.append(f"{node.lineno} {word}")
            case ast.Attribute(value=ast.Name(id="sys" | "os"), attr="stdout" | "stderr" | "exit" | "_exit" as word):
                found.append(f"{node.lineno} {word}")
            case ast.ImportFrom(module="sys" | "os", names=names):
                words = {"stdout", "stderr", "exit", "_exit"} & {alias.name for alias in names}
                found.extend(f"{node.lineno} {word}" for word in sorted(words))
    return found


@pytest.mark.parametrize(
    "module", [module for module in MODULES if not f"{module}.".startswith(tuple(f"{name}." for name in SHELL))]
)
def test_only_the_shell_prints_and_exits(module: str) -> None:
    found = [place.split()[1] for place in speech(MODULES[module].read_text())]
    # An exit of a plugin is caught, and never raised: only one module names it.
    assert found == (["SystemExit"] if module == "reconciler.host.packages" else [])


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [module for module in MODULES if NOT_NAMES & set(module.replace("_", ".").split("."))] == []


def imports(source: str) -> list[tuple[str, str]]:
    """Each import of a source: the module, and the name that is imported from it; "" for the module itself."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found.extend((alias.name, "") for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                found.extend((module, alias.name) for alias in names)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_a_private_name_of_another(module: str) -> None:
    ours = [(home, name) for home, name in imports(MODULES[module].read_text()) if home.startswith("reconciler")]
    assert [name for _, name in ours if name.startswith("_") and not name.startswith("__")] == []


def test_only_the_contract_suites_import_pytest() -> None:
    found = [module for module, path in MODULES.items() if ("pytest", "") in imports(path.read_text())]
    assert found
    assert [module for module in found if not module.startswith("reconciler.testing.")] == []


@pytest.mark.parametrize("module", ["worker", "caller", "ledger", "programs", "proxy", "services"])
def test_what_the_programs_of_the_suites_run_needs_no_pytest(module: str) -> None:
    assert ("pytest", "") not in imports(MODULES[f"reconciler.testing.{module}"].read_text())


PURE = {
    "collections",
    "enum",
    "functools",
    "itertools",
    "operator",
    "re",
    "shlex",
    "typing",
    "deepdiff",  # a comparison of two values
}


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("reconciler.rules")])
def test_the_rules_use_no_clock_no_disk_and_no_network(module: str) -> None:
    found = {home for home, _ in imports(MODULES[module].read_text())}
    floors = {home.split(".")[1] for home in found if home.startswith("reconciler.")}
    assert floors <= {"rules", "model"}
    assert {home.split(".")[0] for home in found} - {"reconciler"} <= PURE
    names = {node.id for node in ast.walk(ast.parse(MODULES[module].read_text())) if isinstance(node, ast.Name)}
    assert not names & {"open", "print", "input", "eval", "exec"}


def too_long(source: str) -> list[str]:
    """The file if it is too long, and each function that is too long with its docstring. Decorators do not count."""
    lines = len(source.splitlines())
    found = [f"file: {lines} lines"] if lines > MOST_LINES_OF_A_FILE else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_LINES_OF_A_FUNCTION:
                found.append(f"{node.name}: {lines} lines")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_no_file_and_no_function_is_too_long(module: str) -> None:
    assert too_long(MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "x = 1\n" * (MOST_LINES_OF_A_FILE + 1),
        "def f():\n" + "    x = 1\n" * MOST_LINES_OF_A_FUNCTION,
        "class C:\n    def f():\n" + "        x = 1\n" * MOST_LINES_OF_A_FUNCTION,
        'def f():\n    """A' + "\n" * (MOST_LINES_OF_A_FUNCTION - 1) + '    """\n    x = 1\n',
    ],
    ids=["file", "function", "method", "docstring"],
)
def test_what_is_too_long_is_found(source: str) -> None:
    assert len(too_long(source)) == 1


@pytest.mark.parametrize(
    "source",
    ["print(1)", "import sys\nsys.exit(1)", "raise SystemExit", "from sys import stdout", "sys.stderr.flush()"],
)
def test_speech_is_found(source: str) -> None:
    assert len(speech(source)) == 1


def errors_below(kind: type[errors.ReconcilerError], depth: int = 0) -> Iterator[tuple[int, str, list[int]]]:
    """Each kind of error, with its depth below the first one and its exit codes, in no order."""
    codes = {kind.exit_code, getattr(kind, "exit_code_once_sent", kind.exit_code)}
    if kind is errors.Halted:
        codes = {each.exit_code for each in (kind("", is_in_doubt=False), kind("", is_in_doubt=True))}
    yield depth, kind.__name__, sorted(map(int, codes))
    for below in kind.__subclasses__():
        yield from errors_below(below, depth + 1)


def test_the_tree_of_errors_holds_each_kind_with_its_exit_codes() -> None:
    for module in MODULES:
        if module != "reconciler.__main__":
            importlib.import_module(module)
    rows = re.findall(r"^    ([│├└─ ]*)(\w+) +(\d[\d, ]*)", errors.__doc__ or "", re.MULTILINE)
    tree = [(len(lines) // 4, name, sorted(map(int, codes.split(",")))) for lines, name, codes in rows]
    assert sorted(tree) == sorted(errors_below(errors.ReconcilerError))


ABOVE_ENGINES = ("cli", "usecases", "views", "apply", "rules", "state", "manifest", "model")
OF_AN_ENGINE = re.compile(r"http|bytenite|kubernetes|kubectl|slurm|sbatch|\bray\b|\b(?:400|401|404)\b", re.IGNORECASE)
"""The words that only an engine may use: its name, and those of the protocol that it speaks."""

ALLOWED = [
    # (file, words that are taken out of each of its lines, why they may stand there)
    ("cli/sandbox.py", r"BYTENITE_(ACCESS_TOKEN|API_KEY)", "the command runs the server, and says what it takes"),
    ("usecases/init.py", r"others: kubernetes, slurm, ray", "the first manifest tells a newcomer what else there is"),
    ("views/html.py", r"http-equiv", "an attribute of HTML"),
    ("views/sarif.py", r"https://(docs\.oasis-open\.org|json\.schemastore\.org)/", "the ids of a format's schema"),
    ("manifest/scalars.py", r"https://yaml\.org/", "the sources of rules"),
    ("state/registry.py", r"git\+https://", "git remotes"),
    ("state/backends/git_settings.py", r"\(http\|credential", "settings of git"),
    ("state/backends/git_commands.py", r"https:ssh:file:http:git", "protocols of git"),
    ("state/backends/git_url.py", r"https?://|https\?|http\.extraHeader|\"https?\"", "git remotes"),
]


def words_of_engines(name: str, source: str) -> list[str]:
    """Each line that uses a word of an engine, without the words that are allowed in this file."""
    allowed = [words for file, words, _ in ALLOWED if file == name]
    found = []
    for number, line in enumerate(source.splitlines(), 1):
        rest = line
        for words in allowed:
            rest = re.sub(words, "", rest)
        if OF_AN_ENGINE.search(rest):
            found.append(f"{number} {line.strip()}")
    return found


@pytest.mark.parametrize("floor", ABOVE_ENGINES)
def test_above_the_engines_nothing_speaks_of_http_or_names_an_engine(floor: str) -> None:
    home = ROOT / "reconciler"
    found = {
        str(path.relative_to(home)): lines
        for path in sorted((home / floor).rglob("*.py"))
        if (lines := words_of_engines(str(path.relative_to(home)), path.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize(("file", "words", "why"), ALLOWED)
def test_what_is_allowed_above_the_engines_is_still_there(file: str, words: str, why: str) -> None:
    assert re.search(words, (ROOT / "reconciler" / file).read_text()), why


@pytest.mark.parametrize(
    "line",
    [
        "if answer.status == 400:",
        "import http.client",
        'engine = "bytenite"',
        "# ByteNite does",
        "a 404 means",
        'if engine == "ray":',
    ],
)
def test_a_word_of_an_engine_is_found(line: str) -> None:
    assert len(words_of_engines("apply/calls.py", f"x = 4001\n{line}\n")) == 1
