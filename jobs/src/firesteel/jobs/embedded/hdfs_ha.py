"""Run HDFS with high availability: two NameNodes with failover controllers, JournalNodes and ZooKeeper.

::

    clients -- hdfs://embedded --> namenode-0 (active) -- edits --> journalnode-0, -1, -2 --> namenode-1 (standby)
                                       |                                                          |
                                     zkfc-0 -------------------- zookeeper -------------------- zkfc-1
                                                    the lock holder is active

Failover is automatic: if the active NameNode fails, its controller releases the lock and the other controller takes it.
HDFS listens only on 127.0.0.1 and does not authenticate users.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from firesteel.jobs.embedded.cluster import START_S, ask, pyspark_home
from firesteel.jobs.embedded.hadoop import Jvm, write_conf
from firesteel.jobs.embedded.hdfs import EmbeddedHdfs
from firesteel.jobs.embedded.processes import wait_until
from firesteel.jobs.embedded.relocate import relocate

NAMESERVICE = "embedded"
_NAMENODES = (0, 1)
_ZOOKEEPER = "shaded.org.apache.zookeeper.server.ZooKeeperServerMain"
_FAILOVER = "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"


class EmbeddedHdfsHa(EmbeddedHdfs):
    """HDFS with automatic failover on 127.0.0.1.

    Parameters
    ----------
    journals
        Number of JournalNodes, which must be odd. A minority may fail.
    """

    def __init__(self, folder: Path, datanodes: int = 2, replication: int | None = None, journals: int = 3) -> None:
        super().__init__(folder, datanodes, replication)
        self._journals = journals

    @property
    def uri(self) -> str:
        """Return the URI for Spark and specs. The Hadoop configuration resolves the nameservice."""
        return f"hdfs://{NAMESERVICE}"

    @property
    def webhdfs_url(self) -> str:
        """Return the web address of the active NameNode, or of the first one if none is active."""
        return self._http(self.active() or 0)

    @property
    def addresses(self) -> Mapping[str, str]:
        """See Cluster."""
        web_addresses = ";".join(map(self._http, _NAMENODES))
        return {"hdfs": self.uri, "webhdfs": web_addresses, "HADOOP_CONF_DIR": str(self.conf_dir)}

    def active(self) -> int | None:
        """Return the number of the active NameNode, or None."""
        return next((number for number in _NAMENODES if self._state(number) == "active"), None)

    def kill_active(self) -> int:
        """SIGKILL the active NameNode and return its number. Its failover controller keeps running."""
        wait_until(lambda: self.active() is not None, "a NameNode is active", self.processes, START_S)
        number = self.active()
        assert number is not None
        self._kill(f"namenode-{number}")
        return number

    def start_namenode(self, number: int = 0) -> None:
        """Start a NameNode on its own directory."""
        self._launch(f"namenode-{number}", self._command("server.namenode.NameNode", self._namenode_conf(number)))

    def kill_namenode(self) -> None:
        """SIGKILL the active NameNode."""
        self.kill_active()

    def wait_for_namenodes(self) -> None:
        """Wait until one NameNode is active and the other one is standby.

        Raises
        ------
        RuntimeFault
            FS9005 if the timeout expires.
        """
        wait_until(
            lambda: {self._state(number) for number in _NAMENODES} == {"active", "standby"},
            "one NameNode is active and one is standby",
            self.processes,
            START_S,
        )

    def _make_jvm(self) -> Jvm:
        """Add the ZooKeeper interface that the shaded jar lacks, relocated from Spark's ZooKeeper jar."""
        jar = next((pyspark_home() / "jars").glob("zookeeper-[0-9]*.jar"))
        target = self.folder / "zookeeper-testable.jar"
        old, new = "org/apache/zookeeper", "org/apache/hadoop/shaded/org/apache/zookeeper"
        return Jvm(jars=[relocate(jar, f"{old}/Testable", old, new, target)])

    def _servers(self) -> list[str]:
        names = [f"{kind}-{number}" for kind in ("namenode", "zkfc") for number in _NAMENODES]
        names += [f"namenode-{number}-http" for number in _NAMENODES]
        journals = [f"journalnode-{number}{port}" for number in range(self._journals) for port in ("", "-http")]
        return [*names, *journals, "zookeeper"]

    def _namenodes_conf(self) -> dict[str, str]:
        journals = ";".join(f"127.0.0.1:{self._ports[f'journalnode-{number}']}" for number in range(self._journals))
        conf = {
            "dfs.nameservices": NAMESERVICE,
            f"dfs.ha.namenodes.{NAMESERVICE}": ",".join(f"nn{number}" for number in _NAMENODES),
            f"dfs.client.failover.proxy.provider.{NAMESERVICE}": _FAILOVER,
            "dfs.namenode.shared.edits.dir": f"qjournal://{journals}/{NAMESERVICE}",
            "dfs.ha.automatic-failover.enabled": "true",
            # The JournalNodes accept only one writer, so no other fencing is necessary.
            "dfs.ha.fencing.methods": "shell(/bin/true)",
            "ha.zookeeper.quorum": f"127.0.0.1:{self._ports['zookeeper']}",
            "ha.zookeeper.session-timeout.ms": "5000",
            "ha.health-monitor.check-interval.ms": "500",
            "ha.health-monitor.connect-retry-interval.ms": "500",
            "dfs.ha.tail-edits.period": "1s",
            "dfs.journalnode.enable.sync": "false",
        }
        for number in _NAMENODES:
            name = f"{NAMESERVICE}.nn{number}"
            conf |= {
                f"dfs.namenode.rpc-address.{name}": f"127.0.0.1:{self._ports[f'namenode-{number}']}",
                f"dfs.namenode.http-address.{name}": f"127.0.0.1:{self._ports[f'namenode-{number}-http']}",
                f"dfs.ha.zkfc.port.{name}": str(self._ports[f"zkfc-{number}"]),
            }
        return conf

    def _configure(self) -> None:
        super()._configure()
        core, hdfs = self.client_conf()
        for number in _NAMENODES:
            server_settings = {
                "dfs.ha.namenode.id": f"nn{number}",
                "dfs.namenode.name.dir": self._name(number).as_uri(),
            }
            write_conf(self._namenode_conf(number), core=core, hdfs={**hdfs, **server_settings})
        for number in range(self._journals):
            server_settings = {
                "dfs.journalnode.edits.dir": str(self.folder / f"journal-{number}"),
                "dfs.journalnode.rpc-address": f"127.0.0.1:{self._ports[f'journalnode-{number}']}",
                "dfs.journalnode.http-address": f"127.0.0.1:{self._ports[f'journalnode-{number}-http']}",
            }
            write_conf(self.folder / f"conf-journalnode-{number}", core=core, hdfs={**hdfs, **server_settings})
        zookeeper = {
            "dataDir": str(self.folder / "zookeeper"),
            "clientPort": str(self._ports["zookeeper"]),
            "clientPortAddress": "127.0.0.1",
            "tickTime": "1000",
            "admin.enableServer": "false",
        }
        text = "".join(f"{key}={value}\n" for key, value in zookeeper.items())
        (self.folder / "zookeeper.cfg").write_text(text, encoding="utf-8")

    def _start_namenodes(self) -> None:
        assert self._jvm is not None
        for number in range(self._journals):
            conf = self.folder / f"conf-journalnode-{number}"
            main = "hdfs.qjournal.server.JournalNode"
            self._launch(f"journalnode-{number}", self._jvm.command(main, conf, heap_mib=64))
        args = [str(self.folder / "zookeeper.cfg")]
        self._launch("zookeeper", [*self._jvm.command(_ZOOKEEPER, self.conf_dir, heap_mib=64), *args])
        names = ["zookeeper", *(f"journalnode-{number}" for number in range(self._journals))]
        wait_until(lambda: all(map(self._listens, names)), "the JournalNodes are ready", self.processes, START_S)
        self._format_all()
        for number in _NAMENODES:
            self.start_namenode(number)
            zkfc = self._jvm.command("hdfs.tools.DFSZKFailoverController", self._namenode_conf(number), heap_mib=64)
            self._launch(f"zkfc-{number}", zkfc)
        self.wait_for_namenodes()

    def _format_all(self) -> None:
        first, second = map(self._name, _NAMENODES)
        self._format(first, self._namenode_conf(0))
        if not any((second / "current").glob("fsimage_[0-9]*")):
            # Same result as -bootstrapStandby, without a running NameNode. The rename is atomic.
            temporary = second.with_name("name-copied")
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.copytree(first, temporary, ignore=shutil.ignore_patterns("in_use.lock"))
            shutil.rmtree(second, ignore_errors=True)
            temporary.rename(second)
        marker = self.folder / "zookeeper.formatted"
        if not marker.exists():
            self._format_zookeeper()
            marker.touch()

    def _format_zookeeper(self) -> None:
        args = ["-formatZK", "-force", "-nonInteractive"]
        failed = "cannot create the failover controllers' node in ZooKeeper"
        self._run_program("tools.DFSZKFailoverController", self._namenode_conf(0), args, "format-zookeeper", failed)

    def _state(self, number: int) -> str:
        answer = ask(f"{self._http(number)}/jmx?qry=Hadoop:service=NameNode,name=NameNodeStatus")
        beans = answer.get("beans") if isinstance(answer, dict) else None
        return str(beans[0].get("State", "")) if beans else ""

    def _http(self, number: int) -> str:
        return f"http://127.0.0.1:{self._ports[f'namenode-{number}-http']}"

    def _listens(self, name: str) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._ports[name])) == 0

    def _name(self, number: int) -> Path:
        return self.folder / f"name-{number}"

    def _namenode_conf(self, number: int) -> Path:
        return self.folder / f"conf-namenode-{number}"
