"""The verb ``push-to-hub``: upload a model of a store with a card made from its provenance and its evaluations."""

import shutil
import tempfile
from pathlib import Path

from pydantic import Field

from emeg.config import Config, runtime_field
from emeg.errors import UserError
from emeg.models.hub import FILES, README, upload
from emeg.progress import Progress, silent
from emeg.reports.licences import obstacles
from emeg.reports.model_card import CardFacts, figures_of_model, write_card
from emeg.store import Store, model_config
from emeg.training.dataset_use import DatasetUse, declared_datasets, inherited_datasets


class PushToHubConfig(Config):
    """Upload a model to a Hugging Face hub. The token comes from HF_TOKEN or `hf auth login`."""

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    model: str = Field(...)
    """Name of the model in <root>/models."""
    repo: str = Field(..., pattern=r"^[\w.-]+/[\w.-]+$")
    """Repository: organisation/name."""
    licence: str = "other"
    """Licence of the weights, as the hub names it. The card lists the licences of the recordings."""
    private: bool = True
    """Whether a new repository is private."""
    unknown_licences_checked: bool = False
    """State that you have looked up the licences of datasets that the store and the registry do not know."""
    message: str = "Model trained by emeg"
    """Commit message."""


class PushToHubResult(Config):
    """Result of an upload."""

    repo: str
    """Repository."""
    commit: str
    """Commit of the upload."""
    n_files: int
    """Files in the commit."""


def push_to_hub(config: PushToHubConfig, *, progress: Progress = silent) -> PushToHubResult:
    """Upload a model of a store with its card and its metrics.

    The card declares the datasets of all stages of training and the figures of the model's evaluations in the store.

    Raises
    ------
    UserError
        The licence of a dataset does not admit it, the model does not exist, its weights do not load, the token is
        missing or has no write access, or the extra ``hub`` is not installed.
    TransientError
        The hub does not respond.
    """
    store = Store.open(config.root)
    model = store.only("models", config.model)
    datasets = training_datasets(store, model)
    found = obstacles(
        datasets,
        licence=config.licence,
        private=config.private,
        unknown_accepted=config.unknown_licences_checked,
    )
    if found:
        raise UserError(
            f"model {model}: the licences of its training data do not admit this upload: {'; '.join(found)}"
        )
    folder = store.local_copy("models", model)
    kind = str(model_config(store, model).get("kind", ""))
    with tempfile.TemporaryDirectory() as name:
        staged = Path(name)
        for file in FILES:
            if (folder / file).is_file():
                shutil.copyfile(folder / file, staged / file)
        readme = staged / README
        text = readme.read_text(encoding="utf-8") if readme.is_file() else f"# {config.repo}\n"
        facts = CardFacts(model, kind, config.licence, datasets, figures_of_model(store, model))
        readme.write_text(write_card(text, facts), encoding="utf-8")
        commit = upload(staged, config.repo, licence=config.licence, private=config.private, message=config.message)
        n_files = len(list(staged.iterdir()))
    progress(1, 1, config.repo)
    return PushToHubResult(repo=config.repo, commit=commit, n_files=n_files)


def training_datasets(store: Store, model: str) -> list[DatasetUse]:
    """Return the datasets that a model declares, for a fine-tuned one those of the model below and of its task."""
    provenance = model_config(store, model).get("provenance") or {}
    base = provenance.get("model")
    names = [base] if isinstance(base, str) and base in store.names("models") else []
    own = declared_datasets(provenance)
    return own + [use for use in inherited_datasets(store, names) if use not in own]
