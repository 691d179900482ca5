"""What a run ran on."""

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

HOME = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "torchvision", "timm", "open_clip_torch", "numpy", "scipy", "safetensors", "pydantic")


def describe_environment(device: torch.device) -> dict:
    """Versions, processor, device and commit, as a JSON object."""
    return {
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "commit": _commit(),
        "command": sys.argv,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        return f"{len(names)} × {names[0]}" if names else platform.processor()
    except OSError:
        return platform.processor()


def _commit() -> str | None:
    """The commit of this code, wherever it is called from; `-dirty` where files differ from it."""
    command = ["git", "-C", str(HOME), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None
