"""The one place that imports torchaudio, made to work beside a CPU-only torch.

Published builds of torchaudio carry a compiled part that is linked against CUDA; beside a CPU
build of torch it does not load and takes the whole package down. The transforms used here are
plain torch. So, when the first import fails, a stand-in takes the place of the package's
``_extension`` module, which does nothing but load that part, and the import is made again.

torch is held to one thread: parallelism comes from processes, and two levels of it fight.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TypeVar

import torch

_Function = TypeVar("_Function", bound=Callable[..., object])

torch.set_num_threads(1)


def _import_torchaudio() -> ModuleType:
    try:
        return import_module("torchaudio")
    except (OSError, ImportError):
        # Half of the package is imported by now and would be found again as it is.
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _stand_in()
        return import_module("torchaudio")


def _stand_in() -> ModuleType:
    module = ModuleType("torchaudio._extension")
    module.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=_pass_through,
    )
    return module


def _pass_through(function: _Function) -> _Function:
    return function


torchaudio = _import_torchaudio()
transforms = import_module("torchaudio.transforms")
functional = import_module("torchaudio.functional")
#: Triangular mel filters as Kaldi makes them.
mel_banks = import_module("torchaudio.compliance.kaldi").get_mel_banks
