"""A project as large as anybody writes by hand, made up: typed handlers, queues that end in tables, dead letters.

Its unit is an area, as a team would own one: a module with fifteen handlers. A hundred areas are the size that the
compiler's promise speaks of.
"""

from pathlib import Path

PACKAGE = "shop"
AREAS = 100
"""The areas of that size: a hundred modules, 1,000 routes, 500 consumers, 1,500 handlers and 500 sources. Each
consumer has a source of its own, as the compiler asks for; the areas' tables and the dead letters come on top."""
NOUNS = ("orders", "invoices", "customers", "articles", "carts", "payments", "parcels", "returns", "vouchers")

HEAD = """\
project: large
options: {max_request_size: 2MB}
variables: {currency: EUR}
stacks:
  local: {provider: local}
  staging:
    provider: local
    local: {dir: data/staging}
    primitives:
      failures: {name: failed_elements}
dependencies:
  settings: {factory: shop.common:Settings, with: {currency: "${var.currency}", region: "${env.REGION:-eu}"}}
  engine: {factory: shop.common:engine, scope: replica}
  session: {factory: shop.common:session, scope: request}
  user: {factory: shop.common:user, scope: request}
"""

COMMON = '''\
"""What all areas share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Settings:
    currency: str
    region: str = "eu"


class Engine:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings


class Session:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine


class User:
    name: str = ""


class Temporary(Exception):
    """Worth another attempt."""


def engine(settings: Settings) -> Engine:
    return Engine(settings)


@contextmanager
def session(engine: Engine) -> Iterator[Session]:
    yield Session(engine)


def user() -> User:
    return User()
'''

MODULE = '''\
"""The handlers of NAME."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from buildflow.types import Queue, Table
from shop.common import Session, Settings, User


@dataclass
class Line:
    article: str
    amount: int = 1
    price: float = 0.0


@dataclass
class Order:
    id: int
    customer: str
    lines: list[Line] = field(default_factory=list)
    note: str | None = None
    placed_at: datetime | None = None


@dataclass
class Row:
    id: int
    customer: str
    total: float
    state: str = "new"
    placed_at: datetime | None = None


def total(order: Order) -> float:
    return sum(line.price * line.amount for line in order.lines)


async def every(session: Session, user: User, page: int = 1, size: int = 20) -> list[Order]:
    """One page of them."""
    return []


async def create(order: Order, NAME_incoming: Queue, user: User) -> Order:
    await NAME_incoming.send(order)
    return order


async def one(id: int, session: Session) -> Order:
    return Order(id=id, customer="Ada")


def change(id: int, order: Order, session: Session, user: User) -> Order:
    order.id = id
    return order


def note(id: int, text: str, session: Session) -> Order:
    return Order(id=id, customer="Ada", note=text)


def remove(id: int, session: Session, user: User) -> None: ...


async def lines(id: int, session: Session) -> list[Line]:
    return []


def add_line(id: int, line: Line, session: Session) -> Line:
    return line


def line(id: int, number: int, session: Session) -> Line:
    return Line(article=str(number))


def newest(NAME_rows: Table, limit: int = 10) -> list[dict]:
    return list(NAME_rows.rows(limit=limit))


def price(order: Order, settings: Settings) -> Order:
    """What it costs in the currency of the settings."""
    return order


async def charge(order: Order, session: Session) -> Order:
    return order


def pack(orders: list[Order], settings: Settings) -> Iterator[Order]:
    yield from orders


async def ship(order: Order, session: Session) -> Order | None:
    return order


def archive(order: Order) -> Row:
    return Row(id=order.id, customer=order.customer, total=total(order), placed_at=order.placed_at)
'''

ROUTES = {
    "GET /PATH": "every",
    "POST /PATH": "create",
    "GET /PATH/newest": "newest",
    "GET /PATH/{id:int}": "one",
    "PUT /PATH/{id:int}": "change",
    "PATCH /PATH/{id:int}": "note",
    "DELETE /PATH/{id:int}": "remove",
    "GET /PATH/{id:int}/lines": "lines",
    "POST /PATH/{id:int}/lines": "add_line",
    "GET /PATH/{id:int}/lines/{number:int}": "line",
}
STEPS = {"incoming": "price", "priced": "charge", "paid": "pack", "packed": "ship", "shipped": "archive"}
"""Each step's queue, and the function of its consumer, which feeds the next step; the last one feeds a table."""


def write_project(folder: Path, areas: int = AREAS) -> Path:
    """A project of so many areas in `folder`; its buildflow.yaml."""
    names = area_names(areas)
    package = folder / PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "common.py").write_text(COMMON)
    for name in names:
        (package / f"{name}.py").write_text(MODULE.replace("NAME", name))
    file = folder / "buildflow.yaml"
    file.write_text(project(names))
    return file


def area_names(areas: int) -> list[str]:
    return [f"{NOUNS[number % len(NOUNS)]}_{number:04}" for number in range(areas)]


def project(names: list[str]) -> str:
    """The YAML of these areas."""
    services = sorted({name.partition("_")[0] for name in names})
    primitives = [line for name in names for line in area_primitives(name)]
    failures = "  failures: {type: table, columns: buildflow.types:DeadLetter}"
    sections = {
        "primitives": [*primitives, failures],
        "services": [f"  {noun}: {{prefix: /{noun}, auth: user}}" for noun in services],
        "routes": [line for name in names for line in area_routes(name)],
        "consumers": [line for name in names for line in area_consumers(name)],
    }
    return HEAD + "".join(f"{section}:\n" + "\n".join(lines) + "\n" for section, lines in sections.items())


def area_primitives(name: str) -> list[str]:
    module = f"{PACKAGE}.{name}"
    queues = [f"  {name}_{step}: {{type: queue, message: {module}:Order, lease: 1m}}" for step in STEPS]
    return [*queues, f"  {name}_rows:", "    type: table", f"    columns: {module}:Row"]


def area_routes(name: str) -> list[str]:
    """Half of them in the long form."""
    lines: list[str] = []
    service, _, path = name.partition("_")
    for number, (route, function) in enumerate(ROUTES.items()):
        key, handler = route.replace("PATH", path), f"{PACKAGE}.{name}:{function}"
        long = [f"  {key}:", f"    handler: {handler}", f"    service: {service}", f"    summary: {function} of {name}"]
        lines += long if number % 2 else [f"  {key}: {{handler: {handler}, service: {service}}}"]
    return lines


def area_consumers(name: str) -> list[str]:
    lines: list[str] = []
    sinks = [*(f"{name}_{step}" for step in list(STEPS)[1:]), f"{name}_rows"]
    for (step, function), sink in zip(STEPS.items(), sinks, strict=True):
        lines += [
            f"  {name}_{function}:",
            f"    source: {name}_{step}",
            f"    handler: {PACKAGE}.{name}:{function}",
            f"    sink: {sink}",
            "    dead_letter: failures",
            "    retry: {attempts: 3, max: 1m, only: [shop.common:Temporary]}",
        ]
    return lines
