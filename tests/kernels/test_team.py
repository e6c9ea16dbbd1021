"""Threads that stay together through steps: each task is done once, whoever comes, and however late."""

from typing import Any

import numba
import numpy as np
import pytest
from numba import prange

from eigenfeatures.kernels.cpu import team
from eigenfeatures.kernels.cpu.compile import Kernel, helper

STEPS, TASKS = 50, 37


@helper
def work(counters: Any, member: Any, step: Any, sums: Any) -> None:
    """Add to a task's number the sum of all tasks' numbers before the step."""
    task = team.take(counters, member, len(sums))
    while task >= 0:
        sums[task] += step[0] + task
        team.done(counters)
        task = team.take(counters, member, len(sums))


@Kernel
def steps(members: int, counters: Any, step: Any, sums: Any, roles: Any) -> None:
    """Do all steps; each depends on the whole of the one before."""
    for i in prange(members):
        member = team.enter(counters)
        roles[i] = member
        if member == 0:
            for _ in range(STEPS):
                step[0] = sums.sum() % 1000
                team.offer(counters)
                work(counters, member, step, sums)
                team.wait(counters, len(sums))
            team.dismiss(counters)
        while not team.dismissed(counters):
            work(counters, member, step, sums)


def expected() -> Any:
    """Return what a plain loop makes."""
    sums = np.zeros(TASKS, np.int64)
    for _ in range(STEPS):
        sums += sums.sum() % 1000 + np.arange(TASKS)
    return sums


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("members", [1, 2, 3, 7, TASKS + 3])
def test_every_task_of_every_step_is_done_once(members, threads):
    """More members than threads come one after another: those that come late find all done."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, before))
    try:
        for _ in range(20):
            sums, roles = np.zeros(TASKS, np.int64), np.empty(members, np.int64)
            steps(members, team.make(members), np.zeros(1, np.int64), sums, roles)
            assert sums.tolist() == expected().tolist()
            assert sorted(roles) == list(range(members))
    finally:
        numba.set_num_threads(before)


def test_counters_are_whole_numbers():
    """Other arrays are refused when the loop is compiled."""
    with pytest.raises(numba.TypingError, match="counters are an array of int64"):
        team.enter(np.zeros(64))
