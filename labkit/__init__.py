"""The Lottery Ticket Lab: three papers on pruning, reproduced live.

from labkit import preset, run, tables, Store
experiment, store = preset("lottery"), Store()
for event in run(experiment, store): ...
tables(experiment, store).tickets

Every public name, and where it lives, stands in `__init__.pyi`, and is imported when it is first
asked for: torch takes seconds, `labkit --help` none.
"""

import lazy_loader

from labkit.base.machine import lab_version, limit_threads

__version__ = lab_version()
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

limit_threads()
