"""The worker processes: they take nudges, do the work and write down the result."""

import os

# Parallelism comes from processes. OpenBLAS and OpenMP start a thread for each core unless these
# are set before the first import of numpy, and such threads of two workers slow each other down.
# This package is imported before any library, by `services` too, and child processes inherit it;
# a value that the operator has set is kept.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
