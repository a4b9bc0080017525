"""A schedule on AWS: the same clock as on the local stack. The watcher's leader ticks into the stack's Redis, which
spares EventBridge, a role for it and a queue."""

from buildflow.primitives.schedule.local import LocalScheduleDriver


class RedisScheduleDriver(LocalScheduleDriver):
    """`schedule` on AWS; a `LocalDriver`."""

    label = "RedisSchedule"


DRIVER = RedisScheduleDriver()
