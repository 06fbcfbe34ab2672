"""Submit a run to Slurm: one batch script, one launcher per node, queued again when the run asks for it."""

import logging
import shlex
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jinja2
import yaml

from emeg.config import Config
from emeg.errors import TransientError, UserError
from emeg.training.configs import TrainingConfig
from emeg.training.launch.preflight import cpus_per_node, gpus_per_node
from emeg.uri import locate

logger = logging.getLogger(__name__)


def submit_slurm(verb: str, config: TrainingConfig, folder: Path) -> str:
    """Write ``job.yaml`` and ``job.sbatch`` into the run's folder and submit.

    Parameters
    ----------
    verb : str
        Name of the command.
    config : TrainingConfig
        Parameters of the command; ``slurm`` holds those of the job.
    folder : Path
        The run's folder; all nodes must see it.

    Returns
    -------
    str
        ``slurm job <number>``, or the script's path where it is not submitted.

    Raises
    ------
    UserError
        There is no sbatch here, or it refuses the script.
    TransientError
        The controller does not answer.
    """
    asked, script = folder / "job.yaml", folder / "job.sbatch"
    locate(asked).write_bytes(dump_for_node(config).encode())
    locate(script).write_bytes(slurm_script(verb, config, folder).encode())
    if not config.slurm.submit:
        return str(script)
    try:
        done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UserError(
            f"launcher=slurm: there is no sbatch on this machine; submit {script} on a login node"
        ) from error
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())
        kind = TransientError if "contact" in reason or "timed out" in reason else UserError
        action = "try again" if kind is TransientError else "correct the options under slurm"
        raise kind(f"sbatch refused {script}: {reason}; {action}")
    return f"slurm job {done.stdout.strip().split(';')[0]}"


def dump_for_node(config: Config) -> str:
    """Write the parameters as YAML for the launcher of one node, which starts its ranks itself."""
    fields = config.model_dump(mode="json")
    for name in ("slurm", "kubernetes", "launcher", "rendezvous"):
        fields.pop(name, None)
    return yaml.safe_dump(fields, sort_keys=True, allow_unicode=True)


def slurm_script(verb: str, config: TrainingConfig, folder: Path) -> str:
    """Fill in the batch script."""
    text = (resources.files("emeg.training.launch") / "templates" / "slurm.sbatch").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["quote"] = lambda value: shlex.quote(str(value))
    return environment.from_string(text).render(
        verb=verb,
        name=f"emeg-{verb}-{folder.name[:8]}",
        folder=str(folder),
        nodes=config.nodes,
        python=sys.executable,
        slurm=config.slurm,
        gpus_per_node=gpus_per_node(config),
        cpus_per_task=cpus_per_node(config),
    )
