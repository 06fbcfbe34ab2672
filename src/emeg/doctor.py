"""Check this machine for what prevents a run from starting or slows it down, within a minute.

Each check tests one thing and returns what it found or raises a fault with the next action. Checks run in parallel with
a time limit each, because broken hardware and networks often do not answer.
"""

import logging
import os
import platform
import re
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat

from emeg.config import Config, runtime_field
from emeg.errors import UserError
from emeg.progress import Progress, silent
from emeg.uri import Location, locate

logger = logging.getLogger(__name__)

FSYNC_BYTES = 8 << 20
SLOW_DISK_MB_S = 20.0
MIN_SHM_BYTES = 256 << 20


class DoctorConfig(Config):
    """Check this machine before a training."""

    root: str | None = runtime_field(None)
    """Store: a folder or any fsspec URI; without it, disk and bucket are checked only in part."""
    rendezvous: str | None = runtime_field(None)
    """host:port at which the machines meet; default: torchrun's MASTER_ADDR and MASTER_PORT, where they are set."""
    device: Literal["auto", "cpu", "cuda"] = runtime_field("auto")
    """cuda: report a machine without a usable GPU as a fault."""
    min_free_gb: float = runtime_field(5.0, ge=0.0)
    """Free space that a run needs below root, GB."""
    constraints: str | None = runtime_field(None)
    """File of exact versions (name==version) to compare with; default: what the installed emeg requires."""
    limit_s: PositiveFloat = Field(50.0, le=55.0, json_schema_extra={"runtime": True})
    """Time limit of each check, s."""


class DoctorResult(Config):
    """Result of the checks."""

    findings: dict[str, str]
    """Result of each check."""
    seconds: float
    """Duration of all checks, s."""


class FaultError(Exception):
    """Fault found by a check, with its cause and the next action."""

    def __init__(self, cause: str, action: str) -> None:
        super().__init__(f"{cause}; {action}")


def doctor(
    config: DoctorConfig, *, environment: Mapping[str, str] = os.environ, progress: Progress = silent
) -> DoctorResult:
    """Run all checks.

    Raises
    ------
    UserError
        A check found a fault; the message lists every cause and the next actions.
    """
    began = time.monotonic()
    checks = checks_for(config, environment)
    found: dict[str, str | FaultError] = {}
    threads = [threading.Thread(target=_answer, args=(n, check, found), daemon=True) for n, check in checks.items()]
    for thread in threads:
        thread.start()
    for number, thread in enumerate(threads):
        thread.join(max(0.0, began + config.limit_s - time.monotonic()))
        progress(number + 1, len(threads), list(checks)[number])
    silent_check = FaultError(
        f"no answer within {config.limit_s:.0f} s", "check the network and the file systems that it reads"
    )
    outcomes = {name: found.get(name, silent_check) for name in checks}
    for name, outcome in outcomes.items():
        logger.info("%s %s: %s", "FAULT" if isinstance(outcome, FaultError) else "ok   ", name, outcome)
    faults = [f"{name}: {outcome}" for name, outcome in outcomes.items() if isinstance(outcome, FaultError)]
    if faults:
        raise UserError(
            f"{len(faults)} of {len(outcomes)} checks on {platform.node()} failed; correct them: {' | '.join(faults)}"
        )
    return DoctorResult(
        findings={name: str(outcome) for name, outcome in outcomes.items()},
        seconds=round(time.monotonic() - began, 2),
    )


def _answer(name: str, check: Callable[[], str], found: dict[str, "str | FaultError"]) -> None:
    try:
        found[name] = check()
    except FaultError as fault:
        found[name] = fault
    except Exception as error:  # noqa: BLE001 - any error of a check is a finding
        found[name] = FaultError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", "remove this cause")


def checks_for(config: DoctorConfig, environment: Mapping[str, str]) -> dict[str, Callable[[], str]]:
    """Return the checks by name, in the order in which they are shown."""
    meeting = config.rendezvous or _meeting(environment)
    return {
        "ranks": lambda: check_ranks(environment),
        "name": lambda: check_name(alone=meeting is None),
        "cards": lambda: check_cards(alone=meeting is None),
        "rendezvous": lambda: check_rendezvous(meeting),
        "disk": lambda: check_disk(config.root, config.min_free_gb),
        "memory": check_shared_memory,
        "gpu": lambda: check_gpu(config.device, environment),
        "bucket": lambda: check_bucket(config.root),
        "versions": lambda: check_versions(config.constraints),
        "plugins": check_plugins,
    }


def _meeting(environment: Mapping[str, str]) -> str | None:
    address, port = environment.get("MASTER_ADDR"), environment.get("MASTER_PORT")
    return f"{address}:{port}" if address and port else None


def check_ranks(environment: Mapping[str, str]) -> str:
    """Check the variables that torchrun sets for this rank."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    given = {name: environment[name] for name in names if name in environment}
    if not given:
        n_tasks = environment.get("SLURM_NTASKS", "1")
        return "no launcher has started this process" + (f"; Slurm gives {n_tasks} tasks" if n_tasks != "1" else "")
    action = "start the ranks with torchrun, or unset these variables"
    if missing := [name for name in (*names, "MASTER_ADDR", "MASTER_PORT") if name not in environment]:
        raise FaultError(f"{', '.join(given)} set, but not {', '.join(missing)}", action)
    if wrong := [f"{name}={value}" for name, value in given.items() if not value.isdigit()]:
        raise FaultError(f"not a number: {', '.join(wrong)}", action)
    rank, world, local, local_world = (int(given[name]) for name in names)
    if not (rank < world and local < local_world <= world and world % local_world == 0):
        raise FaultError(
            ", ".join(f"{name}={value}" for name, value in given.items()) + " contradict each other", action
        )
    return f"rank {rank} of {world}, {local} of {local_world} on this machine"


def check_name(*, alone: bool) -> str:
    """Check that the machine's own name resolves to an address that others reach; torchrun announces that name."""
    name = socket.gethostname()
    try:
        addresses = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(name, None, socket.AF_INET)})
    except socket.gaierror as error:
        raise FaultError(
            f"this machine's name {name!r} has no address ({error})",
            f"put '<its address> {name}' into /etc/hosts or the cluster's DNS; ranks find each other by that name",
        ) from error
    if not alone and all(address.startswith("127.") for address in addresses):
        raise FaultError(
            f"this machine's name {name!r} resolves to {', '.join(addresses)}, which no other machine can reach",
            "give the name the address of a network card in /etc/hosts or DNS",
        )
    return f"{name} is {', '.join(addresses)}"


def check_cards(*, alone: bool) -> str:
    """Check that a network card is up."""
    cards = []
    for folder in sorted(Path("/sys/class/net").glob("*")) if Path("/sys/class/net").is_dir() else []:
        state = _read(folder / "operstate")
        if folder.name != "lo" and state in {"up", "unknown"}:
            speed = _read(folder / "speed")
            cards.append(f"{folder.name}{f' {speed} Mbit/s' if speed.isdigit() and int(speed) > 0 else ''}")
    if not cards and not alone:
        raise FaultError(
            "no network card is up besides the loopback",
            "start one (ip link set <card> up), or ask the administrator to",
        )
    return ", ".join(cards) or "none but the loopback"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # a card that is down has no speed
        return ""


def check_rendezvous(meeting: str | None, *, timeout_s: float = 10.0) -> str:
    """Check that the rendezvous address can be reached."""
    if meeting is None:
        return "none: one machine"
    host, _, port = meeting.rpartition(":")
    if not host or not port.isdigit():
        raise FaultError(f"{meeting!r} is not host:port", "name the first machine and a free port there")
    try:
        address = socket.gethostbyname(host)
    except socket.gaierror as error:
        raise FaultError(
            f"{host!r} has no address here ({error})", "put it into /etc/hosts or the cluster's DNS"
        ) from error
    try:
        with socket.create_connection((address, int(port)), timeout=timeout_s):
            return f"{host} ({address}) listens on {port}"
    except ConnectionRefusedError:
        return f"{host} ({address}) is within reach; no process listens on {port} yet"
    except OSError as error:
        raise FaultError(
            f"{host} ({address}) port {port} is out of reach ({error})",
            "check cable, route and firewall between the machines, and that the first one is up",
        ) from error


def check_disk(root: str | None, min_free_gb: float) -> str:
    """Check the free space below the root and the speed at which a checkpoint is written."""
    location = locate(root) if root is not None else locate(Path.cwd())
    folder = location.local_path() if location.is_local else Path(tempfile.gettempdir())
    if not folder.is_dir():
        raise FaultError(f"{folder}: there is no such folder", "mount it, or give another root")
    if not os.access(folder, os.W_OK):
        raise FaultError(f"{folder}: not writable for this user", "change its owner, or give another root")
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < min_free_gb:
        raise FaultError(f"{folder}: {free_gb:.1f} GB free, {min_free_gb:g} needed", "make room, or give another root")
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".partial-doctor-") as file:
        began = time.monotonic()
        file.write(os.urandom(FSYNC_BYTES))
        file.flush()
        os.fsync(file.fileno())
        rate = FSYNC_BYTES / 1e6 / max(time.monotonic() - began, 1e-6)
    slow = f" (slow: below {SLOW_DISK_MB_S:g}, checkpoints will take long)" if rate < SLOW_DISK_MB_S else ""
    return f"{folder}: {free_gb:.0f} GB free, fsync at {rate:.0f} MB/s{slow}"


def check_shared_memory() -> str:
    """Check the size of shared memory."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return "no /dev/shm on this system"
    total = shutil.disk_usage(folder).total
    if total < MIN_SHM_BYTES:
        raise FaultError(
            f"/dev/shm holds {total / 1e6:.0f} MB", "give the container more (docker: --shm-size=8g), or use 0 workers"
        )
    return f"/dev/shm holds {total / 1e9:.1f} GB"


def check_gpu(device: str, environment: Mapping[str, str]) -> str:
    """Check that torch sees the GPUs of the machine and that one computes."""
    import torch

    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    driver = shutil.which("nvidia-smi") is not None
    if n == 0 and (device == "cuda" or driver):
        why = "the driver is there, torch sees no GPU" if driver else "no GPU and no driver"
        raise FaultError(
            f"{why} (torch {torch.__version__}, CUDA {torch.version.cuda})",
            "install the CUDA build of torch that fits the driver, or ask the scheduler for a GPU",
        )
    if n == 0:
        return f"none; torch {torch.__version__} computes on the CPU with {torch.get_num_threads()} threads"
    local = environment.get("LOCAL_RANK", "0")
    if local.isdigit() and int(local) >= n:
        raise FaultError(f"local rank {local}, but {n} GPUs", f"start at most {n} processes on this machine")
    x = torch.ones(256, 256, device="cuda")
    if float((x @ x)[0, 0]) != 256.0:
        raise FaultError("the GPU multiplies wrongly", "take the machine out of service")
    return f"{n} x {torch.cuda.get_device_name(0)}"


def check_bucket(root: str | None) -> str:
    """Check that the bucket can be listed, written and read."""
    location = locate(root) if root is not None else None
    if location is None or location.is_local:
        return "none: the root is a folder"
    probe = location / ".partial" / f"doctor-{secrets.token_hex(4)}"
    try:
        location.fs.ls(location.path)
    except FileNotFoundError:
        logger.info("%s: nothing there yet", location)
    except OSError as error:
        raise _bucket_fault(location, "listed", error) from error
    try:
        probe.write_bytes(b"doctor")
        back = probe.read_bytes()
        probe.remove()
    except (OSError, RuntimeError) as error:
        raise _bucket_fault(location, "written", error) from error
    if back != b"doctor":
        raise FaultError(
            f"{location}: what was written does not come back", "check the proxy between this machine and the bucket"
        )
    return f"{location}: listed, written, read"


def _bucket_fault(location: Location, what: str, error: Exception) -> FaultError:
    said = " ".join(str(error).split())[:200]
    return FaultError(
        f"{location} cannot be {what} ({type(error).__name__}: {said})",
        "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and the bucket's policy",
    )


def check_versions(constraints: str | None) -> str:
    """Compare the installed versions with the required ones."""
    from packaging.requirements import Requirement

    wrong, n = [], 0
    for text in _requirements(constraints):
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        n += 1
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if constraints is None:
                wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version}, asked for {requirement.specifier}")
    if wrong:
        raise FaultError("; ".join(wrong[:8]), "run pip install -c constraints.txt emeg")
    return f"Python {platform.python_version()}, {n} packages as asked for"


def check_plugins() -> str:
    """Import every tokenizer, encoder and objective that another package registers."""
    from emeg.plugins import GROUPS, blaming, find_plugin, package_of, plugin_names

    own, foreign, faults = 0, [], []
    for role in GROUPS:
        for name in plugin_names(role):
            try:
                plugin = find_plugin(role, name)
                package = package_of(role, name)
                if package is None:
                    own += 1
                    continue
                with blaming(role, name, "its import"):
                    plugin.load()
                foreign.append(f"{name} ({package})")
            except UserError as error:
                faults.append(str(error))
    if faults:
        raise FaultError("; ".join(faults), "uninstall or repair these packages; commands that need none of them work")
    return f"{own} of emeg; of other packages: {', '.join(foreign) or 'none'}"


def _requirements(constraints: str | None) -> Iterator[str]:
    if constraints is None:
        yield from metadata.requires("emeg") or []
        return
    if not Path(constraints).is_file():
        raise FaultError(f"{constraints}: there is no such file", "give the path of constraints.txt")
    for line in Path(constraints).read_text(encoding="utf-8").splitlines():
        text = re.sub(r"\s*#.*", "", line).strip()
        if text:
            yield text
