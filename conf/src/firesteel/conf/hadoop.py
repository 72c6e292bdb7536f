"""The Hadoop client configuration: the default file system, and the addresses of its NameNodes.

Only `core-site.xml` and `hdfs-site.xml` in `HADOOP_CONF_DIR` are read, as Spark reads them. This module makes no network
request.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from firesteel.conf.errors import StorageError, Where

CONF_DIR = "HADOOP_CONF_DIR"
"""The environment variable with the configuration's folder."""

WEBHDFS_URL = "FIRESTEEL_WEBHDFS_URL"
"""The environment variable that overrides every WebHDFS address; `;` separates several NameNodes."""

FILES = ("core-site.xml", "hdfs-site.xml")
HTTP_PORT, HTTPS_PORT = 9870, 9871  # hdfs-default.xml
RPC_PORT = 8020  # org.apache.hadoop.hdfs.client.HdfsClientConfigKeys.DFS_NAMENODE_RPC_PORT_DEFAULT
_ANY_HOST = ("0.0.0.0", "[::]", "::")  # noqa: S104 - the value for "every interface" in hdfs-default.xml
_REFERENCE = re.compile(r"\$\{([^{}$\s]+)\}")
_MAX_DEPTH = 20  # org.apache.hadoop.conf.Configuration.MAX_SUBST


@dataclass(frozen=True, slots=True)
class HadoopConf:
    """Properties of a Hadoop client configuration; `folder` is empty without one."""

    folder: str
    values: Mapping[str, str]

    @classmethod
    def load(cls) -> HadoopConf:
        """Return the properties in the folder of `HADOOP_CONF_DIR`; none if the variable or the files are missing.

        Raises
        ------
        StorageError
            FS8001 when a file is not valid XML: a partial configuration could name the wrong cluster.
        """
        folder = os.environ.get(CONF_DIR, "")
        values: dict[str, str] = {}
        if folder:
            for name in FILES:
                values |= read_site(Path(folder, name))
        return cls(folder, values)

    def get(self, key: str, default: str = "") -> str:
        """Return the value of `key`, with `${other.key}` and `${env.NAME}` resolved."""
        return self._expand(self.values.get(key, default), 0)

    @property
    def kerberos(self) -> bool:
        """Return whether the cluster requires Kerberos."""
        return self.get("hadoop.security.authentication", "simple").strip().lower() == "kerberos"

    @property
    def default_fs(self) -> str:
        """Return `fs.defaultFS`; `file:///` by default, as in Hadoop."""
        return self.get("fs.defaultFS", "file:///").strip()

    def webhdfs_urls(self, authority: str) -> tuple[str, ...]:
        """Return the WebHDFS URLs of the NameNodes of `authority`, in the order of the configuration.

        Parameters
        ----------
        authority
            The part between `hdfs://` and the path: a nameservice, `host:port` or `host`.
        """
        secure = self.get("dfs.http.policy", "HTTP_ONLY").strip().upper() == "HTTPS_ONLY"
        scheme, kind, port = ("https", "https", HTTPS_PORT) if secure else ("http", "http", HTTP_PORT)
        named = self._is_default(authority)
        urls = []
        for suffix in self._namenodes(authority) or [""]:
            rpc = self.get(f"dfs.namenode.rpc-address{suffix}").strip() if suffix else authority
            address = self.get(f"dfs.namenode.{kind}-address{suffix}").strip() if suffix or named else ""
            urls.append(f"{scheme}://{_fill_host(address or f'0.0.0.0:{port}', _host(rpc))}")
        return tuple(urls)

    def rpc_addresses(self, authority: str) -> tuple[tuple[str, int], ...]:
        """Return the Hadoop RPC hosts and ports of the NameNodes of `authority`, in the order of the configuration."""
        suffixes = self._namenodes(authority)
        addresses = [self.get(f"dfs.namenode.rpc-address{suffix}").strip() for suffix in suffixes] or [authority]
        return tuple((_host(address).strip("[]"), _port(address)) for address in addresses if address)

    def _namenodes(self, authority: str) -> list[str]:
        """Return the key suffixes of `authority`: `.ns.nn` with HA, `.ns` with federation, none for a host."""
        if authority not in _names(self.get("dfs.nameservices")):
            return []
        namenodes = _names(self.get(f"dfs.ha.namenodes.{authority}"))
        return [f".{authority}.{namenode}" for namenode in namenodes] or [f".{authority}"]

    def _is_default(self, authority: str) -> bool:
        """Return whether keys without a suffix describe `authority`."""
        default = self.default_fs.removeprefix("hdfs://").split("/", 1)[0]
        return authority in {default, self.get("dfs.namenode.rpc-address").strip()}

    def _expand(self, value: str, depth: int) -> str:
        if depth >= _MAX_DEPTH:
            return value

        def fill(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith("env."):
                variable, _, default = name.removeprefix("env.").partition(":-")
                return os.environ.get(variable) or default
            return self.values.get(name, match[0])

        filled = _REFERENCE.sub(fill, value)
        return filled if filled == value else self._expand(filled, depth + 1)


def webhdfs_urls(authority: str) -> tuple[str, ...]:
    """Return the WebHDFS URLs of `authority`: from `FIRESTEEL_WEBHDFS_URL`, else from the configuration.

    Examples
    --------
    >>> import os; _ = os.environ.pop("HADOOP_CONF_DIR", None), os.environ.pop("FIRESTEEL_WEBHDFS_URL", None)
    >>> webhdfs_urls("nn1.example.org:8020")
    ('http://nn1.example.org:9870',)
    """
    override = tuple(url.strip().rstrip("/") for url in os.environ.get(WEBHDFS_URL, "").split(";") if url.strip())
    return override or HadoopConf.load().webhdfs_urls(authority)


def default_fs() -> str:
    """Return `fs.defaultFS` of the configuration in `HADOOP_CONF_DIR`; `file:///` without one."""
    return HadoopConf.load().default_fs


def read_site(path: Path) -> dict[str, str]:
    """Return the properties of one file; none when it does not exist. Raise FS8001 when it cannot be read."""
    try:
        # Hadoop trusts the cluster's configuration too.
        root = ET.parse(path).getroot()  # noqa: S314
    except FileNotFoundError:
        return {}
    except (ET.ParseError, OSError, UnicodeError) as error:
        raise StorageError(
            "FS8001",
            f"the Hadoop configuration cannot be read: {error}.",
            where=Where(str(path)),
            hint=f"Fix it, or set {CONF_DIR} (now {path.parent}) to the folder of the cluster's client configuration.",
        ) from error
    return {
        (item.findtext("name") or "").strip(): (item.findtext("value") or "").strip()
        for item in root.iter("property")
        if item.findtext("name")
    }


def site_xml(settings: Mapping[str, str]) -> str:
    """Return properties in Hadoop's XML format."""
    lines = [
        f"  <property><name>{escape(key)}</name><value>{escape(value)}</value></property>"
        for key, value in settings.items()
    ]
    return "\n".join(["<?xml version='1.0'?>", "<configuration>", *lines, "</configuration>", ""])


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _host(address: str) -> str:
    """Return the host of `host:port`; an IPv6 address keeps its brackets."""
    return address if address.endswith("]") else re.sub(r":\d+$", "", address)


def _port(address: str) -> int:
    port = re.search(r":(\d+)$", address)
    return int(port[1]) if port and not address.endswith("]") else RPC_PORT


def _fill_host(address: str, host: str) -> str:
    """Return `address` with `0.0.0.0` replaced by `host`: `0.0.0.0` is where a NameNode listens, not its address."""
    listens = _host(address)
    return f"{host}{address[len(listens) :]}" if listens in _ANY_HOST else address
