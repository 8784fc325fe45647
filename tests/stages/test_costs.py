"""What a run of a stage costs is what its processes used."""

import subprocess
import sys
import time

import numpy as np
import pytest

from lightcurver_ops.stages.costs import Meter

SIZE = 300 * 2**20
EATER = f"import time; held = b'x' * {SIZE}; [hash(str(n)) for n in range(10**6)]; time.sleep(%g)"


def test_seconds_of_this_process_count():
    meter = Meter()
    began, end = time.monotonic(), time.process_time() + 0.5
    while time.process_time() < end:
        pass
    costs = meter.stop()
    assert costs.seconds == pytest.approx(time.monotonic() - began, rel=0.2)
    assert 0.49 < costs.cpu_seconds < costs.seconds + 1.0


def test_memory_of_this_process_counts():
    meter = Meter()
    before = Meter().stop().peak_mib
    held = np.ones(SIZE, dtype=np.uint8)
    costs = meter.stop()
    assert costs.peak_mib - before == pytest.approx(SIZE / 2**20, rel=0.2)
    del held


@pytest.mark.parametrize("seconds", [0.0, 1.5])
def test_processes_that_were_started_count_also_those_that_ended_soon(seconds):
    meter = Meter()
    subprocess.run([sys.executable, "-c", EATER % seconds], check=True)
    costs = meter.stop()
    assert costs.peak_mib > SIZE / 2**20
    assert costs.cpu_seconds > 0.05
