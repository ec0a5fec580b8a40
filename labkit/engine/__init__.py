"""What the three papers are about: networks, training, pruning, rewinding, instability.

Read this after `labkit/plain.py`.
"""

from labkit.base.machine import keep_memory

keep_memory()
