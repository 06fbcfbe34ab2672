"""Parameters of the schedulers that a training can be handed to."""

from pydantic import Field, PositiveInt

from emeg.config import Config


class SlurmConfig(Config):
    """How a run is handed to Slurm (``launcher=slurm``)."""

    partition: str | None = None
    """Partition; default: the cluster's."""
    account: str | None = None
    """Account that pays."""
    time_limit: str = "24:00:00"
    """Longest run of one start, as sbatch takes it."""
    gpus_per_node: int = Field(0, ge=0)
    """GPUs of a node; 0 asks for none."""
    cpus_per_task: int = Field(0, ge=0)
    """Cores of a node's training; 0 leaves it to the cluster."""
    memory: str | None = None
    """Memory of a node, as sbatch takes it (64G)."""
    signal_s: PositiveInt = 120
    """Seconds before the time limit at which the run is told to checkpoint and to be queued again."""
    max_restarts: PositiveInt = 100
    """Times the job is queued again at most."""
    port: int = Field(29400, ge=1024, le=65535)
    """Port of the first node at which the nodes meet."""
    directives: tuple[str, ...] = ()
    """Further #SBATCH lines, without the #SBATCH."""
    setup: tuple[str, ...] = ()
    """Shell lines before the training: modules, an environment."""
    submit: bool = True
    """Submit with sbatch; off: write the script only."""


class KubernetesConfig(Config):
    """How a run is handed to Kubeflow Trainer (``launcher=kubernetes``)."""

    image: str = "emeg:latest"
    """Container image with emeg in it."""
    namespace: str = "default"
    """Namespace of the job."""
    runtime: str = "torch-distributed"
    """ClusterTrainingRuntime that sets torchrun's variables."""
    gpus_per_node: int = Field(0, ge=0)
    """GPUs of a node; 0 asks for none."""
    cpu: str | None = None
    """Cores of a node (16)."""
    memory: str | None = None
    """Memory of a node (64Gi)."""
    claim: str | None = None
    """PersistentVolumeClaim mounted at `mount`, where the store is no bucket."""
    mount: str = "/data"
    """Where the claim is mounted; `root` lies below it."""
    secret: str | None = None
    """Secret whose keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY open the bucket."""
    submit: bool = False
    """Hand the manifest to kubectl; off: write it only."""
