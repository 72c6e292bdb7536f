"""The report says what happened, in words and numbers, and needs nothing from outside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.tree import Tree

from firesteel.jobs.cli.draw import trees
from firesteel.jobs.report import write_report
from firesteel.jobs.report.explain import write_explanation
from firesteel.jobs.report.write import render
from firesteel.pipelines.plan.model import SourceInput
from firesteel.pipelines.result import Counts, IntervalResult
from support.sample_run import failed, published, sample_plan, sample_result

VOID = {"meta", "br"}
ERROR = "FS7001 gate output_ok on sink:scores: 1 of 2 expectations failed. Nothing was published."


class Page(HTMLParser):
    """The visible text, the attributes, and whether every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)

    def values(self, key: str) -> list[str]:
        return [value for _, name, value in self.attributes if name == key]


def test_a_good_run_reads_as_one(tmp_path: Path) -> None:
    plan = sample_plan(3)
    result = sample_result(
        plan, tuple(published(plan, day) for day in (1, 2, 3)), mlflow_run_id="4f2a9c", mlflow_uri="sqlite:///x.db"
    )
    path = write_report(result, plan, tmp_path / "deep" / "report.html")
    page = Page(path.read_text("utf-8"))
    assert not page.open
    assert "Published 2,742 rows" in page.text
    assert "3 intervals published." in page.text
    assert "changed since it was published: spec, model or input" in page.text
    assert re.search(r"2,742 in = 2,742 scored \+ 0 dead letters \+ 0 quarantined \+ 0 dropped ✓ adds up", page.text)
    assert "all 2,742 rows pass" in page.text
    assert "at least 98 % of rows" in page.text
    assert "27 of 2,742 rows fail" in page.text
    assert "row count of features minus dead letters" in page.text
    assert "dt=2013-06-03/origin=LGA" in page.text
    assert "models:/flight_delay@champion 7 3c1f3c1f3c1f skops 183 KiB" in page.text
    assert "4f2a9c" in page.text
    assert plan.code_hash in page.text
    assert [each.name for each in tmp_path.joinpath("deep").iterdir()] == ["report.html"]


def test_warnings_about_a_model_are_below_the_models() -> None:
    plan = sample_plan(1)
    plan = replace(plan, models=(replace(plan.models[0], warnings=("its requirements differ: numpy==1 <b>.",)),))
    page = Page(render(sample_result(plan, (published(plan, 1),)), plan))
    assert "! warning model delay: its requirements differ: numpy==1 <b>." in page.text


def test_a_failed_run_says_what_failed_and_that_nothing_was_published() -> None:
    plan = sample_plan(1)
    page = Page(render(sample_result(plan, (failed(plan, 1, ERROR),), error=ERROR), plan))
    assert "Failed in 2013-06-01 Nothing was published." in page.text
    assert ERROR in page.text
    assert "12 of 897 rows fail (1.3 %)" in page.text
    assert "✗ failed" in page.text
    assert "dt=2013-06-01/origin=EWR" not in page.text


def test_what_was_published_before_a_failure_and_what_was_never_run_is_told_apart() -> None:
    plan = sample_plan(3)
    page = Page(render(sample_result(plan, (published(plan, 1), failed(plan, 2, ERROR))), plan))
    assert "The failed interval was not published. Published before the failure: 2013-06-01 (897 rows)." in page.text
    assert "\u2013 not run" in page.text
    assert "✗ failed in 2013-06-02" in page.text


def test_a_failure_before_any_interval_is_told() -> None:
    plan = sample_plan(1)
    page = Page(
        render(sample_result(plan, (), state="failed", error="FS9003 MLflow at http://h: cannot connect."), plan)
    )
    assert "Failed Nothing was published." in page.text
    assert "FS9003 MLflow at http://h: cannot connect." in page.text


def test_a_skipped_run_says_that_there_was_nothing_to_do() -> None:
    plan = sample_plan(1)
    skipped = IntervalResult("2013-06-01", "skipped", "already published with the same plan hash", "x")
    page = Page(render(sample_result(plan, (skipped,)), plan))
    assert "Skipped 1 interval Nothing was published: all intervals are up to date." in page.text
    assert "already published with the same plan hash" in page.text


def test_rows_that_do_not_add_up_are_shown() -> None:
    plan = sample_plan(1)
    lost = replace(published(plan, 1), counts=Counts(rows_in=900, scored=897))
    assert "✗ does not add up" in Page(render(sample_result(plan, (lost,)), plan)).text


def test_dead_letters_and_warnings_make_the_headline_amber() -> None:
    plan = sample_plan(1)
    html = render(sample_result(plan, (published(plan, 1, dead=2),)), plan)
    assert "2 rows failed in the model (see dead letters)." in Page(html).text
    assert 'class="verdict warn"' in html


def test_names_and_errors_are_escaped() -> None:
    evil = "<script>alert(1)</script>\"'&"
    plan = sample_plan(1)
    plan = replace(
        plan, pipeline=evil, owner=evil, sources=tuple(replace(source, name=evil) for source in plan.sources[:1])
    )
    done = replace(
        published(plan, 1), distributions=((evil, published(plan, 1).distributions[0][1]),), partitions=(evil,)
    )
    html = render(sample_result(plan, (done, failed(plan, 1, evil)), mlflow_uri="javascript:alert(1)"), plan)
    assert "<script" not in html
    assert evil in Page(html).text
    assert "javascript:alert(1)" not in Page(html).values("href")


def test_the_page_loads_nothing_from_anywhere() -> None:
    plan = sample_plan(2)
    html = render(sample_result(plan, (published(plan, 1),), mlflow_uri="https://mlflow.example.org/#/runs/1"), plan)
    page = Page(html)
    assert not page.values("src")
    assert not {tag for tag, _, _ in page.attributes} & {"link", "script", "img", "iframe", "object", "embed"}
    assert set(page.values("href")) == {"#main", "https://mlflow.example.org/#/runs/1"}
    assert not re.search(r"@import|url\(", html)
    assert "default-src 'none'" in html


def test_pictures_have_names_descriptions_and_ids_of_their_own() -> None:
    plan = sample_plan(2)
    page = Page(render(sample_result(plan, (published(plan, 1), published(plan, 2))), plan))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    pictures = [value for tag, key, value in page.attributes if tag == "svg" and key == "aria-labelledby"]
    assert len(pictures) == 7  # rows, distribution and graph in two widths, time, workers
    assert {each for value in pictures for each in value.split()} <= set(ids)
    assert "Step scored scores features with model delay v7." in page.text
    assert page.text.count("Histogram of p_delay") == 2


@pytest.mark.parametrize("days", [0, 1, 30])
def test_a_plan_of_any_length_makes_a_whole_page(days: int) -> None:
    plan = sample_plan(days)
    page = Page(render(sample_result(plan, tuple(published(plan, day) for day in range(1, days + 1))), plan))
    assert not page.open
    if days == 30:
        assert "2013-06-30: 3 partitions" in page.text


def test_the_same_run_gives_the_same_page() -> None:
    plan = sample_plan(2)
    result = sample_result(plan, (published(plan, 1), published(plan, 2)))
    assert render(result, plan) == render(result, plan)


def test_the_newest_partition_of_a_source_is_named(tmp_path: Path) -> None:
    plan = sample_plan()
    weather = replace(plan.sources[1], selection="the newest partition at or before the interval")
    reads = [
        replace(interval, inputs=(SourceInput("weather", (f"dt=2013-05-{day}",), ()),))
        for interval, day in zip(plan.intervals, (25, 31, 31), strict=True)
    ]
    plan = replace(plan, sources=(plan.sources[0], weather), intervals=tuple(reads))
    said = "weather reads the newest partition at or before the interval: dt=2013-05-25 to dt=2013-05-31"
    assert said in render(sample_result(plan, ()), plan)
    page = write_explanation(plan, (), tmp_path / "explain.html").read_text(encoding="utf-8")
    assert said.removeprefix("weather ") in page
    drawn = "".join(str(tree.label) for root in trees(plan, None) for tree in _labels(root))
    assert said.removeprefix("weather reads ") in drawn


def _labels(tree: Tree) -> Iterator[Tree]:
    yield tree
    for child in tree.children:
        yield from _labels(child)
