"""The verb ``import-reference``: convert weights of the reference release to a model folder."""

import json
from pathlib import Path
from typing import Any

from emeg.config import Config
from emeg.errors import UserError
from emeg.hashing import sha256_bytes, sha256_file
from emeg.models.brainomni import KIND, BrainOmni
from emeg.models.reference import read_reference
from emeg.progress import Progress, silent
from emeg.tokenizers.braintokenizer.pretrained import CARD, load_strictly, read_card


class ImportReferenceConfig(Config):
    """Convert weights of the reference release to a model folder."""

    weights: str
    """State dict with the names of the release: .pt or .safetensors."""
    release_config: str
    """JSON file with the configuration of the release, at the top level or under the key `config`."""
    out: str
    """Folder to write config.json and model.safetensors into."""
    pretraining_datasets: tuple[str, ...] = ()
    """Ids of the datasets that the weights were trained on, such as ds000117 or openneuro:ds004504. Evaluations refuse
    tasks on these datasets and on datasets with the same subjects."""


class ImportReferenceResult(Config):
    """Result of an import."""

    out: str
    """Folder of the model."""
    n_parameters: int
    """Trainable parameters, including those of the tokenizer."""
    n_loaded: int
    """Names of the release that were loaded."""
    n_derived: int
    """Names of the release that are computed instead: rotary tables and their frequencies."""
    rotary: str
    """`complex`, or `cosine` if the tables have no imaginary part."""
    done_before: bool = False
    """Whether the folder already held this import."""


def _read_config(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}); give the path of the configuration") from error
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); download the file again") from error
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        value = value["config"]
    if not isinstance(value, dict):
        raise UserError(f"{path}: it holds no JSON object; give the configuration of the release")
    return value


def import_reference(config: ImportReferenceConfig, *, progress: Progress = silent) -> ImportReferenceResult:
    """Convert weights of the reference release to a folder that `BrainOmni.from_pretrained` loads.

    Raises
    ------
    UserError
        A file is missing or not readable, or names, shapes or settings do not match.
    """
    out, weights = Path(config.out), Path(config.weights)
    reference_config = _read_config(Path(config.release_config))
    progress(0, 2, "reading the weights of the release")
    reference = read_reference(weights, reference_config)
    provenance: dict[str, Any] = {
        "imported_from": "reference release",
        "weights_sha256": sha256_file(weights),
        "config_sha256": sha256_bytes(json.dumps(reference_config, sort_keys=True).encode()),
    }
    if config.pretraining_datasets:
        provenance["pretraining_datasets"] = list(config.pretraining_datasets)
    done_before = (out / CARD).is_file() and read_card(out, KIND).get("provenance") == provenance
    model = BrainOmni(reference.config, reference.tokenizer)
    load_strictly(model, reference.state, source=str(weights))
    if not done_before:
        progress(1, 2, f"writing {out}")
        model.save_pretrained(out, provenance=provenance)
    progress(2, 2, "imported")
    return ImportReferenceResult(
        out=str(out),
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        n_loaded=len(reference.state),
        n_derived=len(reference.derived),
        rotary=reference.config.rotary,
        done_before=done_before,
    )
