"""What every test stands on: no network, no telemetry, one thread a library. Set before anything heavy is imported."""

import os

from understudy.telemetry import turn_off_telemetry

turn_off_telemetry()
os.environ.update(
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
)
