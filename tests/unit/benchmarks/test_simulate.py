"""The simulation follows Spark's rules: what is asked for, what comes, what goes."""

from __future__ import annotations

import pytest

from simulate import Cluster, Job, Policy, ideal_makespan, simulate


def test_it_asks_for_one_two_four_while_tasks_wait():
    found = simulate([Job((100.0,) * 20)], Policy("spark"), Cluster(start_s=0.5))
    assert found.steps[:5] == ((1.5, 1), (2.5, 3), (3.5, 7), (4.5, 15), (5.5, 20))  # no more than there are tasks
    assert (found.peak, found.makespan_s) == (20, 105.5)


def test_a_limit_holds_and_doubling_begins_anew_behind_it():
    found = simulate([Job((10.0,) * 20)], Policy("limited", most=4), Cluster(start_s=0.5))
    assert found.peak == 4
    assert simulate([Job((10.0,) * 20)], Policy("spark"), Cluster(start_s=0.5, room=4)).peak == 4


def test_executors_go_after_their_idle_time_and_the_least_stay():
    jobs = [Job((1.0,) * 8), Job((1.0,), at_s=100.0)]
    found = simulate(jobs, Policy("p", initial=8, least=2, idle_s=10.0), Cluster(start_s=0.0))
    assert found.steps == ((0.0, 8), (11.0, 2))
    assert found.executor_seconds == 8 * 11 + 2 * (found.makespan_s - 11)


def test_an_executor_that_works_again_is_not_idle():
    jobs = [Job((1.0,)), Job((1.0,), pause_s=8.0), Job((1.0,), pause_s=8.0)]
    found = simulate(jobs, Policy("p", initial=1, idle_s=10.0), Cluster(start_s=0.0))
    assert (found.started, found.makespan_s) == (1, 19.0)


def test_initial_executors_are_held_until_the_first_job():
    found = simulate([Job((1.0,) * 4, at_s=5.0)], Policy("p", initial=4, idle_s=60.0), Cluster(start_s=1.0))
    assert found.steps == ((1.0, 4),)
    assert found.makespan_s == 6.0


def test_the_first_task_of_an_executor_pays_for_its_worker():
    fixed = Policy("fixed", initial=2, least=2, most=2)
    assert simulate([Job((10.0,) * 4)], fixed, Cluster(start_s=5.0, first_s=3.0)).makespan_s == 28.0


def test_slots_of_an_executor_work_side_by_side():
    fixed = Policy("fixed", initial=1, least=1, most=1)
    found = simulate([Job((10.0,) * 8)], fixed, Cluster(start_s=0.0, slots=4))
    assert (found.makespan_s, found.executor_seconds, found.busy_seconds) == (20.0, 20.0, 80.0)


def test_no_schedule_beats_the_ideal():
    jobs = [Job(tuple(1.0 + number % 7 for number in range(200)), pause_s=3.0) for _ in range(3)]
    for seed in range(5):
        found = simulate(jobs, Policy("fixed", 10, 10, 10), Cluster(start_s=0.0), seed=seed)
        assert found.makespan_s >= ideal_makespan(jobs, 10)
        assert found.executor_seconds >= found.busy_seconds


def test_the_same_seed_gives_the_same():
    jobs = [Job(tuple(1.0 + number % 5 for number in range(500))), Job((2.0,) * 50, pause_s=20.0)]
    first, again = (simulate(jobs, Policy("spark", idle_s=5.0), Cluster(2.0), seed=3) for _ in range(2))
    assert first == again
    assert first.utilisation == pytest.approx(first.busy_seconds / first.executor_seconds)
