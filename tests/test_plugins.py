"""Packages that register tokenizers, encoders and objectives: sound, broken, colliding, in two versions."""

import logging
from typing import Any

import pytest
from tests.messages import refusal
from tests.other_packages import install

from emeg import plugins
from emeg.config import Config
from emeg.errors import UserError
from emeg.models.config import BrainOmniConfig
from emeg.plugins import (
    Plugin,
    blaming,
    check_settings,
    create,
    default_objective,
    find_plugin,
    load_network,
    package_of,
    reading_model,
    title_of_model,
)

CODE = """
from emeg.config import Config
from emeg.plugins import Plugin

class Settings(Config):
    width: int = 4

class Base:
    kind = "small"
    def __init__(self, config):
        raise KeyError("no width")
    def embed(self): ...
class Other(Base):
    kind = "other"
class Less(Base):
    embed = None

PRESETS = {"default": Settings()}
SMALL, OTHER, LESS = (Plugin(Settings, one, PRESETS, "Small network") for one in (Base, Other, Less))
GONE = Plugin(Settings, "other_code:Gone", PRESETS)
"""


class Interface:
    """Stands for the base class of a role."""

    kind = ""
    __abstractmethods__ = frozenset({"embed"})
    _is_protocol = True


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folder on the path, with modules that packages register."""
    plugins._warn_of_reserved.cache_clear()
    (tmp_path / "other_code.py").write_text(CODE)
    (tmp_path / "broken_code.py").write_text("import no_such_library\n")
    (tmp_path / "leaving_code.py").write_text("import sys\nsys.exit('goodbye')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_package_that_cannot_be_imported_is_named_with_the_reason(folder):
    entries = {"broken": "broken_code:PLUGIN", "leaving": "leaving_code:PLUGIN", "dumps": "json:dumps"}
    install(folder, "broken-package", {"emeg.tokenizers": entries})
    with refusal(UserError, "broken-package", "no_such_library", action="that package"):
        find_plugin("tokenizer", "broken")
    with refusal(UserError, "broken-package", "goodbye", action="that package"):
        find_plugin("tokenizer", "leaving")
    with refusal(UserError, "broken-package", "json:dumps", action="emeg.plugins.Plugin"):
        find_plugin("tokenizer", "dumps")
    assert find_plugin("tokenizer", "mulaw").title == "µ-law"
    assert title_of_model({"role": "tokenizer", "kind": "broken"}) == "broken"
    assert title_of_model({"role": "tokenizer", "kind": "absent"}) == "absent"
    assert title_of_model({}) == ""


def test_a_name_of_two_packages_is_refused(folder):
    install(folder, "one", {"emeg.encoders": {"twice": "one:PLUGIN"}})
    install(folder, "two", {"emeg.encoders": {"twice": "two:PLUGIN"}})
    with refusal(UserError, "encoder 'twice'", "one, two", action="keep"):
        find_plugin("encoder", "twice")
    assert title_of_model({"role": "encoder", "kind": "twice"}) == "twice"


def test_a_name_of_emeg_cannot_be_replaced(folder, caplog):
    install(folder, "usurper", {"emeg.encoders": {"brainomni": "other_code:SMALL"}})
    with caplog.at_level(logging.WARNING, logger="emeg.plugins"):
        assert find_plugin("encoder", "brainomni").config is BrainOmniConfig
        find_plugin("encoder", "brainomni")
    assert [("usurper" in record.getMessage(), "'brainomni'" in record.getMessage()) for record in caplog.records] == [
        (True, True)
    ]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("config", {"config": dict, "network": Config}),
        ("network", {"config": Config, "network": "no path"}),
        ("preset 'default'", {"config": BrainOmniConfig, "network": Config, "presets": {"default": {}}}),
    ],
)
def test_a_plugin_names_the_field_that_is_wrong(field, values):
    with refusal(UserError, field, action="give"):
        Plugin(**values)


def test_a_class_that_does_not_fit_its_entry_point_is_refused(folder):
    entries = {name: f"other_code:{name.upper()}" for name in ("small", "other", "less", "gone")} | {
        "alias": "other_code:SMALL"
    }
    install(folder, "lab", {"emeg.encoders": entries}, version="2.1")
    assert load_network("encoder", "small", Interface).__name__ == "Base"
    with refusal(UserError, "'less'", "lab 2.1", "other_code:Less", "embed", action="Interface"):
        load_network("encoder", "less", Interface)
    with refusal(UserError, "lab 2.1", "kind 'small'", action="'alias'"):
        load_network("encoder", "alias", Interface)
    with refusal(UserError, "lab 2.1", "other_code:Gone", action="uninstall"):
        load_network("encoder", "gone", Interface)
    with refusal(UserError, "other_code:Base", action="UserError"):
        load_network("encoder", "small", UserError)
    with refusal(UserError, "lab 2.1", "KeyError", "no width", "other_code.py, line 11", action="encoder"):
        create("encoder", "small", Interface, None)
    with refusal(UserError, "lab 2.1", action="next_token"):
        default_objective("small")


class Settings(Config):
    value: Any = None


def test_settings_must_be_the_same_after_they_were_written():
    """A set would give a model another name in each process; the others could not be written or not be read again."""
    for value in (1, 0.5, "a", (1, 2), None):
        check_settings(Settings(value=list(value) if isinstance(value, tuple) else value), who="t")
    for value in (float("inf"), float("nan"), b"\xff", {"a", "b"}, frozenset({"a"}), (1, 2)):
        with refusal(UserError, "t: ", "value", action=""):
            check_settings(Settings(value=value), who="t")


def test_errors_of_emeg_and_of_the_machine_are_not_blamed_on_a_package(folder):
    install(folder, "lab", {"emeg.encoders": {"small": "other_code:SMALL"}})
    for error in (UserError("x"), PermissionError(13, "denied", "file"), MemoryError()):
        with pytest.raises(type(error)) as caught, blaming("encoder", "small", "embed"):
            raise error
        assert caught.value is error
    with pytest.raises(ZeroDivisionError), blaming("encoder", "brainomni", "embed"):  # a fault of emeg
        raise ZeroDivisionError


def test_the_version_of_a_package_is_part_of_the_name_of_its_models(folder, caplog):
    from emeg.training import PretrainConfig
    from emeg.training.product_names import encoder_name

    config = PretrainConfig(
        root="r", recipe="brainomni-nano", tokens="t", encoder="small", network="default", objective="masked"
    )
    install(folder, "lab", {"emeg.encoders": {"small": "other_code:SMALL"}})
    assert package_of("encoder", "small") == "lab 1.0"
    first = encoder_name(config)
    (folder / "lab-1.0.dist-info").rename(folder / "lab-2.0.dist-info")
    (folder / "lab-2.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 2.0\n")
    assert encoder_name(config) != first
    assert package_of("encoder", "brainomni") is None
    with refusal(UserError, "objective_options of masked", "ratio", action="ratio"):
        encoder_name(config.model_copy(update={"objective_options": {"ratio": 1}}))


def test_reading_a_model_names_the_packages_that_wrote_it(folder, caplog):
    install(folder, "lab", {"emeg.encoders": {"small": "other_code:SMALL"}}, version="2.0")
    card = {"kind": "small", "packages": {"encoder": "lab 1.0"}}
    with caplog.at_level(logging.WARNING, logger="emeg.plugins"), reading_model(card, source="models/x"):
        pass
    assert all(part in caplog.text for part in ("models/x", "lab 1.0", "lab 2.0"))
    same = {"kind": "small", "packages": {"encoder": "lab 2.0"}}
    gone = {"kind": "gone", "packages": {"encoder": "lost 1.0"}}
    for written, names, action in (
        (card, ("models/x", "lab 1.0", "lab 2.0"), "width"),
        (gone, ("models/x", "lost 1.0"), "width"),
        (same, (), "width"),
    ):
        with refusal(UserError, *names, action=action), reading_model(written, source="models/x"):
            raise UserError("config.json: width; correct width")
