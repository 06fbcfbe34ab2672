"""A PostgreSQL server for one test, from the system's binaries, in a folder that is removed afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEBIAN = Path("/usr/lib/postgresql")


def find_binaries() -> Path | None:
    """Folder with `initdb` and `pg_ctl`; Debian keeps them off the path."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    return max((file.parent for file in DEBIAN.glob("*/bin/initdb")), default=None)


@contextmanager
def running_postgres(binaries: Path, port: int) -> Iterator[str]:
    """Start a server on `port`; yield its URL for SQLAlchemy."""
    folder = Path(tempfile.mkdtemp(prefix="emeg-postgres-"))
    # it refuses to run as root, and the account that its package makes is there for it
    account = pwd.getpwnam("postgres") if os.getuid() == 0 else None
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)

    def run(*command: str) -> None:
        done = subprocess.run(
            [str(binaries / command[0]), *command[1:]],
            user=account and account.pw_uid,
            group=account and account.pw_gid,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if command[0] == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if command[0] == "initdb" else subprocess.DEVNULL,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}"

    data = str(folder / "data")
    try:
        run("initdb", "-D", data, "-U", "emeg", "--auth", "trust", "--no-sync", "--locale", "C", "--encoding", "UTF8")
        options = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+asyncpg://emeg@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
