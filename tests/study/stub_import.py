"""For ``--import``: the stub stages in the place of the real ones where STUB_LEDGER is set, and a small backbone."""

import os

import stub_stages
from tiny_runs import toy

from rushkit import registries
from rushkit.study import perform

registries.backbones.register("toy")(toy)
if "STUB_LEDGER" in os.environ:
    perform.STAGES.update(stub_stages.STUBS)
