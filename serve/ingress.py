"""The ingress: personas as OpenAI models.

    GET  /v1/models, /v1/models/NAME      the personas of this base and the base itself
    POST /v1/chat/completions             text in, text out; streaming; the card's system text and sampling defaults
    GET  /v1/personas, /v1/personas/NAME  display name, version, greeting, questions
    GET  /health                          200 once the engine has started

Every answer of a persona carries `x-understudy-persona` and `x-understudy-version`, and the version as OpenAI's
`system_fingerprint`. Tools and images are left out.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator
from functools import lru_cache
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.llm.ingress import OpenAiIngress, make_fastapi_ingress
from ray.serve.llm.openai_api_models import ChatCompletionRequest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

from serve.cast import Cast, Part
from serve.engine import adapter_id
from understudy.base import Base
from understudy.errors import AdapterError, CatalogError, InputError, StoreError, UnderstudyError
from understudy.rendering import Renderer, Shape
from understudy.store import Store

_UNSUPPORTED = ("continue_final_message", "chat_template", "echo", "documents", "tools", "add_special_tokens")
_ENDPOINTS = {
    "models": lambda app: app.get("/v1/models"),
    "model_data": lambda app: app.get("/v1/models/{model:path}"),
    "chat": lambda app: app.post("/v1/chat/completions"),
    "personas": lambda app: app.get("/v1/personas"),
    "persona": lambda app: app.get("/v1/personas/{name}"),
    "health": lambda app: app.get("/health"),
    "home": lambda app: app.get("/", include_in_schema=False),
}


class PersonaIngress(OpenAiIngress):
    """Routes each request to the release that its model name stands for."""

    def __init__(self, llm_deployments: Any, model_cards: Any, *, store_uri: str, base: Base, has_page: bool):
        """`base`: what the engine serves; its tokenizer tells how its template takes messages."""
        super().__init__(llm_deployments, model_cards)
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(base.path)

        @lru_cache(maxsize=64)
        def shape_of(kwargs: str) -> tuple[Shape, dict[str, Any]]:
            renderer = Renderer(tokenizer, json.loads(kwargs))
            return renderer.shape, renderer.template_kwargs

        self._base = base
        self._has_page = has_page
        self._cast = Cast(Store(store_uri), base, lambda kwargs: shape_of(json.dumps(kwargs, sort_keys=True)))

    async def models(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """OpenAI's list of models: personas, their other aliases, the base."""
        parts = [*await self._cast.parts(), await self._cast.part(self._base.served_name)]
        return {"object": "list", "data": [self._card(part) for part in parts]}

    async def model_data(self, model: str) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One model."""
        return self._card(await self._cast.part(model))

    async def personas(self) -> dict[str, Any]:
        """Who is on stage, and the base that they stand on."""
        parts = await self._cast.parts()
        base = {"id": self._base.served_name, "toy": self._cast.is_toy}
        return {"base": base, "personas": [self._cast.describe(part, full=False) for part in parts]}

    async def persona(self, name: str) -> dict[str, Any]:
        """One persona with its greeting and suggested questions."""
        return self._cast.describe(await self._cast.part(name))

    async def health(self) -> dict[str, str]:
        """Answers once the engine has started."""
        return {"status": "ok"}

    async def home(self) -> Response:
        """The chat page where there is one."""
        return RedirectResponse("/chat/") if self._has_page else JSONResponse({"personas": "/v1/personas"})

    async def chat(self, body: ChatCompletionRequest, request: Request) -> Response:
        """One answer of a persona or of the base."""
        part = await self._cast.part(body.model or self._base.served_name, _draw(body.user))
        self._prepare(body, part)
        request.state.part = part
        try:
            response = await self._process_llm_request(body, call_method="chat", raw_request=request)
        except (BackPressureError, DeploymentUnavailableError):
            # Answered here: Serve puts a plain-text handler for these in front of the application's own.
            return error_body("the engine is busy or starting again; try in a moment", 503, "overloaded_error")
        response.headers.update(part.headers)
        return response

    def _prepare(self, body: ChatCompletionRequest, part: Part) -> None:
        """Turn the client's request into what the engine is asked: messages, template variables, sampling, model id."""
        for name in _UNSUPPORTED:
            if getattr(body, name, None):
                raise InputError(f"{name} is not supported; send messages of text")
        if not body.messages:
            raise InputError("messages is empty; send at least one")
        messages, variables = self._cast.messages(part, [_plain(message) for message in body.messages])
        body.messages = messages
        own = body.chat_template_kwargs or {}
        # What a persona was trained with holds; the bare base is the client's to set.
        body.chat_template_kwargs = {**own, **variables} if part.release else {**variables, **own}
        sampling = part.persona.sampling if part.persona else {}
        for name, value in sampling.items():
            given = {"max_tokens", "max_completion_tokens"} if name == "max_tokens" else {name}
            if not given & {field for field in body.model_fields_set if getattr(body, field) is not None}:
                setattr(body, name, value)
        release = part.release
        served = self._base.served_name
        body.model = adapter_id(served, release.persona, release.version) if release and release.manifest else served

    async def _get_response(self, *, body: Any, call_method: str, raw_request: Request | None = None) -> AsyncGenerator:
        part: Part | None = getattr(raw_request.state, "part", None) if raw_request else None
        stream = super()._get_response(body=body, call_method=call_method, raw_request=raw_request)
        async for item in stream:
            yield _named(item, part) if part else item

    def _card(self, part: Part) -> dict[str, Any]:
        described = self._cast.describe(part, full=False)
        return {"id": part.name, "object": "model", "created": 0, "owned_by": "understudy", "metadata": described}


def _plain(message: Any) -> dict[str, Any]:
    """A message as a plain dict; pydantic hands lists of parts over as one-time iterators."""
    plain = dict(message)
    content = plain.get("content")
    if content is not None and not isinstance(content, str):
        plain["content"] = [dict(item) for item in content]
    return plain


def _named(item: Any, part: Part) -> Any:
    """A response, or a list of its stream's chunks, under the name that the client asked for."""
    if isinstance(item, list):
        return [_named(chunk, part) for chunk in item]
    if isinstance(item, str):
        if not item.startswith("data: {"):
            return item
        chunk = json.loads(item[6:])
        if "model" in chunk:
            chunk.update(model=part.name, system_fingerprint=part.fingerprint)
        return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
    if hasattr(item, "system_fingerprint"):
        item.model, item.system_fingerprint = part.name, part.fingerprint
    return item


def _draw(user: str | None) -> float:
    """Where in [0, 1) this chat falls when an alias takes a share; the same user always falls at the same place."""
    return random.Random(user).random() if user else random.random()


def error_body(message: str, status: int, kind: str, param: str | None = None) -> JSONResponse:
    """OpenAI's error object."""
    headers = {"retry-after": "1"} if status in (429, 503) else {}
    content = {"error": {"message": message, "type": kind, "param": param, "code": status}}
    return JSONResponse(content, status_code=status, headers=headers)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    """One line and the right status for whatever a handler raised."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"] if step != "body")
        return error_body(f"{where or 'body'}: {first['msg']}", 400, "invalid_request_error", where or None)
    if isinstance(error, CatalogError):
        return error_body(str(error), 404, "not_found_error", "model")
    if isinstance(error, InputError):
        return error_body(str(error), 400, "invalid_request_error")
    if isinstance(error, AdapterError | StoreError):
        return error_body(_last_line(error), 502, "adapter_error", "model")
    status = getattr(error, "status_code", 500)
    if status < 500:
        said = str(getattr(error, "message", None) or getattr(error, "detail", None) or error)
        return error_body(said, status, "invalid_request_error")
    return error_body(
        f"the engine failed: {_last_line(error)}", 503 if isinstance(error, RayError) else 500, "server_error"
    )


def _last_line(error: Exception) -> str:
    """The message of an error; of one that crossed processes, without the traceback that Ray puts in front."""
    cause = getattr(error, "cause", None)
    lines = str(cause if cause is not None else error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def make_app() -> FastAPI:
    """The HTTP application around the ingress; no CORS: only pages of this server may call it from a browser."""
    app = FastAPI(title="understudy", docs_url=None, redoc_url=None)
    for kind in (RequestValidationError, UnderstudyError, HTTPException, Exception):
        app.add_exception_handler(kind, _refused)
    return app


def ingress_deployment(engine: Any, base: Base, store: Store, has_page: bool) -> Any:
    """The ingress over one engine as a Serve application."""
    from ray.llm._internal.serve.core.configs.openai_api_models import ModelCard

    name = base.served_name
    card = ModelCard(id=name, object="model", owned_by="understudy", permission=[], metadata={})
    deployment: Any = serve.deployment(
        make_fastapi_ingress(PersonaIngress, endpoint_map=_ENDPOINTS, app=make_app()),
        name="ingress",
        num_replicas=1,
        max_ongoing_requests=256,
        max_queued_requests=256,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=5,
    )
    return deployment.bind({name: engine}, {name: card}, store_uri=store.uri, base=base, has_page=has_page)
