"""Models on a Hugging Face hub: the folder that training wrote, with a card the hub can read; loading stays strict.

The library's mixin is not used: its ``from_pretrained`` fills weights that a file lacks with random numbers unless told
otherwise, and a model class would need the library to exist. Needs the extra ``hub``.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from emeg.config import Config, runtime_field
from emeg.errors import TransientError, UserError
from emeg.progress import Progress, silent
from emeg.store import Store
from emeg.tokenizers.braintokenizer.pretrained import CARD, WEIGHTS, load_weights, read_card

README = "README.md"
FILES = (CARD, WEIGHTS, README, "metrics.parquet")
KINDS = ("braintokenizer", "brainomni", "finetuned")


class PushToHubConfig(Config):
    """Put a model onto a Hugging Face hub; the token comes from HF_TOKEN or `hf auth login`."""

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    model: str = Field(...)
    """Model below <root>/models."""
    repo: str = Field(..., pattern=r"^[\w.-]+/[\w.-]+$")
    """Repository: organisation/name."""
    licence: str = "other"
    """Licence of the weights, as the hub names it; the card lists those of the recordings."""
    private: bool = True
    """Whether a new repository is private."""
    message: str = "Model trained by emeg"
    """Message of the commit."""


class PushToHubResult(Config):
    """What was put there."""

    repo: str
    """Repository."""
    commit: str
    """Commit that holds the model."""
    n_files: int
    """Files in it."""


def push_to_hub(config: PushToHubConfig, *, progress: Progress = silent) -> PushToHubResult:
    """Upload a model of a store, its card and its figures.

    Raises
    ------
    UserError
        There is no such model, its weights do not load, the token is missing or not allowed to write there, or the
        extra ``hub`` is not installed.
    TransientError
        The hub does not answer.
    """
    store = Store.open(config.root)
    folder = store.local_copy("models", store.only("models", config.model))
    with tempfile.TemporaryDirectory() as name:
        staged = Path(name)
        for file in FILES:
            if (folder / file).is_file():
                shutil.copyfile(folder / file, staged / file)
        commit = upload(staged, config.repo, licence=config.licence, private=config.private, message=config.message)
        n_files = len(list(staged.iterdir()))
    progress(1, 1, config.repo)
    return PushToHubResult(repo=config.repo, commit=commit, n_files=n_files)


def upload(folder: Path, repo: str, *, licence: str, private: bool, message: str) -> str:
    """Check a model's folder, head its card with what the hub reads, and upload it; gives the commit."""
    kind = read_card(folder, *KINDS)["kind"]
    load_weights(folder)
    readme = folder / README
    text = readme.read_text(encoding="utf-8") if readme.is_file() else f"# {repo}\n"
    readme.write_text(_headed(text, kind, licence), encoding="utf-8")
    hub = _hub()
    api = hub.HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(folder_path=folder, repo_id=repo, commit_message=message)
    except hub.errors.HfHubHTTPError as error:
        raise _refused(repo, error) from error
    except OSError as error:
        raise TransientError(f"{repo}: the hub does not answer ({error})") from error
    return str(commit.oid)


def _headed(text: str, kind: str, licence: str) -> str:
    if text.startswith("---\n"):
        return text
    head = {"library_name": "emeg", "license": licence, "tags": ["eeg", "meg", kind]}
    return f"---\n{yaml.safe_dump(head, sort_keys=True)}---\n\n{text}"


def fetch(repo: str, *, revision: str | None = None) -> Path:
    """Download a model; gives its folder in the hub's cache.

    Raises
    ------
    UserError
        There is no such repository or revision, or the extra ``hub`` is not installed.
    TransientError
        The hub does not answer.
    """
    hub = _hub()
    try:
        return Path(hub.snapshot_download(repo, revision=revision, allow_patterns=list(FILES)))
    except hub.errors.HfHubHTTPError as error:
        raise _refused(repo, error) from error
    except (OSError, hub.errors.LocalEntryNotFoundError) as error:
        raise TransientError(f"{repo}: the hub does not answer ({' '.join(str(error).split())[:200]})") from error


def resolve(source: str | Path, *, revision: str | None = None) -> Path:
    """Give the folder of a model: `source` itself where it is one, else the repository organisation/name of a hub."""
    folder = Path(source)
    is_repo = isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "/", "~"))
    if folder.exists() or not is_repo:
        return folder
    return fetch(str(source), revision=revision)


def _hub() -> Any:  # noqa: ANN401 - a module that need not be there
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise UserError("huggingface_hub is not installed: pip install -c constraints.txt 'emeg[hub]'") from error
    return huggingface_hub


def _refused(repo: str, error: Any) -> UserError | TransientError:  # noqa: ANN401 - the library's error
    status = getattr(getattr(error, "response", None), "status_code", 0)
    said = " ".join(str(error).split())[:200]
    if status >= 500 or status == 429:
        return TransientError(f"{repo}: the hub answers {status} ({said})")
    if status in {401, 403}:
        return UserError(f"{repo}: the hub refuses ({status}); set HF_TOKEN to a token that may use it ({said})")
    return UserError(f"{repo}: the hub refuses ({status}: {said})")
