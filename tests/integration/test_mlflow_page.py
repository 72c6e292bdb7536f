"""A recorded run in MLflow's own UI, in headless Chromium: its model, its charts, and the model's page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firesteel.jobs.tracking import RunTracker, resolve_model
from firesteel.jobs.tracking.connect import connect
from firesteel.jobs.tracking.driver import MACHINE
from support.browser import needs_chromium
from support.fault_proxy import STATUSES, fault_proxy
from support.mlflow_server import MlflowServer
from support.sample_run import published, sample_plan, sample_result

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

    from firesteel.pipelines import Plan

pytestmark = [pytest.mark.integration, needs_chromium]

NAME = "flight_delay"
RUN = "20130604T101112-7f3a"
DOCS = Path(__file__).parents[2] / "docs"
PICTURE = {"width": 1280, "height": 860}
DESK = {"width": 1440, "height": 1100}
NARROW = {"width": 600, "height": 1100}


@dataclass(frozen=True)
class Recorded:
    """A run on a server, and the model that it used."""

    server: str
    run: str
    experiment: str
    model_id: str
    training: str

    @property
    def run_page(self) -> str:
        return f"{self.server}/#/experiments/{self.experiment}/runs/{self.run}"

    @property
    def model_page(self) -> str:
        return f"{self.server}/#/experiments/{self.training}/models/{self.model_id}"


def log_model(server: str) -> tuple[str, str]:
    """Log and register a scikit-learn model as a training job does. Return its ID and its experiment's."""
    import mlflow
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server)
    try:
        experiment = mlflow.set_experiment("training/flight_delay").experiment_id
        frame = pd.DataFrame({"dep_delay": [float(n) for n in range(10)], "distance": [1.0] * 10})
        with mlflow.start_run(run_name="train"):
            info = mlflow.sklearn.log_model(
                LogisticRegression().fit(frame, [n % 2 for n in range(10)]),
                name="model",
                signature=infer_signature(frame, pd.Series([0.5])),
                serialization_format="skops",
                pip_requirements=["scikit-learn"],
                registered_model_name=NAME,
            )
        mlflow.MlflowClient().set_registered_model_alias(NAME, "champion", "1")
    finally:
        mlflow.set_tracking_uri(before)
    return info.model_id, experiment


def plan_of(server: str) -> Plan:
    pinned = resolve_model(
        "delay",
        f"models:/{NAME}@champion",
        method="predict_proba",
        trust_formats=("skops",),
        max_size=None,
        tracking_uri=server,
    )
    return replace(sample_plan(5, tracking_uri=server), models=(pinned.plan,), params=(("root", "hdfs://nn/ml"),))


def record(server: str) -> Recorded:
    model_id, training = log_model(server)
    plan = plan_of(server)
    results = tuple(published(plan, day, dead=day % 2) for day in range(1, 6))
    with RunTracker.open(plan, RUN) as tracker:
        for result in results:
            tracker.interval_started(result.interval)
            tracker.interval_finished(result)
        done = tracker.finish(sample_result(plan, results))
    assert tracker.problems == []
    experiment = connect(server).get_run(done.mlflow_run_id).info.experiment_id
    return Recorded(server, done.mlflow_run_id, experiment, model_id, training)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with pytest.MonkeyPatch.context() as patch, MlflowServer(tmp_path_factory.mktemp("server")) as server:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield record(server.uri)


def opened(browser: Browser, url: str, size: dict[str, int]) -> Page:
    page = browser.new_page(viewport=size)
    page.goto(url)
    return page


@pytest.mark.parametrize("size", [DESK, NARROW], ids=["desk", "narrow"])
def test_the_run_page_shows_the_registered_model_and_links_to_its_version(
    recorded: Recorded, browser: Browser, size: dict[str, int]
) -> None:
    from playwright.sync_api import expect

    page = opened(browser, recorded.run_page, size)
    versions = page.locator(f"a[href$='#/models/{NAME}/versions/1']")
    note = versions.filter(has_text=f"{NAME} version 1 (@champion)").first
    expect(note).to_be_attached(timeout=60_000)
    registered = versions.filter(has_text="v1").first  # under "Registered models"
    expect(registered).to_be_visible()
    registered.click()
    expect(page).to_have_url(f"{recorded.server}/#/models/{NAME}/versions/1")
    page.close()


def test_the_charts_have_a_step_per_interval(recorded: Recorded, browser: Browser) -> None:
    from playwright.sync_api import expect

    page = opened(browser, f"{recorded.run_page}/model-metrics", DESK)
    chart = page.locator("[data-testid='experiment-view-compare-runs-card']").filter(has_text="dead_letter").first
    expect(chart.locator(".scatterlayer .point")).to_have_count(5, timeout=60_000)
    page.close()


def test_the_page_of_the_logged_model_lists_the_run(recorded: Recorded, browser: Browser) -> None:
    from playwright.sync_api import expect

    page = opened(browser, recorded.model_page, DESK)
    run = page.locator(f"a[href*='/runs/{recorded.run}']")
    expect(run.first).to_be_visible(timeout=60_000)
    page.close()


def run_page(page: Page) -> Locator:
    return page.locator(f"a[href$='#/models/{NAME}/versions/1']").filter(has_text="v1").first


def model_page(page: Page) -> Locator:
    return page.get_by_text(RUN).first


@pytest.mark.parametrize(("name", "shown"), [("run", run_page), ("model", model_page)])
def test_the_pictures_of_the_documentation_are_small_and_as_large_as_the_page(
    recorded: Recorded, browser: Browser, name: str, shown: Callable[[Page], Locator]
) -> None:
    """With FIRESTEEL_WRITE_PICTURES=1, it writes them."""
    from playwright.sync_api import expect

    connect(recorded.server).set_tag(recorded.run, MACHINE, "node-7.example.org")  # pictures name no machine
    page = opened(browser, getattr(recorded, f"{name}_page"), PICTURE)
    expect(shown(page)).to_be_visible(timeout=60_000)
    page.mouse.click(1244, 36)  # closes MLflow's assistant
    expect(page.get_by_text("Ask questions about your")).to_be_hidden()
    picture = page.screenshot(clip={"x": 198, "y": 0, "width": 1082, "height": 860}, animations="disabled")
    page.close()
    committed = DOCS / f"mlflow-{name}.png"
    if os.environ.get("FIRESTEEL_WRITE_PICTURES"):
        committed.write_bytes(picture)
    assert committed.read_bytes()[16:24] == picture[16:24], "width and height of the two PNG files"
    assert committed.stat().st_size < 150_000


def test_an_account_that_may_not_link_models_records_its_run(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(number: int, uri: str) -> tuple[str, str]:
        plan = replace(plan_of(recorded.server), tracking=replace(sample_plan(5).tracking, uri=uri))
        with RunTracker.open(plan, f"20130604T101112-{number:04}") as tracker:
            tracker.interval_started("2013-06-01")
            result = published(plan, 1)
            tracker.interval_finished(result)
            done = tracker.finish(sample_result(plan, (result,)))
        assert tracker.problems == []
        record = connect(recorded.server).get_run(done.mlflow_run_id)
        return record.info.status, record.data.tags.get("firesteel.warning", "")

    with fault_proxy(recorded.server) as proxy:
        assert run(0, proxy.uri) == ("FINISHED", "")
        calls = list(proxy.calls)
        # The links to the logged models, of the training experiment and of the run's own.
        links = [number for number, call in enumerate(calls) if call.endswith("logged-models/search")]
        links += [number + 1 for number, call in enumerate(calls) if call.endswith("model-versions/get")]
        assert len(links) >= 2, calls
        for count, number in enumerate(links, start=1):
            proxy.arm("403", number)
            status, warning = run(count, proxy.uri)
            assert status == "FINISHED"
            assert warning.startswith("the MLflow run has no link to "), number
            assert "403" in warning or "FS9035" in warning
        monkeypatch.setitem(STATUSES, "404", "ENDPOINT_NOT_FOUND")
        proxy.arm("404", links[0])
        assert run(count + 1, proxy.uri) == ("FINISHED", "")
