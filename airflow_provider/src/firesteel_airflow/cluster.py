"""Where Spark runs, from a connection of Airflow's type `spark`, as its own provider reads it."""

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
"""What the extra of a connection says, as Spark settings."""


class WrongConnection(ValueError):
    """The connection does not say where Spark runs, or says what the task cannot do."""


def cluster_of(
    conn_id: str, conn_type: str, host: str, port: int | None, extra: Mapping[str, Any], *, submits: bool
) -> tuple[str, dict[str, str]]:
    """Master and settings.

    Parameters
    ----------
    submits
        The task calls spark-submit, and so can leave the driver to the cluster.

    Examples
    --------
    >>> cluster_of("c", "spark", "yarn", None, {"queue": "ml"}, submits=False)
    ('yarn', {'spark.yarn.queue': 'ml'})
    >>> cluster_of("c", "spark", "spark://master", 7077, {}, submits=False)
    ('spark://master:7077', {})
    """
    if conn_type != "spark":
        raise WrongConnection(f"connection {conn_id} is of type {conn_type!r}; it must be `spark`")
    if not host:
        raise WrongConnection(f"connection {conn_id} names no host: a master such as yarn, local[2] or spark://HOST")
    settings = {key: str(extra[name]) for name, key in _EXTRAS.items() if extra.get(name)}
    if settings.get("spark.submit.deployMode") == "cluster" and not submits:
        raise WrongConnection(
            f"connection {conn_id} asks for deploy-mode cluster: that needs mode='submit', since a driver of mode='run' runs here"
        )
    if not submits:
        settings.pop("spark.submit.deployMode", None)
    return (f"{host}:{port}" if port else host), settings
