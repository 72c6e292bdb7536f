"""What the Hadoop configuration says about NameNodes."""

from __future__ import annotations

import pytest

from firesteel.conf.errors import StorageError
from firesteel.conf.hadoop import HadoopConf, default_fs, webhdfs_urls


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch):
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    monkeypatch.delenv("FIRESTEEL_WEBHDFS_URL", raising=False)


@pytest.fixture
def configure(tmp_path, monkeypatch):
    def write(core: dict[str, str], hdfs: dict[str, str]) -> None:
        for name, values in (("core-site.xml", core), ("hdfs-site.xml", hdfs)):
            properties = "".join(
                f"<property><name>{key}</name><value>{value}</value><final>true</final></property>"
                for key, value in values.items()
            )
            (tmp_path / name).write_text(f'<?xml version="1.0"?>\n<configuration>{properties}</configuration>')
        monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))

    return write


HA = {
    "dfs.nameservices": "prod, other",
    "dfs.ha.namenodes.prod": "nn1, nn2",
    "dfs.namenode.rpc-address.prod.nn1": "one.example.org:8020",
    "dfs.namenode.rpc-address.prod.nn2": "two.example.org:8020",
    "dfs.namenode.http-address.prod.nn1": "one.example.org:50070",
    "dfs.namenode.http-address.prod.nn2": "two.example.org:50070",
    "dfs.namenode.https-address.prod.nn1": "one.example.org:50470",
    "dfs.namenode.rpc-address.other": "three.example.org:8020",
}


def test_without_configuration_the_default_port_of_the_host_is_meant():
    assert webhdfs_urls("nn.example.org:8020") == ("http://nn.example.org:9870",)
    assert webhdfs_urls("nn.example.org") == ("http://nn.example.org:9870",)
    assert webhdfs_urls("[::1]:8020") == ("http://[::1]:9870",)
    assert default_fs() == "file:///"


def test_a_nameservice_gives_all_its_namenodes(configure):
    configure({"fs.defaultFS": "hdfs://prod"}, HA)
    assert webhdfs_urls("prod") == ("http://one.example.org:50070", "http://two.example.org:50070")
    assert default_fs() == "hdfs://prod"


def test_https_only_gives_https_and_its_default_port(configure):
    configure({}, HA | {"dfs.http.policy": "HTTPS_ONLY"})
    assert webhdfs_urls("prod") == ("https://one.example.org:50470", "https://two.example.org:9871")
    assert webhdfs_urls("else.example.org:8020") == ("https://else.example.org:9871",)


def test_a_nameservice_without_ha(configure):
    configure({}, HA)
    assert webhdfs_urls("other") == ("http://three.example.org:9870",)


@pytest.mark.parametrize(
    "where", [{"fs.defaultFS": "hdfs://nn.example.org:9000"}, {"dfs.namenode.rpc-address": "nn.example.org:9000"}]
)
def test_the_configured_address_is_of_the_configured_namenode_only(configure, where):
    configure(where, {"dfs.namenode.http-address": "nn.example.org:50070"})
    assert webhdfs_urls("nn.example.org:9000") == ("http://nn.example.org:50070",)
    assert webhdfs_urls("else.example.org:9000") == ("http://else.example.org:9870",)


def test_an_address_to_listen_on_is_not_an_address_to_call(configure):
    configure({"fs.defaultFS": "hdfs://nn.example.org:9000"}, {"dfs.namenode.http-address": "0.0.0.0:50070"})
    assert webhdfs_urls("nn.example.org:9000") == ("http://nn.example.org:50070",)


def test_references_in_values_are_filled_in(configure, monkeypatch):
    monkeypatch.setenv("NN", "nn7.example.org")
    configure(
        {"fs.defaultFS": "hdfs://${host}:9000", "host": "${env.NN}"},
        {"dfs.namenode.http-address": "${host}:${env.PORT:-50070}", "loop": "${loop}", "odd": "${not.there}"},
    )
    assert webhdfs_urls("nn7.example.org:9000") == ("http://nn7.example.org:50070",)
    assert HadoopConf.load().get("loop") == "${loop}"
    assert HadoopConf.load().get("odd") == "${not.there}"


def test_the_environment_overrides_every_address(configure, monkeypatch):
    configure({}, HA)
    monkeypatch.setenv("FIRESTEEL_WEBHDFS_URL", "http://a:1/ ; http://b:2;")
    assert webhdfs_urls("prod") == ("http://a:1", "http://b:2")


def test_kerberos(configure):
    assert not HadoopConf.load().kerberos
    configure({"hadoop.security.authentication": "Kerberos"}, {})
    assert HadoopConf.load().kerberos


def test_a_folder_without_files_is_no_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path / "none"))
    assert webhdfs_urls("nn:8020") == ("http://nn:9870",)


def test_a_file_that_is_no_xml_is_named(tmp_path, monkeypatch):
    (tmp_path / "core-site.xml").write_text("<configuration><property>")
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    with pytest.raises(StorageError) as caught:
        webhdfs_urls("nn:8020")
    assert caught.value.code == "FS8001"
    assert "core-site.xml" in str(caught.value)
