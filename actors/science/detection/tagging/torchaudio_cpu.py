"""The only import of torchaudio, made to work beside a CPU-only torch.

Published builds of torchaudio contain a compiled part that is linked against CUDA; with a CPU build
of torch it fails to load, and so does the whole package. The transforms used here are plain torch.
So, if the first import fails, a stand-in replaces the package's ``_extension`` module, which only
loads that part, and the import is repeated.

torch is limited to one thread: parallelism comes from processes, and two levels of it compete.
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
        # Part of the package is imported by now; without this it would be reused as it is.
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
