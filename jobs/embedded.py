"""vLLM inside the job: the model that answers runs on the cluster's own GPUs, or on its CPUs.

ray.data.llm says what an engine is made of, how many GPUs it takes and how it is started (`build_processor`); each
actor of jobs/answer_rows.py has one. Of its pipeline only that stage is used: the pipeline keeps the answers of a batch
back until the last is there, and does not say why a reply ended. Here every reply is in the journal as soon as it is
whole, and permits, corrections and the ledger are those of any other endpoint.

An engine starts with the first call that the journal cannot answer, so that a run which is done starts none.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.calls import Call
from jobs.endpoint_calls import EndpointError, Reply
from jobs.throttle import EndpointDownError
from understudy.answers import CUT
from understudy.base import Base, resolve, source_of
from understudy.cpu_engine import cpu_engine
from understudy.errors import BaseError
from understudy.recipe import Endpoint, ModelConfig
from understudy.record import canonical
from understudy.telemetry import TELEMETRY_OFF
from understudy.wording import shortened

if TYPE_CHECKING:
    from jobs.ledger import Tally

STAGE = "vLLMEngineStage"
AT_ONCE = 1024
"""Calls that wait in an engine at most, where the recipe does not say; vLLM takes from them what fits."""
PLACED_BY = ("num_cpus", "num_gpus", "resources", "accelerator_type", "ray_remote_args_fn")
OURS = ("chat_template_kwargs",)
"""Options that are not the engine's own arguments."""
WHAT_IS_SAID = (*OURS, "quantization", "hf_overrides", "override_generation_config", "chat_template")
"""Options that change the answers: they are part of a call's key; all others may change between runs."""
RENAMED = {"max_completion_tokens": "max_tokens"}
_IDS = itertools.count()


@dataclass(frozen=True)
class EngineSpec:
    """An engine as ray.data.llm makes it; fit to travel."""

    model: ModelConfig
    folder: str
    """What a relative path of the model is relative to."""
    identity: str
    stage: bytes
    """Pickled class of the stage and its arguments: unpickling imports torch and vLLM."""
    environment: tuple[tuple[str, str], ...]
    placed: Mapping[str, Any]
    """Arguments of `map_batches`: what the actor takes of the cluster."""
    engines: int


def model_of(endpoint: Endpoint) -> ModelConfig:
    """The base that an embedded endpoint names."""
    code = bool(endpoint.options.get("trust_remote_code", False))
    return ModelConfig(base=endpoint.model, source=endpoint.source, revision=endpoint.revision, trust_remote_code=code)


def base_of(endpoint: Endpoint, folder: Path) -> Base:
    """The base on this machine; BaseError in one line when it is not there."""
    try:
        return resolve(model_of(endpoint), folder)
    except BaseError as error:
        raise BaseError(str(error).replace("model.base", "endpoint model", 1)) from None


def identity_here(endpoint: Endpoint, folder: Path) -> str:
    """Identity of an embedded endpoint's base, fetching nothing: empty where it is not on this machine yet.

    Empty for a server too. BaseError in one line for a folder without a base.
    """
    if endpoint.engine == "http":
        return ""
    model = model_of(endpoint)
    source = source_of(model, folder)
    if source in ("builtin", "path"):
        return base_of(endpoint, folder).identity
    if source == "hf":
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(model.base, "config.json", revision=model.revision)
        return f"hf:{Path(found).parent.name}" if isinstance(found, str) else ""
    return ""


def said_by(endpoint: Endpoint, identity: str) -> dict[str, Any]:
    """What of an embedded endpoint is part of a call's key."""
    return {"base": identity, **{name: endpoint.options[name] for name in WHAT_IS_SAID if name in endpoint.options}}


def engine_spec(endpoint: Endpoint, base: Base, folder: Path) -> EngineSpec:
    """How the engines of `endpoint` are made and placed on the cluster that this process is connected to."""
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    have = ray.cluster_resources()
    gpus, cpus = int(have.get("GPU", 0)), int(have.get("CPU", 1))
    arguments: dict[str, Any] = {
        "disable_log_stats": True,
        # Free to write spaces, small models write nothing else.
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
    }
    environment = {**TELEMETRY_OFF, "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING")}
    if not gpus:
        for_cpu, variables = cpu_engine(base.path, str(endpoint.options.get("dtype", "auto")))
        arguments |= for_cpu
        # Otherwise vLLM runs the model in one more process, for threads bound to cores, and nothing is bound here.
        environment |= {**variables, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    arguments |= {name: value for name, value in endpoint.options.items() if name not in OURS}
    width = int(arguments.get("tensor_parallel_size", 1)) * int(arguments.get("pipeline_parallel_size", 1))
    config = vLLMEngineProcessorConfig(
        model_source=str(base.path),
        engine_kwargs=arguments,
        # On one core the engine must leave room for the tasks that feed it.
        placement_group_config=None if gpus else {"bundles": [{"CPU": 1 if cpus > 1 else 0.1}] * width},
        batch_size=AT_ONCE,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        log_engine_metrics=False,
    )
    with _quiet():
        stage = build_processor(config).get_stage_by_name(STAGE)
    return EngineSpec(
        model_of(endpoint),
        str(folder),
        base.identity,
        pickle.dumps((stage.fn, stage.fn_constructor_kwargs)),
        tuple(environment.items()),
        {name: stage.map_batches_kwargs[name] for name in PLACED_BY if stage.map_batches_kwargs.get(name) is not None},
        endpoint.engines or max(1, gpus // width),
    )


class Engine:
    """One vLLM engine in this process, asked like a server (jobs/endpoint_calls.py)."""

    def __init__(self, name: str, endpoint: Endpoint, spec: EngineSpec | None, tally: Tally):
        """`spec`: None where every call is known to be in the journal."""
        self.name, self.endpoint, self.tally, self._spec = name, endpoint, tally, spec
        most = endpoint.max_in_flight if "max_in_flight" in endpoint.model_fields_set else AT_ONCE
        self._places = asyncio.Semaphore(most)
        self._starting = asyncio.Lock()
        self._stage: Any = None
        self._answered = 0

    @property
    def room(self) -> float:
        """An embedded endpoint stands alone."""
        return 1.0

    @property
    def weight(self) -> float:
        """As `room`."""
        return self.endpoint.weight

    async def close(self) -> None:
        """End the engine's processes."""
        if self._stage is not None:
            await asyncio.to_thread(self._stage.llm.shutdown)

    async def ask(self, call: Call, messages: Sequence[Mapping[str, str]]) -> Reply:
        """The reply to `messages` under the call's schema and sampling.

        EndpointError when no engine starts, EndpointDownError when it died.
        """
        async with self._starting:
            if self._stage is None:
                await asyncio.to_thread(self._start)
        try:
            prompt, sampling = self._prompt(call, messages), self._sampling(call)
        except (ValueError, TypeError) as error:
            return Reply(problem=f"refused: {shortened(error)}", lasting=False)
        async with self._places:
            await self.tally.permit()
            try:
                return await self._generated(prompt, sampling)
            finally:
                self.tally.in_flight -= 1

    # -- the engine ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        assert self._spec is not None, "an engine was needed where the journal had every answer"
        os.environ.update(self._spec.environment)
        self.tally.said.append(f"endpoint {self.name}: vLLM starts with {self.endpoint.model}")
        try:
            self._build(self._spec)
        except Exception as error:
            raise EndpointError(
                f"endpoints.{self.name}: vLLM does not start with {self.endpoint.model}: {shortened(error)}; what it "
                "said before is in Ray's logs (worker-*.err in /tmp/ray/session_latest/logs)"
            ) from error

    def _build(self, spec: EngineSpec) -> None:
        from jobs.base_model import load_tokenizer
        from understudy.rendering import Renderer

        base = resolve(spec.model, Path(spec.folder))
        if base.identity != spec.identity:
            raise ValueError(f"{base.path} on this machine is another model than on the driver's")
        made, arguments = pickle.loads(spec.stage)  # noqa: S301 - the driver's own
        # The stage is built with what it wants to know about batches, and only its engine is used.
        self._stage = made(data_column="row", expected_input_keys=[], **{**arguments, "model": str(base.path)})
        config = self._stage.llm.engine.model_config
        self._defaults: dict[str, Any] = dict(config.get_diff_sampling_param())
        for name in ("max_new_tokens", "max_tokens"):  # a limit of the model's authors would cut replies unsaid
            self._defaults.pop(name, None)
        self._tokenizer = load_tokenizer(base, spec.model)
        self._renderers: dict[bytes, Renderer] = {}

    def _prompt(self, call: Call, messages: Sequence[Mapping[str, str]]) -> list[int]:
        from understudy.rendering import Renderer

        wanted = call.sampling.get("chat_template_kwargs", self.endpoint.options.get("chat_template_kwargs")) or {}
        name = canonical(wanted)
        if name not in self._renderers:
            self._renderers[name] = Renderer(self._tokenizer, dict(wanted))
        return self._renderers[name].prompt_ids([dict(message) for message in messages])

    def _sampling(self, call: Call) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        wanted = {RENAMED.get(name, name): value for name, value in call.sampling.items() if name not in OURS}
        if call.draw and isinstance(wanted.get("seed"), int):
            wanted["seed"] += call.draw
        if call.schema is not None:
            wanted["structured_outputs"] = StructuredOutputsParams(json=dict(call.schema))
        return SamplingParams(**{"max_tokens": None, **self._defaults, **wanted})

    async def _generated(self, prompt: list[int], sampling: Any) -> Reply:
        from vllm.inputs.llm import TokensPrompt
        from vllm.v1.engine.exceptions import EngineDeadError

        last = None
        try:
            stream = self._stage.llm.engine.generate(
                request_id=f"call-{next(_IDS)}", prompt=TokensPrompt(prompt_token_ids=prompt), sampling_params=sampling
            )
            async for output in stream:
                last = output
        except EngineDeadError as error:
            self._died(error)
        except ValueError as error:  # too long a prompt, a schema that no grammar can say
            return Reply(problem=f"refused: {shortened(error)}", lasting=False)
        if last is None or not last.finished:
            return Reply(problem="the engine gave no answer", lasting=False)
        self._answered += 1
        said = last.outputs[0]
        tokens_in, tokens_out = len(last.prompt_token_ids or prompt), len(said.token_ids)
        self.tally.totals["tokens_in"] += tokens_in
        self.tally.totals["tokens_out"] += tokens_out
        problem = ""
        if said.finish_reason == "length":
            problem = CUT
        elif not said.text.strip():
            problem = "the reply is empty"
        return Reply(said.text, problem, True, tokens_in, tokens_out, problem == CUT)

    def _died(self, error: Exception) -> None:
        """A new engine is worth a try where this one got somewhere: Ray starts an actor that died anew."""
        if self._answered:
            os._exit(1)
        raise EndpointDownError(
            f"endpoints.{self.name}: its engine died before it answered anything ({shortened(error)}); what it said is "
            "in Ray's logs (worker-*.err in /tmp/ray/session_latest/logs)"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Ray and vLLM tell everyone (Ray runs already, there is no Triton for CPUs): none of it is news."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
