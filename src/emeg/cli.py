"""``emeg <verb>``: options or a YAML file become a configuration, then one library function does the work.

The table below holds names only, so that ``emeg --help`` imports no room and a verb imports only its own.
"""

from __future__ import annotations

import importlib
import itertools
import json
import re
import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_args

from emeg.errors import EmegError, UserError, machine_fault
from emeg.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

    from emeg.config import Config
    from emeg.options import Option


@dataclass(frozen=True)
class Verb:
    """Where a verb lives: `module` exports the function and its configuration class."""

    module: str
    function: str
    config: str
    summary: str


VERB_GROUPS = {
    "first steps": {
        "demo": Verb("emeg.flows.pipeline", "demo", "PipelineConfig", "Run every step from archive to report, once."),
        "doctor": Verb("emeg.doctor", "doctor", "DoctorConfig", "Check this machine before a run."),
        "synthesize": Verb("emeg.synthetic", "synthesize", "SynthesizeConfig", "Simulate an archive of EEG and MEG."),
    },
    "recordings": {
        "datasets": Verb("emeg.registry", "datasets", "DatasetsConfig", "List known public datasets and their rules."),
        "ingest": Verb("emeg.ingest", "ingest", "IngestConfig", "Bring an archive into the store, standardised."),
        "catalog": Verb("emeg.store", "query_catalog", "CatalogConfig", "Query the catalogue of recordings in SQL."),
        "quality": Verb("emeg.reports", "quality", "QualityConfig", "Write a quality page for each dataset."),
        "copies": Verb("emeg.curation", "copies", "CopiesConfig", "Find recordings that hold the same data."),
        "lineage": Verb("emeg.curation", "lineage", "LineageConfig", "Trace a product to its sources, and onwards."),
        "withdraw": Verb("emeg.curation", "withdraw", "WithdrawConfig", "Remove a subject from every product."),
        "tidy": Verb("emeg.curation", "tidy", "TidyConfig", "Remove old work in progress and logs of a store."),
        "verify": Verb("emeg.store", "verify", "VerifyConfig", "Check every product of a store for damage."),
        "export-bids": Verb("emeg.export", "export_bids", "ExportBidsConfig", "Write recordings as a BIDS derivative."),
    },
    "training": {
        "shard": Verb("emeg.data", "shard", "ShardConfig", "Cut recordings into a corpus, split by subject."),
        "plan": Verb("emeg.training", "plan_training", "PlanConfig", "Forecast what a training reads and needs."),
        "train-tokenizer": Verb(
            "emeg.training", "train_tokenizer", "TrainTokenizerConfig", "Train a tokenizer on a corpus."
        ),
        "tokenize": Verb("emeg.training", "tokenize", "TokenizeConfig", "Write the codes of a corpus."),
        "pretrain": Verb("emeg.training", "pretrain", "PretrainConfig", "Train an encoder on the codes of a corpus."),
        "cache": Verb("emeg.data", "cache", "CacheConfig", "Show, verify or clear local copies of shards."),
    },
    "evaluation": {
        "tasks": Verb("emeg.evaluation", "list_tasks", "TasksConfig", "List tasks, and say which can run on a store."),
        "finetune": Verb("emeg.evaluation", "finetune", "FinetuneConfig", "Fine-tune a model on held-out subjects."),
        "evaluate": Verb(
            "emeg.evaluation", "evaluate", "EvaluateConfig", "Compare a model with others, on one task or many."
        ),
        "generate": Verb(
            "emeg.evaluation.generation", "generate", "GenerateConfig", "Continue held-out recordings, and judge it."
        ),
        "report": Verb("emeg.reports", "report", "ReportConfig", "Write an evaluation as one HTML page."),
        "compare": Verb("emeg.reports", "compare", "CompareConfig", "Compare evaluations over tasks on one page."),
    },
    "service": {
        "up": Verb("emeg.service", "up", "UpConfig", "Start server, worker and watcher on this machine."),
        "status": Verb("emeg.service", "status", "StatusConfig", "Show what runs on this machine."),
        "down": Verb("emeg.service", "down", "DownConfig", "Stop what emeg up has started."),
        "deploy": Verb("emeg.service", "deploy", "DeployConfig", "Bring a Prefect server to what emeg.yaml declares."),
        "work": Verb("emeg.service", "work", "WorkConfig", "Run the flows of a work pool on this machine."),
        "watch": Verb("emeg.service", "watch", "WatchConfig", "Mark flow runs whose process has died."),
    },
    "models": {
        "push-to-hub": Verb("emeg.reports", "push_to_hub", "PushToHubConfig", "Upload a model to a Hugging Face hub."),
        "import-reference": Verb(
            "emeg.models", "import_reference", "ImportReferenceConfig", "Convert weights of the BrainOmni release."
        ),
    },
}
"""Verbs by the heading of ``emeg --help``."""

VERBS = {name: verb for group in VERB_GROUPS.values() for name, verb in group.items()}

USAGE = "usage: emeg VERB [--config FILE.yaml] [options]     emeg VERB --help     emeg --version"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb; exit code 0 done, 1 a check failed, 2 wrong use, 75 run it again, 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        sys.stdout.write(_overview())
        return
    if arguments[0] == "--version":
        sys.stdout.write(f"emeg {__version__}\n")
        return
    name, *flags = arguments
    verb = VERBS.get(name)
    if verb is None:
        _fail(f"emeg: there is no verb {name!r}{_closest(name, list(VERBS))}; see emeg --help", 2)
    try:
        _run(name, verb, flags)
    except EmegError as error:
        _fail(f"emeg {name}: {error}", error.exit_code)
    except OSError as error:
        fault = machine_fault(error)
        if fault is None:
            raise
        _fail(f"emeg {name}: {fault}", fault.exit_code)
    except Terminated:
        _fail(f"emeg {name}: stopped by SIGTERM; finished work is kept. Run the same command again to continue", 75)
    except KeyboardInterrupt:
        _fail(f"emeg {name}: interrupted; run the same command again to continue from the finished part", 130)


def _overview() -> str:
    width = max(map(len, VERBS))
    parts = [
        f"emeg {__version__}: train a foundation model on EEG and MEG archives, and measure what it is worth",
        USAGE,
    ]
    for group, verbs in VERB_GROUPS.items():
        parts.append("\n".join([f"{group}:", *(f"  {name:<{width}}  {verb.summary}" for name, verb in verbs.items())]))
    return "\n\n".join(parts) + "\n"


def _fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(message.rstrip() + "\n")
    sys.exit(code)


def _run(name: str, verb: Verb, flags: list[str]) -> None:
    module = importlib.import_module(verb.module)
    config_class = getattr(module, verb.config)
    if not {"-h", "--help"}.isdisjoint(flags):
        sys.stdout.write(_help(name, verb.summary, config_class, flags))
        return
    config = parse_config(name, config_class, _with_long_from(config_class, flags))
    from emeg.terminal import TerminalProgress, show_result

    with TerminalProgress(name) as progress, _stoppable():
        result = getattr(module, verb.function)(config, progress=progress)
    show_result(result)
    if getattr(result, "failed", False):
        sys.exit(1)


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. Like an interrupt from the keyboard it passes every handler of errors."""


@contextmanager
def _stoppable() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM during the block, so that the verb can clean up."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _help(name: str, summary: str, config_class: type[Config], flags: list[str]) -> str:
    """Return the help page, or with an option's name after ``--help`` the text of that option.

    A recipe among the other flags, or in a file given by ``--config``, sets the defaults that are shown.

    Raises
    ------
    UserError
        There is no such option.
    """
    from emeg.options import help_text, list_options, option_text

    at = next(index for index, flag in enumerate(flags) if flag in {"-h", "--help"})
    asked = flags[at + 1] if at + 1 < len(flags) and not flags[at + 1].startswith("-") else None
    rest, files = _take_config_file([*flags[:at], *flags[at + 1 + (asked is not None) :]])
    given: dict[str, Any] = {}
    for file in files:
        given |= _read_file(file, config_class)
    for flag, value in itertools.pairwise([*rest, ""]):
        if flag.startswith("--"):
            key, _, joined = flag[2:].partition("=")
            given[key.replace("-", "_")] = joined or value
    options = list_options(config_class, given)
    if asked is None:
        return help_text(name, summary, options)
    wanted = asked.replace("_", "-")
    found = next((option for option in options if option.name == wanted), None)
    if found is None:
        raise UserError(
            f"there is no option {wanted!r}{_closest(wanted, [option.name for option in options])}; see --help"
        )
    return option_text(name, found)


def _closest(name: str, known: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"; use {close[0]} if you mean that" if close else ""


def _with_long_from(config_class: type[Config], flags: list[str]) -> list[str]:
    """Replace ``--from``, a word of Python, by the option of the field that it stands for."""
    field = next((name for name in ("from_model", "model") if name in config_class.model_fields), None)
    if field is None:
        return flags
    option = f"--{field.replace('_', '-')}"
    return [re.sub(r"^--from(?==|$)", option, flag) for flag in flags]


def parse_config(name: str, config_class: type[Config], flags: list[str]) -> Config:
    """Build a configuration from flags over an optional ``--config FILE.yaml``.

    Raises
    ------
    UserError
        A flag or a value is refused; the message is one line.
    """
    import cyclopts
    from pydantic import ValidationError

    from emeg.config import describe_faults

    flags, files = _take_config_file(flags)
    flags, nulls = _take_nulls(flags, config_class)
    built: list[Config] = []

    def receive(*, config: Any) -> None:  # noqa: ANN401 - the class is known at run time only
        built.append(config)

    receive.__annotations__["config"] = Annotated[config_class, cyclopts.Parameter(name="*")]
    if not any(field.is_required() for field in config_class.model_fields.values()):
        receive.__kwdefaults__ = {"config": config_class()}
    app = cyclopts.App(
        name=f"emeg {name}",
        help_flags=[],
        version_flags=[],
        config=[
            cyclopts.config.Dict(nulls, source="null", use_commands_as_keys=False),
            *(
                cyclopts.config.Dict(_read_file(file, config_class), source=file, use_commands_as_keys=False)
                for file in files
            ),
        ],
        result_action="return_value",
    )
    app.default(receive)
    try:
        app(_checked_flags(flags, config_class), exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        reason = describe_faults(error.__cause__) if isinstance(error.__cause__, ValidationError) else str(error)
        raise UserError(f"{' '.join(reason.split())} (see emeg {name} --help)") from error
    return built[0]


def _take_nulls(flags: list[str], config_class: type[Config]) -> tuple[list[str], dict[str, Any]]:
    """Split ``--option null`` off the flags, for options that may be null.

    Returns
    -------
    list of str
        The other flags.
    dict
        None for each of these options, nested like the fields.

    Raises
    ------
    UserError
        An option is null and has a value, too.
    """
    from emeg.options import nullable_names

    nullable = {f"--{name}" for name in nullable_names(config_class)}
    rest: list[str] = []
    nulls: dict[str, Any] = {}
    taken: list[str] = []
    for flag in flags:
        before = rest[-1].replace("_", "-") if rest else ""
        name, joined, value = flag.replace("_", "-").partition("=")
        if flag == "null" and before in nullable:
            rest.pop()
            taken.append(before)
        elif joined and value == "null" and name in nullable:
            taken.append(name)
        else:
            rest.append(flag)
    for option in taken:
        others = [*rest, *(f"{name}=null" for name in taken if name != option)]
        given = next((f for f in others if re.match(rf"{re.escape(option)}(?![\w-])", f.replace("_", "-"))), None)
        if given is not None:
            raise UserError(f"{option} is null, and {given} is given, too; leave one of them out")
        *sections, last = option.removeprefix("--").replace("-", "_").split(".")
        inside = nulls
        for section in sections:
            inside = inside.setdefault(section, {})
        inside[last] = None
    return rest, nulls


def _checked_flags(flags: list[str], config_class: type[Config]) -> list[str]:
    """Check the names of options, and write flags in the form that the parser takes.

    ``--switch false`` becomes ``--switch=false``, because a switch alone means true, and ``--seeds 0 1`` becomes
    ``--seeds 0 --seeds 1``.

    Raises
    ------
    UserError
        There is no such option, or a value stands before any option.
    """
    from emeg.options import list_options

    options = {f"--{option.name}": option for option in list_options(config_class)}
    if flags and not flags[0].startswith("-"):
        raise UserError(
            f"{flags[0]!r} stands where the name of an option is expected;"
            f" write one before it, such as {next(iter(options))}"
        )
    checked: list[str] = []
    several = ""  # option that takes several values, once it has one
    for flag in flags:
        before = options.get(checked[-1].replace("_", "-")) if checked else None
        if before is not None and before.is_switch and flag.lower() in {"true", "false", "yes", "no"}:
            checked[-1] = f"{checked[-1]}={flag}"
            continue
        if flag.startswith("--"):
            name, joined, _ = flag.replace("_", "-").partition("=")
            _check_name(name, options)
            several = name if joined and name in options and options[name].takes_several else ""
        elif several:
            checked.append(several)
        elif before is not None and before.takes_several:
            several = checked[-1]
        checked.append(flag)
    return checked


def _check_name(name: str, options: Mapping[str, Option]) -> None:
    plain = f"--{name.removeprefix('--no-')}"
    is_off = name.startswith("--no-") and plain in options and options[plain].is_switch
    is_entry = any(option.type == "JSON" and name.startswith(f"{known}.") for known, option in options.items())
    is_section = any(known.startswith(f"{name}.") for known in options)
    if not (name in options or is_off or is_entry or is_section):
        raise UserError(f"there is no option {name}{_closest(name, list(options))}; see --help")


def _read_file(file: str, config_class: type[Config]) -> dict[str, Any]:
    """Read a configuration file; mappings with free keys become JSON.

    Of a list in such a mapping cyclopts would take only the last value.

    Raises
    ------
    UserError
        The file is not YAML, or not a mapping.
    """
    from emeg.config import read_yaml

    try:
        text = Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"--config {file}: not readable as YAML; correct it: {' '.join(str(error).split())}") from error
    return _with_json(read_yaml(text, source=f"--config {file}"), config_class)


def _with_json(fields: dict[str, Any], config_class: type[Config]) -> dict[str, Any]:
    from emeg.config import Config

    written = dict(fields)
    for name, value in fields.items():
        field = config_class.model_fields.get(name)
        if field is None or not isinstance(value, dict):
            continue
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        inner = next((kind for kind in kinds if issubclass(kind, Config)), None)
        written[name] = json.dumps(value) if inner is None else _with_json(value, inner)
    return written


def _take_config_file(flags: list[str]) -> tuple[list[str], list[str]]:
    """Split ``--config FILE`` off the flags."""
    rest: list[str] = []
    files: list[str] = []
    iterator = iter(flags)
    for flag in iterator:
        if flag == "--config":
            files.append(next(iterator, ""))
        elif flag.startswith("--config="):
            files.append(flag.removeprefix("--config="))
        else:
            rest.append(flag)
    for file in files:
        if not Path(file).is_file():
            raise UserError(f"--config {file or '(nothing)'}: there is no such file; give the path of a YAML file")
    return rest, files


if __name__ == "__main__":
    main()
