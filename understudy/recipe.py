"""The recipe: one production as one frozen, validated YAML file.

    recipe = load(Path("broken-jug.yaml"), ["train.epochs=5", "cast.adam.train.lora.rank=8"])

YAML is read as version 1.2 (`no` is a word, `1e-3` a number). Unknown keys, duplicate keys, tags, NaN and sizes out of
range are refused in one line that names the file and the key. Relative paths belong to the recipe's folder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from understudy.augmentation.steps import AnyStep
from understudy.cleaning.config import CleanConfig, Ngrams
from understudy.names import expanded
from understudy.recipe_part import Name, Part, Positive, Share

SCHEMA_VERSION = 1


class Rights(Part):
    """Where a text comes from and what may be done with it; carried into every record made from it."""

    source: str = ""
    licence: str = ""
    holder: str = ""
    note: str = ""


class CorpusEntry(Part):
    """Some texts and how to read them."""

    path: str = Field(min_length=1)
    """File, folder, glob or URI; relative to the recipe."""
    kind: Literal["auto", "script", "prose", "conversations"] = "auto"
    """`conversations`: chats that somebody made already, see `format` and `persona`."""
    format: Literal["auto", "alpaca", "xtuner", "sharegpt", "messages"] = "auto"
    """How a file of conversations is written."""
    persona: str | None = None
    """Who answers in a file of conversations; None: the cast's only persona, or whom the rows name."""
    column: str | None = None
    """The column of jsonl, csv and parquet files that holds the text; None: `text`, if there is one."""
    speaker_column: str | None = None
    """The column that names who speaks: then each row is a line, else each is a text of its own."""
    cut: bool = False
    """Cut a work of more than 64 MB at its headings instead of setting it aside."""
    language: str = "auto"
    """BCP 47 code such as `en`, `de`, `zh`; only a hint."""
    encoding: str = "auto"
    """Python codec name, or `auto`."""
    layout: Literal["auto", "colon", "block", "dot", "tab"] | None = None
    """How this text sets speakers; None takes `extract.layout`."""
    rights: Rights = Rights()

    @model_validator(mode="after")
    def _fits_its_kind(self) -> CorpusEntry:
        named = "format" if self.format != "auto" else "persona" if self.persona else ""
        if named and self.kind != "conversations":
            raise ValueError(f"{named} is for conversations; add `kind: conversations`, or remove it")
        return self


class LoraConfig(Part):
    """Low-rank adapter."""

    rank: Annotated[int, Field(gt=0, le=512)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0
    target_modules: Literal["auto"] | tuple[str, ...] = "auto"
    """`auto`: every linear layer of attention and MLP."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead of alpha / rank."""


class LoraOverride(Part):
    """The fields of `train.lora` that one cast entry changes; None keeps the recipe's."""

    rank: Annotated[int, Field(gt=0, le=512)] | None = None
    alpha: Annotated[float, Field(gt=0)] | None = None
    rslora: bool | None = None


class TrainOverride(Part):
    """The fields of `train` that one cast entry changes; None keeps the recipe's."""

    lora: LoraOverride = LoraOverride()
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    epochs: Annotated[float, Field(gt=0, le=10_000)] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None


class CastEntry(Part):
    """One persona of the production."""

    name: Name
    """Persona id, and the model name under which it is served."""
    display_name: str | None = None
    """As shown to people, in any script; None: taken from the card, else from `name`."""
    aliases: tuple[str, ...] = ()
    """How the texts name this persona."""
    works: tuple[str, ...] = ("*",)
    """Patterns of the works in which `display_name` and `aliases` hold."""
    card: str | None = None
    """Character Card V1 to V3: JSON, PNG or CHARX; relative to the recipe."""
    system_prompt: str | None = None
    """Replaces the card's."""
    greeting: str | None = None
    """Replaces the card's."""
    train: TrainOverride = TrainOverride()


class AutoCast(Part):
    """A cast made of the speakers with most lines."""

    min_lines: Positive = 80
    top: Positive = 300


class AutoCastEntry(Part):
    """`cast: {auto: {min_lines, top}}`."""

    auto: AutoCast


class ModelConfig(Part):
    """The base that every adapter stands on."""

    base: Annotated[str, Field(min_length=1)] = "builtin:tiny"
    """`builtin:tiny`, a hub id, a local folder, or s3://..."""
    source: Literal["auto", "hf", "modelscope", "s3", "path"] = "auto"
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: Literal["none", "nf4"] = "none"
    template_kwargs: dict[str, JsonValue] = {}
    """Variables of the chat template, in training and with every request."""
    trust_remote_code: bool = False
    """Runs code that comes with the base. Only for a base whose code you have read."""


class Prices(Part):
    """Money per million tokens."""

    input: Annotated[float, Field(ge=0)] = 0
    output: Annotated[float, Field(ge=0)] = 0

    def cost(self, tokens_in: float, tokens_out: float) -> float:
        """What so many tokens cost."""
        return (tokens_in * self.input + tokens_out * self.output) / 1e6


class Endpoint(Part):
    """A model that answers: an OpenAI-compatible server, or vLLM started on the cluster's own GPUs or CPU."""

    engine: Literal["http", "vllm"] = "http"
    """`vllm`: the model runs inside the job, through Ray Data; needs no server."""
    base_url: str = ""
    """Of the server, with its `/v1`; not for `vllm`."""
    model: str = Field(min_length=1)
    """The name that the server knows; for `vllm` a base as in `model.base`."""
    source: Literal["auto", "hf", "modelscope", "s3", "path"] = "auto"
    """Where the base of `vllm` comes from, as in `model.source`."""
    revision: str | None = None
    """Of that base, on its hub."""
    engines: Positive | None = None
    """Engines of `vllm` at most; None: as many as the GPUs hold, one on a CPU."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable with the key; never the key itself."""
    weight: Annotated[float, Field(gt=0)] = 1
    """Share of the calls, where several endpoints are used together."""
    prices: Prices = Prices()
    max_in_flight: Annotated[int, Field(ge=1, le=65_536)] = 256
    """Calls at once at most; how many really are depends on how the endpoint takes them."""
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 120
    """Seconds for one call; then it counts as failed and is sent again."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 8
    """How often one call is sent before it is set aside."""
    patience_s: Annotated[float, Field(ge=1)] = 1800
    """Seconds to wait for an endpoint that answers nothing, before the run stops (finished answers stay)."""
    structured: Literal["auto", "json_schema", "json_object", "none"] = "auto"
    """How a schema is asked for; `auto`: as much as the server takes."""
    options: dict[str, JsonValue] = {}
    """For `http` further fields of every request (`top_k`, `chat_template_kwargs`), for `vllm` engine arguments."""

    @model_validator(mode="after")
    def _reachable(self) -> Endpoint:
        if self.engine == "vllm":
            if self.base_url:
                raise ValueError("base_url is a server's, and `engine: vllm` runs the model itself; remove one of them")
            return self
        if "@" in re.split(r"[/?#]", self.base_url.rpartition("://")[2])[0]:
            # Neither read nor shown: it would stand in every record that the recipe leaves.
            raise ValueError("base_url holds a user or a password; put the key into what api_key_env names")
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url {self.base_url!r}: write the server's address, as http://localhost:8000/v1")
        return self


class Budget(Part):
    """Where model calls stop; None is no limit."""

    requests: Positive | None = None
    tokens: Positive | None = None
    money: Annotated[float, Field(gt=0)] | None = None


class ExtractLlm(Part):
    """A model that reads what the rules leave open."""

    endpoint: str = "main"
    """A name in `endpoints`, or `all` of them by weight."""
    read: Literal["open", "chunks"] = "open"
    """`open`: it names the speakers of open spans; `chunks`: it also reads passages in which no rule finds speech."""
    threshold: Share = 0.8
    """Spans that the rules attribute with less confidence are sent; 0: only those that they leave open. Above 0.95 also
    names beside speech verbs are sent, of which rules are surer than models."""
    window_chars: Annotated[int, Field(ge=200)] = 4000
    """Characters of text that one call sees, half of them before and behind what it asks."""


class ExtractConfig(Part):
    """From texts to lines."""

    layout: Literal["auto", "colon", "block", "dot", "tab"] = "auto"
    llm: ExtractLlm | None = None
    """A model for the speakers whom no rule finds; None: rules alone."""


class MixEntry(Part):
    """General dialogue, mixed in so that a persona does not forget how to talk."""

    path: str | None = None
    """A file of conversations, relative to the recipe."""
    dataset: str | None = None
    """A Hugging Face dataset: hub name or a folder written by `save_to_disk`."""
    split: str = "train"
    """Split of the dataset."""
    format: Literal["auto", "alpaca", "xtuner", "sharegpt", "messages"] = "auto"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the persona's training conversations that come from here."""
    rights: Rights = Rights()

    @model_validator(mode="after")
    def _one_source(self) -> MixEntry:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("a mix entry needs either path or dataset")
        return self


class CurateConfig(Part):
    """From lines to conversations, filtered and split."""

    window: Annotated[int, Field(ge=1, le=512)] = 8
    """Lines in one conversation at most."""
    heldout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of scenes kept for evaluation; at least one scene a persona."""
    min_chars: Annotated[int, Field(ge=0)] = 1
    """A persona's line with fewer letters and digits is no training target."""
    max_repeats: Positive = 1
    """How often the same exchange may occur."""
    clean: CleanConfig = CleanConfig()
    """Cleaning rules; by default they look at imported and generated conversations, and let lines be."""
    ngrams: Ngrams = Ngrams()
    """Pieces by which training is searched for held-out text."""
    mix: tuple[MixEntry, ...] = ()
    """Other conversations to mix in."""
    seed: Annotated[int, Field(ge=0)] = 0


class TrainConfig(Part):
    """From conversations to adapters."""

    engine: Literal["slots", "deepspeed"] = "slots"
    method: Literal["lora", "full"] = "lora"
    lora: LoraConfig = LoraConfig()
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 3.0e-4
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Share = 0.03
    weight_decay: Annotated[float, Field(ge=0)] = 0
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Clip of each adapter's gradient norm; 0 turns it off."""
    epochs: Annotated[float, Field(gt=0, le=10_000)] = 3
    micro_batch_size: Positive = 4
    gradient_accumulation_steps: Positive = 1
    max_length: Annotated[int, Field(ge=8, le=1_048_576)] = 2048
    """Tokens of one sample; longer ones lose their oldest turns."""
    seed: Annotated[int, Field(ge=0)] = 0
    snapshot_s: Annotated[float, Field(ge=0)] = 60
    """Seconds between two snapshots of a running slot; 0 after every step."""
    probes: tuple[str, ...] = ()
    """Questions that every persona answers before, halfway and after training; kept beside the adapter."""
    phases: tuple[dict[str, JsonValue], ...] = ()
    deepspeed: dict[str, JsonValue] = {}


class EvaluateConfig(Part):
    """How adapters are measured."""

    bootstrap: Annotated[int, Field(ge=100, le=100_000)] = 1000
    """Resamples behind each interval."""
    others: Annotated[int, Field(ge=1, le=10_000)] = 31
    """With a larger cast, each row compares against so many other adapters."""
    seed: Annotated[int, Field(ge=0)] = 0
    judge: str | None = None
    gate: dict[str, JsonValue] = {}


class PublishConfig(Part):
    """How adapters go on stage."""

    alias: Literal["current", "candidate"] = "current"
    weight: Annotated[int, Field(ge=0, le=100)] | None = None
    """Share of chat, in percent, that follows the alias; None: all for `current`, none for `candidate`."""
    prompt_only: Literal["offer", "always", "never"] = "offer"
    """What becomes of an adapter that does not beat the prompted base: `offer` publishes the adapter and marks the
    persona as better served by its prompt alone, `always` publishes the prompt alone, `never` says nothing."""


class ServeConfig(Part):
    """How personas are served."""

    max_loras: Positive = 8
    """Adapters in one batch."""
    max_cpu_loras: Positive = 64
    """Adapters kept in memory."""
    max_lora_rank: Positive = 64
    max_model_len: Annotated[int, Field(ge=64)] | None = None
    """Tokens of prompt and reply; None: what the base allows."""
    replicas: tuple[Annotated[int, Field(ge=0)], Positive] = (1, 1)
    """Least and most engine replicas."""
    engine: dict[str, JsonValue] = {}
    """Further vLLM engine arguments."""

    @model_validator(mode="after")
    def _ordered(self) -> ServeConfig:
        if self.replicas[0] > self.replicas[1]:
            raise ValueError(f"replicas {list(self.replicas)}: the first is the least, the second the most")
        if self.max_cpu_loras < self.max_loras:
            raise ValueError(f"max_cpu_loras {self.max_cpu_loras} is less than max_loras {self.max_loras}")
        return self


class ResourceConfig(Part):
    """What one worker of a stage takes."""

    cpus: Annotated[float, Field(gt=0)] | None = None
    gpus: Annotated[float, Field(ge=0)] | None = None
    workers: Positive | None = None
    """Workers side by side; None: as many as the machine holds."""


class Resources(Part):
    """Resources by stage; None lets the stage choose from what the machine has."""

    extract: ResourceConfig = ResourceConfig()
    train: ResourceConfig = ResourceConfig()
    evaluate: ResourceConfig = ResourceConfig()
    serve: ResourceConfig = ResourceConfig()


class Recipe(Part):
    """A whole production."""

    schema_version: int = SCHEMA_VERSION
    name: Name
    store: str = "./store"
    """A folder (relative to the recipe) or s3://bucket/prefix."""
    corpus: tuple[CorpusEntry, ...] = ()
    cast: tuple[CastEntry, ...] | str | AutoCastEntry = ()
    """A list, a file or glob of cast lists or cards, or `auto`."""
    model: ModelConfig = ModelConfig()
    endpoints: dict[str, Endpoint] = {}
    budget: Budget = Budget()
    extract: ExtractConfig = ExtractConfig()
    augment: tuple[AnyStep, ...] = ()
    """Steps that let a model write conversations, in order."""
    curate: CurateConfig = CurateConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    publish: PublishConfig = PublishConfig()
    sweep: dict[str, JsonValue] = {}
    """The sweep's space and search; read by `understudy sweep`."""
    serve: ServeConfig = ServeConfig()
    resources: Resources = Resources()

    folder: Annotated[str, Field(exclude=True, json_schema_extra={"x-internal": True})] = ""
    """The folder that relative paths belong to; set by `load`, not written in YAML."""

    @model_validator(mode="after")
    def _distinct(self) -> Recipe:
        if isinstance(self.cast, tuple):
            seen: set[str] = set()
            for entry in self.cast:
                if entry.name in seen:
                    raise ValueError(f"cast: {entry.name} occurs twice; each persona needs a name of its own")
                seen.add(entry.name)
        steps = [step.name for step in self.augment]
        twice = next((name for name in steps if steps.count(name) > 1), None)
        if twice:
            raise ValueError(f"augment: {twice} occurs twice; each step needs a name of its own")
        return self

    def path_of(self, path: str) -> Path:
        """An absolute path for a path written in this recipe."""
        return Path(self.folder or ".") / expanded(path, path)

    def train_config(self, entry: CastEntry) -> TrainConfig:
        """`train` with the changes of one cast entry applied."""
        own = entry.train
        lora = self.train.lora.model_copy(update=own.lora.model_dump(exclude_none=True))
        rest = own.model_dump(exclude_none=True, exclude={"lora"})
        return self.train.model_copy(update={**rest, "lora": lora})


def load(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe and apply `key=value` overrides; RecipeError (one line) when anything does not hold."""
    from understudy.recipe_yaml import read_recipe

    return read_recipe(Path(path), list(overrides))
