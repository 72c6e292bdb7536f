"""A deployment as a folder of files.

::

    DIR/kustomization.yaml       kubectl apply -k DIR        all of these, for the Spark operator:
       |- rbac.yaml                the driver's account, and what it may do
       |- configuration.yaml       the plan, its entry, log settings; the Hadoop configuration
       `- spark-application.yaml   the application
    DIR/submit.sh                without the operator: apply the first two, then run this; it is one spark-submit line
       |- driver-pod.yaml          the templates that it names
       `- executor-pod.yaml
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.jobs.kubernetes import manifests
from firesteel.jobs.kubernetes.deployment import IMAGE, NAMESPACE, PLACE, Deployment

if TYPE_CHECKING:
    from firesteel.jobs.kubernetes.manifests import Object

_APPLIED = ("rbac.yaml", "configuration.yaml", "spark-application.yaml")


def render(deployment: Deployment, folder: Path) -> tuple[Path, ...]:
    """Write all files, over older ones; their paths."""
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


def submit_words(deployment: Deployment) -> list[str]:
    """The spark-submit line, to be run in the folder of the templates."""
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
    words = ["spark-submit", "--master", deployment.master, "--deploy-mode", "cluster", "--name", deployment.name]
    for key, value in sorted(settings.items()):
        words += ["--conf", f"{key}={value}"]
    return [*words, f"local://{PLACE}/run_plan.py", "--plan", f"{PLACE}/plan.json"]


def to_yaml(objects: Sequence[Object], note: str = "") -> str:
    """Documents of YAML; texts of several lines as they are."""
    from ruamel.yaml import YAML
    from ruamel.yaml.scalarstring import walk_tree

    writer = YAML()
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.width = 1 << 16  # a value that is broken in two cannot be searched for
    writer.explicit_start = len(objects) > 1
    written = io.StringIO()
    if note:
        written.write("".join(f"# {line}\n" for line in note.splitlines()))
    for each in objects:
        walk_tree(each)
        writer.dump(each, written)
    return written.getvalue()


def _kustomization(deployment: Deployment) -> Object:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": deployment.namespace,
        "resources": list(_APPLIED),
    }


def _script(deployment: Deployment) -> str:
    lines = ["#!/bin/sh", *(f"# {line}" for line in _note(deployment).splitlines()), "set -eu", 'cd "$(dirname "$0")"']
    words = submit_words(deployment)
    # An option and its value on one line.
    pieces = [words[0]]
    rest = iter(words[1:])
    pieces += (shlex.join([word, next(rest)]) if word.startswith("--") else shlex.quote(word) for word in rest)
    return "\n".join([*lines, "exec " + " \\\n  ".join(pieces), ""])


def _note(deployment: Deployment) -> str:
    """What has to be there first, for people."""
    lines = ["Written by `firesteel submit --target k8s --render`. The image needs Spark 4.3 and firesteel."]
    if deployment.secrets:
        keys = " ".join(f"--from-file={secret.scope}.{secret.key}=..." for secret in deployment.secrets)
        name = f"{deployment.name}-secrets"
        lines.append(f"Secrets: kubectl -n {deployment.namespace} create secret generic {name} {keys}")
    if deployment.secret_settings:
        lines.append(f"Set by the driver, from the secrets: {', '.join(deployment.secret_settings)}")
    if deployment.left_out:
        lines.append(
            f"Left out of the Hadoop configuration, for they look like secrets: {', '.join(deployment.left_out)}"
        )
    return "\n".join(lines)
