"""The objects of a deployment for Kubernetes and the Spark operator, as mappings."""

from __future__ import annotations

from typing import Any

from firesteel.conf.version import VERSION
from firesteel.jobs.kubernetes.deployment import PLAN_FOLDER, SECRETS, Deployment

Object = dict[str, Any]

SPARK = "4.3.0"
SPARK_USER = 185
"""The user id of Spark's images (spark_uid in its Dockerfile)."""

DRIVER, EXECUTOR = "spark-kubernetes-driver", "spark-kubernetes-executor"
"""The names by which Spark finds its container in a pod template."""

GRACE_S = 60
"""Time in seconds for a terminated driver to release its lease and delete its staged files."""

_FIELD_SETTINGS = (
    "spark.driver.cores", "spark.driver.memory", "spark.executor.cores", "spark.executor.memory",
    "spark.executor.instances", "spark.dynamicAllocation.enabled", "spark.dynamicAllocation.minExecutors",
    "spark.dynamicAllocation.maxExecutors", "spark.dynamicAllocation.initialExecutors",
    "spark.dynamicAllocation.shuffleTracking.enabled", "spark.kubernetes.container.image",
    "spark.kubernetes.namespace",
)  # fmt: skip
"""Settings for which a SparkApplication has fields."""


def labels(deployment: Deployment) -> dict[str, str]:
    """Return the labels of all objects."""
    return {
        "app.kubernetes.io/name": "firesteel",
        "app.kubernetes.io/instance": deployment.name,
        "app.kubernetes.io/version": VERSION,
        "app.kubernetes.io/managed-by": "firesteel",
    }


def rbac(deployment: Deployment) -> list[Object]:
    """Return the driver's service account, and its permission to create and delete executors in its namespace."""
    account = {"kind": "ServiceAccount", "name": deployment.account, "namespace": deployment.namespace}
    managed = ["pods", "services", "configmaps", "persistentvolumeclaims"]
    verbs = ["create", "get", "list", "watch", "patch", "update", "delete", "deletecollection"]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": deployment.account}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(deployment)},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": _metadata(deployment),
            "rules": [{"apiGroups": [""], "resources": managed, "verbs": verbs}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": _metadata(deployment),
            "subjects": [account],
            "roleRef": role,
        },
    ]


def config_maps(deployment: Deployment) -> list[Object]:
    """Return the driver's files, and the Hadoop configuration if there is one."""
    maps = [("", deployment.files), ("-hadoop", deployment.hadoop)]
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(deployment, suffix), "data": dict(data)}
        for suffix, data in maps
        if data
    ]


def driver_pod(deployment: Deployment) -> Object:
    """Return the template of the driver's pod."""
    mounts = [{"name": "plan", "mountPath": PLAN_FOLDER, "readOnly": True}]
    volumes: list[Object] = [{"name": "plan", "configMap": {"name": deployment.name}}]
    variables = [{"name": "MLFLOW_DISABLE_TELEMETRY", "value": "true"}]
    if deployment.secrets:
        items = [{"key": f"{ref.scope}.{ref.key}", "path": f"{ref.scope}/{ref.key}"} for ref in deployment.secrets]
        secret = {"secretName": f"{deployment.name}-secrets", "defaultMode": 0o440, "items": items}
        mounts.append({"name": "secrets", "mountPath": SECRETS, "readOnly": True})
        volumes.append({"name": "secrets", "secret": secret})
        variables.append({"name": "FIRESTEEL_SECRETS_DIR", "value": SECRETS})
    spec = {
        "serviceAccountName": deployment.account,
        "terminationGracePeriodSeconds": GRACE_S,
        "containers": [_container(DRIVER, variables, mounts)],
        "volumes": volumes,
    }
    return _pod(deployment, "driver", spec)


def executor_pod(deployment: Deployment) -> Object:
    """Return the template of executor pods. They are spread over nodes, so that the loss of a node loses few executors."""
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/instance": deployment.name, "spark-role": "executor"}},
    }
    spec = {
        "automountServiceAccountToken": False,
        "topologySpreadConstraints": [spread],
        "containers": [_container(EXECUTOR, [{"name": "MLFLOW_DISABLE_TELEMETRY", "value": "true"}], [])],
    }
    return _pod(deployment, "executor", spec)


def spark_application(deployment: Deployment) -> Object:
    """Return the `SparkApplication` of the Spark operator. The operator never restarts it: users check the ledger first."""
    settings = dict(deployment.settings)
    driver, executor = driver_pod(deployment), executor_pod(deployment)
    spec: Object = {
        "type": "Python",
        "pythonVersion": "3",
        "mode": "cluster",
        "image": deployment.image,
        "imagePullPolicy": "IfNotPresent",
        "sparkVersion": SPARK,
        "mainApplicationFile": f"local://{PLAN_FOLDER}/run_plan.py",
        "arguments": ["--plan", f"{PLAN_FOLDER}/plan.json"],
        "restartPolicy": {"type": "Never"},
        "sparkConf": {key: value for key, value in driver_settings(deployment).items() if key not in _FIELD_SETTINGS},
        "driver": {
            "cores": int(settings.get("spark.driver.cores", "1")),
            "memory": settings.get("spark.driver.memory", "1g"),
            "serviceAccount": deployment.account,
            "template": _template(driver),
        },
        "executor": {
            "instances": int(settings.get("spark.executor.instances") or settings.get(_INITIAL) or "1"),
            "cores": int(settings.get("spark.executor.cores", "1")),
            "memory": settings.get("spark.executor.memory", "1g"),
            "template": _template(executor),
        },
    }
    if settings.get("spark.dynamicAllocation.enabled") == "true":
        spec["dynamicAllocation"] = _allocation(settings)
    if deployment.hadoop:
        spec["hadoopConfigMap"] = f"{deployment.name}-hadoop"
    return {
        "apiVersion": "sparkoperator.k8s.io/v1beta2",
        "kind": "SparkApplication",
        "metadata": _metadata(deployment),
        "spec": spec,
    }


def driver_settings(deployment: Deployment) -> dict[str, str]:
    """Return Spark's settings for a driver with its files in PLAN_FOLDER. Pods request as many cores as Spark uses."""
    settings = dict(deployment.settings)
    settings.setdefault(
        "spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile=file:{PLAN_FOLDER}/log4j2.properties"
    )
    for role in ("driver", "executor"):
        settings.setdefault(f"spark.kubernetes.{role}.request.cores", settings.get(f"spark.{role}.cores", "1"))
    settings.setdefault("spark.kubernetes.executor.deleteOnTermination", "true")
    return dict(sorted(settings.items()))


_INITIAL = "spark.dynamicAllocation.initialExecutors"


def _allocation(settings: dict[str, str]) -> Object:
    names = {"initialExecutors": _INITIAL, "minExecutors": "spark.dynamicAllocation.minExecutors",
             "maxExecutors": "spark.dynamicAllocation.maxExecutors"}  # fmt: skip
    counts = {field: int(settings[key]) for field, key in names.items() if settings.get(key, "").isdigit()}
    tracked = settings.get("spark.dynamicAllocation.shuffleTracking.enabled") == "true"
    return {"enabled": True, **counts, "shuffleTrackingEnabled": tracked}


def _metadata(deployment: Deployment, suffix: str = "") -> Object:
    return {"name": f"{deployment.name}{suffix}", "namespace": deployment.namespace, "labels": labels(deployment)}


def _pod(deployment: Deployment, role: str, spec: Object) -> Object:
    secure = {
        "runAsNonRoot": True,
        "runAsUser": SPARK_USER,
        "fsGroup": SPARK_USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    own = {"labels": {**labels(deployment), "app.kubernetes.io/component": role}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": own, "spec": {"securityContext": secure, **spec}}


def _container(name: str, variables: list[dict[str, str]], mounts: list[Object]) -> Object:
    """Return a container that requests disk. Spark requests its CPU and memory, with overhead and Python workers."""
    secure = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container: Object = {"name": name, "env": variables, "resources": {"requests": {"ephemeral-storage": "2Gi"}}}
    return {**container, "securityContext": secure, **({"volumeMounts": mounts} if mounts else {})}


def _template(pod: Object) -> Object:
    return {"metadata": pod["metadata"], "spec": pod["spec"]}
