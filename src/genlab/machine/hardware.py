"""Description of the machine that a result was measured on."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from genlab.machine.devices import computes_in_bfloat16
from genlab.machine.environment import environment


def machine() -> dict[str, Any]:
    """Describe processor, cores, threads, GPUs, operating system, commit and versions."""
    about = environment("cpu", 1, "")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bfloat16": computes_in_bfloat16("cpu"),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "system": about["system"],
        "commit": about["commit"],
        "versions": about["versions"],
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
