"""What the generated blocks of the documentation hold: one function per block, which reads the code."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tools import docs_api, docs_reliability, docs_samples
from tools.docs_markdown import first_sentence, table
from tools.docs_structs import fields

ROOT = Path(__file__).parents[1]
ROOMS = ("runtime/rmatk_runtime", "export/rmatk_export", "rmatk")


def modules() -> str:
    """Every module of the three packages with the first sentence of its docstring."""
    parts = []
    for room in ROOMS:
        base = (ROOT / room).parent
        parts.append(f"## {Path(room).name}")
        rows = []
        for path in sorted((ROOT / room).rglob("*.py")):
            documentation = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            name = ".".join(path.relative_to(base).with_suffix("").parts[1:])
            package = path.name == "__init__.py"
            name = f"**`{name.removesuffix('.__init__')}`**" if package else f"`{name}`"
            if name != "**`__init__`**" and documentation:
                rows.append((name, first_sentence(documentation)))
        parts.append(table(("module", "purpose"), rows))
    return "\n\n".join(parts)


def command_line() -> str:
    """Every command with its arguments, options and defaults."""
    import typer

    from rmatk.cli import app, commands  # noqa: F401 - registers the commands on app

    group: Any = typer.main.get_command(app)
    parts = []
    for name in group.list_commands(None):
        parts.extend(_command(f"rmatk {name}", group.commands[name], 2))
    return "\n\n".join(parts)


def _command(name: str, command: Any, level: int) -> list[str]:
    parts = [f"{'#' * level} {name}", (command.help or "").strip()]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([name, *(_argument(argument) for argument in arguments), "[OPTIONS]"])
    if subcommands := getattr(command, "commands", {}):
        usage += " COMMAND"
    parts.append(f"```text\n{usage}\n```")
    rows = [
        *((f"`{_argument(p)}`", p.help or "", _default(p)) for p in arguments),
        *(
            (_option(p), p.help or "", _default(p))
            for p in command.params
            if p not in arguments and not p.hidden
        ),
    ]
    if rows:
        parts.append(table(("option", "meaning", "default"), rows))
    for sub, inner in subcommands.items():
        parts.extend(_command(f"{name} {sub}", inner, level + 1))
    return parts


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return f"{name}..." if parameter.nargs == -1 else str(name)


def _option(parameter: Any) -> str:
    names = sorted(parameter.opts, key=len) + list(parameter.secondary_opts)
    value = "" if parameter.is_flag or not parameter.metavar else f" {parameter.metavar}"
    return f"`{', '.join(names)}{value}`"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default is None or parameter.default is False or parameter.default in ((), []):
        return ""
    return f"`{parameter.default}`"


def training_defaults() -> str:
    """The settings of training that METHOD.md discusses, with their defaults."""
    from rmatk.config import LOSS_WEIGHTS, TrainConfig, default_blocks, photos_per_step
    from rmatk.data.shots import MOST_VALIDATION_SHOTS

    config = TrainConfig()
    rows = (
        ("shots per class", config.shots),
        ("validation photos per class, at most", MOST_VALIDATION_SHOTS),
        ("optimiser", f"{config.optimizer}, weight decay {config.weight_decay:g}"),
        ("peak learning rate", f"{config.lr:g}, cosine to zero, no warm-up"),
        ("epochs", config.epochs),
        ("photos per step", f"{photos_per_step(config, 1)}, or an eighth of the classes if more"),
        ("bottleneck r", config.rank),
        ("scale s", f"{config.scale:g}"),
        ("adapted blocks", f"two thirds of a tower, {default_blocks(12)} of 12"),
        (
            "weights l1, l2, l3, l4",
            ", ".join(f"{w:g}" for w in (getattr(config, name) for name in LOSS_WEIGHTS)),
        ),
        ("prompt", f"`{config.templates[0]}`"),
        ("seed", config.seed),
    )
    return table(("setting", "default"), rows)


def calibration() -> str:
    """The limits below which temperature and threshold are not fitted."""
    from rmatk import calibration as module
    from rmatk.training.cache import MEMORY_BUDGET

    rows = (
        ("share of right answers that the reject threshold keeps", f"{module.KEPT_SHARE:.0%}"),
        ("fewest validation photos for a fit", module.LEAST_SHOTS),
        ("fewest validation photos of each class", module.LEAST_PER_CLASS),
        ("fewest right answers for a threshold", module.LEAST_RIGHT),
        ("kept activations held in memory, at most", f"{MEMORY_BUDGET >> 30} GiB, then a memory-mapped file"),
    )
    return table(("limit", "value"), rows)


def tolerances() -> str:
    """The tolerances of every precision."""
    from rmatk_runtime.parity.compare import TOLERANCES

    return table(
        ("precision", "lowest cosine", "largest difference of an embedding entry", "lowest top-1 agreement"),
        (
            (name, f"{t.min_cosine:g}", f"{t.max_embedding_difference:g}", f"{t.min_agreement:.0%}")
            for name, t in TOLERANCES.items()
        ),
    )


def live_limits() -> str:
    """Limits of the running loop."""
    from rmatk_runtime.inference import summary
    from rmatk_runtime.labels import watch as label_watch
    from rmatk_runtime.sinks import outbox
    from rmatk_runtime.sources import live

    queue = inspect.signature(outbox.Outbox).parameters["limit"].default
    rows = (
        ("records that wait for a webhook or MQTT broker, at most", queue),
        ("seconds between two tries to deliver, at most", f"{outbox.LONGEST_WAIT:g}"),
        ("seconds until changed labels are noticed, at most", f"{label_watch.PERIOD:g}"),
        ("frames whose times are kept for the percentiles", f"{summary.KEPT:,}"),
        ("seconds before the first reconnection, doubled with each try", f"{live.FIRST_WAIT:g}"),
        ("seconds between two reconnections, at most", f"{live.LONGEST_WAIT:g}"),
    )
    return table(("limit", "value"), rows)


def web_limits() -> str:
    """Limits of the web page."""
    from rmatk_runtime.web import limits, meter, protocol, snapshots
    from rmatk_runtime.web.api import WAIT
    from rmatk_runtime.web.live import LONGEST_SIDE
    from rmatk_runtime.web.server import SHORTEST_TOKEN

    rows = (
        ("characters of a token, at least", SHORTEST_TOKEN),
        ("size of a request body, at most", f"{limits.MOST_BYTES >> 20} MiB"),
        ("all bodies in memory together, at most", f"{limits.BODIES >> 20} MiB"),
        ("time in which a body must arrive", f"{limits.BODY_SECONDS:g} s"),
        ("time without a request after which a connection is closed", f"{protocol.HEADER_SECONDS:g} s"),
        ("connections at once, at most", protocol.MOST_CONNECTIONS),
        ("pixels of a picture that is sent, at most", f"{limits.MOST_PIXELS / 1e6:g} million"),
        ("pictures that wait for their turn, at most", limits.QUEUE),
        ("wrong tokens per address and minute, at most", limits.ATTEMPTS),
        ("longest side of a picture on the page", f"{LONGEST_SIDE} pixels"),
        ("wait of `/v1/frame` for a newer result", f"{WAIT:g} s"),
        ("time without a result after which `/healthz` answers 503", f"{meter.STALLED:g} s"),
        ("labels with a counter of their own in `/metrics`", meter.MOST_LABELS),
        ("free disk space that snapshots leave", f"{snapshots.LEAST_FREE >> 20} MiB"),
    )
    return table(("limit", "value"), rows)


def errors() -> str:
    """Every named error with its exit code."""
    from rmatk_runtime import errors as module

    classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, module.RmatkError)]
    rows = ((f"`{c.__name__}`", c.exit_code, first_sentence(c.__doc__ or "")) for c in classes)
    return table(("error", "exit code", "meaning"), rows)


def extras() -> str:
    """The optional installs and the packages that each adds."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = [("base", ", ".join(project["dependencies"]))]
    rows += [(f"`{name}`", ", ".join(found)) for name, found in project["optional-dependencies"].items()]
    return table(("extra", "packages"), ((name, f"`{found}`") for name, found in rows))


def manifest() -> str:
    """The fields of ``manifest.json``."""
    from rmatk_runtime.bundle import manifest as module

    return fields(module.Manifest)


def run_record() -> str:
    """The fields of ``run.json``."""
    from rmatk.run import RunRecord

    return fields(RunRecord)


def sidecar() -> str:
    """The fields of an engine's sidecar."""
    from rmatk_runtime.tensorrt.store import Sidecar

    return fields(Sidecar)


def minor_versions() -> str:
    """The fields that each minor version of a format added."""
    from rmatk.run import _RECORD
    from rmatk_runtime.bundle.manifest import _MANIFEST
    from rmatk_runtime.tensorrt.store import _SIDECAR

    formats: dict[str, Mapping[str, int]] = {
        "run.json": _RECORD.added,
        "manifest.json": _MANIFEST.added,
        "sidecar": _SIDECAR.added,
    }
    rows = [
        (f"`{file}`", f"1.{minor}", ", ".join(f"`{path}`" for path in added if added[path] == minor))
        for file, added in formats.items()
        for minor in sorted(set(added.values()))
    ]
    return table(("file", "version", "fields added"), rows)


def decisions() -> str:
    """The index of the decision records."""
    rows = []
    for path in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md")):
        title = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        number, _, words = title.partition(". ")
        rows.append((number, f"[{words}]({path.name})"))
    return table(("number", "decision"), rows)


def sample_parity() -> str:
    """A bundle compared with its run on test photos."""
    command = "rmatk parity bundle trashnet/test --against run"
    return docs_samples.parity("parity.json", command, "photos in trashnet/test")


def sample_bisection() -> str:
    """A bundle in which two signs of a LayerNorm were changed."""
    from rmatk.cli.console import TRAINED_ON

    return docs_samples.parity("bisection.json", "rmatk parity wrong --bisect", TRAINED_ON, nodes=4)


BLOCKS: dict[str, Callable[[], str]] = {
    "api classes": partial(docs_api.page, "classes"),
    "api functions": partial(docs_api.page, "functions"),
    "api overview": docs_api.overview,
    "api settings": partial(docs_api.page, "settings"),
    "calibration limits": calibration,
    "command line": command_line,
    "decisions": decisions,
    "errors": errors,
    "extras": extras,
    "live limits": live_limits,
    "manifest fields": manifest,
    "minor versions": minor_versions,
    "modules": modules,
    "run fields": run_record,
    "sample bisection": sample_bisection,
    "sample parity": sample_parity,
    "sidecar fields": sidecar,
    "tolerances": tolerances,
    "training defaults": training_defaults,
    "web limits": web_limits,
    **docs_reliability.BLOCKS,
}
