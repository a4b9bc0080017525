"""What the delivery suite measures, printed when it has run."""

import pytest

from tests.delivery import measured


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if measured.LINES:
        terminalreporter.section("delivery: measured")
        for line in measured.LINES:
            terminalreporter.write_line(line)
