"""What Airflow shows of this provider, and the section `[firesteel]` of its configuration."""

from __future__ import annotations

_SINCE = "0.1.0"


def get_provider_info() -> dict[str, object]:
    """The provider, by the entry point `apache_airflow_provider`."""
    return {
        "package-name": "firesteel-airflow",
        "name": "firesteel",
        "description": "Batch inference on Spark as one transaction: plan, score, audit, publish.",
        "integrations": [
            {
                "integration-name": "firesteel",
                "external-doc-url": "https://pypi.org/project/firesteel/",
                "tags": ["software"],
            }
        ],
        "operators": [{"integration-name": "firesteel", "python-modules": ["firesteel_airflow.operator"]}],
        "triggers": [{"integration-name": "firesteel", "python-modules": ["firesteel_airflow.trigger"]}],
        "config": {
            "firesteel": {
                "description": "Where firesteel is. It runs in an environment of its own, beside Airflow's.",
                "options": {
                    "command": _option(
                        "firesteel's command: the one in the environment that has pyspark and MLflow.",
                        "/opt/firesteel/bin/firesteel",
                        "firesteel",
                    ),
                    "work_folder": _option(
                        "Where drivers write their logs until a task has read them. Default: in the temporary directory.",
                        "/var/tmp/firesteel-airflow",  # noqa: S108 - an example in a text
                        "",
                    ),
                },
            }
        },
    }


def _option(description: str, example: str, default: str) -> dict[str, object]:
    return {
        "description": description,
        "version_added": _SINCE,
        "type": "string",
        "example": example,
        "default": default,
    }
