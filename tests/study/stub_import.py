"""For ``--import``: the stub stages in the place of the real ones."""

import stub_stages
from tiny_runs import toy

from rushkit import registries
from rushkit.study import perform

registries.backbones.register("stub")(toy)
perform.STAGES.update(stub_stages.STUBS)
