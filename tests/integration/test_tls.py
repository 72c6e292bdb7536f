"""TLS with verification, to a real NameNode and to a lineage server; that MLflow's is tested beside its server."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from firesteel.conf.errors import StorageError
from firesteel.conf.hadoop import webhdfs_urls
from firesteel.jobs.lineage.record import LineageRecord
from firesteel.pipelines.plan.model import LineagePlan
from firesteel.pipelines.storage.open import close_all, locate
from support.lineage import lineage_server, traced_plan
from support.sample_run import published, sample_result
from support.wire import authority, behind_tls

pytestmark = pytest.mark.integration


@pytest.fixture
def signed(tmp_path):
    return authority(tmp_path)


def test_webhdfs_goes_over_tls_to_a_namenode_that_is_known_and_to_no_other(hdfs_env, signed, tmp_path, monkeypatch):
    plain = urlsplit(webhdfs_urls(urlsplit(hdfs_env.uri).netloc)[0])
    with behind_tls(signed.server, plain.port) as port:
        monkeypatch.setenv("FIRESTEEL_WEBHDFS_URL", f"https://127.0.0.1:{port}")
        try:
            storage, path = locate(f"{hdfs_env.uri}/tls/{tmp_path.name}")
            with pytest.raises(StorageError, match="FS8001") as refused:
                storage.mkdirs(path)
            assert "certificate" in str(refused.value).lower()
            close_all()
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(signed.ca))
            storage, path = locate(f"{hdfs_env.uri}/tls/{tmp_path.name}")
            storage.mkdirs(path)
            assert storage.status(path).is_dir
            assert storage.delete(path)
        finally:
            close_all()


def test_lineage_goes_over_tls_to_a_server_that_is_known_and_to_no_other(signed):
    with lineage_server(signed.server) as server:
        sent = {}
        for ca in ("", str(signed.ca)):
            plan = traced_plan(LineagePlan("http", server.url, "firesteel", endpoint="api/v1/lineage", ca=ca), days=1)
            with LineageRecord.open(plan, "20130604T101112-7f3a21") as record:
                record.interval_started(plan.intervals[0])
                sent[ca] = record.finish(sample_result(plan, (published(plan, 1),))).lineage
    assert (sent[""].sent, sent[""].lost) == (0, 3)
    assert "certificate verify failed" in sent[""].reason.lower()
    assert (sent[str(signed.ca)].sent, sent[str(signed.ca)].lost) == (3, 0)
