"""Run HDFS on one machine: a NameNode and DataNodes, as in a cluster.

HDFS listens only on 127.0.0.1 and does not authenticate users, so every user of this machine can read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.embedded.cluster import START_S, Cluster, ask
from firesteel.jobs.embedded.hadoop import Jvm, core_site, write_conf
from firesteel.jobs.embedded.ports import remembered_ports
from firesteel.jobs.embedded.processes import start, wait_until


class EmbeddedHdfs(Cluster):
    """HDFS on 127.0.0.1. The data in `folder` remains after the processes end, and the next start uses it.

    Parameters
    ----------
    folder
        Name directory, blocks, configuration and logs.
    datanodes
        Number of DataNodes.
    replication
        Replicas of each block. By default the number of DataNodes, at most 3.
    """

    def __init__(self, folder: Path, datanodes: int = 2, replication: int | None = None) -> None:
        super().__init__(folder)
        self.conf_dir = self.folder / "conf"
        self._datanodes = datanodes
        self._replication = replication or min(datanodes, 3)
        self._ports: dict[str, int] = {}
        self._jvm: Jvm | None = None

    @property
    def uri(self) -> str:
        """Return the URI for Spark and specs: `hdfs://127.0.0.1:PORT`."""
        return f"hdfs://127.0.0.1:{self._ports['namenode']}"

    @property
    def webhdfs_url(self) -> str:
        """Return the NameNode's web address."""
        return f"http://127.0.0.1:{self._ports['namenode-http']}"

    @property
    def addresses(self) -> Mapping[str, str]:
        """See Cluster."""
        return {"hdfs": self.uri, "webhdfs": self.webhdfs_url, "HADOOP_CONF_DIR": str(self.conf_dir)}

    def kill_datanode(self, number: int) -> None:
        """SIGKILL a DataNode."""
        self._kill(f"datanode-{number}")

    def start_datanode(self, number: int) -> None:
        """Start a DataNode on its own data."""
        self._launch(f"datanode-{number}", self._command("server.datanode.DataNode", self._datanode_conf(number)))

    def kill_namenode(self) -> None:
        """SIGKILL the NameNode."""
        self._kill("namenode")

    def start_namenode(self) -> None:
        """Start the NameNode on its own directory."""
        self._launch("namenode", self._command("server.namenode.NameNode", self.conf_dir))

    def wait_for_datanodes(self, count: int, timeout_s: float = START_S) -> None:
        """Wait until the NameNode reports `count` live DataNodes and the running ones have registered.

        The NameNode detects a dead DataNode after 14 s, so it counts a restarted DataNode before that one listens.

        Raises
        ------
        RuntimeFault
            FS9005 if the timeout expires.
        """
        wait_until(
            lambda: self.live_datanodes() == count and self._registered(),
            f"HDFS has {count} DataNodes",
            self.processes,
            timeout_s,
        )

    def _registered(self) -> bool:
        """Return whether each running DataNode reports that it serves the NameNode."""
        for name in (process for process in self._running if process.startswith("datanode-")):
            answer = ask(
                f"http://127.0.0.1:{self._ports[f'{name}-http']}/jmx?qry=Hadoop:service=DataNode,name=DataNodeInfo"
            )
            beans = answer.get("beans") if isinstance(answer, dict) else None
            actors = json.loads(beans[0].get("BPServiceActorInfo") or "[]") if beans else []
            if not actors or any(actor["ActorState"] != "RUNNING" for actor in actors):
                return False
        return True

    def live_datanodes(self) -> int:
        """Return the number of live DataNodes, or -1 if the NameNode does not answer or is in safe mode."""
        answer = ask(f"{self.webhdfs_url}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState")
        beans = answer.get("beans") if isinstance(answer, dict) else None
        if not beans or beans[0].get("FSState") != "Operational":
            return -1
        return int(beans[0]["NumLiveDataNodes"])

    def _start(self) -> None:
        self._jvm = self._make_jvm()
        self._ports = remembered_ports(self.folder / "ports.json", [*self._servers(), *self._datanode_servers()])
        self._configure()
        self._start_namenodes()
        for number in range(self._datanodes):
            self.start_datanode(number)
        self.wait_for_datanodes(self._datanodes)

    def _make_jvm(self) -> Jvm:
        return Jvm()

    def _servers(self) -> list[str]:
        """Return the names of the ports without those of DataNodes."""
        return ["namenode", "namenode-http"]

    def _datanode_servers(self) -> list[str]:
        return [f"datanode-{number}{port}" for number in range(self._datanodes) for port in ("", "-http", "-ipc")]

    def _start_namenodes(self) -> None:
        self._format(self.folder / "name", self.conf_dir)
        self.start_namenode()

    def _format(self, name_dir: Path, conf: Path) -> None:
        # Formatting renames the image last, so without an image the earlier format was incomplete.
        if not any((name_dir / "current").glob("fsimage_[0-9]*")):
            args = ["-format", "-force", "-nonInteractive"]
            self._run_program(
                "server.namenode.NameNode", conf, args, "format", "the NameNode cannot format its directory"
            )

    def _run_program(self, main: str, conf: Path, args: list[str], name: str, failed: str) -> None:
        """Run an HDFS program to its end. If it fails, raise FS9005 with the message `failed`."""
        process = start(name, [*self._command(main, conf), *args], self.folder / "logs" / f"{name}.log")
        try:
            wait_until(lambda: not process.alive, f"{main} {' '.join(args)}", [], START_S)
        finally:
            process.stop()
        if process.child.returncode != 0:
            raise RuntimeFault("FS9005", f"{failed}: {process.last_error()}", hint=f"See {process.log}.")

    def client_conf(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the `core-site.xml` and `hdfs-site.xml` settings of clients and servers."""
        hdfs = {
            **self._namenodes_conf(),
            "dfs.replication": str(self._replication),
            "dfs.namenode.handler.count": "8",
            "dfs.namenode.safemode.extension": "0",
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
            # A DataNode is stale 3 s after its last heartbeat, and dead after 14 s (2 * recheck + 10 * heartbeat).
            "dfs.heartbeat.interval": "1",
            "dfs.namenode.heartbeat.recheck-interval": "2000",
            "dfs.namenode.stale.datanode.interval": "3000",
            "dfs.namenode.avoid.read.stale.datanode": "true",
            "dfs.namenode.avoid.write.stale.datanode": "true",
            "dfs.datanode.handler.count": "4",
            "dfs.client.use.datanode.hostname": "false",
            # With two DataNodes, no other one can replace a DataNode that fails during a write (HDFS-4600).
            "dfs.client.block.write.replace-datanode-on-failure.policy": "NEVER",
            "dfs.webhdfs.socket.connect-timeout": "5s",
        }
        return core_site(self.uri, self.folder), hdfs

    def _namenodes_conf(self) -> dict[str, str]:
        """Return the NameNode settings of `hdfs-site.xml`."""
        return {
            "dfs.namenode.http-address": f"127.0.0.1:{self._ports['namenode-http']}",
            "dfs.namenode.name.dir": (self.folder / "name").as_uri(),
        }

    def _configure(self) -> None:
        core, hdfs = self.client_conf()
        write_conf(self.conf_dir, core=core, hdfs=hdfs)
        for number in range(self._datanodes):
            name = f"datanode-{number}"
            datanode_settings = {
                "dfs.datanode.data.dir": (self.folder / f"data-{number}").as_uri(),
                "dfs.datanode.address": f"127.0.0.1:{self._ports[name]}",
                "dfs.datanode.http.address": f"127.0.0.1:{self._ports[f'{name}-http']}",
                "dfs.datanode.ipc.address": f"127.0.0.1:{self._ports[f'{name}-ipc']}",
                "dfs.datanode.hostname": "127.0.0.1",
            }
            write_conf(self._datanode_conf(number), core=core, hdfs={**hdfs, **datanode_settings})

    def _datanode_conf(self, number: int) -> Path:
        return self.folder / f"conf-datanode-{number}"

    def _command(self, main: str, conf: Path, heap_mib: int = 256) -> list[str]:
        assert self._jvm is not None  # set by _start
        return self._jvm.command(f"hdfs.{main}", conf, heap_mib)
