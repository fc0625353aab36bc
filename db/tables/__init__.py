"""The tables, by domain.

All are imported together, since foreign keys refer to tables of other domains, and migrations are
compared with all of them.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)
