"""A real MLflow server with MLflow's basic-auth app, its users and their permissions."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import requests

from support.mlflow_server import MlflowServer

ADMIN = "admin"
_CONFIG = """
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{folder}/auth.db
admin_username = {admin}
admin_password = {password}
auth_cache_ttl_seconds = 600
"""
"""A password costs 0.2 CPU s to check; MLflow 3 caches it."""


class AuthServer(MlflowServer):
    """The server at the address `uri`. All users have the same password, and a new user has no permission."""

    def __init__(self, folder: Path, *, python: str = sys.executable) -> None:
        self.password = secrets.token_hex(12)
        config = folder / "auth.ini"
        config.write_text(_CONFIG.format(folder=folder, admin=ADMIN, password=self.password))
        environ = {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16)}
        super().__init__(folder, "--app-name", "basic-auth", environ=environ, python=python)
        self._is_old = python != sys.executable

    def create_user(self, name: str) -> None:
        self._post("/api/2.0/mlflow/users/create", {"username": name, "password": self.password})

    def grant(self, user: str, resource: str, name: str, permission: str) -> None:
        """Grant a permission on an `experiment`, by its ID, or on a `registered_model`, by its name."""
        if self._is_old:
            kind, key = {
                "experiment": ("experiments", "experiment_id"),
                "registered_model": ("registered-models", "name"),
            }[resource]
            body = {"username": user, key: name, "permission": permission}
            self._post(f"/api/2.0/mlflow/{kind}/permissions/create", body)
            return
        body = {"username": user, "resource_type": resource, "resource_id": name, "permission": permission}
        self._post("/api/3.0/mlflow/users/permissions/grant", body)

    def _post(self, path: str, body: dict[str, str]) -> None:
        answer = requests.post(f"{self.uri}{path}", json=body, auth=(ADMIN, self.password), timeout=60)
        assert answer.ok, answer.text
