"""The addresses of YARN's ResourceManagers, from the Hadoop client configuration. This module makes no network request."""

from __future__ import annotations

import os
from pathlib import Path

from firesteel.conf.hadoop import CONF_DIR, FILES, HadoopConf, read_site

YARN_CONF_DIR = "YARN_CONF_DIR"
"""The variable that Spark reads after `HADOOP_CONF_DIR`."""

HTTP_PORT, HTTPS_PORT = 8088, 8090  # yarn-default.xml


def configured() -> bool:
    """Return whether a configuration exists. Without one, Spark connects to a ResourceManager on 0.0.0.0."""
    return bool(os.environ.get(CONF_DIR) or os.environ.get(YARN_CONF_DIR))


def resourcemanager_urls() -> tuple[str, ...]:
    """Return the REST URLs of the ResourceManagers in the order of the configuration; empty without `yarn-site.xml`.

    Raises
    ------
    StorageError
        FS8001 when a configuration file is not valid XML.
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
    ids = [rm_id.strip() for rm_id in conf.get("yarn.resourcemanager.ha.rm-ids").split(",") if rm_id.strip()]
    high_availability = conf.get("yarn.resourcemanager.ha.enabled").strip().lower() == "true"
    urls = []
    for suffix in [f".{rm_id}" for rm_id in ids] if high_availability else [""]:
        host = conf.get(f"yarn.resourcemanager.hostname{suffix}").strip()
        address = conf.get(f"yarn.resourcemanager.webapp.{kind}{suffix}").strip() or (f"{host}:{port}" if host else "")
        if address:
            urls.append(f"{scheme}://{address}")
    return tuple(urls)
