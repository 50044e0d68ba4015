import dataclasses
from pathlib import Path

import psutil
import pytest

from thermoscope.catalogue.config import ModelConfig
from thermoscope.errors import InvalidRequest, OutOfMemory
from thermoscope.planning import serving

# SmolLM2-135M: 134,515,008 parameters by its model card.
SMOL = ModelConfig(
    family="llama",
    vocab=49152,
    hidden=576,
    layers=30,
    heads=9,
    kv_heads=3,
    head_dim=64,
    ffn=1536,
    context=8192,
    norm_eps=1e-5,
    rope_theta=1e5,
    tied=True,
)

EMBEDDING = 49152 * 576


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("fp32", 4 * 134_515_008),
        ("fp16", 2 * 134_515_008),
        ("bf16", 2 * 134_515_008),
        ("int8", round((134_515_008 - EMBEDDING) * (1 + 4 / 576)) + 2 * EMBEDDING),
        ("int4", (134_515_008 - EMBEDDING) * (16 + 4) // 32 + 2 * EMBEDDING),
    ],
)
def test_weights_at_each_precision(precision: str, expected: int) -> None:
    assert serving.weight_bytes(SMOL, precision) == expected


def test_an_unknown_precision_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r"got 'fp8', expected one of fp32, fp16, bf16, int8, int4"):
        serving.weight_bytes(SMOL, "fp8")


def test_an_untied_head_counts_like_the_embedding() -> None:
    untied = dataclasses.replace(SMOL, tied=False)
    assert serving.weight_bytes(untied, "int4") == serving.weight_bytes(SMOL, "int4") + 2 * EMBEDDING


def test_learned_positions_count_like_the_embedding() -> None:
    learned = dataclasses.replace(SMOL, learned_positions=True)
    assert serving.weight_bytes(learned, "int4") == serving.weight_bytes(SMOL, "int4") + 2 * 8192 * 576


def test_experts_count_all_in_weights_and_one_in_activations() -> None:
    mixture = {"experts": 4, "experts_per_token": 2, "expert_ffn": 2048, "sparse": (True,) * 30}
    many = dataclasses.replace(SMOL, **mixture)
    more = 30 * (4 * (3 * 576 * 2048 + 576) - 3 * 576 * 1536)
    assert serving.weight_bytes(many, "fp16") == serving.weight_bytes(SMOL, "fp16") + 2 * more
    row = 2 * (2048 - 1536)
    extra = serving.working_bytes(many, slots=1, context=8192) - serving.working_bytes(
        SMOL, slots=1, context=8192
    )
    assert extra == 4 * 512 * row


def test_cache_counts_keys_and_values_of_every_layer_head_and_slot() -> None:
    assert serving.cache_bytes(SMOL, slots=8, context=2048) == 8 * 2048 * (2 * 30 * 3 * 64) * 4
    assert serving.cache_bytes(SMOL, slots=8, context=2048, number=2) == 8 * 2048 * (2 * 30 * 3 * 64) * 2


@pytest.mark.parametrize(("slots", "context"), [(0, 10), (1, 0), (-1, 10)])
def test_cache_refuses_no_slots_and_no_context(slots: int, context: int) -> None:
    with pytest.raises(InvalidRequest, match="1 or more"):
        serving.cache_bytes(SMOL, slots=slots, context=context)


def test_working_memory_is_the_larger_phase() -> None:
    embedding = 4 * 49152 * 576
    assert serving.working_bytes(SMOL, slots=1, context=16) == embedding
    assert serving.working_bytes(SMOL, slots=1, context=8192) > embedding


def test_serving_memory_adds_up_and_takes_the_files_size() -> None:
    needed = serving.serving_memory(SMOL, "int4", slots=2, context=512, file_bytes=98_362_432)
    assert needed.weights == 98_362_432
    assert needed.total == needed.weights + needed.cache + needed.working


def test_what_fits_passes_and_what_does_not_is_refused_with_both_numbers() -> None:
    serving.check_fits(serving.GIB, serving.GIB)
    with pytest.raises(OutOfMemory, match=r"need 3\.50 GiB, but 1\.25 GiB are free.*fewer slots") as caught:
        serving.check_fits(7 * serving.GIB // 2, 5 * serving.GIB // 4)
    assert "\n" not in str(caught.value)


def test_free_memory_is_real() -> None:
    assert 0 < serving.free_bytes() <= psutil.virtual_memory().total


def write_group(folder: Path, names: tuple[str, str], limit: str, used: int, stat: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(stat)


def test_control_groups_of_version_2_and_their_parents(tmp_path: Path) -> None:
    names = ("memory.max", "memory.current")
    write_group(tmp_path / "mount/a/b", names, "max", 10, "inactive_file 0\n")
    write_group(tmp_path / "mount/a", names, "1000", 700, "anon 1\ninactive_file 200\n")
    (tmp_path / "table").write_text("0::/a/b\n")
    assert serving._control_group_bytes(tmp_path / "table", tmp_path / "mount") == [500]


def test_control_groups_of_version_1_seen_from_a_container(tmp_path: Path) -> None:
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    write_group(tmp_path / "mount/memory", names, "900", 1000, "total_inactive_file 0\n")
    (tmp_path / "table").write_text("5:cpuset:/\n4:memory:/docker/not-mounted-here\n")
    assert serving._control_group_bytes(tmp_path / "table", tmp_path / "mount") == [0]


def test_no_control_groups_no_limit(tmp_path: Path) -> None:
    assert serving._control_group_bytes(tmp_path / "absent", tmp_path) == []


def test_free_memory_heeds_the_control_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_control_group_bytes", lambda: [123, 456])
    assert serving.free_bytes() == 123
