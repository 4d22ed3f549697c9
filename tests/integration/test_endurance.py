"""A worker that runs for long grows in nothing. `benchmarks/endurance.py` is the same for an hour, with a picture."""

from benchmarks.endurance import OURS, Load, done, endure, growth, report, steady

SECONDS = 25
CONCURRENCY = 100

# Pools of connections grow in steps, with the most that were ever needed at once.
POOLS = 20


def test_a_worker_under_a_mixed_load_does_not_grow(redis_url: str) -> None:
    load = Load("mixed", OURS, "mixed", redis_url)
    endure([load], SECONDS, samples=20, concurrency=CONCURRENCY)
    table, samples = report(load), load.samples
    count = done(samples)
    assert count > 500, table
    # What fills up once, such as caches and pools of connections, takes a few MiB; what a task leaves takes on and on.
    # A kilobyte left by each task would be seen from some 4,000 tasks on, and so would a connection by each hundredth.
    assert growth(samples, lambda sample: sample.memory) < 4, table
    assert growth(samples, lambda sample: sample.connections) <= POOLS, table
    assert growth(samples, lambda sample: sample.descriptors) <= POOLS, table
    assert max(sample.asyncio_tasks for sample in steady(samples)) <= 2 * CONCURRENCY, table
