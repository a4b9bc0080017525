"""What the delivery suite measures, printed when it has run. It stands here since xdist's controller, which prints,
reads no folder below."""

from collections.abc import Iterator

import pytest

from tests.delivery import measured

_LINES: list[str] = []
_NAME = "measured"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """A report carries what its test told, from whichever process it ran in."""
    report = yield
    report.user_properties += [(_NAME, line) for line in measured.LINES]
    measured.LINES.clear()
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, line in report.user_properties:
        if name == _NAME and line not in _LINES:
            _LINES.append(str(line))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _LINES:
        terminalreporter.section("delivery: measured")
        for line in _LINES:
            terminalreporter.write_line(line)
