"""What is written for Kubernetes: golden files, the API's own schemas, and the operator's own models."""

from __future__ import annotations

import itertools
import shlex
import stat
from dataclasses import replace
from pathlib import Path

import kubernetes_validate
import pytest
from kubeflow_spark_api.models import SparkV1beta2SparkApplication
from ruamel.yaml import YAML

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.kubernetes import manifests
from firesteel.jobs.kubernetes.deployment import Deployment
from firesteel.jobs.kubernetes.render import render
from firesteel.pipelines.plan.model import Plan, TrackingPlan
from support.sample_run import sample_plan

VERSIONS = ("1.30", "1.33", "1.37")
SETTINGS = (
    ("spark.dynamicAllocation.enabled", "true"),
    ("spark.dynamicAllocation.initialExecutors", "3"),
    ("spark.dynamicAllocation.maxExecutors", "40"),
    ("spark.dynamicAllocation.minExecutors", "1"),
    ("spark.dynamicAllocation.shuffleTracking.enabled", "true"),
    ("spark.executor.cores", "4"),
    ("spark.executor.memory", "8g"),
    ("spark.executor.pyspark.memory", "4g"),
    ("spark.executor.resource.gpu.amount", "1"),
    ("spark.hadoop.demo.store", "${secret:store/key}"),
    ("spark.task.resource.gpu.amount", "1"),
)
CORE = """<configuration><property><name>fs.defaultFS</name><value>hdfs://prod</value></property>
<property><name>fs.s3a.secret.key</name><value>canary-4711</value></property></configuration>"""
HDFS = "<configuration><property><name>dfs.nameservices</name><value>prod</value></property></configuration>"


@pytest.fixture
def plan() -> Plan:
    made = sample_plan(days=1, root="hdfs://prod/ml")
    uri = "https://ml:${secret:mlflow/password}@mlflow.example.org"
    return replace(made, master="k8s://https://10.0.0.1:6443", spark_conf=SETTINGS, tracking=TrackingPlan(uri, "/b"))


@pytest.fixture
def hadoop(tmp_path, monkeypatch) -> None:
    (tmp_path / "core-site.xml").write_text(CORE)
    (tmp_path / "hdfs-site.xml").write_text(HDFS)
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))


@pytest.fixture
def deployment(plan, hadoop) -> Deployment:
    return Deployment.of(plan, image="registry.example.org/firesteel:0.1.0", namespace="ml")


def documents(path: Path) -> list[dict]:
    return [each for each in YAML(typ="safe").load_all(path.read_text()) if each]


def test_the_files_are_the_golden_ones(deployment, golden, tmp_path):
    for path in render(deployment, tmp_path / "k8s"):
        if path.name == "configuration.yaml":  # the plan and the entry are tested where they are made
            continue
        golden(f"kubernetes/{path.name}", path.read_text())
    assert stat.S_IMODE((tmp_path / "k8s" / "submit.sh").stat().st_mode) == 0o755


@pytest.mark.parametrize("version", VERSIONS)
def test_the_apis_schemas_take_every_object_and_no_field_is_unknown_to_them(deployment, version):
    objects = [
        *manifests.rbac(deployment),
        *manifests.config_maps(deployment),
        manifests.driver_pod(deployment),
        manifests.executor_pod(deployment),
    ]
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)
    assert {each["kind"] for each in objects} == {"ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Pod"}


def test_the_schemas_do_refuse(deployment):
    pod = manifests.driver_pod(deployment)
    pod["spec"]["containers"][0]["imagePolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePolicy"):
        kubernetes_validate.validate(pod, VERSIONS[0], strict=True)


def test_the_operators_model_takes_the_application_and_drops_no_field(deployment):
    made = manifests.spark_application(deployment)
    assert without_empty(SparkV1beta2SparkApplication.from_dict(made).to_dict()) == without_empty(made)


def without_empty(value):
    """The operator's models leave empty maps and lists out."""
    if isinstance(value, dict):
        return {key: kept for key, each in value.items() if (kept := without_empty(each)) not in ({}, [])}
    return [without_empty(each) for each in value] if isinstance(value, list) else value


def test_both_ways_run_the_same_driver(deployment, tmp_path):
    render(deployment, tmp_path / "k8s")
    script = (tmp_path / "k8s" / "submit.sh").read_text()
    words = shlex.split(script.partition("exec ")[2].replace("\\\n", " "))
    application = documents(tmp_path / "k8s" / "spark-application.yaml")[0]["spec"]
    settings = dict(word.split("=", 1) for before, word in itertools.pairwise(words) if before == "--conf")
    assert words[:5] == ["spark-submit", "--master", "k8s://https://10.0.0.1:6443", "--deploy-mode", "cluster"]
    assert words[-3:] == [application["mainApplicationFile"], *application["arguments"]]
    assert application["sparkConf"].items() <= settings.items()
    assert settings["spark.kubernetes.container.image"] == application["image"]
    assert settings["spark.executor.memory"] == application["executor"]["memory"] == "8g"
    assert settings["spark.kubernetes.executor.request.cores"] == str(application["executor"]["cores"]) == "4"
    assert settings["spark.executor.resource.gpu.vendor"] == "nvidia.com"
    for role in ("driver", "executor"):
        template = documents(tmp_path / "k8s" / settings[f"spark.kubernetes.{role}.podTemplateFile"])[0]
        assert application[role]["template"]["spec"] == template["spec"]


def test_the_plan_is_the_one_that_was_made(deployment, plan, tmp_path):
    render(deployment, tmp_path / "k8s")
    files = documents(tmp_path / "k8s" / "configuration.yaml")[0]["data"]
    assert Plan.from_json(files["plan.json"]) == plan
    assert "run_plan" in files["run_plan.py"]


def test_secrets_are_mounted_by_name_and_stand_nowhere(deployment, tmp_path):
    volumes = manifests.driver_pod(deployment)["spec"]["volumes"]
    secret = next(volume["secret"] for volume in volumes if volume["name"] == "secrets")
    assert [item["path"] for item in secret["items"]] == ["mlflow/password", "store/key"]
    assert secret["defaultMode"] == 0o440
    assert "secrets" not in str(manifests.executor_pod(deployment))
    texts = [path.read_text() for path in render(deployment, tmp_path / "k8s")]
    assert not [text for text in texts if "canary-4711" in text]
    script = texts[-1]
    assert "spark.hadoop.demo.store=" not in script  # the driver sets it
    assert "create secret generic firesteel-flight-delay-scores-secrets --from-file=mlflow.password=..." in script
    assert "look like secrets: fs.s3a.secret.key" in script


def test_a_driver_may_touch_its_own_namespace_only(deployment):
    account, role, binding = manifests.rbac(deployment)
    assert role["kind"] == "Role"  # and no ClusterRole
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods", "services", "configmaps", "persistentvolumeclaims"],
         "verbs": ["create", "get", "list", "watch", "patch", "update", "delete", "deletecollection"]}
    ]  # fmt: skip
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": "ml"}]


def test_without_an_image_or_with_a_plan_that_is_too_large_it_is_said(plan):
    with pytest.raises(
        RuntimeFault,
        match=r"FS9033 there is no container image: neither --image nor the spec sets one\. Pass --image, or set configuration",
    ):
        Deployment.of(plan)
    of_the_spec = replace(plan, spark_conf=(("spark.kubernetes.container.image", "i"),))
    assert Deployment.of(of_the_spec).image == "i"
    with pytest.raises(RuntimeFault, match=r"FS9033 the plan has 1\.\d MiB, but a ConfigMap can have at most 1\.0 MiB"):
        Deployment.of(replace(plan, spec_text="x" * (1 << 20)), image="i")
