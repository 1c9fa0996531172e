"""Calls under way at once: order, how many, faults."""

import threading
import time

import pytest

from textfuse_jax.in_flight import in_flight


@pytest.mark.parametrize("number", [1, 2, 5])
def test_results_come_in_order_and_so_many_calls_run_at_once(number):
    running, most, lock = 0, 0, threading.Lock()

    def call(i: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02 if i % 3 else 0.05)
        with lock:
            running -= 1
        return i * i

    assert list(in_flight(call, range(12), number)) == [(i, i * i) for i in range(12)]
    assert most == number


def test_a_fault_comes_where_its_result_would_have():
    found = in_flight(lambda i: 6 // i, [3, 2, 0, 1])
    assert [next(found), next(found)] == [(3, 2), (2, 3)]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_nothing_to_call():
    assert list(in_flight(str, [])) == []
