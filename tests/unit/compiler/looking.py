"""How long the properties of the compiler are looked at."""

import os

from hypothesis import HealthCheck, settings

EXAMPLES = os.environ.get("BUILDFLOW_EXAMPLES", "")


def looking_at(examples: int) -> settings:
    """So many examples, the same ones in every run; or as many as the environment asks for, others each time."""
    return settings(
        max_examples=int(EXAMPLES or examples),
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


many, some = looking_at(150), looking_at(40)
"""For what is quick, and for whole documents."""
