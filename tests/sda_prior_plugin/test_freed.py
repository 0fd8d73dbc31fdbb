"""Memory that was freed goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

HELD_BY_ONE_IN_A_HUNDRED = """
from pathlib import Path

import numpy as np

from sda_prior_plugin.freed import give_back_freed


def resident():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


arrays = [np.ones(1000) for _ in range(8000)]
arrays = arrays[99::100]
before = resident()
give_back_freed()
print(before - resident())
"""


FAULTS_OF_STEPS = """
import resource
import sys

import numpy as np

from sda_prior_plugin.freed import keep_freed

if sys.argv[1] == "kept":
    keep_freed()
for step in range(8):
    if step == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(1_750_000) for _ in range(3)]
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left to themselves")
def test_what_a_step_has_freed_the_next_one_has_without_asking_the_system() -> None:
    """Each takes and frees 42 MB, which by itself the allocator gives back."""
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS_OF_STEPS, how], capture_output=True, check=True).stdout)
        for how in ("given back", "kept")
    }
    assert faults["kept"] < faults["given back"] / 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left to themselves")
def test_what_lies_free_between_what_is_in_use_goes_back_to_the_system() -> None:
    """Of 61 MiB in 8000 arrays all but one in a hundred are freed."""
    told = subprocess.run([sys.executable, "-c", HELD_BY_ONE_IN_A_HUNDRED], capture_output=True, text=True, check=True)
    assert float(told.stdout) > 40
