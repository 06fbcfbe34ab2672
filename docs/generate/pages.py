"""Write the reference pages: one for each verb, recipe and room, one of the dataset registry, one of tables."""

import importlib
import inspect
import re
import shutil
from collections.abc import Iterable, Iterator
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from sphinx.errors import ExtensionError
from sphinx.pycode import ModuleAnalyzer

from emeg.cli import VERBS
from emeg.config import Config
from emeg.options import list_options
from emeg.registry import Registry
from emeg.training.recipes import kind_of
from generate.names import public_names
from generate.options import FieldEntry, annotation_text, default_of, default_text, options_of, type_text

SCHEMAS = {
    "segments.parquet": ("emeg.data.corpus.writing", "SEGMENTS"),
    "layouts.parquet": ("emeg.data.corpus.writing", "LAYOUTS"),
    "predictions.parquet": ("emeg.evaluation.products", "PREDICTIONS"),
    "histories.parquet": ("emeg.evaluation.products", "HISTORIES"),
    "figures.parquet": ("emeg.evaluation.products", "FIGURES"),
}
"""File of a corpus, a model or an evaluation: the constant that holds its columns."""

CATALOGUE = ("CatalogRow", "Event", "QuarantineRecord", "RecordingAttributes")


def write_pages(folder: Path) -> None:
    """Write all generated pages below `folder`; a file is touched only if its text changed."""
    pages = dict(_all_pages())
    for path in sorted(folder.rglob("*.rst")):
        if str(path.relative_to(folder)) not in pages:
            path.unlink()
    for name, lines in pages.items():
        path = folder / name
        text = "\n".join(lines).rstrip() + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for child in folder.iterdir():
        if child.is_dir() and not any(child.iterdir()):
            shutil.rmtree(child)


def _all_pages() -> Iterator[tuple[str, list[str]]]:
    names = public_names()
    yield from _verb_pages()
    yield from _recipe_pages()
    yield from _python_pages(names)
    yield "datasets.rst", _registry_page()
    yield "tables.rst", _tables_page()


# ---------------------------------------------------------------------------------------------------------- verbs


def _verb_pages() -> Iterator[tuple[str, list[str]]]:
    for name, verb in VERBS.items():
        config = getattr(importlib.import_module(verb.module), verb.config)
        yield (
            f"verbs/{name}.rst",
            [
                *_label(f"verb-{name}"),
                *_title(f"emeg {name}"),
                verb.summary,
                "",
                f"In Python: ``{verb.module}.{verb.function}({verb.config}(…))``.",
                "",
                *_option_lists(name, config),
            ],
        )
    yield (
        "verbs/index.rst",
        [
            *_label("verbs"),
            *_title("Commands"),
            "Every command takes its options as flags, or from a YAML file (``--config FILE.yaml``) under the same",
            "names; flags win. ``emeg VERB --help`` prints the same options. Options that cannot change a result are",
            "not part of the names of products.",
            "",
            "Exit codes: 0 done, 1 a check failed, 2 the input or a setting must be changed, 75 the same command may",
            "succeed later, 130 interrupted.",
            "",
            *_table(
                ("command", "what it does"),
                [(f":ref:`{name} <verb-{name}>`", verb.summary) for name, verb in VERBS.items()],
            ),
            "",
            *_toctree(VERBS),
        ],
    )


def _option_lists(verb: str, config: type[Config]) -> Iterator[str]:
    fields = {field.flag: field for field in options_of(config)}
    yield f".. program:: emeg {verb}"
    yield ""
    group = ""
    for option in list_options(config):
        if option.group != group:
            group = option.group
            yield from _title(group.capitalize(), "-")
        field = fields[f"--{option.name}"]
        facts = [f"*{field.type}*"]
        facts += ["required"] if option.required else []
        facts += [f"required with any other option of {option.group}"] if option.needed_in_group else []
        facts += [f"default {_code(option.default)}"] if option.default else []
        facts += [] if field.changes_result else ["cannot change a result"]
        yield f".. option:: {field.flag}"
        yield ""
        yield from _indented([escape_plain(option.description), "", ", ".join(facts), ""])


# ---------------------------------------------------------------------------------------------------------- recipes


def recipe_files() -> dict[str, Path]:
    """Return the recipe files of the package by name; those of the dataset registry are not among them."""
    folder = Path(str(resources.files("emeg") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _readers_of_recipes() -> dict[str, tuple[str, type[Config]]]:
    """Return, for each kind of recipe, the command that reads it and its configuration class."""
    readers = {}
    for name, verb in VERBS.items():
        config = getattr(importlib.import_module(verb.module), verb.config)
        if hasattr(config, "recipe_kind"):
            readers[config.recipe_kind] = (name, config)
    return readers


def _recipe_pages() -> Iterator[tuple[str, list[str]]]:
    readers = _readers_of_recipes()
    rows = []
    for name, path in recipe_files().items():
        kind = kind_of(name)
        if kind not in readers:
            raise ExtensionError(f"{path}: no command has the recipe_kind {kind!r}; set recipe_kind")
        verb, config = readers[kind]
        text = path.read_text(encoding="utf-8")
        comment = " ".join(line.lstrip("# ") for line in _leading_comment(text))
        values = dict(_flat(yaml.safe_load(text)))
        meanings = {option.path: option for option in options_of(config)}
        rows.append((f":ref:`{name} <recipe-{name}>`", f":ref:`{verb} <verb-{verb}>`", comment))
        yield (
            f"recipes/{name}.rst",
            [
                *_label(f"recipe-{name}"),
                *_title(name),
                comment,
                "",
                f"Read by :ref:`emeg {verb} <verb-{verb}>` with ``--recipe {name}``.",
                "",
                *_table(
                    ("field", "value", "meaning"),
                    [
                        (_code(field), _code(default_text(value)), _meaning(field, meanings))
                        for field, value in values.items()
                    ],
                ),
                "",
                "The file:",
                "",
                ".. code-block:: yaml",
                "",
                *_indented(text.splitlines()),
            ],
        )
    yield (
        "recipes/index.rst",
        [
            *_label("recipes"),
            *_title("Recipes"),
            "A recipe is a YAML file with the values of one training. ``--recipe`` takes a name from this list or the",
            "path of a file; flags win over the recipe. Your own file may leave fields out: they come from the recipe",
            "that its field ``extends`` names, or from the default recipe of the command.",
            "",
            *_table(("recipe", "command", "for"), rows),
            "",
            *_toctree(recipe_files()),
        ],
    )


def _meaning(field: str, meanings: dict[str, FieldEntry]) -> str:
    entry = meanings.get(field) or meanings.get(field.rpartition(".")[0])
    if entry is None:
        raise ExtensionError(f"recipe field {field} is no field of its configuration class")
    return escape_plain(entry.meaning)


def _leading_comment(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        yield line


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


# ---------------------------------------------------------------------------------------------------------- Python


def _python_pages(names: dict[str, dict[str, str]]) -> Iterator[tuple[str, list[str]]]:
    verbs = {(verb.module, verb.config): name for name, verb in VERBS.items()}
    for room, members in names.items():
        module = importlib.import_module(room)
        lines = [*_title(room), f".. py:module:: {room}", ""]
        lines += [
            ".. code-block:: text",
            "   :class: flow",
            "",
            *_indented(_drawing(module.__doc__ or room)),
            "",
        ]
        objects = {name: getattr(module, name) for name in sorted(members, key=str.lower)}
        role = {name: _role(value) for name, value in objects.items()}
        docs = {name: _doc(objects[name], name, defined_in) for name, defined_in in members.items()}
        lines += _table(
            ("name", "what it is"),
            [(f":py:{role[name]}:`~{room}.{name}`", _first_sentence(docs[name])) for name in objects],
        )
        for name, value in objects.items():
            home = members[name] if members[name] in names and members[name] != room else ""
            if home:
                lines += ["", *_title(name, "-"), f".. py:class:: {name}", f"   :module: {room}", ""]
                lines += [f"   Another name of :py:class:`{home}.{name}`."]
                continue
            lines += ["", *_title(name, "-"), *_entry(room, name, value, docs[name], verbs.get((room, name)))]
        yield f"python/{room}.rst", lines
    yield (
        "python/index.rst",
        [
            *_label("python"),
            *_title("Python"),
            "Public names of each package. Importing a package loads neither torch, MNE-Python nor Prefect; a name",
            "loads what it needs when it is first used.",
            "",
            *_table(
                ("package", "public names"),
                [
                    (f":doc:`{room} <{room}>`", ", ".join(f":py:obj:`{name} <{room}.{name}>`" for name in members))
                    for room, members in names.items()
                ],
            ),
            "",
            *_toctree(names),
        ],
    )


def _entry(room: str, name: str, value: object, doc: str, verb: str | None) -> list[str]:
    if isinstance(value, type) and issubclass(value, BaseModel):
        lines = [f".. py:class:: {name}", f"   :module: {room}", "", *_indented([*_plain(doc), ""])]
        if verb is not None:
            link = f"Every field is an option of :ref:`emeg {verb} <verb-{verb}>`, described there."
            return [*lines, *_indented([link, "", *_methods(room, name, value)])]
        return [*lines, *_indented([*_fields(value), *_methods(room, name, value)])]
    if isinstance(value, type) and issubclass(value, Enum):
        return [f".. autoclass:: {room}.{name}", "   :members:", "   :undoc-members:"]
    if isinstance(value, type) and hasattr(value, "_fields"):
        documented = _attribute_docs(value.__module__)
        lines = [f".. autoclass:: {room}.{name}", ""]
        for field in value._fields:
            meaning = " ".join(documented.get((value.__name__, field), [])).strip()
            lines += _indented([f"``{field}``", f"    {meaning}", ""]) if meaning else []
        return [*lines, *_indented(_methods(room, name, value))]
    if isinstance(value, type):
        return [f".. autoclass:: {room}.{name}", "   :members:"]
    if inspect.isroutine(value):
        return [f".. autofunction:: {room}.{name}"]
    return [f".. py:data:: {name}", f"   :module: {room}", "", *_indented(_plain(doc))]


def _fields(model: type[BaseModel]) -> Iterator[str]:
    for field_name, field in model.model_fields.items():
        default = default_of(field)
        end = (
            ""
            if default is PydanticUndefined or isinstance(default, BaseModel)
            else f", default {default_text(default)}"
        )
        kind = annotation_text(field.annotation) if isinstance(field.annotation, type) else type_text(field)
        yield f"``{field_name}`` : {kind}{end}"
        yield f"    {escape_plain(' '.join((field.description or '').split())) or 'Not described.'}"
        yield ""


def _methods(room: str, name: str, value: type) -> Iterator[str]:
    """Yield directives for the documented public methods and properties that a class defines itself."""
    for member, found in vars(value).items():
        function = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
        if member.startswith("_") or not inspect.getdoc(function) or member == "product_fields":
            continue
        if isinstance(found, property):
            yield from (f".. autoproperty:: {room}.{name}.{member}", "")
        elif inspect.isfunction(function):
            yield from (f".. automethod:: {room}.{name}.{member}", "")


def _role(value: object) -> str:
    return "class" if isinstance(value, type) else "func" if inspect.isroutine(value) else "data"


def _doc(value: object, name: str, module: str) -> str:
    if isinstance(value, type) or inspect.isroutine(value):
        return inspect.getdoc(value) or ""
    for (owner, attribute), lines in _attribute_docs(module).items():
        if not owner and attribute == name:
            return "\n".join(lines).strip()
    return f"Value: ``{value!r}``."


def _attribute_docs(module: str) -> dict[tuple[str, str], list[str]]:
    analyzer = ModuleAnalyzer.for_module(module)
    analyzer.analyze()
    return {key: list(lines) for key, lines in analyzer.attr_docs.items()}


# ---------------------------------------------------------------------------------------------------------- tables


def _registry_page() -> list[str]:
    rows = [
        (
            f"``{entry.id}``",
            entry.title,
            ", ".join(entry.modality),
            f"{entry.device.vendor} {entry.device.model}".strip() or "not known",
            str(entry.subjects),
            f"{entry.hours:g}" if entry.hours else "not known",
            entry.licence,
            entry.access_tier,
            "no" if entry.never_pretrain else "yes",
        )
        for entry in Registry.load()
    ]
    return [
        *_label("registry"),
        *_title("Registered datasets"),
        "What emeg knows of a public dataset before it fetches a byte. :ref:`emeg datasets --name ID <verb-datasets>`",
        "prints the whole entry: montage, mains frequency, channel renames, tasks, datasets with the same subjects. A",
        "dataset that must not be pretrained on is held out by :ref:`emeg shard <verb-shard>`.",
        "",
        *_table(
            ("id", "title", "signals", "device", "subjects", "hours", "licence", "access", "pretraining"),
            rows,
        ),
    ]


def _tables_page() -> list[str]:
    store = importlib.import_module("emeg.store")
    lines = [
        *_label("tables"),
        *_title("Tables"),
        "Columns of the tables in a store. ``emeg catalog --where`` takes a condition in SQL over the columns of",
        "``CatalogRow``.",
        "",
    ]
    for name in CATALOGUE:
        value = getattr(store, name)
        lines += [*_title(name, "-"), *_plain(inspect.getdoc(value)), ""]
        if issubclass(value, BaseModel):
            lines += _table(
                ("column", "type", "meaning"),
                [(_code(option.path), option.type, escape_plain(option.meaning)) for option in options_of(value)],
            )
        else:
            types = inspect.get_annotations(value, eval_str=True)
            lines += _table(("column", "type"), [(_code(n), annotation_text(types[n])) for n in value._fields])
        lines.append("")
    reasons = [(str(reason.value), _code(str(reason.name))) for reason in store.BadReason]
    lines += [
        *_title("BadReason", "-"),
        *_plain(inspect.getdoc(store.BadReason)),
        "",
        *_table(("bit", "reason"), reasons),
    ]
    for file, (module, name) in SCHEMAS.items():
        schema = getattr(importlib.import_module(module), name)
        meaning = _doc(schema, name, module)
        lines += ["", *_title(file, "-"), *([] if meaning.startswith("Value:") else [*_plain(meaning), ""])]
        lines += _table(("column", "type"), [(_code(field.name), _arrow_type(field.type)) for field in schema])
    return lines


def _arrow_type(kind: object) -> str:
    value = getattr(kind, "value_type", None)
    if value is None:
        return str(kind)
    return f"list of {value}" if str(kind).startswith("list") else str(value)


# ---------------------------------------------------------------------------------------------------------- RST


def _title(text: str, underline: str = "=") -> list[str]:
    return [text, underline * max(len(text), 4), ""]


def _label(name: str) -> list[str]:
    return [f".. _{name}:", ""]


_SPANS = re.compile(r"(``.*?``|`[^`]*`_?|\*\*[^*]+\*\*)")


def escape_plain(text: str) -> str:
    """Escape signs of reStructuredText in a plain sentence; code between backticks stays code.

    Parameters
    ----------
    text : str
        A description without markup other than backticks.
    """
    parts = _SPANS.split(text)
    return "".join(part if number % 2 else re.sub(r"([*|_\\])", r"\\\1", part) for number, part in enumerate(parts))


def _code(text: str) -> str:
    return f"``{text}``" if text else ""


def _plain(text: str | None) -> list[str]:
    """Return a docstring as lines, or a sentence where there is none."""
    return (text or "").splitlines()


def _drawing(text: str) -> list[str]:
    """Return a module's docstring as it looks in the source, without marks of code."""
    return inspect.cleandoc(text).replace("``", "").replace("`", "").splitlines()


def _first_sentence(text: str) -> str:
    first = " ".join(text.partition("\n\n")[0].split())
    return first.partition(". ")[0].rstrip(".") + "." if first else ""


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"   {line}" if line else "" for line in lines]


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", f"   :class: reference{' wide' if len(header) > 2 else ''}", ""]
    for row in (header, *rows):
        lines += [
            f"   {'*' if first else ' '} - {cell}"
            for first, cell in zip([True] + [False] * len(row), row, strict=False)
        ]
    return lines


def _toctree(names: Iterable[str]) -> list[str]:
    return [".. toctree::", "   :hidden:", "", *(f"   {name}" for name in names)]
