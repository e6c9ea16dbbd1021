"""On which kind of machine a job is computed, since the last digits of its results depend on it."""

import os
import platform
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llvmlite.binding import get_host_cpu_name

if TYPE_CHECKING:
    from eigenfeatures.export.batch.engine import Engine


def machine(engine: "Engine") -> dict[str, Any]:
    """Return the type of this processor, and with how many threads an engine computes by itself.

    The former has the microarchitecture, such as ``znver4``, by which libraries choose their instructions.
    The latter is torch's own number, or else that of the cores that this process may use; both where torch
    computes a part of what another engine gives.
    """
    found: dict[str, Any] = {"processor": f"{platform.machine()} {get_host_cpu_name()}"}
    torch = sys.modules.get("torch")
    if engine.name.startswith("torch") and torch is not None:
        return {**found, "threads": int(torch.get_num_threads())}
    found["threads"] = core_count()
    if engine.torch_on_cpu and torch is not None:
        found["torch_threads"] = int(torch.get_num_threads())
    return found


def change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return what of two machines differs, in words; None where nothing does that both tell."""
    differing = [name for name in now if name in before and before[name] != now[name]]
    if not differing:
        return None
    ours, theirs = (" and ".join(f"{name} = {found[name]}" for name in differing) for found in (before, now))
    return f"with {ours}, and now it is {theirs}"


def core_count() -> int:
    """Return how many cores this process may use; all, where its system doesn't tell, such as macOS."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
