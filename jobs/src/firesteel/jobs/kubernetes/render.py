"""Write a deployment as a folder of files.

::

    DIR/kustomization.yaml       with the Spark operator: `kubectl apply -k DIR` applies these three files
       |- rbac.yaml                the driver's service account and its permissions
       |- configuration.yaml       the plan, its entry script, log settings; the Hadoop configuration
       `- spark-application.yaml   the application
    DIR/submit.sh                without the operator: apply the first two files, then run this spark-submit command
       |- driver-pod.yaml          pod templates of the command
       `- executor-pod.yaml
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.jobs.kubernetes import manifests
from firesteel.jobs.kubernetes.deployment import IMAGE, NAMESPACE, PLAN_FOLDER, Deployment

if TYPE_CHECKING:
    from firesteel.jobs.kubernetes.manifests import Object

_APPLIED = ("rbac.yaml", "configuration.yaml", "spark-application.yaml")


def render(deployment: Deployment, folder: Path) -> tuple[Path, ...]:
    """Write all files, replace existing ones, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "rbac.yaml": to_yaml(manifests.rbac(deployment)),
        "configuration.yaml": to_yaml(manifests.config_maps(deployment)),
        "spark-application.yaml": to_yaml([manifests.spark_application(deployment)], _note(deployment)),
        "driver-pod.yaml": to_yaml([manifests.driver_pod(deployment)]),
        "executor-pod.yaml": to_yaml([manifests.executor_pod(deployment)]),
        "kustomization.yaml": to_yaml([_kustomization(deployment)]),
        "submit.sh": _script(deployment),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "submit.sh").chmod(0o755)
    return tuple(folder / name for name in texts)


def submit_args(deployment: Deployment) -> list[str]:
    """Return the spark-submit command, which runs in the folder of the pod templates."""
    settings = {
        **manifests.driver_settings(deployment),
        IMAGE: deployment.image,
        NAMESPACE: deployment.namespace,
        "spark.kubernetes.authenticate.driver.serviceAccountName": deployment.account,
        "spark.kubernetes.driver.podTemplateFile": "driver-pod.yaml",
        "spark.kubernetes.executor.podTemplateFile": "executor-pod.yaml",
    }
    if deployment.hadoop:
        settings["spark.kubernetes.hadoop.configMapName"] = f"{deployment.name}-hadoop"
    args = ["spark-submit", "--master", deployment.master, "--deploy-mode", "cluster", "--name", deployment.name]
    for key, value in sorted(settings.items()):
        args += ["--conf", f"{key}={value}"]
    return [*args, f"local://{PLAN_FOLDER}/run_plan.py", "--plan", f"{PLAN_FOLDER}/plan.json"]


def to_yaml(objects: Sequence[Object], note: str = "") -> str:
    """Return objects as YAML documents. Texts of several lines stay readable."""
    from ruamel.yaml import YAML
    from ruamel.yaml.scalarstring import walk_tree

    writer = YAML()
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.width = 1 << 16  # never wrap a value, so that text search finds it
    writer.explicit_start = len(objects) > 1
    stream = io.StringIO()
    if note:
        stream.write("".join(f"# {line}\n" for line in note.splitlines()))
    for item in objects:
        walk_tree(item)
        writer.dump(item, stream)
    return stream.getvalue()


def _kustomization(deployment: Deployment) -> Object:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": deployment.namespace,
        "resources": list(_APPLIED),
    }


def _script(deployment: Deployment) -> str:
    lines = ["#!/bin/sh", *(f"# {line}" for line in _note(deployment).splitlines()), "set -eu", 'cd "$(dirname "$0")"']
    command, *options = submit_args(deployment)
    rest = iter(options)
    pieces = [command]  # an option and its value are one piece, on one line
    pieces += (shlex.join([arg, next(rest)]) if arg.startswith("--") else shlex.quote(arg) for arg in rest)
    return "\n".join([*lines, "exec " + " \\\n  ".join(pieces), ""])


def _note(deployment: Deployment) -> str:
    """Return a comment that says what the cluster must have first."""
    lines = ["Written by `firesteel submit --target k8s --render`. The image needs Spark 4.3 and firesteel."]
    if deployment.secrets:
        keys = " ".join(f"--from-file={secret.scope}.{secret.key}=..." for secret in deployment.secrets)
        name = f"{deployment.name}-secrets"
        lines.append(f"Secrets: kubectl -n {deployment.namespace} create secret generic {name} {keys}")
    if deployment.secret_settings:
        lines.append(f"The driver sets these from the secrets: {', '.join(deployment.secret_settings)}")
    if deployment.omitted:
        lines.append(
            f"Omitted from the Hadoop configuration because they look like secrets: {', '.join(deployment.omitted)}"
        )
    return "\n".join(lines)
