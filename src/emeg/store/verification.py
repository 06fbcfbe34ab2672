"""The verb ``verify``: read every product and report what differs from what was written."""

import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
from pydantic import Field

from emeg.config import Config, runtime_field
from emeg.errors import EmegError, RecordingError
from emeg.hashing import hash_json, sha256_bytes
from emeg.progress import Progress, silent
from emeg.store.catalog.parquet import table_of
from emeg.store.catalog.records import CatalogRow
from emeg.store.catalog.tables import read_catalog, read_events
from emeg.store.digests import compute_digest, read_digest
from emeg.store.files import MARKERS
from emeg.store.products import Store
from emeg.store.recordings.recording import folder_name, open_recording
from emeg.uri import Location


class VerifyConfig(Config):
    """Check that every product of a store is as it was written."""

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    kinds: tuple[str, ...] = tuple(MARKERS)
    """What to check."""
    workers: int = runtime_field(4, ge=1)
    """Products checked at the same time."""


class Fault(Config):
    """One difference from what was written."""

    product: str
    """Kind and name of the product."""
    problem: str
    """What is wrong."""
    next_action: str
    """What to do."""


class VerifyResult(Config):
    """Number of products checked, and the faults found."""

    n_checked: dict[str, int]
    """Products by kind."""
    faults: tuple[Fault, ...] = Field(default=())
    """Everything that is wrong."""

    @property
    def failed(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.faults)

    def as_text(self) -> str:
        """Return the result as lines of text."""
        lines = [f"{fault.product}: {fault.problem}; {fault.next_action}" for fault in self.faults]
        counts = ", ".join(f"{n} {kind}" for kind, n in self.n_checked.items())
        return "\n".join([*lines, f"{len(self.faults)} faults in {counts}"])


def verify(config: VerifyConfig, *, progress: Progress = silent) -> VerifyResult:
    """Read every product whole: markers, sizes, SHA-256, chunk checksums, and references between rows and manifests.

    Raises
    ------
    UserError
        There is no store.
    """
    store = Store.open(config.root)
    work: list[tuple[str, Callable[[], Iterator[Fault]]]] = []
    counts: dict[str, int] = {}
    for kind in config.kinds:
        names = store.names(kind)
        counts[kind] = len(names)
        if kind == "recordings":
            work += _recordings(store, names)
        else:
            work += [(f"{kind}/{name}", partial(_PRODUCTS[kind], store, name)) for name in names if kind in _PRODUCTS]
    faults: list[Fault] = []
    with ThreadPoolExecutor(config.workers) as pool:
        for done, ((what, _), found) in enumerate(zip(work, pool.map(_whole, work), strict=True), 1):
            faults += found
            progress(done, len(work), what)
    return VerifyResult(n_checked=counts, faults=tuple(faults))


def _whole(item: tuple[str, Callable[[], Iterator[Fault]]]) -> list[Fault]:
    what, check = item
    found: list[Fault] = []
    try:
        found.extend(check())  # keeps what was found before an error
    except RecordingError as error:
        found.append(Fault(product=what, problem=str(error), next_action=error.next_action))
    except (EmegError, OSError, ValueError, KeyError, pa.ArrowException) as error:
        found.append(Fault(product=what, problem=" ".join(str(error).split()), next_action=_AGAIN))
    return found


_AGAIN = "remove it and run its verb again"


def _recordings(store: Store, names: list[str]) -> list[tuple[str, Callable[[], Iterator[Fault]]]]:
    rows = {row.recording: row for row in read_catalog(store)}
    found = {name.removesuffix(".zarr") for name in names}
    work: list[tuple[str, Callable[[], Iterator[Fault]]]] = [
        (f"recordings/{name}", partial(_recording, store, rows.get(name), name)) for name in sorted(found)
    ]
    lost = sorted(rows.keys() - found)
    return [*work, *((f"catalog/recordings/{name}", partial(_lost, name)) for name in lost)]


def _lost(name: str) -> Iterator[Fault]:
    yield Fault(
        product=f"catalog/recordings/{name}",
        problem="the row's recording is not in the store",
        next_action="remove the row and ingest again",
    )


def _recording(store: Store, row: CatalogRow | None, name: str) -> Iterator[Fault]:
    what = f"recordings/{folder_name(name)}"
    if row is None:
        yield Fault(
            product=what,
            problem="it has no row, so it does not exist for any verb",
            next_action="ingest its archive again, or remove the folder",
        )
        return
    yield from _digests(store, name, what)
    recording = open_recording(store, name)
    for _ in recording.blocks(recording.chunk * 60):  # reading checks the chunk checksums
        pass
    if recording.bad.shape != (len(recording.sensors), -(-recording.n_samples // round(recording.sfreq))):
        yield Fault(product=what, problem=f"bad has shape {recording.bad.shape}", next_action=_AGAIN)
    told = {
        "channels": (row.n_channels, len(recording.sensors)),
        "layout": (row.layout, recording.sensors.layout_id),
        "seconds": (round(row.duration_s, 6), round(recording.n_samples / recording.sfreq, 6)),
        "events": (row.n_events, len(read_events(store, name))),
    }
    for field, (said, is_so) in told.items():
        if said != is_so:
            yield Fault(product=what, problem=f"{field}: the row says {said}, there are {is_so}", next_action=_AGAIN)


def _digests(store: Store, name: str, what: str) -> Iterator[Fault]:
    noted = read_digest(store, name)
    if noted is None:
        yield Fault(
            product=what,
            problem="its sha256 digests are missing",
            next_action="ingest into the store once: that records them for recordings of an older schema",
        )
        return
    found = compute_digest(store, name)
    for path in sorted(noted.keys() | found.keys()):
        if noted.get(path) != found.get(path):
            gone = "is missing" if path not in found else "was changed: its sha256 differs"
            problem = f"{path} {gone if path in noted else 'does not belong to it'}"
            yield Fault(product=what, problem=problem, next_action=_AGAIN)


def _corpus(store: Store, name: str) -> Iterator[Fault]:
    folder = store.location("corpora", name)
    manifest = (folder / "manifest.json").read_json()
    if hash_json(manifest) != name:
        yield Fault(product=f"corpora/{name}", problem="its manifest was changed", next_action="run shard again")
    for shard in manifest["shards"]:
        yield from _file(folder / "shards" / shard["name"], f"corpora/{name}", shard["bytes"], shard["sha256"])
    rows = table_of((folder / "segments.parquet").read_bytes()).num_rows
    told = sum(int(shard["segments"]) for shard in manifest["shards"] if "segments" in shard)
    if told and told != rows:
        yield Fault(product=f"corpora/{name}", problem=f"{rows} rows for {told} segments", next_action=_AGAIN)
    table_of((folder / "layouts.parquet").read_bytes())


def _tokens(store: Store, name: str) -> Iterator[Fault]:
    folder = store.location("tokens", name)
    manifest = (folder / "manifest.json").read_json()
    yield from _file(folder / "codes.npy", f"tokens/{name}", manifest["bytes"], manifest["sha256"])
    for kind, product in (("corpora", manifest["corpus"]), ("models", manifest["tokenizer"])):
        if not store.has(kind, product):
            yield Fault(
                product=f"tokens/{name}",
                problem=f"their input is missing: {kind}/{product}",
                next_action="restore it; codes mean nothing without it",
            )


def _file(location: Location, product: str, size: int, sha256: str) -> Iterator[Fault]:
    if not location.exists():
        yield Fault(product=product, problem=f"{location.name} is missing", next_action=_AGAIN)
        return
    data = location.read_bytes()
    if len(data) != size:
        yield Fault(product=product, problem=f"{location.name} has {len(data)} bytes of {size}", next_action=_AGAIN)
    elif sha256_bytes(data) != sha256:
        yield Fault(product=product, problem=f"{location.name} was changed: its sha256 differs", next_action=_AGAIN)


def _model(store: Store, name: str) -> Iterator[Fault]:
    """Compare the length of the weights with what their own header says."""
    folder = store.location("models", name)
    (folder / "config.json").read_json()
    weights = folder / "model.safetensors"
    if not weights.exists():
        yield Fault(product=f"models/{name}", problem="model.safetensors is missing", next_action=_AGAIN)
        return
    import json

    size = int(weights.fs.size(weights.path))
    (header_size,) = struct.unpack("<Q", weights.read_bytes(0, 8))
    header = json.loads(weights.read_bytes(8, 8 + header_size))
    ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    expected = 8 + header_size + max(ends, default=0)
    if size != expected:
        yield Fault(
            product=f"models/{name}",
            problem=f"weights of {size} bytes, {expected} stated in its header",
            next_action=_AGAIN,
        )


def _embedding(store: Store, name: str) -> Iterator[Fault]:
    folder = store.location("embeddings", name)
    card = (folder / "config.json").read_json()
    yield from _file(folder / "features.npy", f"embeddings/{name}", card["bytes"], card["sha256"])


def _figures(kind: str, store: Store, name: str) -> Iterator[Fault]:
    location = store.location(kind, name) / "figures.json"
    if not location.exists():
        yield Fault(product=f"{kind}/{name}", problem="figures.json is missing", next_action=_AGAIN)
        return
    location.read_json()


_PRODUCTS: dict[str, Callable[[Store, str], Iterator[Fault]]] = {
    "corpora": _corpus,
    "tokens": _tokens,
    "models": _model,
    "embeddings": _embedding,
    "evaluations": partial(_figures, "evaluations"),
    "reports": partial(_figures, "reports"),
}
