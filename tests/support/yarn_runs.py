"""The small scoring project on YARN, run by `firesteel submit`, and what it has published."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.storage.open import locate
from support.runs import firesteel
from support.scoring_project import DAY, ScoringProject

ON_YARN = """resources:
  master: yarn
  executors: {min: 2, max: 2, cores: 1, memory: 512m}
configuration:
  spark.executor.memoryOverhead: 512m
  spark.driver.memory: 768m
  spark.yarn.am.memory: 512m
  spark.scheduler.minRegisteredResourcesRatio: "1.0"
"""


def on_yarn(project: ScoringProject, more: str = "") -> None:
    """Write the spec of a project for YARN: two executors with one core, and no columns that name the run."""
    path = project.folder / "pipeline.yaml"
    text = path.read_text().replace(", lineage_columns: [_run_id, _scored_at]", "")
    path.write_text(text.replace('resources: {master: "local[2]"}', ON_YARN.rstrip()) + more)


def submitted(project: ScoringProject, *words: str):
    """Run `firesteel submit --run`."""
    return firesteel("submit", "--start", DAY, "--run", *words, folder=project.folder, timeout_s=560)


def published_bytes(project: ScoringProject) -> Counter[tuple[str, str]]:
    """Return how often each content was published in each directory. File names are not compared: they contain the attempt."""
    storage, base = locate(f"{project.root}/scores")
    return Counter(
        (folder, hashlib.sha256(storage.read(status.path)).hexdigest())
        for status in storage.walk(base)
        if (folder := status.path[len(base) + 1 :].rpartition("/")[0]).startswith("dt=")
        and not status.name.startswith(("_", "."))
    )


def attempts(project: ScoringProject) -> list[LedgerRecord]:
    """Return the attempts in the ledger, oldest first."""
    return list(reversed(Ledger(project.store).history("scores", DAY)))


def leftovers(project: ScoringProject) -> list[str]:
    """Return what no ended run may leave: staged files, and results that were not fetched."""
    storage, base = project.store.storage, project.store.base
    return [file.path for kind in ("staging", "submissions") for file in storage.walk(f"{base}/{kind}")]


def made(folder: Path, root: str, kind: str, operator: str = "direct") -> ScoringProject:
    """Return a project with data and a model, and its spec for one machine."""
    folder.mkdir(parents=True, exist_ok=True)
    project = ScoringProject(folder, root, kind)
    project.write_points(rows=120)
    project.plan(operator)
    return project
