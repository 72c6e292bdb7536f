"""What the Hadoop configuration says about ResourceManagers."""

from __future__ import annotations

import pytest

from firesteel.conf.yarn import configured, resourcemanager_urls


@pytest.fixture
def configure(tmp_path, monkeypatch):
    monkeypatch.delenv("YARN_CONF_DIR", raising=False)

    def write(variable: str = "HADOOP_CONF_DIR", **values: str) -> None:
        properties = "".join(
            f"<property><name>yarn.{key.replace('__', '-').replace('_', '.')}</name><value>{value}</value></property>"
            for key, value in values.items()
        )
        (tmp_path / "yarn-site.xml").write_text(f"<configuration>{properties}</configuration>")
        monkeypatch.setenv(variable, str(tmp_path))

    return write


def test_without_configuration_there_is_none_to_ask(monkeypatch):
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    monkeypatch.delenv("YARN_CONF_DIR", raising=False)
    assert not configured()
    assert resourcemanager_urls() == ()


@pytest.mark.parametrize("variable", ["HADOOP_CONF_DIR", "YARN_CONF_DIR"])
def test_one_resourcemanager_by_its_host_and_yarns_port(configure, monkeypatch, variable):
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    configure(variable, resourcemanager_hostname="rm.example.org")
    assert configured()
    assert resourcemanager_urls() == ("http://rm.example.org:8088",)


def test_its_web_address_is_taken_as_configured(configure):
    configure(
        resourcemanager_hostname="rm.example.org", resourcemanager_webapp_address="${yarn.resourcemanager.hostname}:9"
    )
    assert resourcemanager_urls() == ("http://rm.example.org:9",)


def test_with_high_availability_all_are_asked_and_https_only_is_https(configure):
    configure(
        http_policy="HTTPS_ONLY",
        resourcemanager_ha_enabled="true",
        resourcemanager_ha_rm__ids="a, b",
        resourcemanager_hostname_a="one.example.org",
        resourcemanager_webapp_https_address_b="two.example.org:444",
    )
    assert resourcemanager_urls() == ("https://one.example.org:8090", "https://two.example.org:444")
