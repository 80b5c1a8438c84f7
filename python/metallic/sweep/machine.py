"""Where and with what a row was measured."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def _sysctl(key: str) -> str:
    return subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=False).stdout.strip()


def cpu_brand() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    if sys.platform == "darwin":
        brand = _sysctl("machdep.cpu.brand_string")
        if brand:
            return brand
    return platform.processor() or platform.machine()


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def caches() -> dict[str, int]:
    """Bytes of one cache of each level, {"L1d": 32768, "L2": ...}, as the system tells; what is unknown is absent."""
    found: dict[str, int] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(size[-1:], 1)
            found["L1d" if level == "1" else f"L{level}"] = int(size.rstrip("KMG")) * scale
    if not found and sys.platform == "darwin":
        for name, key in (("L1d", "hw.l1dcachesize"), ("L2", "hw.l2cachesize"), ("L3", "hw.l3cachesize")):
            value = _sysctl(key)
            if value.isdigit() and int(value):
                found[name] = int(value)
    return found


def last_level_cache() -> int:
    """Bytes of the largest cache known; 32 MiB when nothing is known."""
    return max(caches().values(), default=32 << 20)


def environment() -> dict[str, str]:
    """The variables that change what is measured, as they are set."""
    return {k: v for k, v in sorted(os.environ.items()) if k.startswith("METALLIC_") or k in THREAD_VARIABLES}


def busy_seconds(pid: int | None = None) -> float | None:
    """CPU time used so far by a process, or by the whole machine and its host (time stolen from us); None: unknown."""
    try:
        if pid is None:
            user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
            ticks = user + nice + system + irq + softirq + steal
        else:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
    except (OSError, ValueError):
        return None
    return ticks / os.sysconf("SC_CLK_TCK")


def describe(device: str | None) -> dict:
    """What every row of a sweep states. Imports this library."""
    import metallic
    from metallic import _build

    return {
        "device": device or metallic.default_context().device,
        "cpu": cpu_brand(),
        "cpus": cpus(),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "python": platform.python_version(),
        "version": metallic.__version__,
        "commit": _build.COMMIT,
        "environment": " ".join(f"{k}={v}" for k, v in environment().items()),
    }
