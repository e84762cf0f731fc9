"""The engine: vLLM behind ray.serve.llm, with adapters from the catalog's store.

What differs from the stock server: adapters come through serve/loader.py, verified; one lock per version keeps several
first requests for it from loading it twice; requests for the bare base go through a null adapter; queues are bounded.
Only this module and the ingress know ray.serve.llm.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import serve
from ray.llm._internal.common.callbacks.base import CallbackBase, CallbackConfig
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.serve.llm import LLMConfig, build_llm_deployment
from ray.serve.llm.deployment import LLMServer

from serve.loader import NULL, local_adapter, null_adapter
from understudy.base import Base
from understudy.cpu_engine import cpu_engine
from understudy.recipe import ModelConfig, ServeConfig
from understudy.store import Store
from understudy.telemetry import TELEMETRY_OFF

# The ranks that vLLM has kernels for; it pads every adapter to the one that is chosen.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


def adapter_id(served_name: str, persona: str, version: str) -> str:
    """The engine's name of an adapter version; Ray takes what stands before the first colon for the base."""
    return f"{served_name}:{persona}@{version}"


@dataclass(frozen=True)
class AdapterFolder:
    """What vLLM is told about an adapter."""

    model_id: str
    local_path: str


class VerifyingLoader:
    """Finds the folder of an adapter id; in place of ray.serve.llm's downloader."""

    def __init__(self, store_uri: str, base_identity: str, max_rank: int):
        """`max_rank`: what the engine was started with."""
        self._store = Store(store_uri)
        self._identity = base_identity
        self._max_rank = max_rank

    async def load_model_from_config(self, lora_model_id: str, llm_config: LLMConfig) -> AdapterFolder:
        """The verified folder of `base:persona@version`; AdapterError or StoreError in one line."""
        persona, _, version = lora_model_id.split(":", 1)[1].partition("@")
        path = await asyncio.to_thread(local_adapter, self._store, persona, version, self._identity, self._max_rank)
        return AdapterFolder(lora_model_id, str(path))


class NothingToDownload(CallbackBase):
    """The base is on this machine already; looking for it took one more process and import of vLLM (9 s of CPU)."""

    async def on_before_node_init(self) -> None:
        """Leave the node as it is."""
        self.ctx.run_init_node = False


class OneProcessEngine(VLLMEngine):
    """The stock engine; on CPU the model runs in the engine's process instead of one more.

    Ray asks for vLLM's multi-process executor there, which costs the start another import of vLLM (7 s on 2 cores) and
    every step a round trip between processes. We bind no OpenMP threads, the one thing that executor is needed for.
    """

    def _prepare_engine_config(self, callback_ctx: Any) -> Any:
        arguments, frontend, config = super()._prepare_engine_config(callback_ctx)
        if config.device_config.device_type == "cpu" and config.parallel_config.world_size == 1:
            config.parallel_config.distributed_executor_backend = "uni"
        return arguments, frontend, config


class PersonaServer(LLMServer):
    """One engine replica."""

    async def __init__(self, llm_config: LLMConfig, *, store_uri: str, base_path: str, base_identity: str):
        """Start the engine and give it the null adapter."""
        max_rank = llm_config.engine_kwargs["max_lora_rank"]

        def loader(**_limits: Any) -> VerifyingLoader:
            return VerifyingLoader(store_uri, base_identity, max_rank)

        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        await super().__init__(llm_config, engine_cls=OneProcessEngine, model_downloader=loader)  # type: ignore[arg-type]
        self._null = f"{llm_config.model_id}:{NULL}"
        folder = await asyncio.to_thread(null_adapter, Path(base_path), base_identity)
        await self.engine.resolve_lora(AdapterFolder(self._null, str(folder)))  # type: ignore[union-attr]

    async def _start_engine(self) -> None:
        # The stock method also creates an actor that gathers usage tags.
        await self.engine.start()  # type: ignore[union-attr]

    async def _run_request(self, request: Any, **kwargs: Any) -> Any:
        if request.model == self._llm_config.model_id:
            request.model = self._null
        return await super()._run_request(request, **kwargs)

    async def _maybe_resolve_lora_from_multiplex(self) -> None:
        async with self._locks[serve.get_multiplexed_model_id()]:
            await super()._maybe_resolve_lora_from_multiplex()


def engine_deployment(base: Base, store: Store, model: ModelConfig, limits: ServeConfig, rank: int, gpus: float) -> Any:
    """The engine as a Serve application.

    `rank`: the largest among the adapters to serve; the engine takes the next size that vLLM knows, at most
    `limits.max_lora_rank`. `gpus` per replica; 0 serves on CPU.
    """
    config = llm_config(base, model, limits, rank, gpus)
    bind = {"store_uri": store.uri, "base_path": str(base.path), "base_identity": base.identity}
    return build_llm_deployment(config, bind_kwargs=bind, deployment_cls=PersonaServer)


def llm_config(base: Base, model: ModelConfig, limits: ServeConfig, rank: int, gpus: float) -> LLMConfig:
    """ray.serve.llm's configuration of one engine."""
    engine: dict[str, Any] = {
        "enable_lora": True,
        # One slot more than asked for: the null adapter's.
        "max_loras": limits.max_loras + 1,
        "max_cpu_loras": limits.max_cpu_loras + 1,
        "max_lora_rank": _engine_rank(rank, limits.max_lora_rank),
        "dtype": model.dtype,
        "trust_remote_code": model.trust_remote_code,
        "disable_log_stats": True,
    }
    if limits.max_model_len:
        engine["max_model_len"] = limits.max_model_len
    environment = {**TELEMETRY_OFF, "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING")}
    for name in ("HF_HUB_OFFLINE", "UNDERSTUDY_CACHE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        if name in os.environ:
            environment[name] = os.environ[name]
    if not gpus:
        arguments, variables = cpu_engine(base.path, model.dtype)
        engine.update(arguments)
        environment.update(variables)
    engine.update(limits.engine)
    least, most = limits.replicas
    in_flight = 2 * int(engine.get("max_num_seqs", 128))
    return LLMConfig(
        model_loading_config={"model_id": base.served_name, "model_source": str(base.path)},
        engine_kwargs=engine,
        lora_config={"max_num_adapters_per_replica": limits.max_cpu_loras},
        placement_group_config={"bundles": [{"GPU": gpus, "CPU": 1} if gpus else {"CPU": 1}]},
        runtime_env={"env_vars": environment},
        callback_config=CallbackConfig(callback_class=NothingToDownload),
        log_engine_metrics=False,
        # Each token is sent as it comes; the default gathers them for 50 ms.
        experimental_configs={"stream_batching_interval_ms": 0},
        deployment_config={
            "max_ongoing_requests": in_flight,
            "max_queued_requests": in_flight,
            "autoscaling_config": {
                "min_replicas": least,
                "max_replicas": most,
                "target_ongoing_requests": max(1, in_flight // 4),
            },
            "ray_actor_options": {"num_cpus": 0},
            "graceful_shutdown_timeout_s": 5,
        },
    )


def _engine_rank(rank: int, most: int) -> int:
    return next((size for size in _RANKS if size >= min(rank, most)), _RANKS[-1])
