"""What a run was measured on."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata as metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = (
    *("numpy", "numba", "llvmlite", "scipy", "scikit-learn", "torch", "jax", "jaxlib"),
    *("cupy-cuda12x", "cupy-cuda13x", "pytest-benchmark", "matplotlib"),
)
THREADS = re.compile(r"(OMP|OPENBLAS|MKL|NUMBA|GRADNET(?!_DATA)|GOMP|KMP|XLA|TORCH)_\w+")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def describe() -> dict[str, Any]:
    """Processor, caches, memory, system, versions, BLAS, environment, and the date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu(),
        "cores": cores(),
        "caches": caches(),
        "memory_bytes": memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {"gradnet": gradnet(), **packages()},
        "blas": blas(),
        "commit": commit(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
        "environment": {
            name: value for name, value in sorted(os.environ.items()) if THREADS.fullmatch(name)
        },
    }


def cpu() -> str:
    """The processor's model."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", path.read_text(), re.MULTILINE)
        if found:
            return " ".join(found[1].split())
    return platform.processor() or platform.machine()


def cores() -> int:
    """The processors open to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def caches() -> list[str]:
    """The caches of a core: L1 Data 48K."""
    found = []
    for folder in sorted(_CACHES.glob("index*")) if _CACHES.is_dir() else ():
        with contextlib.suppress(OSError):  # a virtual machine may not tell all of them
            level, kind, size = (
                (folder / name).read_text().strip() for name in ("level", "type", "size")
            )
            found.append(f"L{level} {kind} {size}")
    return found


def memory() -> int:
    """Bytes of main memory, or 0 where the system does not say."""
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def packages() -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def gradnet() -> str:
    """The version of gradnet that runs."""
    import gradnet

    return gradnet.__version__


def blas() -> str:
    """The BLAS that NumPy was built with."""
    import numpy as np

    told: Any = np.show_config(mode="dicts")
    used = told.get("Build Dependencies", {}).get("blas", {})
    return " ".join(str(used.get(key, "")) for key in ("name", "version")).strip()


def commit() -> str:
    """The commit of the checkout, with a + where files differ from it, or nothing."""
    root = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def sentence(machine: dict[str, Any]) -> str:
    """The description in one line."""
    shown = ("numpy", "numba", "torch", "jax", "scikit-learn")
    versions = [f"{n} {machine['packages'][n]}" for n in shown if n in machine["packages"]]
    gigabytes = machine["memory_bytes"] / 2**30
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {gigabytes:.0f} GiB; {machine['system']}; "
        f"Python {machine['python']}, {', '.join(versions)}; BLAS {machine['blas']}; "
        f"{machine['date'][:10]}"
    )


if __name__ == "__main__":
    print(sentence(describe()), file=sys.stdout)
