"""A plan as it is to run on Kubernetes: names, image, settings, secrets. Both ways to run it are written from this."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.hadoop import HadoopConf, site_xml
from firesteel.conf.quantities import byte_size
from firesteel.conf.secrets import SecretRef, secrets_in
from firesteel.jobs.spark.secret_settings import public_settings, secret_keys
from firesteel.jobs.spark.session import launch_conf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firesteel.pipelines.plan.model import Plan

IMAGE, NAMESPACE = "spark.kubernetes.container.image", "spark.kubernetes.namespace"
PLACE = "/etc/firesteel"
"""Where a driver finds its plan, its entry and its log settings."""

SECRETS = "/etc/firesteel-secrets"
"""Beside PLACE and not below it: a mount inside a read-only one cannot be made."""

GPUS, GPU_VENDOR = "spark.executor.resource.gpu.amount", "spark.executor.resource.gpu.vendor"
CONFIGMAP_BYTES = 1 << 20
"""The most that a ConfigMap holds (Kubernetes API, ConfigMap.data)."""

_PRIVATE = re.compile(r"password|secret|token|access\.key|keytab", re.IGNORECASE)
_HADOOP_FILES = ("core-site.xml", "hdfs-site.xml")


@dataclass(frozen=True, slots=True)
class Deployment:
    """`name` is that of all its objects; `settings` are Spark's, without secrets; `left_out` are Hadoop's, for they look like some."""

    name: str
    namespace: str
    image: str
    master: str
    settings: Mapping[str, str]
    files: Mapping[str, str]
    hadoop: Mapping[str, str]
    secrets: tuple[SecretRef, ...]
    secret_settings: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def account(self) -> str:
        """The service account of the driver, which makes and removes executors."""
        return self.name

    @classmethod
    def of(cls, plan: Plan, *, image: str = "", namespace: str = "", python: str = "") -> Deployment:
        """From a plan; its `configuration` says what is not given.

        Raises
        ------
        RuntimeFault
            FS9033 without an image, or when the plan is too large to travel as a ConfigMap.
        """
        conf = launch_conf(plan)
        image = image or conf.get(IMAGE, "")
        if not image:
            raise RuntimeFault(
                "FS9033",
                "no container image is given.",
                hint=f"Pass --image, or set configuration.{IMAGE}: an image with Spark 4.3 and firesteel.",
            )
        public = {
            key: value for key, value in public_settings(conf).items() if key not in {"spark.app.name", "spark.jars"}
        }
        if python:
            public["spark.pyspark.python"] = python
        if public.get(GPUS):
            public.setdefault(GPU_VENDOR, "nvidia.com")
        hadoop, left_out = _hadoop()
        return cls(
            _name(plan.pipeline),
            namespace or conf.get(NAMESPACE, "") or "default",
            image,
            plan.master if plan.master.startswith("k8s://") else "k8s://https://kubernetes.default.svc",
            public,
            _files(plan),
            hadoop,
            tuple(sorted({each for text in (*conf.values(), *_texts(astuple(plan.tracking))) for each in secrets_in(text)})),
            secret_keys(conf),
            left_out,
        )  # fmt: skip


def _name(pipeline: str) -> str:
    """A name as RFC 1123 wants it, short enough for what Spark puts behind it."""
    return re.sub(r"[^a-z0-9]+", "-", f"firesteel-{pipeline}".lower()).strip("-")[:45].strip("-")


def _files(plan: Plan) -> dict[str, str]:
    """The driver's files. The entry is among them, so that nobody has to know where an image has its packages."""
    text = plan.to_json()
    entry = (resources.files("firesteel.jobs") / "run_plan.py").read_text(encoding="utf-8")
    log4j = (resources.files("firesteel.conf") / "log4j2.properties").read_text(encoding="utf-8")
    size = len((text + entry + log4j).encode())
    if size > CONFIGMAP_BYTES:
        raise RuntimeFault(
            "FS9033",
            f"the plan has {byte_size(size)}, and a ConfigMap holds {byte_size(CONFIGMAP_BYTES)}.",
            hint="Plan fewer intervals at a time.",
        )
    return {"plan.json": text, "run_plan.py": entry, "log4j2.properties": log4j}


def _hadoop() -> tuple[dict[str, str], tuple[str, ...]]:
    """The files of HADOOP_CONF_DIR, written anew without what looks like a secret."""
    conf = HadoopConf.load()
    private = tuple(sorted(key for key in conf.values if _PRIVATE.search(key) and conf.values[key]))
    kept = {key: value for key, value in sorted(conf.values.items()) if key not in private}
    if not kept:
        return {}, private
    core = {key: value for key, value in kept.items() if not key.startswith("dfs.")}
    hdfs = {key: value for key, value in kept.items() if key.startswith("dfs.")}
    return dict(zip(_HADOOP_FILES, (site_xml(core), site_xml(hdfs)), strict=True)), private


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, tuple):
        for value in values:
            yield from _texts(value)
