"""Whether a stack's secrets are where it looks them up, as far as that can be told without a network.

A diagnostic names a secret and the places that were looked into; what stands there goes nowhere.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from buildflow.compiler.secrets import secrets_named
from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic, Severity, Span
from buildflow.errors import BuildflowError
from buildflow.ir.runtime import SecretsPlan
from buildflow.providers.secret_mask import Mask
from buildflow.providers.secrets import SecretResolver, stores_here
from buildflow.spec.document import at


def check_stores(
    declaration: Declaration, plan: SecretsPlan, root: Path, environment: Mapping[str, str], *, of_a_test: bool
) -> list[Diagnostic]:
    """An error for a file of secrets that is not there, a warning for each secret that is nowhere.

    `of_a_test`: the stack is a test's own, which may replace whatever needs the file. A file outside the project is
    the machine's that it runs on, which need not be this one. Both make the error a warning.
    """
    if declaration.stack is None:
        return []  # where it looks is not known
    file = root / plan.file if plan.file else None
    if file and plan.file and (reason := _why_unreadable(file, plan.file)):
        node = at(declaration.root, ("stacks", declaration.stack_name, "secrets", "file"))
        span = node.span if node is not None else declaration.root.span
        elsewhere = of_a_test or Path(plan.file).is_absolute()
        severity = Severity.WARNING if elsewhere else Severity.ERROR
        return [Diagnostic("BF105", reason, span, _FILE, severity=severity)]
    looks_further = plan.store or (file and _is_a_pipe(file))
    return [] if looks_further else list(_unset(declaration, plan, root, environment))


_FILE = "it holds lines such as NAME=value, or is a folder with a file a secret; or take `file` out"


def _why_unreadable(path: Path, shown: str) -> str:
    """In words; empty for what can be read."""
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        elif not _is_a_pipe(path):
            path.read_text("utf-8-sig")
    except FileNotFoundError:
        return f"there is no {shown}, where this stack's secrets are looked up"
    except UnicodeDecodeError:
        return f"{shown} cannot be read: it is no UTF-8 text"
    except OSError as exc:
        return f"{shown} cannot be read: {(exc.strerror or 'it failed').lower()}"
    except ValueError:  # characters that no path has
        return "no file has this name"
    return ""


def _is_a_pipe(path: Path) -> bool:
    """Whether what is read is gone then, or has no end: only a process may."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _unset(
    declaration: Declaration, plan: SecretsPlan, root: Path, environment: Mapping[str, str]
) -> Iterator[Diagnostic]:
    """Each once, where the file names it first."""
    first: dict[str, Span] = {}
    for name, place in secrets_named(declaration):
        first.setdefault(name, place)
    secrets = SecretResolver(stores_here(plan, root, environment), Mask())
    for name, place in first.items():
        try:
            secrets.get(name)
        except BuildflowError as exc:
            yield Diagnostic("BF126", str(exc), place, exc.hint, severity=Severity.WARNING)
