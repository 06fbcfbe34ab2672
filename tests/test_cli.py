"""The command line: quick help, one-line refusals, flags over files, no imports that a verb does not use."""

import errno
import importlib
import os
import re
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
import yaml
from pydantic import Field
from tests.messages import check_message, refusal

from emeg.cli import VERB_GROUPS, VERBS, Verb, main, parse_config
from emeg.config import Config, option, runtime_field
from emeg.errors import UserError
from emeg.options import list_options, nullable_names


class Inner(Config):
    """Settings inside settings."""

    l_freq: float = 0.1
    """Lower edge, Hz."""


class Example(Config):
    """Settings."""

    archive: str
    """Where recordings lie."""
    names: tuple[str, ...] = ()
    """Several."""
    inner: Inner = Inner()
    """Nested."""
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Lists by name."""
    maybe: Inner | None = None
    """Nested, or not."""
    workers: int = runtime_field(2, ge=1)
    """Processes."""


def parse(*flags: str) -> Config:
    return parse_config("example", Example, list(flags))


def test_flags_become_a_configuration():
    assert parse("--archive", "x", "--inner.l-freq", "0.5", "--names", "a", "--names", "b") == Example(
        archive="x", inner=Inner(l_freq=0.5), names=("a", "b")
    )


def test_an_option_of_several_values_takes_them_in_one_or_in_several_places():
    class Several(Example):
        numbers: tuple[float, ...] = (1.0,)
        """Any number of values."""
        pair: tuple[int, int] = (1, 2)
        """Two values."""

    def parsed(*flags: str) -> Config:
        return parse_config("several", Several, ["--archive", "x", *flags])

    assert {entry.name: entry.type for entry in list_options(Several)}["numbers"] == "NUMBER..."
    for flags in (
        ("--numbers", "1", "10", "-3", "--pair", "4", "5", "--names", "a", "b"),
        ("--names=a", "b", "--numbers", "1", "--pair", "4", "5", "--numbers", "10", "-3"),
    ):
        assert parsed(*flags) == Several(archive="x", numbers=(1, 10, -3), pair=(4, 5), names=("a", "b"))
    for flags in (("--workers", "2", "3"), ("--pair", "1", "2", "3")):
        with refusal(UserError, "3", action="emeg several --help"):
            parsed(*flags)


def test_flags_win_over_a_file(tmp_path: Path):
    file = tmp_path / "settings.yaml"
    file.write_text("archive: from-file\ninner: {l_freq: 0.3}\nworkers: 5\n")
    assert parse("--config", str(file), "--workers", "3") == Example(
        archive="from-file", inner=Inner(l_freq=0.3), workers=3
    )


def test_lists_in_mappings_are_kept_whole(tmp_path: Path):
    file = tmp_path / "settings.yaml"
    file.write_text('archive: x\ngroups: {left: [a, "769"], right: [b]}\nmaybe: {l_freq: 0.3}\nnames: [u, v]\n')
    expected = Example(
        archive="x", names=("u", "v"), groups={"left": ("a", "769"), "right": ("b",)}, maybe=Inner(l_freq=0.3)
    )
    assert parse("--config", str(file)) == expected
    assert parse("--archive", "x", "--groups", '{"left": ["a", "769"]}') == Example(
        archive="x", groups={"left": ("a", "769")}
    )
    with refusal(UserError, "groups.left", action="emeg example --help"):  # of which one would be lost
        parse("--archive", "x", "--groups.left", "a", "--groups.left", "769")


@pytest.mark.parametrize(
    ("flags", "named", "action"),
    [
        ((), "--archive", "emeg example --help"),
        (("--archive", "x", "--workers", "0"), "workers", "emeg example --help"),
        (("--archive", "x", "--wokers", "2"), "--wokers", "--workers"),
        (("--archive", "x", "--colour", "2"), "--colour", "--help"),
        (("x", "--workers", "2"), "'x'", "--archive"),
        (("--archive", "x", "--inner.l-freq", "low"), "l_freq", "emeg example --help"),
        (("--config", "absent.yaml"), "absent.yaml", "YAML file"),
    ],
)
def test_a_refused_flag_is_one_line_that_names_it(flags: tuple[str, ...], named: str, action: str):
    with refusal(UserError, named, action=action):
        parse(*flags)


def test_runtime_fields_stay_out_of_product_names():
    assert Example(archive="x", workers=1).product_hash() == Example(archive="x", workers=9).product_hash()
    assert Example(archive="x").product_hash() != Example(archive="x", inner=Inner(l_freq=1)).product_hash()


def test_an_unknown_verb_ends_with_code_2(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["ingets"])
    assert caught.value.code == 2
    assert "ingest" in capsys.readouterr().err


def test_a_users_mistake_ends_with_code_2_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["shard", "--root", str(tmp_path / "absent")])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "absent" in message


@pytest.mark.parametrize(
    ("text", "named", "action"), [(": : :", "line 1", "correct"), ("- a\n- b", "options", "`root: store`")]
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, text: str, named: str, action: str):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with refusal(UserError, "settings.yaml", named, action=action):
        parse("--config", str(file), "--archive", "x")
    file.write_text("# all as it is\n")
    assert parse("--config", str(file), "--archive", "x") == Example(archive="x")


@pytest.mark.parametrize(
    ("archive", "root", "words"),
    [
        ("absent", "store", "no such archive"),
        ("empty", "store", r"no recording was found in it.*not a recording: 1, such as \S+\.txt"),
        ("good", "file/store", "cannot be made"),
        ("good", "taken", "is not empty"),
    ],
)
def test_an_ingest_that_cannot_be_leaves_nothing(
    tmp_path: Path, archive: str, root: str, words: str, capsys: pytest.CaptureFixture[str]
):
    for folder in ("empty", "good/sub-01/eeg", "taken"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / ("x_task-a_eeg.edf" if "sub" in folder else "notes.txt")).write_bytes(b"0")
    (tmp_path / "file").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        main(["ingest", "--archive", str(tmp_path / archive), "--root", str(tmp_path / root)])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert re.search(words, message)
    assert message.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bucket_without_credentials_is_one_line(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    for command in (
        ["ingest", "--archive", "s3://b/x", "--root", str(tmp_path / "s")],
        ["shard", "--root", "s3://b/y"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(command)
        assert caught.value.code == 2
        message = capsys.readouterr().err
        assert "anonymous:s3://" in message
        assert message.count("\n") == 1
    s3fs.S3FileSystem.clear_instance_cache()


def test_sigterm_ends_a_verb_with_code_75(monkeypatch, capsys: pytest.CaptureFixture[str]):
    def verb(config: Example, *, progress: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    module = types.SimpleNamespace(Example=Example, verb=verb)
    monkeypatch.setitem(sys.modules, "verb_of_this_test", module)
    monkeypatch.setitem(VERBS, "example", Verb("verb_of_this_test", "verb", "Example", "An example."))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        main(["example", "--archive", "x"])
    assert caught.value.code == 75
    message = capsys.readouterr().err.splitlines()[-1]
    check_message(message, "SIGTERM", action="same command")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_is_one_line(number: int, monkeypatch, capsys: pytest.CaptureFixture[str]):
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "/data/store")

    monkeypatch.setattr("emeg.cli._run", fail)
    with pytest.raises(SystemExit) as caught:
        main(["shard", "--root", "x"])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    check_message(message.strip(), "/data/store", action="same command")


def leaves(config: type[Config], prefix: str = "") -> Iterator[str]:
    """Names on the command line of every field that holds no configuration."""
    for name, field in config.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        inner = [kind for kind in kinds if not get_args(kind) and issubclass(kind, Config)]
        dotted = f"{prefix}{name.replace('_', '-')}"
        yield from (leaves(inner[0], f"{dotted}.") if inner else [f"--{dotted}"])


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_has_one_line_for_every_option(verb: str, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "120")
    main([verb, "--help"])
    page = capsys.readouterr().out
    listed = re.findall(r"^  (--\S+) ", page, re.MULTILINE)
    config = getattr(importlib.import_module(VERBS[verb].module), VERBS[verb].config)
    assert sorted(listed) == sorted(leaves(config))
    assert max(map(len, page.splitlines())) <= 120
    assert not re.search(r"--(no|empty)-", page)


def test_the_help_shows_groups_choices_and_the_defaults_of_the_verb(capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "160")
    main(["pretrain", "--help"])
    page = capsys.readouterr().out
    assert re.search(r"--optimiser.learning-rate NUMBER .*default 0\.003\]", page)  # the tokenizer's is 0.002
    assert re.search(r"--keep CHOICE .*\[last, best; default best\]", page)
    assert re.search(r"\nslurm:\n( .*\n)*  --slurm.partition TEXT", page)
    main(["ingest", "--help", "standardise.h-freq"])
    text = capsys.readouterr().out
    assert "Upper edge of the pass band" in text
    assert "default: 96" in text
    assert "null: allowed" not in text
    main(["finetune", "--help", "fit.max-channels"])
    assert "null: allowed" in capsys.readouterr().out


def test_a_group_is_declared_beside_its_field():
    class Grouped(Example):
        option_group: ClassVar[str] = "training"

        size: int = option(3, group="model", ge=1)
        """Layers."""

    groups = {entry.name: entry.group for entry in list_options(Grouped)}
    assert groups["size"] == "model"
    assert groups["names"] == "training"
    assert groups["workers"] == "machine"
    assert groups["inner.l-freq"] == "inner"


def test_defaults_that_depend_on_what_is_given_are_shown():
    class Recipe(Example):
        recipe: str = "small"
        """Whose values are the defaults."""

        @classmethod
        def defaults_for(cls, given):
            return {"inner": {"l_freq": 7.0}} if given.get("recipe") == "large" else {}

    def shown(**given: str) -> str:
        return next(entry.default for entry in list_options(Recipe, given) if entry.name == "inner.l-freq")

    assert shown() == "0.1"
    assert shown(recipe="large") == "7"


def test_a_switch_takes_a_value():
    class Switch(Config):
        fast: bool = True
        """Hurry."""

    for flags in (["--fast", "false"], ["--fast=false"], ["--no-fast"]):
        assert parse_config("switch", Switch, flags) == Switch(fast=False)
    assert parse_config("switch", Switch, ["--fast"]) == Switch(fast=True)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_that_may_be_null_takes_null_as_a_file_does(verb: str, tmp_path: Path):
    config = getattr(importlib.import_module(VERBS[verb].module), VERBS[verb].config)
    options = list_options(config)
    values = {"repo": "a/b", "task.name": "t", "task.classes": '{"a": ["1"], "b": ["2"]}', "task.window-s": "1"}

    def flags_of(*names: str) -> list[str]:
        return [part for name in names for part in (f"--{name}", values.get(name, "1"))]

    needed = flags_of(*(option.name for option in options if option.required))
    nullable = list(nullable_names(config))
    listed = {option.name for option in options}
    single = [name for name in nullable if name in listed]
    for names in (single, *([name] for name in nullable if name not in listed)):
        fields: dict[str, Any] = {}
        for name in names:
            *sections, last = name.replace("-", "_").split(".")
            inside = fields
            for section in sections:
                inside = inside.setdefault(section, {})
            inside[last] = None
        file = tmp_path / "settings.yaml"
        file.write_text(yaml.safe_dump(fields))
        group = [o.name for o in options if o.group == "task" and o.needed_in_group and names is single]
        given = [*needed, *flags_of(*group)]
        from_file = parse_config(verb, config, [*given, "--config", str(file)])
        assert parse_config(verb, config, [*given, *(p for n in names for p in (f"--{n}", "null"))]) == from_file
        assert parse_config(verb, config, [*(f"--{name}=null" for name in names), *given]) == from_file


def test_null_wins_over_a_file_and_is_refused_beside_a_value_and_where_none_is_no_value(tmp_path: Path):
    class Nullable(Example):
        count: int | None = 3
        """Number, or not."""

    file = tmp_path / "settings.yaml"
    file.write_text("count: 4\nmaybe: {l_freq: 0.3}\n")
    given = ["--archive", "x", "--config", str(file)]
    assert parse_config("nullable", Nullable, [*given, "--count", "null"]) == Nullable(
        archive="x", count=None, maybe=Inner(l_freq=0.3)
    )
    assert parse_config("nullable", Nullable, ["--archive", "x", "--maybe", "null"]).maybe is None
    with refusal(UserError, "--count", action="leave one"):
        parse_config("nullable", Nullable, [*given, "--count", "null", "--count", "5"])
    with refusal(UserError, "--maybe", "--maybe.l-freq", action="leave one"):
        parse_config("nullable", Nullable, [*given, "--maybe", "null", "--maybe.l-freq", "2"])
    with refusal(UserError, "workers", action="emeg nullable --help"):
        parse_config("nullable", Nullable, [*given, "--workers", "null"])


def test_help_of_the_command_lists_every_verb_under_a_heading(capsys: pytest.CaptureFixture[str]):
    main(["--help"])
    page = capsys.readouterr().out
    assert re.findall(r"^  (\S+) ", page, re.MULTILINE) == list(VERBS)
    assert re.findall(r"^(\w.*):$", page, re.MULTILINE) == list(VERB_GROUPS)


def test_every_field_of_every_configuration_is_documented():
    for verb in VERBS.values():
        undocumented = _undocumented(getattr(importlib.import_module(verb.module), verb.config))
        assert not undocumented, f"{verb.config}: {undocumented}"


def _undocumented(config: type[Config]) -> list[str]:
    missing = [name for name, field in config.model_fields.items() if not field.description]
    for field in config.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            missing += _undocumented(field.annotation)
    return missing


def test_help_imports_no_room():
    code = "import sys; from emeg.cli import main; main(['--help']); print([m for m in sys.modules if 'emeg.' in m])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "['emeg.version', 'emeg.errors', 'emeg.cli']"


def test_ingest_imports_no_torch():
    code = "import sys; from emeg.cli import main; main(['ingest', '--help']); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "False"
