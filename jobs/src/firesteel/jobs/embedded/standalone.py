"""Run a Spark standalone cluster: a Master and Workers from pyspark's spark-class.

The cluster listens only on 127.0.0.1. Without a `secret`, every user of this machine can run code as the user who started it. Do not
use it on machines with untrusted users.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.java import find_java
from firesteel.jobs.embedded.cluster import START_S, Cluster, ask, pyspark_home
from firesteel.jobs.embedded.ports import remembered_ports
from firesteel.jobs.embedded.processes import wait_until
from firesteel.rdma_shuffle.client import status


class EmbeddedStandalone(Cluster):
    """A Master and Workers on 127.0.0.1.

    Parameters
    ----------
    folder
        Folder of logs and of the Workers' and executors' files.
    workers
        Number of Workers.
    cores, memory
        Cores and memory of each Worker, with memory in Spark's format, such as `1g`.
    shuffle
        Start a shuffle service, and set its socket in the Workers' FIRESTEEL_SHUFFLE_SOCKET.
    settings
        More `spark.*` settings of Master and Workers, such as a Worker's resources.
    secret
        Secret that applications need. It is stored in a file that only its owner can read.
    """

    def __init__(
        self,
        folder: Path,
        workers: int = 1,
        cores: int = 1,
        memory: str = "1g",
        *,
        shuffle: bool = False,
        settings: Mapping[str, str] | None = None,
        secret: str = "",
    ) -> None:
        super().__init__(folder)
        self._secret = secret
        self._settings = settings or {}
        self._shuffle = shuffle
        self._workers, self._cores, self._memory = workers, cores, memory
        self._ports: dict[str, int] = {}

    @property
    def master(self) -> str:
        """Return the URL for `--master`."""
        return f"spark://127.0.0.1:{self._ports['master']}"

    @property
    def web_url(self) -> str:
        """Return the URL of the Master's web page."""
        return f"http://127.0.0.1:{self._ports['master-http']}"

    @property
    def addresses(self) -> Mapping[str, str]:
        """See Cluster."""
        return {"master": self.master, "web": self.web_url} | ({"shuffle": str(self.socket)} if self._shuffle else {})

    @property
    def socket(self) -> Path:
        """Return the Unix socket of the shuffle service."""
        return self.folder / "shuffle.sock"

    def kill_worker(self, number: int) -> None:
        """SIGKILL a Worker. Its executors end with it."""
        self._kill(f"worker-{number}")

    def start_worker(self, number: int) -> None:
        """Start a Worker."""
        name = f"worker-{number}"
        args = ["--port", str(self._ports[name]), "--webui-port", str(self._ports[f"{name}-http"])]
        args += ["--cores", str(self._cores), "--memory", self._memory, "--work-dir", str(self.folder / name)]
        self._spark_class(name, "worker.Worker", [*args, self.master])

    def alive_workers(self) -> int:
        """Return the number of live Workers, or -1 if the Master does not answer."""
        answer = ask(f"{self.web_url}/json/")
        if not isinstance(answer, dict):
            return -1
        return sum(worker["state"] == "ALIVE" for worker in answer["workers"])

    def _start(self) -> None:
        servers = [f"worker-{number}{port}" for number in range(self._workers) for port in ("", "-http")]
        self._ports = remembered_ports(self.folder / "ports.json", ["master", "master-http", *servers])
        ports = ["--port", str(self._ports["master"]), "--webui-port", str(self._ports["master-http"])]
        if self._shuffle:
            self._start_shuffle()
        self._spark_class("master", "master.Master", ports)
        # If the Master is not ready, a Worker retries its registration only after 5 to 15 s.
        wait_until(lambda: self.alive_workers() >= 0, "the Master is ready", self.processes, START_S)
        for number in range(self._workers):
            self.start_worker(number)
        wait_until(lambda: self.alive_workers() >= self._workers, "the Workers are ready", self.processes, START_S)

    def _start_shuffle(self) -> None:
        outputs = self.folder / "shuffle"
        outputs.mkdir(exist_ok=True)
        args = ["--socket", str(self.socket), "--folder", str(outputs), "--node", "127.0.0.1"]
        self._launch("shuffled", [sys.executable, "-m", "firesteel.rdma_shuffle.service", *args])
        wait_until(self._shuffle_answers, "the shuffle service is ready", self.processes, START_S)

    def _shuffle_answers(self) -> bool:
        try:
            return bool(status(self.socket))
        except RuntimeFault:
            return False

    def _spark_class(self, name: str, main: str, args: list[str]) -> None:
        home = pyspark_home()
        environ = {
            **os.environ,
            "JAVA_HOME": str(find_java().home),
            "SPARK_HOME": str(home),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_LOCAL_DIRS": str(self.folder / f"{name}-local"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_HOSTNAME": "127.0.0.1",
            "PYSPARK_PYTHON": sys.executable,
            **({"FIRESTEEL_SHUFFLE_SOCKET": str(self.socket)} if self._shuffle else {}),
            # The REST server ignores spark.authenticate, so it is off. The external shuffle service is off, because a second Worker
            # on the host cannot bind its port.
            "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 "
            "-Dspark.master.rest.enabled=false -Dspark.shuffle.service.enabled=false "
            + " ".join(f"-D{key}={value}" for key, value in self._settings.items()),
        }
        if self._secret:  # `ps` shows JVM settings on the command line
            args = ["--properties-file", str(self._secret_file()), *args]
        command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{main}", "--host", "127.0.0.1", *args]
        self._launch(name, command, environ)

    def _secret_file(self) -> Path:
        path = self.folder / "secret.properties"
        if not path.exists():
            path.touch(0o600)
            path.write_text(f"spark.authenticate.secret {self._secret}\n", encoding="utf-8")
        return path
