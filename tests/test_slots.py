"""The slot engine against real PEFT runs, against itself after a restore, and against a slot gone bad."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bases import make_random_base
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn
from transformers import AutoModelForCausalLM, get_scheduler

from jobs.lora_stack import adapted_layers
from jobs.peft_folder import peft_files, read_peft
from jobs.slot_config import SlotConfig, trained_tokens
from jobs.slots import Slots, batch_order
from understudy.errors import AdapterError, InputError
from understudy.rendering import Sample

CAST = [
    SlotConfig("adam", rank=4, alpha=8, learning_rate=3e-3, schedule="cosine", warmup_ratio=0.1, steps=20),
    SlotConfig("licht", rank=8, alpha=16, learning_rate=1e-3, schedule="linear", warmup_ratio=0.2, steps=20, seed=1),
    SlotConfig("eve", rank=2, alpha=3, rslora=True, learning_rate=5e-3, schedule="constant", warmup_ratio=0, steps=13),
    SlotConfig("walter", rank=6, weight_decay=0.1, max_grad_norm=0.05, steps=20, micro_batch_size=2, seed=3),
    SlotConfig("marthe", rank=3, steps=20, micro_batch_size=1, gradient_accumulation_steps=3, seed=4),
    SlotConfig("veit", rank=5, alpha=10, target_modules=("q_proj", "v_proj"), max_grad_norm=None, epochs=3, seed=5),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_base(tmp_path_factory.mktemp("base"))


def load_base(folder: Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    if dtype == torch.float64:
        exact_norms(model)
    return model


def exact_norms(model: nn.Module) -> None:
    """transformers' RMSNorm rounds to fp32 even in a float64 model; here the whole model must be float64."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            weight, epsilon = module.weight, module.variance_epsilon
            module.forward = lambda x, w=weight, e=epsilon: w * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + e)


def samples_of(count: int, seed: int, longest: int = 18) -> list[Sample]:
    generator = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(count):
        length = int(torch.randint(4, longest, (1,), generator=generator))
        ids = torch.randint(3, 300, (length,), generator=generator).tolist()
        trained = [0, 1, *(torch.rand(length - 2, generator=generator) < 0.6).int().tolist()]
        out.append(Sample((), ids, trained))
    return out


def cast_samples(configs: list[SlotConfig]) -> list[list[Sample]]:
    return [samples_of(5 + 3 * number, seed=100 + number) for number, _ in enumerate(configs)]


def peft_run(folder: Path, config: SlotConfig, rows: list[Sample], initial: Slots, k: int) -> tuple[dict, list[float]]:
    """One adapter trained alone as PEFT, torch and transformers would, from the slot's initial A."""
    model = load_base(folder, torch.float64)
    weights = initial.weights(k)
    peft_config = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]  (PEFT scales by floats as well)
        use_rslora=config.rslora,
        target_modules=sorted({name.rpartition(".")[2] for name in weights.layers}),
        task_type="CAUSAL_LM",
    )
    peft = get_peft_model(model, peft_config, autocast_adapter_dtype=False)
    state = {}
    for name, (a, b) in weights.layers.items():
        state[f"base_model.model.{name}.lora_A.weight"] = a.double()
        state[f"base_model.model.{name}.lora_B.weight"] = b.double()
    assert not set_peft_model_state_dict(peft, state).unexpected_keys
    exact_norms(model)
    trained = [p.requires_grad_() for n, p in peft.named_parameters() if "lora_" in n]
    assert all(p.dtype == torch.float64 for p in trained)
    total = config.total_steps(len(rows))
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    name = "constant_with_warmup" if config.schedule == "constant" else config.schedule
    schedule = get_scheduler(name, optimizer, math.ceil(total * config.warmup_ratio), total)
    losses = []
    for step in range(total):
        micros = [[rows[i] for i in micro] for micro in batch_order(config, len(rows), step)]
        tokens = sum(trained_tokens(sample) for micro in micros for sample in micro)
        loss_sum = 0.0
        for micro in micros:
            longest = max(len(s.input_ids) for s in micro)
            ids = torch.tensor([[*s.input_ids, *[0] * (longest - len(s.input_ids))] for s in micro])
            mask = torch.tensor([[1] * len(s.input_ids) + [0] * (longest - len(s.input_ids)) for s in micro])
            labels = torch.full_like(ids, -100)
            for row, s in enumerate(micro):
                for place in range(1, len(s.input_ids)):
                    if s.loss_mask[place]:
                        labels[row, place] = s.input_ids[place]
            logits = peft(input_ids=ids, attention_mask=mask).logits
            loss = nn.functional.cross_entropy(
                logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), reduction="sum"
            )
            (loss / tokens).backward()
            loss_sum += float(loss.detach())
        if config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(trained, config.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss_sum / tokens)
    return get_peft_model_state_dict(peft), losses


def train_all(slots: Slots) -> Slots:
    while not slots.done:
        slots.step()
    return slots


def test_slots_in_float64_equal_separate_peft_runs_to_1e_9(base: Path) -> None:
    rows = cast_samples(CAST)
    slots = Slots(load_base(base, torch.float64), CAST, rows, dtype=torch.float64)
    initial = Slots(load_base(base, torch.float64), CAST, rows, dtype=torch.float64)
    train_all(slots)
    assert {state.step for state in slots.states} == {20, 13, CAST[5].total_steps(20)}
    for k, config in enumerate(CAST):
        alone, losses = peft_run(base, config, rows[k], initial, k)
        assert max(abs(x - y) for x, y in zip(losses, slots.states[k].losses, strict=True)) < 1e-9, config.name
        for name, (a, b) in slots.exact_layers(k).items():
            for mark, ours in (("A", a), ("B", b)):
                theirs = alone[f"base_model.model.{name}.lora_{mark}.weight"]
                assert float((ours - theirs).abs().max()) < 1e-9, (config.name, name, mark)
                assert mark == "A" or float(theirs.abs().max()) > 1e-4, "nothing was learnt"


def fp32_slots(base: Path, configs: list[SlotConfig] = CAST) -> Slots:
    return Slots(load_base(base), configs, cast_samples(configs))


def test_padding_above_a_slots_rank_stays_zero(base: Path) -> None:
    slots = train_all(fp32_slots(base))
    for layer in slots._layers:
        for k, config in enumerate(CAST):
            assert not layer.a[k, :, config.rank :].any()
            assert not layer.b[k, config.rank :].any()


@pytest.mark.parametrize("stop", [1, 9, 15])
def test_restored_slots_continue_with_the_same_bits(base: Path, stop: int) -> None:
    undisturbed, killed = fp32_slots(base), fp32_slots(base)
    for _ in range(stop):
        killed.step()
    kept = [killed.snapshot(k) for k in range(len(CAST))]
    resumed = fp32_slots(base)
    for k, data in enumerate(kept):
        resumed.restore(k, data)
        assert resumed.snapshot(k) == data
    train_all(undisturbed)
    train_all(resumed)
    for k in range(len(CAST)):
        assert resumed.snapshot(k) == undisturbed.snapshot(k)


def test_a_snapshot_of_another_configuration_or_a_cut_one_is_refused(base: Path) -> None:
    slots = fp32_slots(base)
    data = slots.snapshot(0)
    with pytest.raises(AdapterError, match="another configuration"):
        slots.restore(1, data)
    with pytest.raises(AdapterError, match="damaged"):
        slots.restore(0, data[: len(data) // 2])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_a_slot_gone_bad_skips_its_steps_and_leaves_the_others_bits_alone(base: Path, bad: float) -> None:
    healthy, sick = fp32_slots(base), fp32_slots(base)
    with torch.no_grad():
        sick._layers[0].a[1, 0, 0] = bad
        sick._layers[0].b[1, 0, 0] = bad
    before = sick.exact_layers(1)
    train_all(healthy)
    train_all(sick)
    assert (sick.states[1].updates, sick.states[1].step) == (0, 20)
    for name, (a, b) in sick.exact_layers(1).items():
        assert torch.equal(a.nan_to_num(), before[name][0].nan_to_num())
        assert torch.equal(b.nan_to_num(), before[name][1].nan_to_num())
    for k in (0, 2, 3, 4, 5):
        assert sick.snapshot(k) == healthy.snapshot(k)


def test_exported_adapters_load_in_peft_with_the_same_logits(base: Path, tmp_path: Path) -> None:
    slots = train_all(fp32_slots(base))
    ids = torch.randint(3, 300, (3, 12), generator=torch.Generator().manual_seed(0))
    for k, config in enumerate(CAST):
        folder = tmp_path / config.name
        folder.mkdir()
        files = peft_files(slots.weights(k), "Qwen/Qwen3-8B", adapted_layers(slots.model, "auto"))
        for name, data in files.items():
            (folder / name).write_bytes(data)
        assert files == peft_files(read_peft(folder), "Qwen/Qwen3-8B", adapted_layers(slots.model, "auto"))
        peft = PeftModel.from_pretrained(load_base(base), folder)
        assert peft.peft_config["default"].base_model_name_or_path == "Qwen/Qwen3-8B"
        with torch.no_grad():
            theirs = peft(input_ids=ids).logits
            slots._route = slots.routed([k], [3])
            ours = slots.model(input_ids=ids).logits
            slots._route = None
            plain = slots.model(input_ids=ids).logits
        assert torch.allclose(ours, theirs, atol=2e-5), config.name
        assert float((plain - theirs).abs().max()) > 1e-3


def test_scores_are_those_of_the_adapter_alone_and_of_the_bare_base(base: Path) -> None:
    slots = train_all(fp32_slots(base))
    rows = samples_of(7, seed=9)
    order = [(k, row) for row in rows for k in (None, 3, 0)]
    scores = slots.score(order, batch_rows=3)
    clean = load_base(base)
    for (k, row), (nll, tokens) in zip(order, scores, strict=True):
        assert tokens == trained_tokens(row)
        with torch.no_grad():
            if k is None:
                logits = clean(input_ids=torch.tensor([row.input_ids])).logits[0]
            else:
                slots._route = slots.routed([k], [1])
                logits = slots.model(input_ids=torch.tensor([row.input_ids])).logits[0]
                slots._route = None
        log = logits.double().log_softmax(-1)
        expected = -sum(float(log[p - 1, row.input_ids[p]]) for p in range(1, len(row.input_ids)) if row.loss_mask[p])
        assert nll == pytest.approx(expected, rel=1e-4)


def test_greedy_replies_are_those_of_peft_alone_and_stop_at_the_stop_token(base: Path, tmp_path: Path) -> None:
    slots = train_all(fp32_slots(base))
    prompts = [list(sample.input_ids) for sample in samples_of(4, seed=11)]
    for name, data in peft_files(slots.weights(2), "base", adapted_layers(slots.model, "auto")).items():
        (tmp_path / name).write_bytes(data)
    peft = PeftModel.from_pretrained(load_base(base), tmp_path)
    replies = slots.generate(2, prompts, max_new_tokens=8, stop=[2])
    assert replies != slots.generate(None, prompts, max_new_tokens=8, stop=[2])
    for prompt, reply in zip(prompts, replies, strict=True):
        tokens: list[int] = []
        for _ in range(8):
            with torch.no_grad():
                token = int(peft(input_ids=torch.tensor([prompt + tokens])).logits[0, -1].argmax())
            if token == 2:
                break
            tokens.append(token)
        assert reply == tokens
    first = replies[0][0]
    assert slots.generate(2, prompts[:1], max_new_tokens=8, stop=[first]) == [[]]


def test_a_loaded_adapter_scores_like_the_one_that_was_trained(base: Path) -> None:
    slots = train_all(fp32_slots(base))
    other = Slots(load_base(base), [CAST[1]])
    other.load(0, slots.weights(1))
    rows = samples_of(3, seed=2)
    for mine, theirs in zip(other.score([(0, r) for r in rows]), slots.score([(1, r) for r in rows]), strict=True):
        assert mine == pytest.approx(theirs)
    with pytest.raises(AdapterError, match="rank"):
        other.load(0, slots.weights(0))


def test_closing_takes_every_hook_off_the_base(base: Path) -> None:
    slots = fp32_slots(base)
    slots.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in slots.model.modules())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dropout": 0.1}, "set it to 0"),
        ({"schedule": "step"}, "constant, linear, cosine"),
        ({"target_modules": ("q_proj", "wqkv")}, "no linear layer is named 'wqkv'"),
    ],
)
def test_settings_that_no_slot_can_have_are_refused_in_one_line(base: Path, change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Slots(load_base(base), [replace(CAST[0], **change)])
    assert "\n" not in str(caught.value)


def test_a_slots_data_order_depends_on_its_seed_alone_and_covers_every_sample_each_epoch() -> None:
    config = replace(CAST[0], steps=None, epochs=2, micro_batch_size=2, gradient_accumulation_steps=2)
    steps = config.steps_per_epoch(11)
    epochs = [
        [i for step in range(e * steps, (e + 1) * steps) for m in batch_order(config, 11, step) for i in m]
        for e in (0, 1)
    ]
    assert [sorted(epoch) for epoch in epochs] == [list(range(11))] * 2
    assert epochs[0] != epochs[1]
    assert batch_order(replace(config, seed=7), 11, 0) != batch_order(config, 11, 0)
