"""Nothing phones home: usage statistics of every library that we start are turned off, in child processes too."""

from __future__ import annotations

import os

TELEMETRY_OFF = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    # `ray start` reports even that reports are off (ray 2.60, usage_stats_head.py): let it, to a closed port.
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
}


def turn_off_telemetry() -> None:
    """Set the environment of this process and its children; wins over what was set before."""
    os.environ.update(TELEMETRY_OFF)
