"""The chat page: the cast on the left, the persona beside the bare base on the right.

A Serve application of its own that talks to the API as any client does. The greeting is the card's and says so; the
page marks the embedded base as a toy. Nothing is loaded from other hosts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
from ray import serve

TOY = (
    "**A toy model speaks here.** It has a few million parameters and knows a very small world of everyday things; "
    "ask it about those. The same demo on a real model: `understudy demo --base Qwen/Qwen3-0.6B`."
)
QUESTIONS = 4
History = list[dict[str, str]]


def page_deployment(api_url: str) -> Any:
    """The page as a Serve application; `api_url` is where the ingress answers."""

    def build() -> Any:
        import gradio
        from fastapi import FastAPI

        # Serve strips the prefix, and gradio must know it to address its own files.
        return gradio.mount_gradio_app(
            FastAPI(), make_page(api_url), path="/", root_path="/chat", ssr_mode=False, footer_links=[]
        )

    page: Any = serve.deployment(
        serve.ingress(build)(_Page),
        name="page",
        num_replicas=1,
        max_ongoing_requests=100,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=1,
    )
    return page.bind()


class _Page:
    """What the page's application is attached to."""


def make_page(api_url: str) -> Any:
    """The page as gradio Blocks."""
    import gradio as gr

    async def cast() -> Any:
        found = await _get(api_url, "/v1/personas")
        people = [(persona["display_name"], persona["id"]) for persona in found["personas"]]
        chosen = people[0][1] if people else None
        return (
            gr.Radio(choices=people, value=chosen),
            gr.Markdown(TOY, visible=found["base"]["toy"]),
            found["base"]["id"],
        )

    async def choose(persona: str) -> Any:
        about = await _get(api_url, f"/v1/personas/{persona}")
        greeting = about["greeting"]
        shown: Any = [{"role": "assistant", "content": f"*from the card*\n\n{greeting}"}] if greeting else []
        history = [{"role": "assistant", "content": greeting}] if greeting else []
        kind = "prompt only" if about["prompt_only"] else f"adapter {about['version']}"
        title = f"### {about['display_name']}\n{about['description']}\n\n`{kind}`"
        if about["advice"]:
            title += f"\n\n*{about['advice']}*"
        asked = [*about["questions"], *[""] * QUESTIONS][:QUESTIONS]
        buttons = [gr.Button(text, visible=bool(text)) for text in asked]
        label = gr.Chatbot(shown, label=about["display_name"])
        return title, about["sampling"], label, [], history, [], *buttons

    async def answer(
        text: str, persona: str, base: str, sampling: dict[str, Any], beside: bool, *chats: Any
    ) -> AsyncIterator[Any]:
        shown, shown_base, history, history_base = (list(chat) for chat in chats)
        if not text.strip() or not persona:
            yield "", *chats
            return
        sides = [(persona, shown, history)] + ([(base, shown_base, history_base)] if beside else [])
        for model, display, past in sides:
            for kept in (display, past):
                kept.append({"role": "user", "content": text})
            display.append({"role": "assistant", "content": ""})
            async for piece in stream(api_url, model, past, sampling):
                display[-1]["content"] += piece
                yield "", shown, shown_base, history, history_base
            past.append({"role": "assistant", "content": display[-1]["content"]})
        yield "", shown, shown_base, history, history_base

    with gr.Blocks(title="Understudy", analytics_enabled=False) as page:
        base_name, sampling, history, history_base = gr.State(""), gr.State({}), gr.State([]), gr.State([])
        with gr.Row():
            with gr.Column(scale=1, min_width=220):
                gr.Markdown("# Understudy")
                people = gr.Radio(label="The cast", choices=[])
                about = gr.Markdown()
                beside = gr.Checkbox(True, label="side by side with the base")
                toy = gr.Markdown(visible=False)
            with gr.Column(scale=3):
                with gr.Row():
                    left = gr.Chatbot(label="persona", height=430)
                    right = gr.Chatbot(label="the bare base", height=430)
                with gr.Row():
                    buttons = [gr.Button(visible=False, size="sm") for _ in range(QUESTIONS)]
                box = gr.Textbox(placeholder="Say something", show_label=False, submit_btn=True, autofocus=True)
        chats = [left, right, history, history_base]
        page.load(cast, None, [people, toy, base_name])
        people.change(choose, people, [about, sampling, left, right, history, history_base, *buttons])
        beside.change(lambda on: gr.Chatbot(visible=on), beside, right)
        box.submit(answer, [box, people, base_name, sampling, beside, *chats], [box, *chats])
        for button in buttons:
            button.click(answer, [button, people, base_name, sampling, beside, *chats], [box, *chats])
    return page


async def stream(api_url: str, model: str, messages: History, sampling: dict[str, Any]) -> AsyncIterator[str]:
    """The pieces of one answer; an error of the server becomes one visible line.

    `sampling` is the card's, sent along so that the bare base answers under the same terms.
    """
    from openai import APIError, AsyncOpenAI

    asked: Any = {"model": model, "messages": messages, "stream": True, "extra_body": {"max_tokens": 300, **sampling}}
    async with AsyncOpenAI(base_url=f"{api_url}/v1", api_key="none", max_retries=1) as client:
        try:
            async for chunk in await client.chat.completions.create(**asked):
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content
        except APIError as error:
            yield f"[{error.message}]"


async def _get(api_url: str, path: str) -> Any:
    async with httpx.AsyncClient(timeout=30) as client:
        return (await client.get(f"{api_url}{path}")).raise_for_status().json()
