"""OpenCLIP's own files are read as OpenCLIP reads them; the reference is its model, written out with torch alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage import data as pictures

from artifacts.errors import BadWeights, CheckpointError, MissingEncoder, NotClip, UnsafeCheckpoint, UnsupportedVariant
from artifacts.store.store import Store
from tasks.checkpoints.preprocess import Preprocess
from tasks.clip.weights import WeightReader
from tasks.graph.replicate import trace_by_block
from tasks.graph.writer import write_onnx
from tasks.openclip import identify
from tasks.openclip.document import CONFIG_FILE, WEIGHTS_FILE, WEIGHTS_FILES
from tasks.openclip.plain import OpenClip
from tasks.pipeline.checkpoint import check, resolve
from tasks.quantizing.modelopt import load_exposed
from tests.tasks.families.support import cosines, run_onnx
from tests.tasks.openclip.reference import CONFIG, reference, save
from tests.wording import refusal


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("openclip") / "ViT-tiny", CONFIG)


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """`changed(vision_cfg={...})`: a folder with another configuration; None removes a key."""

    def make(**sections: Any) -> Path:
        document = json.loads(json.dumps(CONFIG))
        for section, changes in sections.items():
            (document if section == "preprocess_cfg" else document["model_cfg"])[section] = changes
        (tmp_path / CONFIG_FILE).write_text(json.dumps(document))
        return tmp_path

    return make


def ids(batch: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, 600, (batch, 16))
    for row in tokens:
        row[rng.integers(2, 16) :] = 602  # the largest id, and OpenCLIP's padding with zeros makes no difference
    return tokens


# --- the model ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("quick", "custom_text"), [(True, False), (False, True)])
def test_graphs_compute_what_openclip_computes(quick: bool, custom_text: bool, tmp_path: Path) -> None:
    document = CONFIG | {"model_cfg": CONFIG["model_cfg"] | {"quick_gelu": quick, "custom_text": custom_text}}
    folder = save(tmp_path / "model", document, custom_text=custom_text)
    model, config = reference(document["model_cfg"]), identify(folder)[1]
    weights = WeightReader([folder / WEIGHTS_FILE], OpenClip().pieces)
    pixels = np.random.default_rng(1).standard_normal((4, 3, 32, 32)).astype(np.float16)
    with torch.no_grad():
        expected = {
            "image": model.encode_image(torch.from_numpy(pixels).float()).numpy(),
            "text": model.encode_text(torch.from_numpy(ids(4))).numpy(),
        }
    feeds = {"image": {"pixel_values": pixels}, "text": {"input_ids": ids(4)}}
    for encoder in ("image", "text"):
        path = tmp_path / f"{encoder}.onnx"
        write_onnx(trace_by_block(OpenClip(), config, encoder), weights, path, {})
        got = run_onnx(path, feeds[encoder])
        assert cosines(got, expected[encoder]).min() >= 0.99999
        assert cosines(got, np.roll(expected[encoder], 1, axis=0)).max() < 0.999


def test_layer_scale_becomes_part_of_the_projection(native: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(native, tmp_path / "model")
    model = reference(CONFIG["model_cfg"])
    state = {name: values.clone() for name, values in model.state_dict().items()}
    for block, prefix in ((model.visual.transformer, "visual."), (model.transformer, "")):
        for index, part in enumerate(block.resblocks):
            for scale, layer in (("ls_1", part.attn.out_proj), ("ls_2", part.mlp.c_proj)):
                gamma = torch.rand(layer.weight.shape[0]) + 0.5
                state[f"{prefix}transformer.resblocks.{index}.{scale}.gamma"] = gamma
                with torch.no_grad():
                    layer.weight.mul_(gamma[:, None])
                    layer.bias.mul_(gamma)
    save_file({name: values.contiguous() for name, values in state.items()}, folder / WEIGHTS_FILE)
    loaded = OpenClip().load(folder, OpenClip().resolve_config(identify(folder)[1]), "eager")
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(OpenClip().encode(loaded, "image", pixels), model.encode_image(pixels), atol=1e-4)
        tokens = torch.from_numpy(ids(3))
        assert torch.allclose(OpenClip().encode(loaded, "text", tokens), model.encode_text(tokens), atol=1e-4)


def test_the_logits_parameters_change_no_embedding(native: Path, tmp_path: Path, store: Store) -> None:
    folder = shutil.copytree(native, tmp_path / "model")
    state = reference(CONFIG["model_cfg"]).state_dict()
    state |= {"logit_scale": torch.tensor([2.6]), "logit_bias": torch.tensor(-10.0)}
    save_file({name: values.contiguous() for name, values in state.items()}, folder / WEIGHTS_FILE)
    assert check(resolve(str(folder), None, store)).tensors == check(resolve(str(native), None, store)).tensors


def test_it_resolves_checks_and_loads(native: Path, store: Store) -> None:
    snapshot = resolve(str(native), None, store)
    assert (snapshot.family, snapshot.kind, snapshot.model) == ("openclip", "folder", "vit-tiny")
    assert {file.path for file in snapshot.files} >= {CONFIG_FILE, WEIGHTS_FILE, "tokenizer.json"}
    checked = check(snapshot)
    model, family = load_exposed(snapshot)
    assert checked.parameters == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        got = family.encode(model, "text", torch.from_numpy(ids(3)))
        expected = reference(CONFIG["model_cfg"]).encode_text(torch.from_numpy(ids(3)))
    assert torch.allclose(got, expected, atol=1e-4)


def test_huggingface_layout_beside_it_wins(native: Path, small_clip: Path, tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "both"
    shutil.copytree(small_clip, folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(native / name, folder / name)
    assert resolve(str(folder), None, store).family == "clip"


def test_a_missing_tensor_is_named(tmp_path: Path, store: Store) -> None:
    folder = save(tmp_path / "model", CONFIG)
    state = reference(CONFIG["model_cfg"]).state_dict()
    del state["visual.transformer.resblocks.1.attn.in_proj_weight"]
    save_file({name: values.contiguous() for name, values in state.items()}, folder / WEIGHTS_FILE)
    with refusal(CheckpointError, "model"):
        check(resolve(str(folder), None, store))


def test_pickled_weights_are_refused(native: Path, tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    shutil.copyfile(native / CONFIG_FILE, folder / CONFIG_FILE)
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"pickle")
    with refusal(UnsafeCheckpoint, "pickled"):
        resolve(str(folder), None, store)


# --- preprocessing -----------------------------------------------------------------------------------------


def test_pixels_follow_the_configuration(native: Path) -> None:
    """Shorter side to 32 pixels, centre crop, mean and deviation of 0.5 and 0.25."""
    picture = Image.fromarray(pictures.astronaut()).resize((64, 48))
    got = Preprocess(native, OpenClip(), identify(native)[1]).image(picture)
    scaled = np.asarray(picture.resize((42, 32), Image.Resampling.BILINEAR), np.float64)
    left = (42 - 32) // 2
    expected = ((scaled[:, left : left + 32] / 255 - 0.5) / 0.25).transpose(2, 0, 1)
    assert got.shape == (3, 32, 32)
    assert np.abs(got - expected).mean() < 0.02


def test_squash_ignores_the_aspect(changed: Any) -> None:
    folder = changed(preprocess_cfg={"resize_mode": "squash", "interpolation": "bicubic"})
    picture = Image.fromarray(pictures.astronaut()).resize((64, 48))
    got = OpenClip().image_processor(folder)(images=picture, return_tensors="np")["pixel_values"][0]
    expected = np.asarray(picture.resize((32, 32), Image.Resampling.BICUBIC), np.float64) / 255
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    assert np.abs(got - ((expected - mean) / std).transpose(2, 0, 1)).mean() < 0.02


def test_tokens_are_clips(native: Path) -> None:
    tokens, mask = Preprocess(native, OpenClip(), identify(native)[1]).text(["a photo of the digit seven"])
    assert mask is None and tokens.shape == (1, 16) and tokens.argmax() == list(tokens[0]).index(602)


def test_texts_are_padded_on_the_right_whatever_the_tokenizer_says(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", CONFIG)
    right = Preprocess(folder, OpenClip(), identify(folder)[1]).text(["seven"])[0]
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"padding_side": "left"}))
    assert np.array_equal(Preprocess(folder, OpenClip(), identify(folder)[1]).text(["seven"])[0], right)
    assert right[0, -1] == right[0, 2] == 602  # start, seven, end, and the end token again as padding


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "what"),
    [
        ({"vision_cfg": CONFIG["model_cfg"]["vision_cfg"] | {"timm_model_name": "vit"}}, "timm_model_name"),
        ({"vision_cfg": CONFIG["model_cfg"]["vision_cfg"] | {"layers": [3, 4, 6, 3]}}, "ResNet"),
        ({"vision_cfg": CONFIG["model_cfg"]["vision_cfg"] | {"attentional_pool": "cascade"}}, "attentional_pool"),
        ({"vision_cfg": CONFIG["model_cfg"]["vision_cfg"] | {"pool_type": "none"}}, "none"),
        ({"vision_cfg": CONFIG["model_cfg"]["vision_cfg"] | {"qk_norm": True}}, "qk_norm true"),
        ({"text_cfg": CONFIG["model_cfg"]["text_cfg"] | {"of_tomorrow": 3}}, "text_cfg.of_tomorrow 3"),
        ({"text_cfg": CONFIG["model_cfg"]["text_cfg"] | {"hf_model_name": "google/mt5-base"}}, "hf_model_name.*mt5"),
        ({"text_cfg": CONFIG["model_cfg"]["text_cfg"] | {"embed_cls": True}}, "embed_cls"),
        ({"text_cfg": CONFIG["model_cfg"]["text_cfg"] | {"pool_type": "none"}}, "none"),
        ({"multimodal_cfg": {"width": 512}}, "multimodal_cfg"),
    ],
)
def test_models_that_no_kind_takes_are_named(sections: dict[str, Any], what: str, changed: Any) -> None:
    with pytest.raises(UnsupportedVariant, match=what):
        identify(changed(**sections))


def test_settings_that_are_off_change_nothing(changed: Any) -> None:
    vision = {"attentional_pool": False, "attn_pooler_heads": 12, "no_ln_pre": False, "pos_embed_type": "learnable"}
    vision |= {"timm_model_name": None, "timm_pool": None, "timm_proj": None, "act_kwargs": None, "norm_kwargs": {}}
    text = {"proj_type": "linear", "pad_id": 1, "no_causal_mask": False, "eos_id": 5, "hf_proj_type": "linear"}
    text |= {"of_tomorrow": False, "output_tokens": True, "hf_tokenizer_name": "", "hf_model_name": None}
    text |= {
        "text_arch": "clip",
        "variable_text": False,
        "attention_mode": "causal",
        "pos_embed": "rope",
        "norm_eps": 1e-6,
    }
    vision, text = CONFIG["model_cfg"]["vision_cfg"] | vision, CONFIG["model_cfg"]["text_cfg"] | text
    assert identify(changed(vision_cfg=vision, text_cfg=text))[1] == identify(changed())[1]


@pytest.mark.parametrize(
    ("sections", "what"),
    [
        ({"audio_cfg": {}, "vision_cfg": None}, "audio encoder"),
        ({"genlip_cfg": {}}, "generative"),
        ({"vision_cfg": {"timm_model_name": "convnext_base"}}, "convolutional: timm's convnext_base"),
        ({"vision_cfg": {"timm_model_name": "fastvit_mci1"}}, "hybrid"),
        ({"vision_cfg": {"timm_model_name": "naflexvit_base_patch16_siglip"}}, "NaFlex"),
        ({"text_cfg": CONFIG["model_cfg"]["text_cfg"] | {"text_arch": "modern"}}, "text_arch 'modern'"),
    ],
)
def test_what_no_kind_can_do_is_named(sections: dict[str, Any], what: str, changed: Any) -> None:
    with pytest.raises(UnsupportedVariant, match=what):
        identify(changed(**sections))


@pytest.mark.parametrize(("section", "encoder"), [("vision_cfg", "image"), ("text_cfg", "text")])
def test_one_tower_alone_is_named(section: str, encoder: str, changed: Any) -> None:
    with pytest.raises(MissingEncoder, match=f"no {encoder} encoder"):
        identify(changed(**{section: None}))


# --- where the configuration lies --------------------------------------------------------------------------


def test_timms_files_beside_openclips_are_not_the_model(native: Path, tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "both"
    shutil.copytree(native, folder)
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_tiny", "num_classes": 48}))
    save_file({"cls_token": torch.zeros(1, 1, 8)}, folder / "model.safetensors")
    snapshot = resolve(str(folder), None, store)
    assert snapshot.family == "openclip" and [f.name for f in snapshot.weight_files()] == [WEIGHTS_FILE]
    assert check(snapshot).tensors == check(resolve(str(native), None, store)).tensors


def test_a_pickle_beside_timms_weights_is_refused(native: Path, tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "both"
    shutil.copytree(native, folder)
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_tiny", "num_classes": 48}))
    (folder / WEIGHTS_FILE).rename(folder / "model.safetensors")
    with pytest.raises(BadWeights, match="no open_clip_model"):
        resolve(str(folder), None, store)
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"pickle")
    with refusal(UnsafeCheckpoint, "both"):
        resolve(str(folder), None, store)
    (folder / CONFIG_FILE).unlink()
    with refusal(MissingEncoder, "config.json"):
        resolve(str(folder), None, store)


@pytest.mark.parametrize("name", [WEIGHTS_FILES[1], "model.safetensors"])
def test_weights_have_the_names_that_openclip_knows(name: str, native: Path, tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "renamed"
    shutil.copytree(native, folder)
    (folder / WEIGHTS_FILE).rename(folder / name)
    snapshot = resolve(str(folder), None, store)
    assert [file.name for file in snapshot.weight_files()] == [name] and check(snapshot).tensors


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", ["config.json", CONFIG_FILE])
def test_the_configuration_may_be_bare_or_under_another_name(
    name: str, whole: bool, native: Path, tmp_path: Path, store: Store
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(native, folder)
    (folder / CONFIG_FILE).unlink()
    (folder / name).write_text(json.dumps(CONFIG if whole else CONFIG["model_cfg"]))
    snapshot = resolve(str(folder), None, store)
    assert (snapshot.family, snapshot.config) == ("openclip", resolve(str(native), None, store).config)
    mean = OpenClip().image_processor(folder).image_mean
    assert list(mean) == pytest.approx([0.5] * 3 if whole else [0.48145466, 0.4578275, 0.40821073])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"model_cfg": {"vision_cfg": {}}}'])
def test_what_is_no_configuration(text: str, tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text(text)
    with pytest.raises(NotClip):
        identify(tmp_path)


@pytest.mark.parametrize(
    "settings", [{"resize_mode": "longest"}, {"interpolation": "lanczos"}, {"mode": "L"}], ids=lambda s: next(iter(s))
)
def test_unknown_preprocessing_is_refused(settings: dict[str, str], changed: Any) -> None:
    ((key, value),) = settings.items()
    with pytest.raises(UnsupportedVariant, match=f"preprocess_cfg.{key} '{value}'"):
        identify(changed(preprocess_cfg=settings))


def test_settings_of_preprocessing_that_change_nothing(changed: Any) -> None:
    settings = {"interpolation": "random", "mean": 0.5, "std": None, "fill_color": 0, "size": 512, "resize_mode": None}
    made = OpenClip().image_processor(changed(preprocess_cfg=settings))
    assert (made.resample, dict(made.crop_size)) == (3, {"height": 32, "width": 32})
    assert list(made.image_mean) == [0.5] * 3 and made.image_std[0] == 0.26862954


# --- from the hub ------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, native: Path, small_clip: Path, tmp_path: Path) -> list[tuple[Any, ...]]:
    """What is asked of the hub, whose repository `org/both` holds both layouts and `org/native` only OpenCLIP's."""
    import huggingface_hub

    calls: list[tuple[Any, ...]] = []

    def download(model: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        calls.append((model, revision, allow_patterns))
        folder = tmp_path / "hub" / ("c" * 40)
        folder.mkdir(parents=True, exist_ok=True)
        for source in (native, small_clip) if model == "org/both" else (native,):
            for file in source.iterdir():
                if any(file.match(pattern) for pattern in allow_patterns):
                    shutil.copyfile(file, folder / file.name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return calls


def test_what_is_refused_is_refused_before_weights_are_downloaded(
    asked: list[tuple[Any, ...]], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    download = huggingface_hub.snapshot_download

    def of_a_convolution(model: str, **options: Any) -> str:
        folder = Path(download(model, **options))
        document = json.loads((folder / CONFIG_FILE).read_text())
        document["model_cfg"]["vision_cfg"] = {"timm_model_name": "convnext_base", "image_size": 32}
        (folder / CONFIG_FILE).write_text(json.dumps(document))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", of_a_convolution)
    with pytest.raises(UnsupportedVariant, match="convnext_base"):
        resolve("org/native", None, store)
    ((_, _, patterns),) = asked
    assert "open_clip_config.json" in patterns and not any(pattern.endswith(".safetensors") for pattern in patterns)


def test_weights_in_one_layout_are_downloaded(asked: list[tuple[Any, ...]], store: Store) -> None:
    snapshot = resolve("org/both", "main", store)
    assert (snapshot.family, snapshot.kind, snapshot.revision) == ("clip", "hub", "c" * 40)
    assert [call[:2] for call in asked] == [("org/both", "main"), ("org/both", "c" * 40)]
    assert not (snapshot.root / WEIGHTS_FILE).exists()


def test_openclips_weights_are_downloaded_where_there_are_no_others(asked: list[tuple[Any, ...]], store: Store) -> None:
    snapshot = resolve("org/native", None, store)
    assert (snapshot.family, snapshot.kind, snapshot.model) == ("openclip", "hub", "org--native")
    assert [call[:2] for call in asked] == [("org/native", None), *2 * [("org/native", "c" * 40)]]
    assert WEIGHTS_FILE in {file.path for file in snapshot.files}
