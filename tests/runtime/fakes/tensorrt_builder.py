"""The building side of ``tensorrt`` without its library: every call recorded, no member that a version lacks.

``tensorrt_members.json`` holds the members of the real bindings' classes, read from the wheels of 8.6.1,
10.3.0, 10.13.3, 11.4.0 and from TensorRT for RTX 1.7.1. What is not listed there for a version raises
AttributeError on reading as on writing, as pybind11's classes do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MEMBERS: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("tensorrt_members.json").read_text())
VERSIONS = ("10.3.0", "10.13.3", "11.4.0")
RTX = "rtx 1.7.1"
PLAN = b"a plan"
_ENUMS = (
    "BuilderFlag",
    "ComputeCapability",
    "HardwareCompatibilityLevel",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
)


class Severity(Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class FakeTensorRt(SimpleNamespace):
    """The module; ``calls`` holds (class, member, arguments) in order.

    ``parser_errors``: what the parser refuses the graph with; ``build_error``: what the builder says
    instead of giving a plan; ``starts``: whether a builder can be made; ``cache_fits``: whether a timing
    cache is this GPU's; ``phases``: (name, parent, steps) told to a progress monitor.
    """

    def __init__(self, version: str) -> None:
        super().__init__()
        self.api = version
        self.__version__ = version.removeprefix("rtx ")
        self.calls: list[tuple[str, str, tuple[Any, ...]]] = []
        self.parser_errors: list[dict[str, Any]] = []
        self.build_error: str | None = None
        self.starts, self.cache_fits = True, True
        self.phases: list[tuple[str, str | None, int]] = [("Building", None, 2), ("Timing", "Building", 3)]
        for name in _ENUMS:
            if names := MEMBERS[name].get(version):
                setattr(self, name, _enum(name, names.split()))
        self.ILogger = _base("ILogger")
        self.IProgressMonitor = _base("IProgressMonitor")

    def Builder(self, logger: Any) -> FakeObject:
        assert logger.initialised
        if not self.starts:
            logger.log(Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return FakeObject(self, "Builder", logger=logger)

    def OnnxParser(self, network: FakeObject, logger: Any) -> FakeObject:
        assert network.kind == "INetworkDefinition" and logger.initialised
        return FakeObject(self, "OnnxParser")

    def named(self, member: str) -> list[tuple[Any, ...]]:
        """The arguments of every call or assignment of a member."""
        return [arguments for _, name, arguments in self.calls if name == member]


def _enum(name: str, members: list[str]) -> Any:
    """Members as this version has them; numbered anew, so that a number written down anywhere is wrong."""
    kind = Enum(name, {member: number + 3 for number, member in enumerate(members)})  # type: ignore[misc]
    kind.__int__ = lambda self: self.value  # type: ignore[attr-defined]
    return kind


def _base(name: str) -> type:
    def initialise(self: Any) -> None:
        self.initialised = True

    return type(name, (), {"initialised": False, "__init__": initialise})


class FakeObject:
    """An object of one of TensorRT's classes: members as in this version, calls recorded and answered."""

    def __init__(self, module: FakeTensorRt, kind: str, **held: Any) -> None:
        self.__dict__.update(module=module, kind=kind, held=held)

    def __getattr__(self, name: str) -> Any:
        self._check(name)
        if name in self.held:
            return self.held[name]
        answer: Callable[..., Any] = getattr(self, f"_{name}", lambda *arguments, **named: None)

        def call(*arguments: Any, **named: Any) -> Any:
            self.module.calls.append((self.kind, name, (*arguments, *named.values())))
            return answer(*arguments, **named)

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        self._check(name)
        self.module.calls.append((self.kind, name, (value,)))
        self.held[name] = value

    def _check(self, name: str) -> None:
        if name.startswith("_") or name not in MEMBERS[self.kind][self.module.api].split():
            raise AttributeError(f"{self.kind} of TensorRT {self.module.api} has no {name}")

    def _create_network(self, flags: int) -> FakeObject:
        return FakeObject(self.module, "INetworkDefinition", num_layers=284)

    def _create_builder_config(self) -> FakeObject:
        return FakeObject(self.module, "IBuilderConfig")

    def _create_optimization_profile(self) -> FakeObject:
        return FakeObject(self.module, "IOptimizationProfile")

    def _parse_from_file(self, path: str) -> bool:
        assert Path(path).is_file()
        errors = self.module.parser_errors
        self.held.update(num_errors=len(errors))
        return not errors

    def _get_error(self, number: int) -> FakeObject:
        values = self.module.parser_errors[number]
        fake = FakeObject(self.module, "ParserError")
        known = MEMBERS["ParserError"][self.module.api].split()
        fake.held.update({name: lambda value=value: value for name, value in values.items() if name in known})
        return fake

    def _create_timing_cache(self, data: bytes) -> FakeObject:
        return FakeObject(self.module, "ITimingCache", serialize=lambda: data + b"+measured")

    def _set_timing_cache(self, cache: FakeObject, ignore_mismatch: bool) -> bool:
        self.held["get_timing_cache"] = lambda: cache
        return self.module.cache_fits

    def _build_serialized_network(self, network: FakeObject, config: FakeObject) -> bytes | None:
        if not _tell(config.held["progress_monitor"], self.module.phases):
            self.held["logger"].log(Severity.ERROR, "Build canceled by user")
            return None
        if self.module.build_error is not None:
            self.held["logger"].log(Severity.ERROR, self.module.build_error)
            self.held["logger"].log(Severity.INFO, "this is not the reason")
            return None
        return PLAN


def _tell(monitor: Any, phases: list[tuple[str, str | None, int]]) -> bool:
    """Go through nested phases, the inner ones within the first step; False where the monitor says stop."""
    if not phases:
        return True
    (name, parent, steps), *inner = phases
    monitor.phase_start(name, parent, steps)
    going = _tell(monitor, inner) and all(monitor.step_complete(name, step) for step in range(steps))
    monitor.phase_finish(name)
    return going
