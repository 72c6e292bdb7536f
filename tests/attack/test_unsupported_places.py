"""What a run cannot read or write is refused by `validate`, with the schemes that it can."""

from __future__ import annotations

import pytest

from firesteel.conf.errors import SpecErrors, StorageError
from firesteel.pipelines import Pipeline
from firesteel.pipelines.storage.open import locate
from firesteel.pipelines.storage.paths import SCHEMES
from support.specs import FixedBackend, example_with

PLACES = {
    "source": "path: ${param.root}/flights",
    "sink": "path: ${param.root}/scores",
    "storage": "storage: ${param.root}/_firesteel/flight_delay_scores",
}
OTHERS = [
    "s3a://bucket/x",
    "S3A://bucket/x",
    "s3a:/bucket/x",
    "s3a:///x",
    "abfss://c@account/x",
    "gs://b",
    "viewfs://c/x",
    "webhdfs://nn:9870/x",
]


def load(folder, changes, root="file:///data"):
    path = example_with(folder, changes)
    return Pipeline.load(path, params={"root": root}, backend=FixedBackend())


@pytest.mark.parametrize("uri", OTHERS)
@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_no_run_can_use_is_refused_by_validate(tmp_path, place, uri):
    key, _, _ = PLACES[place].partition(":")
    with pytest.raises(SpecErrors) as caught:
        load(tmp_path, {PLACES[place]: f'{key}: "{uri}"'})
    error = next(error for error in caught.value.errors if error.code == "FS8005")
    assert error.where
    assert all(f"{scheme}://" in error.hint for scheme in SCHEMES)
    with pytest.raises(StorageError, match="FS8005"):  # a run refuses the same
        locate(uri)


@pytest.mark.parametrize("uri", [uri for uri in OTHERS if "://" in uri])
def test_a_place_that_comes_from_a_param_is_refused_too(tmp_path, uri):
    with pytest.raises(SpecErrors, match="FS8005"):
        load(tmp_path, {}, root=uri)


@pytest.mark.parametrize("uri", ["file:///x", "hdfs://nn:8020/x", "HDFS://nn/x", "hdfs:///x"])
def test_supported_places_are_accepted(tmp_path, uri):
    assert load(tmp_path, {}, root=uri)
