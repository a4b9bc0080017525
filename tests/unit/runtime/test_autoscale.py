"""How many processes a pool gets: by backlog and throughput, with hysteresis."""

from buildflow.runtime.autoscale import Autoscaler, Sample


def decide(scaler: Autoscaler, seconds: range, sample: Sample) -> int:
    """What is decided in the last of these seconds; an AssertionError when it changes before."""
    for now in seconds[:-1]:
        assert scaler.decide(sample, float(now)) == sample.replicas, f"changed at {now} already"
    return scaler.decide(sample, float(seconds[-1]))


def test_it_grows_when_a_backlog_lasts_to_twice_as_many_at_most() -> None:
    scaler = Autoscaler(1, 10, target_backlog=100)
    assert decide(scaler, range(0, 3), Sample(1, 5000, 1.0, 10.0)) == 2
    assert decide(scaler, range(3, 6), Sample(2, 5000, 1.0, 10.0)) == 4
    assert decide(scaler, range(6, 9), Sample(4, 550, 1.0, 10.0)) == 6, "no more than the backlog asks for"
    assert decide(scaler, range(9, 12), Sample(8, 5000, 1.0, 10.0)) == 10


def test_a_backlog_that_is_gone_soon_needs_no_further_process() -> None:
    assert decide(Autoscaler(1, 10, 100), range(20), Sample(1, 5000, 1.0, 2000.0)) == 1


def test_a_backlog_that_comes_and_goes_changes_nothing() -> None:
    scaler = Autoscaler(1, 10, target_backlog=100)
    for now in range(60):
        assert scaler.decide(Sample(2, 5000 if now % 2 else 0, 1.0, 1.0), float(now)) == 2


def test_it_shrinks_by_one_when_the_others_could_do_the_work_for_a_while() -> None:
    scaler = Autoscaler(1, 10, target_backlog=100)
    assert decide(scaler, range(0, 31), Sample(4, 0, 0.1, 5.0)) == 3
    assert decide(scaler, range(31, 62), Sample(3, 0, 0.1, 5.0)) == 2


def test_busy_processes_stay_though_nothing_waits() -> None:
    assert decide(Autoscaler(1, 10, 100), range(120), Sample(4, 0, 0.9, 5.0)) == 4


def test_it_keeps_between_its_bounds() -> None:
    assert decide(Autoscaler(2, 4, 100), range(60), Sample(2, 0, 0.0, 0.0)) == 2
    assert decide(Autoscaler(2, 4, 100), range(60), Sample(4, 10**6, 1.0, 1.0)) == 4
    assert Autoscaler(2, 4, 100).wanted(Sample(2, 10**6, 1.0, 1.0)) == 4
