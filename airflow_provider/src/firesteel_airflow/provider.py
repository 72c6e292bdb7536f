"""The provider's metadata for Airflow, and the section `[firesteel]` of its configuration."""

from __future__ import annotations

_SINCE = "0.1.0"


def get_provider_info() -> dict[str, object]:
    """Return the provider's metadata (entry point `apache_airflow_provider`)."""
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
                "description": "Paths of firesteel, which runs in its own environment beside Airflow's.",
                "options": {
                    "command": _option(
                        "The firesteel command of the environment that has pyspark and MLflow.",
                        "/opt/firesteel/bin/firesteel",
                        "firesteel",
                    ),
                    "work_folder": _option(
                        "Folder for the logs of drivers until a task has read them. Default: a folder in the temporary directory.",
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
