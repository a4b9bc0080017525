"""schedule: a tick at certain times."""

from typing import Literal, Self

from pydantic import Field, model_validator

from buildflow.primitives.base import Primitive, Role, Spec
from buildflow.primitives.schedule.times import Cron
from buildflow.providers.names import CLOUD_SCHEDULER_JOB
from buildflow.spec.units import Duration
from buildflow.spec.values import Cron as CronText
from buildflow.spec.values import TimeZone, refusal


class ScheduleSpec(Spec):
    """Ticks, by an interval or by the clock. One process of the stack lets them happen."""

    type: Literal["schedule"]
    every: Duration | None = Field(default=None, ge=1, description="The time between ticks.", examples=["5m"])
    cron: CronText | None = Field(
        default=None,
        description="Minute, hour, day, month and weekday, as cron writes them.",
        examples=["0 6 * * mon-fri"],
    )
    time_zone: TimeZone = Field(default="UTC", description="The clock that `cron` means.", examples=["Europe/Berlin"])
    missed: Literal["skip", "last", "all"] = Field(
        default="last",
        description="What becomes of ticks that came while nothing ran: none of them, the last one, or all. "
        "One that is at most 5 s late was not missed.",
    )
    lease: Duration = Field(
        default=30.0, ge=1, description="How long a worker that died keeps its tick before another gets it."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.every is None and self.cron is None:
            raise refusal("BF202", "`every` or `cron` is missing", 'such as `every: 5m` or `cron: "0 6 * * mon-fri"`')
        if self.every is not None and self.cron is not None:
            raise refusal("BF204", "it has both `every` and `cron`", "keep one of them", "cron")
        if self.cron is not None and not Cron(self.cron).can_happen():
            raise refusal("BF204", "no month of `cron` has that day", "name another day, or `*`", "cron")
        return self


PRIMITIVE = Primitive(
    type="schedule",
    summary="A tick at certain times: every so often, or by cron.",
    spec=ScheduleSpec,
    roles=frozenset({Role.SOURCE}),
    element="buildflow.types.Tick",
    names={"gcp": CLOUD_SCHEDULER_JOB},
)
