"""A real HDFS: one NameNode and some DataNodes, the processes that a cluster runs, on one machine.

It listens on 127.0.0.1 only, and believes its callers' names: whoever can log in to this machine can read it.
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
    """HDFS on 127.0.0.1. Data in `folder` outlives the processes: start again on the same folder and it is there.

    Parameters
    ----------
    folder
        Name directory, blocks, configuration and logs.
    datanodes
        How many DataNodes.
    replication
        Copies of each block; as many as DataNodes by default, at most 3.
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
        """What Spark and specs say: `hdfs://127.0.0.1:PORT`."""
        return f"hdfs://127.0.0.1:{self._ports['namenode']}"

    @property
    def webhdfs_url(self) -> str:
        """The NameNode's web address."""
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
        """Wait until the NameNode believes that so many DataNodes are alive, and those that run have registered.

        It believes in a dead one for 14 s: a DataNode started again within that time is counted before it listens.

        Raises
        ------
        RuntimeFault
            FS9005 when it does not in time.
        """
        wait_until(
            lambda: self.live_datanodes() == count and self._registered(),
            f"HDFS has {count} DataNodes",
            self.processes,
            timeout_s,
        )

    def _registered(self) -> bool:
        """Whether each DataNode that runs says itself that it serves the NameNode."""
        for name in (each for each in self._running if each.startswith("datanode-")):
            answer = ask(
                f"http://127.0.0.1:{self._ports[f'{name}-http']}/jmx?qry=Hadoop:service=DataNode,name=DataNodeInfo"
            )
            beans = answer.get("beans") if isinstance(answer, dict) else None
            actors = json.loads(beans[0].get("BPServiceActorInfo") or "[]") if beans else []
            if not actors or any(actor["ActorState"] != "RUNNING" for actor in actors):
                return False
        return True

    def live_datanodes(self) -> int:
        """DataNodes that the NameNode believes alive; -1 while it does not answer or is in safe mode."""
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
        """Names of ports, without those of DataNodes."""
        return ["namenode", "namenode-http"]

    def _datanode_servers(self) -> list[str]:
        return [f"datanode-{number}{port}" for number in range(self._datanodes) for port in ("", "-http", "-ipc")]

    def _start_namenodes(self) -> None:
        self._format(self.folder / "name", self.conf_dir)
        self.start_namenode()

    def _format(self, name_dir: Path, conf: Path) -> None:
        # The image is renamed into place last: without one an earlier format was cut short, and there is no data.
        if not any((name_dir / "current").glob("fsimage_[0-9]*")):
            words = ["-format", "-force", "-nonInteractive"]
            self._once("server.namenode.NameNode", conf, words, "format", "the NameNode could not format its directory")

    def _once(self, main: str, conf: Path, words: list[str], name: str, failed: str) -> None:
        """Run a program of HDFS to its end. FS9005 begins with `failed` when it ends badly."""
        process = start(name, [*self._command(main, conf), *words], self.folder / "logs" / f"{name}.log")
        try:
            wait_until(lambda: not process.alive, f"{main} {' '.join(words)}", [], START_S)
        finally:
            process.stop()
        if process.child.returncode != 0:
            raise RuntimeFault("FS9005", f"{failed}: {process.last_words()}", hint=f"See {process.log}.")

    def client_conf(self) -> tuple[dict[str, str], dict[str, str]]:
        """`core-site.xml` and `hdfs-site.xml` as clients need them; the servers read them too."""
        hdfs = {
            **self._namenodes_conf(),
            "dfs.replication": str(self._replication),
            "dfs.namenode.handler.count": "8",
            "dfs.namenode.safemode.extension": "0",
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
            # A DataNode is avoided 3 s after its last heartbeat, and dead after 14: 2 * recheck + 10 * heartbeat.
            "dfs.heartbeat.interval": "1",
            "dfs.namenode.heartbeat.recheck-interval": "2000",
            "dfs.namenode.stale.datanode.interval": "3000",
            "dfs.namenode.avoid.read.stale.datanode": "true",
            "dfs.namenode.avoid.write.stale.datanode": "true",
            "dfs.datanode.handler.count": "4",
            "dfs.client.use.datanode.hostname": "false",
            # With two DataNodes there is none to put in the place of one that died in mid-write (HDFS-4600).
            "dfs.client.block.write.replace-datanode-on-failure.policy": "NEVER",
            "dfs.webhdfs.socket.connect-timeout": "5s",
        }
        return core_site(self.uri, self.folder), hdfs

    def _namenodes_conf(self) -> dict[str, str]:
        """What `hdfs-site.xml` says of NameNodes."""
        return {
            "dfs.namenode.http-address": f"127.0.0.1:{self._ports['namenode-http']}",
            "dfs.namenode.name.dir": (self.folder / "name").as_uri(),
        }

    def _configure(self) -> None:
        core, hdfs = self.client_conf()
        write_conf(self.conf_dir, core=core, hdfs=hdfs)
        for number in range(self._datanodes):
            name = f"datanode-{number}"
            own = {
                "dfs.datanode.data.dir": (self.folder / f"data-{number}").as_uri(),
                "dfs.datanode.address": f"127.0.0.1:{self._ports[name]}",
                "dfs.datanode.http.address": f"127.0.0.1:{self._ports[f'{name}-http']}",
                "dfs.datanode.ipc.address": f"127.0.0.1:{self._ports[f'{name}-ipc']}",
                "dfs.datanode.hostname": "127.0.0.1",
            }
            write_conf(self._datanode_conf(number), core=core, hdfs={**hdfs, **own})

    def _datanode_conf(self, number: int) -> Path:
        return self.folder / f"conf-datanode-{number}"

    def _command(self, main: str, conf: Path, heap_mib: int = 256) -> list[str]:
        assert self._jvm is not None  # made by _start
        return self._jvm.command(f"hdfs.{main}", conf, heap_mib)
