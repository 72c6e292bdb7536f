"""The Spark master and settings of an Airflow connection of type `spark`, read as Airflow's Spark provider does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_EXTRAS = {
    "queue": "spark.yarn.queue",
    "deploy-mode": "spark.submit.deployMode",
    "namespace": "spark.kubernetes.namespace",
    "principal": "spark.kerberos.principal",
    "keytab": "spark.kerberos.keytab",
}
"""The Spark setting of each key in the extra of a connection."""


class WrongConnection(ValueError):
    """The connection has no Spark master, or a setting that the task does not support."""


def cluster_of(
    conn_id: str, conn_type: str, host: str, port: int | None, extra: Mapping[str, Any], *, submits: bool
) -> tuple[str, dict[str, str]]:
    """Return the master and the settings of a connection.

    Parameters
    ----------
    submits
        The task calls spark-submit, so the driver can run on the cluster.

    Examples
    --------
    >>> cluster_of("c", "spark", "yarn", None, {"queue": "ml"}, submits=False)
    ('yarn', {'spark.yarn.queue': 'ml'})
    >>> cluster_of("c", "spark", "spark://master", 7077, {}, submits=False)
    ('spark://master:7077', {})
    """
    if conn_type != "spark":
        raise WrongConnection(f"connection {conn_id} has the type {conn_type!r}; expected `spark`")
    if not host:
        raise WrongConnection(
            f"connection {conn_id} has no host; expected a master such as yarn, local[2] or spark://HOST"
        )
    settings = {key: str(extra[name]) for name, key in _EXTRAS.items() if extra.get(name)}
    if settings.get("spark.submit.deployMode") == "cluster" and not submits:
        raise WrongConnection(
            f"connection {conn_id} has deploy-mode cluster, but the driver of mode='run' runs on the worker. Set mode='submit'"
        )
    if not submits:
        settings.pop("spark.submit.deployMode", None)
    return (f"{host}:{port}" if port else host), settings
