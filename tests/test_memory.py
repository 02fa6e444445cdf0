"""What the process's memory does, seen from the kernel."""

import subprocess
import sys

import pytest

from keras_inception import memory

# the file alone: importing the package would import Keras first
RESIDENT_AFTER_FREEING = """
import runpy, sys
import numpy as np

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

if sys.argv[1] == "keep":
    assert runpy.run_path(sys.argv[2])["keep_freed_memory"]()
before = resident_mb()
block = np.ones(2**27, "uint8")
del block
print(resident_mb() - before)
"""


@pytest.mark.parametrize(("word", "kept"), [("keep", True), ("hand back", False)])
def test_freed_memory_can_be_kept(word, kept):
    if not memory.keep_freed_memory():
        pytest.skip("not Linux with the GNU C library")
    words = [sys.executable, "-c", RESIDENT_AFTER_FREEING, word, memory.__file__]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert (float(done.stdout) > 100) == kept  # of 128 MB


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not memory.keep_freed_memory()
