"""What a driver finds in the staging of a dead one: whole tasks stay, everything else goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firesteel.jobs.run.direct import commit, delete_task_marks, finished_tasks
from firesteel.pipelines.storage.local import LocalStorage
from firesteel.udfs.direct.done import CompletedTask, mark_name, write_mark
from firesteel.udfs.direct.job import DirectResult
from firesteel.udfs.direct.spec import Split, TaskResult, WrittenFile
from firesteel.udfs.report import TaskReport, summarise

END = 1 << 62
JOB = "abc"


@pytest.fixture
def staging(tmp_path) -> str:
    return str(tmp_path / "staging" / "0000000007")


def put(staging: str, path: str, text: str = "x") -> None:
    LocalStorage().create(f"{staging}/{path}", text.encode())


def there(staging: str) -> set[str]:
    return {file.path[len(staging) + 1 :] for file in LocalStorage().walk(staging)}


def leave(staging: str, number: int, *, attempt: int = 0, files: int = 2, path: str = "") -> CompletedTask:
    """What a task leaves that has finished: its files and its mark."""
    written = []
    for each in range(files):
        final = f"dt=2024-01-01/part-{number:05d}-{JOB}-{attempt}-c{each:03d}.parquet"
        temporary = f"_direct/{JOB}-{number:05d}-{attempt}/{final}"
        put(staging, temporary, f"rows of {final}")
        written.append(WrittenFile(temporary, final, 10, len(f"rows of {final}")))
    report = TaskReport(number, attempt, 10 * files, 10 * files)
    done = CompletedTask((Split(path or f"f{number}", 0, END),), TaskResult(report, written, 10 * files, 10 * files))
    put(staging, mark_name(number, attempt, JOB), write_mark(done).decode())
    return done


def result_of(*done: CompletedTask) -> DirectResult:
    return DirectResult(summarise({}), tuple(file for each in done for file in each.result.files), 0, 0)


def test_nothing_was_staged(staging):
    assert finished_tasks(LocalStorage(), staging) == ()


def test_whole_tasks_are_found_and_all_else_goes(staging):
    done = leave(staging, 0)
    put(staging, f"_direct/{JOB}-00001-0/dt=2024-01-01/part-00001.parquet", "half a fi")
    put(staging, f"_done/{JOB}-00002-0.json", '{"made_by": "0.1')
    put(staging, "dt=2024-01-01/part-of-nobody.parquet")
    put(staging, "_temporary/0/x")
    assert finished_tasks(LocalStorage(), staging) == (done,)
    assert there(staging) == {mark_name(0, 0, JOB), *(file.temporary for file in done.result.files)}


@pytest.mark.parametrize("harm", ["missing", "cut"])
def test_a_task_one_of_whose_files_is_not_whole_is_done_again(staging, harm):
    good, bad = leave(staging, 0), leave(staging, 1)
    path = f"{staging}/{bad.result.files[1].temporary}"
    LocalStorage().delete(path)
    if harm == "cut":
        LocalStorage().create(path, b"rows")
    assert finished_tasks(LocalStorage(), staging) == (good,)
    assert not any(f"{JOB}-00001-0" in path for path in there(staging))


def test_of_two_attempts_at_one_task_one_counts(staging):
    both = [leave(staging, 0, attempt=attempt, path="f") for attempt in (0, 1)]
    (found,) = finished_tasks(LocalStorage(), staging)
    assert found in both
    assert len(there(staging)) == 3


@pytest.mark.parametrize("moved", range(5))
def test_a_commit_that_was_cut_short_is_gone_on_with(staging, moved):
    """The driver died after it had moved some of the files."""
    storage = LocalStorage()
    tasks = [leave(staging, number) for number in range(2)]
    files = [file for task in tasks for file in task.result.files]
    commit_some = result_of(*tasks)
    commit_some = replace(commit_some, files=commit_some.files[:moved])
    for file in commit_some.files:
        storage.mkdirs(f"{staging}/dt=2024-01-01")
        storage.rename(f"{staging}/{file.temporary}", f"{staging}/{file.final}")
    found = finished_tasks(storage, staging)
    assert len(found) == 2
    commit(storage, staging, result_of(*found))
    delete_task_marks(storage, staging)
    assert there(staging) == {file.final for file in files}
    for file in files:
        assert storage.read(f"{staging}/{file.final}").decode() == f"rows of {file.final}"


def test_after_the_commit_the_marks_still_say_what_is_done(staging):
    storage = LocalStorage()
    tasks = [leave(staging, number) for number in range(2)]
    commit(storage, staging, result_of(*tasks))
    found = finished_tasks(storage, staging)
    assert [each.splits for each in found] == [task.splits for task in tasks]
    assert all(file.temporary == file.final for each in found for file in each.result.files)
