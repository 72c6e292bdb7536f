"""What the Hadoop client configuration says about YARN: where its ResourceManagers answer. Nothing is asked of the network here."""

from __future__ import annotations

import os
from pathlib import Path

from firesteel.conf.hadoop import CONF_DIR, FILES, HadoopConf, read_site

YARN_CONF_DIR = "YARN_CONF_DIR"
"""The variable that Spark looks at as well, after `HADOOP_CONF_DIR`."""

HTTP_PORT, HTTPS_PORT = 8088, 8090  # yarn-default.xml


def configured() -> bool:
    """Whether there is a configuration at all: without one, Spark would ask a ResourceManager on 0.0.0.0."""
    return bool(os.environ.get(CONF_DIR) or os.environ.get(YARN_CONF_DIR))


def resourcemanager_urls() -> tuple[str, ...]:
    """Where the ResourceManagers answer REST, in the order of the configuration; with HA, several. None without `yarn-site.xml`.

    Raises
    ------
    StorageError
        FS8001 when a file of the configuration is not XML.
    """
    for variable in (CONF_DIR, YARN_CONF_DIR):
        folder = os.environ.get(variable, "")
        if folder and Path(folder, "yarn-site.xml").is_file():
            values: dict[str, str] = {}
            for name in (*FILES, "yarn-site.xml"):
                values |= read_site(Path(folder, name))
            return _urls(HadoopConf(folder, values))
    return ()


def _urls(conf: HadoopConf) -> tuple[str, ...]:
    secure = conf.get("yarn.http.policy", "HTTP_ONLY").strip().upper() == "HTTPS_ONLY"
    scheme, kind, port = ("https", "https.address", HTTPS_PORT) if secure else ("http", "address", HTTP_PORT)
    ids = [each.strip() for each in conf.get("yarn.resourcemanager.ha.rm-ids").split(",") if each.strip()]
    several = conf.get("yarn.resourcemanager.ha.enabled").strip().lower() == "true"
    urls = []
    for suffix in [f".{each}" for each in ids] if several else [""]:
        host = conf.get(f"yarn.resourcemanager.hostname{suffix}").strip()
        address = conf.get(f"yarn.resourcemanager.webapp.{kind}{suffix}").strip() or (f"{host}:{port}" if host else "")
        if address:
            urls.append(f"{scheme}://{address}")
    return tuple(urls)
