"""Prints what this installation is and what it found: devices, instruction sets, caches, threads, vendor libraries,
versions, environment.

Exit code: 0.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform

from ..sweep import machine

HELP = "print devices, instruction sets, caches, versions, environment"
LIBRARIES = ("numpy", "scipy-openblas32", "ml_dtypes", "torch", "onnxruntime", "mlx", "rich")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")


def collect() -> dict:
    """Everything that `metallic info` prints, as plain data."""
    import metallic
    from metallic import _build

    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "metallic": metallic.__version__,
        "commit": _build.COMMIT,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": machine.cpu_brand(),
        "cpus": machine.cpus(),
        "caches": machine.caches(),
        "devices": metallic.devices(),
        "libraries": versions,
        "environment": machine.environment(),
    }


def _show(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_show(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(str(v) for v in value)
    return str(value)


def run(args: argparse.Namespace) -> int:
    found = collect()
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"metallic  {found['metallic']} ({found['commit']})")
    print(f"python    {found['python']}")
    print(f"system    {found['system']}")
    caches = ", ".join(f"{name} {size >> 10} KiB" for name, size in found["caches"].items())
    print(f"cpu       {found['cpu']}, {found['cpus']} CPUs, {caches or 'caches unknown'}")
    for device in found["devices"]:
        state = "available" if device["available"] else f"not available: {device.get('reason')}"
        print(f"device    {device['name']} ({device['kind']}): {state}")
        for key, value in device.items():
            if key not in ("name", "kind", "available", "reason") and value not in (None, "", [], {}):
                print(f"            {key}: {_show(value)}")
    for name, version in found["libraries"].items():
        print(f"library   {name} {version or 'not installed'}")
    for name, value in found["environment"].items():
        print(f"env       {name}={value}")
    return 0
