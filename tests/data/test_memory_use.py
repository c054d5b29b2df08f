"""A data set takes no more memory for being large: its images stay in files, and pages of those are the system's."""

from __future__ import annotations

import subprocess
import sys

import pytest

MIB = 2**20
WHOLE = 128 * MIB
# Memory of the process itself, which is none of a file's pages: after every block and every batch.
PASS_OVER_ALL = f"""
import torch
from rushkit.data import memory
from rushkit.data.cache import cached
from rushkit.data.memory import Split, hold_out_indices

COUNT = {WHOLE} // 3072

def own_memory():
    with open("/proc/self/status") as status:
        return 1024 * int(next(line for line in status if line.startswith("RssAnon:")).split()[1])

def look():
    seen.append(own_memory())

def build(notes):
    for block in torch.arange(COUNT).split(1024):
        yield block.to(torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32)
        look()

memory.MEMORY_BYTES = memory.BLOCK_BYTES = {4 * MIB}
torch.zeros(2**20, dtype=torch.uint8).sum()
seen = [own_memory()]
split = Split(cached("large", "source", (3, 32, 32), build).images, None, "large")
look()
for part in (split, *map(split.take, hold_out_indices(len(split), None, 1000, 0, "large"))):
    look()
    for batch in torch.randperm(len(part)).split(512):
        assert part.images[batch].shape[1:] == (3, 32, 32)
        look()
assert split.images[-1].unique().tolist() == [(COUNT - 1) % 256]
print(max(seen) - seen[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what memory is a process's own")
def test_building_a_cache_and_passing_over_it_takes_a_part_of_its_size():
    done = subprocess.run([sys.executable, "-c", PASS_OVER_ALL], check=True, capture_output=True, text=True)
    assert int(done.stdout) < WHOLE // 2


# More images in files, of which none stays in memory once it has been used.
IN_FILES = 3 * WHOLE
PASS_OVER_FILES = f"""
import os, sys
import torch
from PIL import Image
from rushkit import data
from rushkit.data import decoding

decoding.BLOCK_BYTES = {4 * MIB}
SIDE, top = 512, sys.argv[1]
COUNT = {IN_FILES} // (3 * SIDE**2)

def own_memory():
    with open("/proc/self/status") as status:
        return 1024 * int(next(line for line in status if line.startswith("RssAnon:")).split()[1])

os.makedirs(top + "/train/cat")
Image.linear_gradient("L").save(top + "/train/cat/0.png")
for number in range(1, COUNT):
    os.link(top + "/train/cat/0.png", top + f"/train/cat/{{number}}.png")
split = data.create("folder", root=top, image_size=SIDE).split("train", memory=0)
assert isinstance(split.images, decoding.OnDemand)
seen = []
for rows in torch.randperm(COUNT).split(8):
    assert split.images[rows].shape[1:] == (3, SIDE, SIDE)
    seen.append(own_memory())
split.digests()
print(max(*seen, own_memory()) - seen[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what memory is a process's own")
def test_passing_over_images_in_files_takes_a_part_of_their_size(tmp_path):
    command = [sys.executable, "-c", PASS_OVER_FILES, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) < IN_FILES // 2
