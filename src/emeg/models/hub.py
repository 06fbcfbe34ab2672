"""Upload model folders to a Hugging Face hub, and download them. Needs the extra ``hub``.

The mixin of the library is not used, because its ``from_pretrained`` initialises missing weights with random numbers by
default, and because model classes would depend on the library. Loading is always strict.
"""

from pathlib import Path
from typing import Any

import yaml

from emeg.errors import TransientError, UserError
from emeg.tokenizers.braintokenizer.pretrained import CARD, WEIGHTS, load_weights, read_card

README = "README.md"
FILES = (CARD, WEIGHTS, README, "metrics.parquet")
ROLES = ("tokenizer", "encoder", "finetuned")


def upload(folder: Path, repo: str, *, licence: str, private: bool, message: str) -> str:
    """Check a model folder, add the metadata of the hub to its card, upload it, and return the commit."""
    kind = read_card(folder, *ROLES)["kind"]
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
    except _connection_errors(hub) as error:
        raise TransientError(f"{repo}: the hub does not respond ({error}); try again") from error
    return str(commit.oid)


def _headed(text: str, kind: str, licence: str) -> str:
    if text.startswith("---\n"):
        return text
    head = {"library_name": "emeg", "license": licence, "tags": ["eeg", "meg", kind]}
    return f"---\n{yaml.safe_dump(head, sort_keys=True)}---\n\n{text}"


def fetch(repo: str, *, revision: str | None = None) -> Path:
    """Download a model and return its folder in the cache of the hub.

    Raises
    ------
    UserError
        The repository or revision does not exist, or the extra ``hub`` is not installed.
    TransientError
        The hub does not respond.
    """
    hub = _hub()
    try:
        return Path(hub.snapshot_download(repo, revision=revision, allow_patterns=list(FILES)))
    except hub.errors.HfHubHTTPError as error:
        raise _refused(repo, error) from error
    except (*_connection_errors(hub), hub.errors.LocalEntryNotFoundError) as error:
        raise TransientError(
            f"{repo}: the hub does not respond ({' '.join(str(error).split())[:200]}); try again"
        ) from error


def resolve(source: str | Path, *, revision: str | None = None) -> Path:
    """Return the folder of a model: `source` itself, or a download of organisation/name."""
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
        raise UserError("huggingface_hub is not installed; run pip install -c constraints.txt 'emeg[hub]'") from error
    return huggingface_hub


def _connection_errors(hub: Any) -> tuple[type[Exception], ...]:  # noqa: ANN401 - the library
    """Return the errors of a connection that fails: those of files, and the bases of the library's own errors."""
    return (OSError, *hub.errors.HfHubHTTPError.__bases__)


def _refused(repo: str, error: Any) -> UserError | TransientError:  # noqa: ANN401 - the library's error
    status = getattr(getattr(error, "response", None), "status_code", 0)
    said = " ".join(str(error).split())[:200]
    if status >= 500 or status == 429:
        return TransientError(f"{repo}: the hub responds {status} ({said}); try again")
    if status in {401, 403}:
        return UserError(f"{repo}: the hub refuses ({status}); set HF_TOKEN to a token with access ({said})")
    return UserError(f"{repo}: the hub refuses ({status}: {said}); check the name and your rights")
