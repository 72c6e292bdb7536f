"""A real Spark standalone cluster: a Master and Workers by pyspark's own spark-class.

It listens on 127.0.0.1 only. Without a `secret` it takes applications from anyone there: whoever can log in to this machine
can run code as the user who started it. Not for machines that are shared with people you do not trust.
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
        Logs, and the Workers' and executors' own files.
    workers
        How many Workers.
    cores, memory
        What each Worker offers; memory as Spark writes it, e.g. `1g`.
    shuffle
        Whether the node has a shuffle service as well; it lies in the Workers' FIRESTEEL_SHUFFLE_SOCKET.
    settings
        More `spark.*` settings of Master and Workers, e.g. the resources that a Worker offers.
    secret
        What applications must share to be let in. It lies in a file that only its owner may read.
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
        """What `--master` takes."""
        return f"spark://127.0.0.1:{self._ports['master']}"

    @property
    def web_url(self) -> str:
        """The Master's web page."""
        return f"http://127.0.0.1:{self._ports['master-http']}"

    @property
    def addresses(self) -> Mapping[str, str]:
        """See Cluster."""
        return {"master": self.master, "web": self.web_url} | ({"shuffle": str(self.socket)} if self._shuffle else {})

    @property
    def socket(self) -> Path:
        """The Unix socket of the shuffle service."""
        return self.folder / "shuffle.sock"

    def kill_worker(self, number: int) -> None:
        """SIGKILL a Worker; its executors end with it."""
        self._kill(f"worker-{number}")

    def start_worker(self, number: int) -> None:
        """Start a Worker."""
        name = f"worker-{number}"
        words = ["--port", str(self._ports[name]), "--webui-port", str(self._ports[f"{name}-http"])]
        words += ["--cores", str(self._cores), "--memory", self._memory, "--work-dir", str(self.folder / name)]
        self._spark_class(name, "worker.Worker", [*words, self.master])

    def alive_workers(self) -> int:
        """Workers that the Master believes alive; -1 while it does not answer."""
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
        # A Worker's first attempt to register fails while the Master starts, and its second comes 5 to 15 s later.
        wait_until(lambda: self.alive_workers() >= 0, "the Master is ready", self.processes, START_S)
        for number in range(self._workers):
            self.start_worker(number)
        wait_until(lambda: self.alive_workers() >= self._workers, "the Workers are ready", self.processes, START_S)

    def _start_shuffle(self) -> None:
        outputs = self.folder / "shuffle"
        outputs.mkdir(exist_ok=True)
        words = ["--socket", str(self.socket), "--folder", str(outputs), "--node", "127.0.0.1"]
        self._launch("shuffled", [sys.executable, "-m", "firesteel.rdma_shuffle.service", *words])
        wait_until(self._shuffle_answers, "the shuffle service is ready", self.processes, START_S)

    def _shuffle_answers(self) -> bool:
        try:
            return bool(status(self.socket))
        except RuntimeFault:
            return False

    def _spark_class(self, name: str, main: str, words: list[str]) -> None:
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
            # The REST server takes applications from anyone, whatever spark.authenticate says: off. A second Worker on
            # a host cannot bind the external shuffle service again: off.
            "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 "
            "-Dspark.master.rest.enabled=false -Dspark.shuffle.service.enabled=false "
            + " ".join(f"-D{key}={value}" for key, value in self._settings.items()),
        }
        if self._secret:  # settings of the JVM stand on its command line, which `ps` shows
            words = ["--properties-file", str(self._secret_file()), *words]
        command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{main}", "--host", "127.0.0.1", *words]
        self._launch(name, command, environ)

    def _secret_file(self) -> Path:
        path = self.folder / "secret.properties"
        if not path.exists():
            path.touch(0o600)
            path.write_text(f"spark.authenticate.secret {self._secret}\n", encoding="utf-8")
        return path
