"""Rate limits: requests never exceed the chosen share of a quota."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.aws.rate_limit import TokenBucket, poll_interval


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


STEPS = st.lists(st.floats(0, 3), max_size=80)
RATES = st.floats(0.5, 20)


@given(RATES, st.integers(1, 20), STEPS)
def test_never_more_than_the_bucket_holds(rate, burst, steps):
    """Between any two moments at most `burst + rate * seconds` calls are allowed."""
    clock = Clock()
    pace, passed = TokenBucket(rate, burst, clock), []
    for step in steps:
        clock.now += step
        while pace.try_acquire():
            passed.append(clock.now)

    for first, began in enumerate(passed):
        for last, ended in enumerate(passed[first:], first):
            assert last - first + 1 <= burst + rate * (ended - began) + 1e-6


@given(RATES, st.integers(1, 20))
def test_a_full_bucket_is_let_through_at_once(rate, burst):
    """A full bucket allows its burst at once, and then one call per `1 / rate` seconds."""
    clock = Clock()
    pace = TokenBucket(rate, burst, clock)

    assert [pace.try_acquire() for _ in range(burst + 1)] == [True] * burst + [False]
    clock.now += 1.001 / rate
    assert [pace.try_acquire(), pace.try_acquire()] == [True, False]


def test_a_pause_fills_the_bucket_and_no_more():
    """A pause fills the bucket at most to its burst."""
    clock = Clock()
    pace = TokenBucket(rate=10, burst=3, clock=clock)
    clock.now += 8 * 3600

    assert [pace.try_acquire() for _ in range(4)] == [True, True, True, False]


def test_five_hundred_at_once():
    """If AWS throttles nothing, five hundred calls at once take less than twenty seconds instead of fifty."""
    clock = Clock()
    pace, passed = TokenBucket(10, 20, clock, ceiling=50), 0
    while passed < 500:
        passed += pace.try_acquire()
        clock.now += 0.005

    assert clock.now < 20


QUOTAS = st.floats(2, 60)


@given(QUOTAS)
def test_an_unknown_quota_is_found(quota):
    """In a minute of demand an unknown quota is used to more than half.

    At most a tenth of the calls is throttled.
    """
    clock = Clock()
    pace, bucket = TokenBucket(10, 20, clock, ceiling=50), TokenBucket(quota, quota, clock)
    answers = []
    for _ in range(6000):
        clock.now += 0.01
        if pace.try_acquire():
            answers.append(bucket.try_acquire())
            if not answers[-1]:
                pace.throttled()

    assert answers.count(True) >= 60 * min(quota, 50) / 2
    assert answers.count(False) <= len(answers) / 10 + 5


@given(RATES, st.integers(1, 20), STEPS, st.data())
def test_never_more_than_the_ceiling(rate, burst, steps, data):
    """The rate never exceeds its ceiling, for any demand and any throttling."""
    clock = Clock()
    pace, passed = TokenBucket(rate, burst, clock, ceiling=2 * rate), []
    for step in steps:
        clock.now += step
        while pace.try_acquire():
            passed.append(clock.now)
        if data.draw(st.booleans()):
            pace.throttled()

    for first, began in enumerate(passed):
        for last, ended in enumerate(passed[first:], first):
            assert last - first + 1 <= burst + 2 * rate * (ended - began) + 1e-6


def test_throttling_stops_all_calls_at_once():
    """1.

    AWS throttles five calls at one moment. 2. No call is allowed now. 3. The rate is halved once, not five times.
    """
    clock = Clock()
    pace = TokenBucket(rate=10, burst=20, clock=clock)
    for _ in range(5):
        pace.throttled()

    assert not pace.try_acquire()
    assert pace.seconds() == pytest.approx(1 / 5)


def test_throttling_is_forgotten_after_a_pause():
    """After an hour without calls an earlier throttling has no effect."""
    clock = Clock()
    pace = TokenBucket(rate=10, burst=20, clock=clock)
    for _ in range(10):
        pace.throttled()
        clock.now += 1
    clock.now += 3600

    assert [pace.try_acquire() for _ in range(21)] == [True] * 20 + [False]
    assert pace.seconds() == pytest.approx(1 / 10)


def test_a_token_is_available_after_the_wait():
    """After a wait of `seconds` a token is available, and not much earlier."""
    clock = Clock()
    pace = TokenBucket(rate=4, burst=1, clock=clock)
    assert pace.seconds() == 0
    assert pace.try_acquire()

    clock.now += pace.seconds() * 0.9
    assert not pace.try_acquire()
    clock.now += pace.seconds() * 1.001
    assert pace.try_acquire()


def test_threads_share_one_bucket():
    """Threads that share a bucket get no more tokens than one would."""
    pace, passed = TokenBucket(rate=1, burst=50, clock=Clock()), []

    def ask():
        passed.extend(pace.try_acquire() for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert passed.count(True) == 50


@given(st.floats(0, 1e7))
def test_a_poll_interval_is_a_share_of_the_age(age):
    """The interval is a twentieth of the job's age, at least 0.1 s and at most 5 s."""
    assert 0.1 <= poll_interval(age) <= 5.0
    assert poll_interval(age) <= max(0.1, age * 0.05 + 1e-9)


@pytest.mark.parametrize(("age", "expected"), [(0, 0.1), (2, 0.1), (20, 1.0), (100, 5.0), (7200, 5.0)])
def test_intervals_by_age(age, expected):
    """Short jobs are polled often, and long ones rarely."""
    assert poll_interval(age) == pytest.approx(expected)
