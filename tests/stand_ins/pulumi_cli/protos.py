"""The SDK's own protobuf modules, without the rest of the SDK.

`import pulumi` takes a quarter of a second, which a command would add to every test; the messages alone need grpc.
"""

import importlib
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

OPTIONS = [("grpc.max_receive_message_length", 1024 * 1024 * 400)]


def proto(name: str) -> Any:
    """One module of `pulumi.runtime.proto`: "resource_pb2", "language_pb2_grpc"."""
    if "pulumi" not in sys.modules:
        where = importlib.machinery.PathFinder.find_spec("pulumi")
        if where is None or not where.submodule_search_locations:
            raise ModuleNotFoundError("No module named 'pulumi'")
        _bare_package("pulumi", where.submodule_search_locations[0])
        _bare_package("pulumi.runtime", f"{where.submodule_search_locations[0]}/runtime")
    return importlib.import_module(f"pulumi.runtime.proto.{name}")


def _bare_package(name: str, folder: str) -> None:
    package = ModuleType(name)
    package.__path__ = [folder]
    sys.modules[name] = package
