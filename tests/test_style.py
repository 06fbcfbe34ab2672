"""The language of the code: docstrings, terms, documented arrays, shape letters, length of functions.

The rules are those of CONTRIBUTING.md. Each test lists every place that breaks its rule.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.messages import ACTION

ROOT = Path(__file__).parents[1]
MOST_LINES = 60
"""Lines of a function, its docstring not counted; a longer one gives the reason as ``Long because …``."""

NOT_IMPERATIVE = re.compile(
    r"A|All|An|And|Any|As|At|Bring|By|Every|For|From|Give|How|If|In|Keep|Let|Like|No|None|Nothing|Of|On|One|Only|Same|Say|"
    r"So|Some|Such|Take|Tell|That|The|Their|These|They|This|Those|To|Two|What|When|Where|Whether|Which|Who|Whom|Whose|Why|"
    r"With"
)
"""First words of a docstring that are no standard imperative verb."""
BANNED = re.compile(
    r"\b(whoever|whomever|whom|so manieth|gone on (?:from|with)|goes on (?:from|with)|seen to|of one's own|is said|"
    r"(?:is|are) told|lest|thereof|farewell|be it|it fares|nobody wrote|told apart)\b",
    re.IGNORECASE,
)
"""Phrases that a reader has to decode."""
LETTERS = frozenset("BCNWLSTDQK")
"""Dimensions: batch, channels, samples, windows, samples in a window, latent sources (seconds in marks), latent steps,
features, quantizer levels, codes (chunks in stored segments)."""
ARRAY = re.compile(r"NDArray|\bTensor\b|ArrayLike|np\.ndarray")
DTYPE = re.compile(r"float|int|bool|complex|\bstr\b|object|dtype|void")
UNIT = re.compile(
    r"\b(?:V|T|T/m|Hz|s|m|mm|µV|dB)\b|(?i:dimensionless|unitless|standardised|normalised|probabilit|no unit|any unit|"
    r"seconds|radian|ind(?:ex|ices)|codes?\b|logits?|features?|weights?\b|bool)"
)

ERRORS = frozenset(
    {
        "EmegError",
        "UserError",
        "RecordingError",
        "TransientError",
        "StoppedError",
        "MachineError",
        "FaultError",
        "LostRankError",
        "InterruptedRunError",
    }
)
"""Errors whose messages a user reads."""
MADE_ELSEWHERE = re.compile(r"(?:^|[;:] )\{\}\Z")
"""A message that ends in a text which other code has made, such as the message of another error."""
MESSAGE = re.compile(r"reason|problem|message|next_action|\.value\b|error|stderr|\.err\b|refused")
"""What a test calls a message."""
PROSE = re.compile(r"(?:(?<![\w.`/-])[a-z]{2,}(?![\w`/=-])[,;:]? ){2}(?<![\w.`/-])[a-z]{2,}(?![\w`/=-])")
"""Three plain words in a row: a test that expects them breaks when the message is reworded."""


class Finding(NamedTuple):
    """A place that breaks a rule."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.text}"


class Function(NamedTuple):
    """A function with the class it belongs to, and whether it is public."""

    path: Path
    node: ast.FunctionDef | ast.AsyncFunctionDef
    owner: ast.ClassDef | None
    public: bool

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.node) or ""


def tracked(*patterns: str) -> list[Path]:
    """Return the files of the repository that match, without links."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=False)
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


@pytest.fixture(scope="module")
def sources() -> list[tuple[Path, ast.Module]]:
    """Return every module of the package with its syntax tree."""
    paths = tracked("src/*.py", "tokenizers/*.py", "flows/*.py")
    assert paths, "these tests need the git checkout"
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


@pytest.fixture(scope="module")
def functions(sources) -> list[Function]:
    return [function for path, tree in sources for function in walk(path, tree, None, public=True)]


def walk(path: Path, node: ast.AST, owner: ast.ClassDef | None, *, public: bool) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from walk(path, child, child, public=public and not child.name.startswith("_"))
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            named = not child.name.startswith("_") or child.name in {"__init__", "__call__"}
            yield Function(path, child, owner, public and named)
            yield from walk(path, child, None, public=False)
        else:
            yield from walk(path, child, owner, public=public)


def fail_with(findings: list[Finding]) -> None:
    assert not findings, "\n" + "\n".join(map(str, findings))


def test_docstrings_of_functions_begin_with_an_imperative_verb(functions):
    """Ruff's D401 finds other forms of known verbs; this finds first sentences that do not begin with a verb."""
    findings = []
    for function in functions:
        decorators = " ".join(ast.unparse(decorator) for decorator in function.node.decorator_list)
        if function.doc and not re.search("property|setter|overload", decorators):
            first = function.doc.split()[0].strip(".,:;`")
            if NOT_IMPERATIVE.fullmatch(first) or not first[:1].isupper():
                findings.append(Finding(function.path, function.node.lineno, function.doc.splitlines()[0]))
    fail_with(findings)


def test_no_banned_phrase():
    paths = tracked("*.py", "*.md", "*.j2", "*.yaml", "*.rst", "Makefile")
    findings = [
        Finding(path, number, line.strip())
        for path in paths
        if path != Path(__file__) and path.name != "CHANGELOG.md"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if BANNED.search(line)
    ]
    fail_with(findings)


def array_parameters(function: Function) -> list[ast.arg]:
    arguments = function.node.args
    return [
        argument
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        if argument.annotation is not None
        and ARRAY.search(ast.unparse(argument.annotation))
        and "Callable" not in ast.unparse(argument.annotation)
    ]


def entry_of(name: str, doc: str) -> str | None:
    """Return what a docstring says of a parameter, in the form of numpydoc."""
    found = re.search(rf"(?ms)^(?:[\w*, ]*, )?{name}(?:, [\w*, ]+)? : (.*?)(?=^\S|\Z)", doc)
    return found[1] if found else None


def test_public_array_parameters_have_shape_dtype_and_unit(functions):
    findings = []
    n_arrays = 0
    for function in functions:
        inherits = not function.doc and any(name_of(part) == "override" for part in function.node.decorator_list)
        for argument in array_parameters(function) if function.public and not inherits else ():
            n_arrays += 1
            doc = function.doc
            if function.node.name == "__init__" and function.owner is not None:
                doc = f"{doc}\n{ast.get_docstring(function.owner) or ''}"
            entry = entry_of(argument.arg, doc)
            missing = ["entry"] if entry is None else []
            if entry is not None:
                missing += [] if "shape" in entry or "scalar" in entry else ["shape"]
                missing += [] if DTYPE.search(entry) else ["dtype"]
                missing += [] if UNIT.search(entry) else ["unit"]
            if missing:
                text = f"{function.node.name}({argument.arg}): no {', '.join(missing)}"
                findings.append(Finding(function.path, argument.lineno, text))
    fail_with(findings)
    assert n_arrays > 150, "the walk finds the array parameters"


def test_shape_letters_are_explained_at_the_head_of_the_module(sources):
    findings = []
    for path, tree in sources:
        used: dict[str, int] = {}
        for node in ast.walk(tree):
            name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else ""
            found = re.fullmatch(r"\w*[a-z0-9]_([A-Z]{1,5})", name)
            for letter in found[1] if found and name != name.upper() else "":
                used.setdefault(letter, node.lineno)
        legend = re.search(r"Shape letters: (.*?)(?:\.\s|\.\Z|\n\n|\Z)", ast.get_docstring(tree) or "", re.DOTALL)
        explained = set(re.findall(r"\b([A-Z])\b(?=\s[a-z])", legend[1])) if legend else set()
        findings += [
            Finding(path, line, f"letter {letter} is {'not explained' if letter in LETTERS else 'not in the list'}")
            for letter, line in sorted(used.items())
            if letter not in LETTERS & explained
        ]
    fail_with(findings)


def test_no_function_is_too_long(functions):
    findings = []
    for function in functions:
        node = function.node
        n_lines = (node.end_lineno or node.lineno) - node.lineno + 1 - len(function.doc.splitlines())
        if n_lines > MOST_LINES and "Long because" not in function.doc:
            findings.append(Finding(function.path, node.lineno, f"{node.name}: {n_lines} lines"))
    fail_with(findings)


def text_of(node: ast.expr) -> str:
    """Return the text of an expression, with {} for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return "{}"


def name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def test_every_message_names_a_next_action(sources):
    findings = []
    n_messages = 0
    for path, tree in sources:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and name_of(node.func) in ERRORS and node.args:
                n_messages += 1
                asked = next((word.value for word in node.keywords if word.arg == "next_action"), node.args[-1])
                text = text_of(asked)
                if not (ACTION.search(text) or MADE_ELSEWHERE.search(text)):
                    findings.append(Finding(path, node.lineno, f"no next action: {text}"))
    fail_with(findings)
    assert n_messages > 300, "the walk finds the messages"


def test_tests_of_messages_expect_no_prose():
    """Messages of emeg are checked with `tests.messages.refusal`: class, names and next action."""
    findings = []
    for path in tracked("tests/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In) and PROSE.search(text_of(node.left)):
                where = ast.unparse(node.comparators[0])
                findings += (
                    [Finding(path, node.lineno, f"prose: {text_of(node.left)}")] if MESSAGE.search(where) else []
                )
            if not isinstance(node, ast.Call):
                continue
            expected = [word.value for word in node.keywords if word.arg in {"match", "action"}]
            if name_of(node.func) == "raises" and node.args and expected:
                classes = {name_of(part) for part in ast.walk(node.args[0]) if isinstance(part, ast.expr)}
                if classes & ERRORS:
                    findings.append(Finding(path, node.lineno, "use tests.messages.refusal instead of match="))
            if name_of(node.func) in {"refusal", "check_message"}:
                expected += node.args[1:]
            elif name_of(node.func) not in {"raises", "warns"}:
                continue
            findings += [
                Finding(path, node.lineno, f"prose: {text_of(part)}")
                for part in expected
                if PROSE.search(text_of(part))
            ]
    fail_with(findings)
