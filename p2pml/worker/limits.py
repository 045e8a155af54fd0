"""What a worker may take of its machine, as its owner says; handed to the process in its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

LEAST_CPU = 5
"""Per cent; below that a worker would be dropped for want of progress."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Limits of one worker process.

    Args:
        threads: of one TensorFlow operation; with 1 an update is the same bits every time.
        cpu: per cent of what these threads could compute, `LEAST_CPU` to 100.
        memory: bytes that it may hold, TensorFlow's included; None for half of the machine's memory, but
            2 GiB where that is less.
        nice: by how much it gives way to everything else on the machine, 0 to 19.
        devices: that one training is spread over: GPUs where there are any, else parts of the processor.
        trainers: names of the installed trainers (`p2pml.worker.plugins`) that it may use.
    """

    threads: int = 1
    cpu: int = 100
    memory: int | None = None
    nice: int = 10
    devices: int = 1
    trainers: tuple[str, ...] = ()

    @property
    def memory_bytes(self) -> int:
        """`memory`, resolved for this machine."""
        half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        return self.memory or max(2 << 30, half)

    def environment(self) -> dict[str, str]:
        """What the process is started with."""
        # Libraries read their numbers of threads once, at import.
        names = (
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "TF_NUM_INTRAOP_THREADS",
            "TF_NUM_INTEROP_THREADS",
        )
        return {
            "P2PML_WORKER_THREADS": str(self.threads),
            "P2PML_WORKER_CPU": str(self.cpu),
            "P2PML_WORKER_MEMORY": str(self.memory_bytes),
            "P2PML_WORKER_NICE": str(self.nice),
            "P2PML_WORKER_DEVICES": str(self.devices),
            "P2PML_WORKER_TRAINERS": " ".join(self.trainers),
            **dict.fromkeys(names, str(self.threads)),
        }

    @classmethod
    def from_environment(cls, given: Mapping[str, str]) -> WorkerLimits:
        """The same, read in the process. Raises KeyError or ValueError where something is not there."""
        keys = ("THREADS", "CPU", "MEMORY", "NICE", "DEVICES")
        threads, cpu, memory, nice, devices = (int(given[f"P2PML_WORKER_{key}"]) for key in keys)
        return cls(threads, cpu, memory, nice, devices, tuple(given["P2PML_WORKER_TRAINERS"].split()))
