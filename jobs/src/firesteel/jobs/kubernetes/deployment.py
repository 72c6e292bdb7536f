"""What a plan needs on Kubernetes: names, image, settings, files and secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.hadoop import HadoopConf, site_xml
from firesteel.conf.quantities import byte_size
from firesteel.conf.secrets import SecretRef
from firesteel.jobs.spark.secret_settings import plan_secrets, public_settings, secret_keys
from firesteel.jobs.spark.session import launch_conf
from firesteel.pipelines.publish.signers import write_plan

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan

IMAGE, NAMESPACE = "spark.kubernetes.container.image", "spark.kubernetes.namespace"
PLAN_FOLDER = "/etc/firesteel"
"""The folder with the driver's plan, entry script and log settings."""

SECRETS = "/etc/firesteel-secrets"
"""The folder with the secrets. It is not below PLAN_FOLDER: a read-only mount cannot contain a mount point."""

GPUS, GPU_VENDOR = "spark.executor.resource.gpu.amount", "spark.executor.resource.gpu.vendor"
CONFIGMAP_BYTES = 1 << 20
"""Maximum size of a ConfigMap (Kubernetes API, ConfigMap.data)."""

_PRIVATE = re.compile(r"password|secret|token|access\.key|keytab", re.IGNORECASE)
_HADOOP_FILES = ("core-site.xml", "hdfs-site.xml")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a plan needs on Kubernetes.

    Attributes
    ----------
    name
        The name of all objects.
    settings
        The settings of Spark, without secrets.
    omitted
        The keys of the Hadoop configuration that look like secrets.
    """

    name: str
    namespace: str
    image: str
    master: str
    settings: Mapping[str, str]
    files: Mapping[str, str]
    hadoop: Mapping[str, str]
    secrets: tuple[SecretRef, ...]
    secret_settings: tuple[str, ...]
    omitted: tuple[str, ...]

    @property
    def account(self) -> str:
        """The service account of the driver, which creates and deletes executors."""
        return self.name

    @classmethod
    def of(cls, plan: Plan, *, image: str = "", namespace: str = "", python: str = "") -> Deployment:
        """Return the deployment of a plan. The plan's `configuration` has the defaults of the arguments.

        Raises
        ------
        RuntimeFault
            FS9033: there is no image, or the plan is too large for a ConfigMap.
        """
        conf = launch_conf(plan)
        image = image or conf.get(IMAGE, "")
        if not image:
            raise RuntimeFault(
                "FS9033",
                "there is no container image: neither --image nor the spec sets one.",
                hint=f"Pass --image, or set configuration.{IMAGE}, to an image with Spark 4.3 and firesteel.",
            )
        public = {
            key: value for key, value in public_settings(conf).items() if key not in {"spark.app.name", "spark.jars"}
        }
        if python:
            public["spark.pyspark.python"] = python
        if public.get(GPUS):
            public.setdefault(GPU_VENDOR, "nvidia.com")
        hadoop, omitted = _hadoop()
        return cls(
            _name(plan.pipeline),
            namespace or conf.get(NAMESPACE, "") or "default",
            image,
            plan.master if plan.master.startswith("k8s://") else "k8s://https://kubernetes.default.svc",
            public,
            _files(plan),
            hadoop,
            plan_secrets(plan, conf),
            secret_keys(conf),
            omitted,
        )  # fmt: skip


def _name(pipeline: str) -> str:
    """Return a name in the format of RFC 1123, short enough for the suffixes that Spark appends."""
    return re.sub(r"[^a-z0-9]+", "-", f"firesteel-{pipeline}".lower()).strip("-")[:45].strip("-")


def _files(plan: Plan) -> dict[str, str]:
    """Return the driver's files. They include the entry script, whose path in the image is unknown."""
    text = write_plan(plan)
    entry = (resources.files("firesteel.jobs") / "run_plan.py").read_text(encoding="utf-8")
    log4j = (resources.files("firesteel.conf") / "log4j2.properties").read_text(encoding="utf-8")
    size = len((text + entry + log4j).encode())
    if size > CONFIGMAP_BYTES:
        raise RuntimeFault(
            "FS9033",
            f"the plan has {byte_size(size)}, but a ConfigMap can have at most {byte_size(CONFIGMAP_BYTES)}.",
            hint="Plan fewer intervals at a time.",
        )
    return {"plan.json": text, "run_plan.py": entry, "log4j2.properties": log4j}


def _hadoop() -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the settings of HADOOP_CONF_DIR as files, and the keys that are omitted because they look like secrets."""
    conf = HadoopConf.load()
    private = tuple(sorted(key for key in conf.values if _PRIVATE.search(key) and conf.values[key]))
    public = {key: value for key, value in sorted(conf.values.items()) if key not in private}
    if not public:
        return {}, private
    core = {key: value for key, value in public.items() if not key.startswith("dfs.")}
    hdfs = {key: value for key, value in public.items() if key.startswith("dfs.")}
    return dict(zip(_HADOOP_FILES, (site_xml(core), site_xml(hdfs)), strict=True)), private
