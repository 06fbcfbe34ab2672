"""Parameters of the schedulers that can run a training."""

from pydantic import Field, PositiveInt

from emeg.config import Config


class SlurmConfig(Config):
    """Settings of ``launcher=slurm``."""

    partition: str | None = None
    """Partition; default: the cluster's."""
    account: str | None = None
    """Account to charge."""
    time_limit: str = "24:00:00"
    """Longest run of one start, in the form that sbatch takes."""
    gpus_per_node: int | None = Field(None, ge=0)
    """GPUs of a node; default: one for each process, none with --device cpu."""
    cpus_per_task: PositiveInt | None = None
    """CPU cores of a node's training; default: 8 for each process, or its --threads."""
    memory: str | None = None
    """Memory of a node in the form that sbatch takes, such as 64G."""
    signal_s: PositiveInt = 120
    """Seconds before the time limit at which the run checkpoints and is queued again."""
    max_restarts: PositiveInt = 100
    """Largest number of times the job is queued again."""
    port: int | None = Field(None, ge=1024, le=65535)
    """Port of the first node where the nodes meet; default: derived from the job's number."""
    directives: tuple[str, ...] = ()
    """Further #SBATCH lines, without the #SBATCH."""
    setup: tuple[str, ...] = ()
    """Shell lines before the training, such as loading modules."""
    submit: bool = True
    """Submit with sbatch; off: only write the script."""


class KubernetesConfig(Config):
    """Settings of ``launcher=kubernetes``."""

    image: str = "emeg:latest"
    """Container image that contains emeg."""
    namespace: str = "default"
    """Namespace of the job."""
    runtime: str = "torch-distributed"
    """ClusterTrainingRuntime that sets torchrun's variables."""
    gpus_per_node: int | None = Field(None, ge=0)
    """GPUs of a node; default: one for each process, none with --device cpu."""
    cpu: str | None = None
    """CPU cores of a node, such as 16."""
    memory: str | None = None
    """Memory of a node, such as 64Gi."""
    shared_memory: str | None = "8Gi"
    """Size of /dev/shm, which the ranks of a node exchange data through; null for the container's own."""
    claim: str | None = None
    """PersistentVolumeClaim mounted at `mount`, if the store is not a bucket."""
    mount: str = "/data"
    """Folder where the claim is mounted; `root` lies below it."""
    secret: str | None = None
    """Secret whose keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY open the bucket."""
    stop_s: PositiveInt = 100
    """Seconds that ranks have to write a checkpoint after a stop signal; `terminationGracePeriodSeconds` of the
    runtime's pods must be longer."""
    submit: bool = False
    """Apply the manifest with kubectl; off: only write it."""
