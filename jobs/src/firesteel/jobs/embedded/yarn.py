"""Run YARN with HDFS on one machine: a ResourceManager and NodeManagers, as in a cluster.

YARN listens only on 127.0.0.1 and does not authenticate users, so every user of this machine can run code as the user who started it.
Do not use it on machines with untrusted users.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

from firesteel.jobs.embedded.cluster import START_S, Cluster, ask, pyspark_home
from firesteel.jobs.embedded.hadoop import CERTIFICATES, Jvm, write_conf
from firesteel.jobs.embedded.hdfs import EmbeddedHdfs
from firesteel.jobs.embedded.ports import remembered_ports
from firesteel.jobs.embedded.processes import Process, wait_until

_RM_PORTS = {"": "address", "-scheduler": "scheduler.address", "-tracker": "resource-tracker.address",
             "-admin": "admin.address", "-http": "webapp.address"}  # fmt: skip
_NM_PORTS = {"": "address", "-localizer": "localizer.address", "-http": "webapp.address"}
_JAVA_OPTIONS = (
    "spark.driver.defaultJavaOptions", "spark.executor.defaultJavaOptions", "spark.yarn.am.extraJavaOptions"
)  # fmt: skip
_INHERITED = "JAVA_HOME,SPARK_LOCAL_IP,PATH,LANG,TZ"
"""Variables that containers inherit from their NodeManager."""


class EmbeddedYarn(Cluster):
    """YARN on 127.0.0.1. The ResourceManager stores its state in `folder`, and a restart resumes the running applications.

    Parameters
    ----------
    folder
        Folder of state, configuration, logs, container files and HDFS.
    nodes
        Number of NodeManagers.
    cores, memory_mib
        Cores and memory in MiB that each NodeManager offers.
    hdfs
        HDFS of the cluster. By default a new one with two DataNodes.
    """

    def __init__(
        self, folder: Path, nodes: int = 2, cores: int = 3, memory_mib: int = 4096, *, hdfs: EmbeddedHdfs | None = None
    ) -> None:
        super().__init__(folder)
        self.hdfs = hdfs or EmbeddedHdfs(self.folder / "hdfs")
        self.conf_dir = self.folder / "conf"
        self._nodes, self._cores, self._memory_mib = nodes, cores, memory_mib
        self._ports: dict[str, int] = {}
        self._jvm: Jvm | None = None

    @property
    def web_url(self) -> str:
        """Return the URL of the ResourceManager's web page. Its REST API is below /ws."""
        return f"http://127.0.0.1:{self._ports['resourcemanager-http']}"

    @property
    def addresses(self) -> Mapping[str, str]:
        """See Cluster. One folder configures Hadoop and Spark."""
        yarn_addresses = {
            "yarn": self.web_url,
            "HADOOP_CONF_DIR": str(self.conf_dir),
            "SPARK_CONF_DIR": str(self.conf_dir),
        }
        return {**self.hdfs.addresses, **yarn_addresses, "SPARK_LOCAL_IP": "127.0.0.1"}

    @property
    def processes(self) -> tuple[Process, ...]:
        """See Cluster. HDFS processes come first."""
        return (*self.hdfs.processes, *super().processes)

    def close(self) -> None:
        """Stop YARN, its remaining containers and HDFS."""
        super().close()
        for number in range(self._nodes):
            self._end_containers(number)
        self.hdfs.close()

    def kill_resourcemanager(self) -> None:
        """SIGKILL the ResourceManager. Applications keep running."""
        self._kill("resourcemanager")

    def start_resourcemanager(self) -> None:
        """Start the ResourceManager with its stored state."""
        assert self._jvm is not None
        main = "yarn.server.resourcemanager.ResourceManager"
        self._launch("resourcemanager", self._jvm.command(main, self.conf_dir, heap_mib=256))

    def kill_node(self, number: int) -> None:
        """SIGKILL a NodeManager and its containers, as in a power failure."""
        self._kill(f"nodemanager-{number}")
        self._end_containers(number)

    def start_node(self, number: int) -> None:
        """Start a NodeManager."""
        assert self._jvm is not None
        name, conf = f"nodemanager-{number}", self._node_conf(number)
        environ = {**os.environ, "JAVA_HOME": str(self._jvm.java.home), "SPARK_LOCAL_IP": "127.0.0.1"}
        self._launch(name, self._jvm.command("yarn.server.nodemanager.NodeManager", conf, heap_mib=160), environ)

    def kill_driver(self) -> list[int]:
        """SIGKILL all processes of driver containers (first container of an application), and return their process IDs."""
        pids = [pid for number in range(self._nodes) for pid in self._containers(number) if _is_driver(pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return pids

    def node_of(self, pid: int) -> int | None:
        """Return the number of the NodeManager whose container runs a process, or None."""
        return next((number for number in range(self._nodes) if pid in self._containers(number)), None)

    def live_nodes(self) -> int:
        """Return the number of live NodeManagers, or -1 if the ResourceManager does not answer."""
        answer = ask(f"{self.web_url}/ws/v1/cluster/metrics")
        metrics = answer.get("clusterMetrics") if isinstance(answer, dict) else None
        return int(metrics["activeNodes"]) if metrics else -1

    def wait_for_nodes(self, count: int, timeout_s: float = START_S) -> None:
        """Wait until the ResourceManager reports `count` live NodeManagers.

        Raises
        ------
        RuntimeFault
            FS9005 if the timeout expires.
        """
        wait_until(lambda: self.live_nodes() == count, f"YARN has {count} NodeManagers", self.processes, timeout_s)

    def _start(self) -> None:
        self.hdfs.__enter__()
        self._jvm = Jvm(*CERTIFICATES)
        nodes = [f"nodemanager-{number}{port}" for number in range(self._nodes) for port in _NM_PORTS]
        names = [*(f"resourcemanager{port}" for port in _RM_PORTS), *nodes]
        self._ports = remembered_ports(self.folder / "ports.json", names)
        self._configure()
        self.start_resourcemanager()
        for number in range(self._nodes):
            self._end_containers(number)  # containers of a killed owner
            self.start_node(number)
        self.wait_for_nodes(self._nodes)

    def _configure(self) -> None:
        core, hdfs = self.hdfs.client_conf()
        addresses = {
            f"yarn.resourcemanager.{key}": f"127.0.0.1:{self._ports[f'resourcemanager{port}']}"
            for port, key in _RM_PORTS.items()
        }
        yarn = {
            "yarn.resourcemanager.hostname": "127.0.0.1",
            **addresses,
            # A restarted ResourceManager recovers its applications, whose containers keep running.
            "yarn.resourcemanager.recovery.enabled": "true",
            "yarn.resourcemanager.store.class": "org.apache.hadoop.yarn.server.resourcemanager.recovery.FileSystemRMStateStore",
            "yarn.resourcemanager.fs.state-store.uri": (self.folder / "rm-state").as_uri(),
            "yarn.resourcemanager.work-preserving-recovery.scheduling-wait-ms": "1000",
            # Clients retry twice a second while the ResourceManager is down; the default is every 30 s.
            "yarn.resourcemanager.connect.retry-interval.ms": "500",
            "yarn.resourcemanager.connect.max-wait.ms": "120000",
            # A node is dead 10 s after its last heartbeat; the default is 10 min. The driver's limit is unchanged, because its first
            # heartbeat follows after it has unpacked its environment and created its SparkContext.
            "yarn.nm.liveness-monitor.expiry-interval-ms": "10000",
            "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms": "250",
            "yarn.resourcemanager.scheduler.class": "org.apache.hadoop.yarn.server.resourcemanager.scheduler.fifo.FifoScheduler",
            "yarn.scheduler.minimum-allocation-mb": "128",
            "yarn.scheduler.maximum-allocation-mb": str(self._memory_mib),
            "yarn.scheduler.maximum-allocation-vcores": str(self._cores),
        }
        write_conf(self.conf_dir, core=core, hdfs=hdfs, yarn=yarn)
        for number in range(self._nodes):
            name = f"nodemanager-{number}"
            addresses = {
                f"yarn.nodemanager.{key}": f"127.0.0.1:{self._ports[f'{name}{port}']}"
                for port, key in _NM_PORTS.items()
            }
            node_settings = {
                "yarn.nodemanager.hostname": "127.0.0.1",
                **addresses,
                "yarn.nodemanager.local-dirs": str(self._local(number)),
                "yarn.nodemanager.log-dirs": str(self.folder / f"container-logs-{number}"),
                "yarn.nodemanager.resource.memory-mb": str(self._memory_mib),
                "yarn.nodemanager.resource.cpu-vcores": str(self._cores),
                # The check counts the shared pages of forked Python workers several times.
                "yarn.nodemanager.pmem-check-enabled": "false",
                "yarn.nodemanager.vmem-check-enabled": "false",
                "yarn.nodemanager.env-whitelist": _INHERITED,
                "yarn.nodemanager.localizer.cache.cleanup.interval-ms": "600000",
                "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "100",
            }
            write_conf(self._node_conf(number), core=core, hdfs=hdfs, yarn={**yarn, **node_settings})
        self._write_spark_defaults()

    def _write_spark_defaults(self) -> None:
        """Write Spark defaults that use the local Spark. Spark's default uploads 400 MB per application."""
        defaults = {
            "spark.yarn.jars": f"local:{pyspark_home()}/jars/*",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.yarn.report.interval": "500ms",
            # C2 does not pay off for short-lived processes on a few shared cores.
            **dict.fromkeys(_JAVA_OPTIONS, "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"),
        }
        text = "".join(f"{key} {value}\n" for key, value in defaults.items())
        (self.conf_dir / "spark-defaults.conf").write_text(text, encoding="utf-8")

    def _node_conf(self, number: int) -> Path:
        return self.folder / f"conf-nodemanager-{number}"

    def _local(self, number: int) -> Path:
        return self.folder / f"local-{number}"

    def _end_containers(self, number: int) -> None:
        for pid in self._containers(number):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _containers(self, number: int) -> set[int]:
        """Return the processes in container folders. A NodeManager starts them in separate sessions."""
        return set(_working_below(self._local(number)))


def _is_driver(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink().name.endswith("_000001")
    except OSError:
        return False


def _working_below(folder: Path) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
                if (entry / "cwd").readlink().is_relative_to(folder):
                    yield int(entry.name)
