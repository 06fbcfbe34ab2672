"""``emeg <verb>``: flags or a YAML file become a configuration, one library function does the work.

The table below holds names only, so that ``emeg --help`` imports no room and a verb imports none but its own.
"""

from __future__ import annotations

import errno
import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_args

from emeg.errors import EmegError, TransientError, UserError
from emeg.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emeg.config import Config


@dataclass(frozen=True)
class Verb:
    """Where a verb lives: `module` exports the function and its configuration class."""

    module: str
    function: str
    config: str
    summary: str


VERBS = {
    "demo": Verb("emeg.flows.pipeline", "demo", "PipelineConfig", "The whole way, archive to report, on one machine."),
    "synthesize": Verb("emeg.synthetic", "synthesize", "SynthesizeConfig", "Write a BIDS archive from physics."),
    "datasets": Verb("emeg.registry", "datasets", "DatasetsConfig", "What is known of public datasets, and its rules."),
    "ingest": Verb("emeg.ingest", "ingest", "IngestConfig", "Bring an archive into the store, standardised."),
    "copies": Verb("emeg.curation", "copies", "CopiesConfig", "Find recordings that hold the same data."),
    "withdraw": Verb("emeg.curation", "withdraw", "WithdrawConfig", "Take a person out of every product, for good."),
    "catalog": Verb("emeg.store", "query_catalog", "CatalogConfig", "Ask the catalogue in SQL."),
    "verify": Verb("emeg.store", "verify", "VerifyConfig", "Re-check every product of a store."),
    "export-bids": Verb("emeg.export", "export_bids", "ExportBidsConfig", "Write recordings as a BIDS derivative."),
    "shard": Verb("emeg.data", "shard", "ShardConfig", "Cut recordings into a frozen corpus, split by person."),
    "plan": Verb("emeg.training", "plan_training", "PlanConfig", "What a training will read and need, before launch."),
    "cache": Verb("emeg.data", "cache", "CacheConfig", "Show, verify or clear local copies of a bucket's shards."),
    "train-tokenizer": Verb(
        "emeg.training", "train_tokenizer", "TrainTokenizerConfig", "Train a BrainTokenizer on a corpus."
    ),
    "tokenize": Verb("emeg.training", "tokenize", "TokenizeConfig", "Write the codes of a corpus, once."),
    "pretrain": Verb("emeg.training", "pretrain", "PretrainConfig", "Train BrainOmni on stored tokens."),
    "finetune": Verb("emeg.evaluation", "finetune", "FinetuneConfig", "Fine-tune and probe on unseen people."),
    "evaluate": Verb("emeg.evaluation", "evaluate", "EvaluateConfig", "Figures beside chance and baselines."),
    "report": Verb("emeg.reports", "report", "ReportConfig", "Write one self-contained HTML page."),
    "quality": Verb("emeg.reports", "quality", "QualityConfig", "Write a page on the quality of each dataset."),
    "push-to-hub": Verb("emeg.models", "push_to_hub", "PushToHubConfig", "Put a model onto a Hugging Face hub."),
    "doctor": Verb("emeg.doctor", "doctor", "DoctorConfig", "Find what keeps a run from starting on this machine."),
    "import-reference": Verb(
        "emeg.models", "import_reference", "ImportReferenceConfig", "Convert weights of the reference release."
    ),
}

_OF_THE_MACHINE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT})
"""Rights and space: said in one line: no traceback helps. Other faults of files are ours until shown otherwise."""

USAGE = "usage: emeg VERB [--config FILE.yaml] [options]     emeg VERB --help     emeg --version"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb; exit code 0 done, 1 a check failed, 2 the caller's mistake, 75 worth another try, 130 interrupted."""
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
        _fail(f"emeg: there is no verb '{name}'; verbs are {', '.join(VERBS)}", 2)
    try:
        _run(name, verb, flags)
    except TransientError as error:
        _fail(f"emeg {name}: {error} (try again later)", 75)
    except EmegError as error:
        _fail(f"emeg {name}: {error}", 2)
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        _fail(f"emeg {name}: {error.strerror}: {error.filename or 'while writing'}; what is finished is kept", 2)
    except KeyboardInterrupt:
        _fail(f"emeg {name}: interrupted; the same command goes on from what is finished", 130)


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items())
    return (
        f"emeg {__version__}: EEG and MEG archives to a foundation model, and what it is worth\n\n{USAGE}\n\n{verbs}\n"
    )


def _fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(message.rstrip() + "\n")
    sys.exit(code)


def _run(name: str, verb: Verb, flags: list[str]) -> None:
    module = importlib.import_module(verb.module)
    config = parse_config(name, verb.summary, getattr(module, verb.config), flags)
    if config is None:
        return
    from emeg.terminal import TerminalProgress, show_result

    with TerminalProgress(name) as progress:
        result = getattr(module, verb.function)(config, progress=progress)
    show_result(result)
    if getattr(result, "failed", False):
        sys.exit(1)


def parse_config(name: str, summary: str, config_class: type[Config], flags: list[str]) -> Config | None:
    """Build a configuration from flags over an optional ``--config FILE.yaml``; `None` after ``--help``.

    Raises
    ------
    UserError
        A flag or a value is refused; the message is one line.
    """
    import cyclopts
    from pydantic import ValidationError

    from emeg.config import describe_faults

    flags, files = _take_config_file(flags)
    built: list[Config] = []

    def receive(config: Any) -> None:  # noqa: ANN401 - the class is known at run time only
        built.append(config)

    receive.__annotations__["config"] = Annotated[config_class, cyclopts.Parameter(name="*")]
    if not any(field.is_required() for field in config_class.model_fields.values()):
        receive.__defaults__ = (config_class(),)
    app = cyclopts.App(
        name=f"emeg {name}",
        help=f"{summary}\n\n--config FILE.yaml gives parameters under the same names; flags win.",
        help_format="plaintext",
        version_flags=[],
        config=[
            cyclopts.config.Dict(_read_file(file, config_class), source=file, use_commands_as_keys=False)
            for file in files
        ],
        result_action="return_value",
    )
    app.default(receive)
    try:
        app(flags, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        reason = describe_faults(error.__cause__) if isinstance(error.__cause__, ValidationError) else str(error)
        raise UserError(f"{' '.join(reason.split())} (see emeg {name} --help)") from error
    return built[0] if built else None


def _read_file(file: str, config_class: type[Config]) -> dict[str, Any]:
    """Read a configuration file; mappings of any keys as JSON, as cyclopts takes the last value only of lists in them.

    Raises
    ------
    UserError
        It is no YAML, or no mapping.
    """
    import yaml

    try:
        fields = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {file}: is no YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict | None):
        raise UserError(f"--config {file}: holds no parameters; write one a line, as root: store")
    return _with_json(fields or {}, config_class)


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
            raise UserError(f"--config {file}: there is no such file")
    return rest, files


if __name__ == "__main__":
    main()
