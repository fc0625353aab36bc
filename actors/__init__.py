"""The worker processes: consume nudges, do the work and store the results."""

import os

# Parallelism comes from processes. OpenBLAS and OpenMP start a thread for each core unless these
# are set before the first import of numpy, and the threads of two workers slow each other down.
# This package is imported before any library, by `services` too, and child processes inherit it;
# values set by the operator are kept.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
