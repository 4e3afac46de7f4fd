"""Many processes at once, kills at any moment, a database that goes away and comes back.

Small versions of benchmarks/clinic.py, whose figures are in docs/figures.md.
"""

import importlib

import pytest


@pytest.fixture
def bench(benchmarks):
    return importlib.import_module("clinic")


@pytest.mark.slow
def test_processes_that_change_one_store_lose_nothing_and_the_chain_is_whole(
    bench, tmp_path, database
):
    found = bench.changes(tmp_path, database, processes=3, count=12)
    assert (found["acknowledged"], found["kept"]) == (36, 36)
    assert (found["refused"], found["problems"]) == ([], [])


@pytest.mark.slow
def test_a_killed_process_loses_nothing_it_acknowledged_and_leaves_no_half(bench, tmp_path):
    found = bench.kills(tmp_path, None, times=3, longest=1.0, seed=4)
    assert found["acknowledged"] >= 3
    assert (found["lost"], found["half"], found["problems"]) == ([], [], [])
    assert found["jobs_not_done"] == 0


@pytest.mark.slow
def test_after_the_database_was_away_work_goes_on(bench, tmp_path):
    from clinic_places import Server

    server = Server()
    try:
        found = bench.away(tmp_path, server.database(), server.stop, server.start, rounds=1)
    finally:
        server.close()
    assert found["acknowledged"] == found["kept"] == 40
    assert found["refused_while_away"] == 3
    assert found["problems"] == []


@pytest.mark.nightly
@pytest.mark.slow
def test_sixteen_processes_with_a_hundred_changes_each(bench, tmp_path, database):
    found = bench.changes(tmp_path, database)
    assert (found["acknowledged"], found["kept"]) == (1600, 1600)
    assert (found["refused"], found["problems"]) == ([], [])


@pytest.mark.nightly
@pytest.mark.slow
def test_two_hundred_kills(bench, tmp_path):
    found = bench.kills(tmp_path, None)
    assert (found["lost"], found["half"], found["problems"]) == ([], [], [])
