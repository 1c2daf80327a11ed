from __future__ import annotations

import inspect
import json
import math
import sys
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from rmatk.backbones import backbone
from rmatk.cli import app, commands  # noqa: F401 - registers the commands
from rmatk.config import Execution, TrainConfig
from rmatk.data.photos import image_batches, read_folder
from rmatk.method.adapter import adapter_params
from rmatk.method.model import AdaptedClip
from rmatk.training.cache import cache_images, cache_texts, class_logits
from rmatk.training.fit import fit
from rmatk.training.train import train
from rmatk_runtime.errors import BackboneError, DataError, MissingExtraError, RunError, StorageError

CONFIG = TrainConfig(
    shots=4,
    epochs=3,
    batch=5,
    lr=0.01,
    rank=8,
    templates=("a photo of a {}.", "my {}"),
    image_con_weight=0.2,
    text_con_weight=0.3,
    precision="fp32",
)


def naive_tower(adapted, x, mask, real):
    """Every block as open_clip runs it, adapters beside the upper ones; features before the head."""
    error = 0.0
    for index, block in enumerate(own.block for own in adapted.tower.blocks):
        out = block(x, attn_mask=mask)
        if str(index) in adapted.blocks:
            adapter = adapted.blocks[str(index)]
            u = block.ln_1(x)
            out = out + adapted.scale * adapter.up(F.gelu(adapter.down(u)))
            u = u.detach()
            recon = adapter.rec2(F.gelu(adapter.rec1(F.gelu(adapter.down(u)))))
            error = error + ((recon - u) ** 2)[real].mean()
        x = out
    return x, error


def naive_losses(model, images, labels, names, config):
    """Every term from pixels and full-length prompts, as if nothing were kept between steps."""
    clip, visual = model.backbone.model, model.backbone.model.visual
    x = visual._embeds(images)
    x, image_rec = naive_tower(model.image, x, None, torch.ones(x.shape[:2], dtype=torch.bool))
    image = F.normalize(visual._pool(x)[0] @ visual.proj, dim=-1)
    tokens = model.tokens(names, config.templates)
    end = tokens.argmax(dim=-1)
    x = clip.token_embedding(tokens) + clip.positional_embedding
    real = torch.arange(tokens.shape[1]) <= end[:, None]
    x, text_rec = naive_tower(model.text, x, clip.attn_mask, real)
    prompts = F.normalize(clip.ln_final(x)[torch.arange(len(x)), end] @ clip.text_projection, dim=-1)

    def classes(features):
        return F.normalize(features.reshape(len(names), len(config.templates), -1).mean(1), dim=-1)

    frozen_text = classes(clip.encode_text(tokens, normalize=True))
    frozen_image = clip.encode_image(images, normalize=True)
    text = classes(prompts)
    return {
        "ce": F.cross_entropy(clip.logit_scale.exp() * image @ text.T, labels),
        "image_rec": config.image_rec_weight * image_rec,
        "text_rec": config.text_rec_weight * text_rec,
        "image_con": config.image_con_weight * (image - frozen_image).abs().sum(-1).mean(),
        "text_con": config.text_con_weight * (text - frozen_text).abs().sum(-1).mean(),
    }


def naive_steps(model, images, labels, names, config):
    parameters = list(adapter_params(model).values())
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    order = np.random.default_rng(config.seed)
    per_epoch = math.ceil(len(images) / config.batch)
    for step in range(config.epochs * per_epoch):
        if step % per_epoch == 0:
            batches = torch.tensor(order.permutation(len(images))).split(config.batch)
        chosen = batches[step % per_epoch]
        terms = naive_losses(model, images[chosen], labels[chosen], names, config)
        optimizer.param_groups[0]["lr"] = (
            config.lr * (1 + math.cos(math.pi * step / (config.epochs * per_epoch))) / 2
        )
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        yield {name: term.item() for name, term in terms.items()}


@pytest.fixture
def prepared(tiny, photos):
    """(files, labels, class names) and two equal models."""
    dataset = read_folder(photos)
    files, labels = dataset.flat()
    models = [AdaptedClip(tiny, CONFIG, torch.Generator().manual_seed(1)) for _ in range(2)]
    return files, labels, dataset.class_names, models


def test_the_fast_way_equals_the_naive_loop_at_every_step(prepared):
    files, labels, names, (fast, naive) = prepared
    spec = fast.backbone.preprocess
    images = torch.from_numpy(np.concatenate(list(image_batches(files, spec, 64))))
    cached = cache_images(fast, files, labels, spec)
    text = cache_texts(fast, names, CONFIG.templates)
    quick = [step.terms for step in fit(fast, cached, text, CONFIG)]
    slow = list(naive_steps(naive, images, torch.tensor(labels), names, CONFIG))
    assert len(quick) == len(slow) == 15
    said = [class_logits(model, cached, text)[0].argmax(dim=-1) for model in (fast, naive)]
    assert torch.equal(*said)
    assert said[0].eq(cached.labels).float().mean() > 0.6
    for step, (a, b) in enumerate(zip(quick, slow, strict=True)):
        assert {n: a[n] for n in b} == pytest.approx(b, rel=1e-5), f"step {step + 1}"


def test_the_backbone_stays_as_it_was(prepared):
    files, labels, names, (model, _) = prepared
    before = {name: value.clone() for name, value in model.backbone.model.state_dict().items()}
    images = cache_images(model, files, labels, model.backbone.preprocess)
    list(fit(model, images, cache_texts(model, names, CONFIG.templates), CONFIG))
    for name, value in model.backbone.model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("term", ["ce", "text_rec"])
def test_a_loss_that_is_not_a_number_stops_with_step_and_term(prepared, monkeypatch, term):
    files, labels, names, (model, _) = prepared
    images = cache_images(model, files, labels, model.backbone.preprocess)
    text = cache_texts(model, names, CONFIG.templates)
    steps = fit(model, images, text, CONFIG)
    next(steps)
    if term == "ce":
        monkeypatch.setattr(model, "logit_scale", math.inf)
    else:
        model.text.blocks["2"].rec2.weight.data.fill_(math.nan)
    with pytest.raises(RunError, match=f"at step 2 the term {term} is"):
        next(steps)


@pytest.mark.parametrize(("optimizer", "lr"), [("adamw", 0.01), ("sgd", 0.1)])
def test_training_writes_a_run_that_learnt_its_shots(tiny, photos, tmp_path, optimizer, lr):
    steps, progress = [], []
    config = msgspec.structs.replace(CONFIG, optimizer=optimizer, lr=lr, epochs=20)
    run = train(
        config,
        tiny,
        photos,
        tmp_path / "run",
        steps.append,
        on_progress=lambda *now: progress.append(now),
    )
    assert {f.name for f in run.path.iterdir()} == {
        "adapter.safetensors",
        "run.json",
        "metrics.jsonl",
        "report.html",
    }
    metrics = run.record.metrics
    assert metrics.train_accuracy > max(metrics.train_zero_shot_accuracy, 0.8)
    assert run.record.config == msgspec.structs.replace(
        config, model=tiny.name, image_blocks=2, text_blocks=2
    )
    assert len(run.record.train_files) == len(run.record.validation_files) == 12
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert progress == [("photos", 24, 24), *(("training", done, 60) for done in range(1, 61))]
    assert [line["step"] for line in lines] == [step.step for step in steps] == list(range(1, 61))
    assert lines[0]["loss"] == pytest.approx(sum(lines[0][n] for n in steps[-1].terms if n != "loss"))


def test_one_seed_gives_the_same_bytes(tiny, photos, tmp_path):
    def weights(name, seed):
        run = train(msgspec.structs.replace(CONFIG, seed=seed), tiny, photos, tmp_path / name)
        return (run.path / "adapter.safetensors").read_bytes(), (run.path / "metrics.jsonl").read_bytes()

    first = weights("a", 1)
    torch.manual_seed(99)
    assert weights("b", 1) == first
    assert weights("c", 2)[0] != first[0]


def test_classes_short_of_photos_are_noted(tiny, photos, tmp_path):
    run = train(msgspec.structs.replace(CONFIG, shots=9, epochs=1), tiny, photos, tmp_path / "run")
    assert "3 classes have fewer than 9 photos (the fewest, 8: blue dot)" in run.record.notes[0]
    assert "training took every photo" in run.record.notes[1] and len(run.record.notes) == 2
    assert run.record.metrics.validation_accuracy is None


def test_bad_input_leaves_nothing_behind(tiny, photos, tmp_path):
    (photos / "blue_dot" / "0.png").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"0\.png"):
        train(msgspec.structs.replace(CONFIG, shots=8), tiny, photos, tmp_path / "out" / "run")
    with pytest.raises(BackboneError, match="--image-blocks 4: that tower of tiny-0 has 3 blocks"):
        train(msgspec.structs.replace(CONFIG, image_blocks=4), tiny, photos, tmp_path / "out" / "run")
    with pytest.raises(StorageError, match="holds other files"):
        train(CONFIG, tiny, photos, photos)
    assert not any((tmp_path / "out").iterdir())


def test_an_interruption_leaves_the_earlier_run(tiny, photos, tmp_path):
    def impatient(step):
        raise KeyboardInterrupt

    train(CONFIG, tiny, photos, tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, tiny, photos, tmp_path / "run", impatient)
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    assert {f.name for f in tmp_path.iterdir()} == {"photos", "run"}


def test_the_commands_train_and_eval(tiny, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(backbone, "load_backbone", lambda name, pretrained, device: tiny)
    run = str(tmp_path / "run")
    flags = ["--shots", "4", "--epochs", "8", "--lr", "0.01", "--template", "my {}", "--template", "a {}"]
    trained = CliRunner().invoke(
        app, ["train", str(photos), "-o", run, "--model", "rmatk-micro", *flags, "--json"]
    )
    assert trained.exit_code == 0, trained.output
    assert json.loads(trained.stdout)["train_accuracy"] > 0.5
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["templates"] == ["my {}", "a {}"]
    evaluated = CliRunner().invoke(app, ["eval", run, str(photos), "--json"])
    assert evaluated.exit_code == 0, evaluated.output
    report = json.loads(evaluated.stdout)
    assert report["images"] == 24
    assert report["accuracy"] > report["zero_shot_accuracy"]
    for command in (
        ["train", str(photos), "-o", run, "--model", "rmatk-micro", *flags],
        ["eval", run, str(photos)],
    ):
        shown = CliRunner().invoke(app, command)
        assert shown.exit_code == 0, shown.output
        assert "zero-shot" in shown.stdout
        assert "next: rmatk" in shown.stdout


def test_the_flags_defaults_are_the_configurations():
    from rmatk.cli.train import train as command

    flags = {name: p.default for name, p in inspect.signature(command).parameters.items()}
    config = TrainConfig()
    assert flags.pop("template") is None
    shared = flags.keys() & set(TrainConfig.__struct_fields__)
    assert {name: flags[name] for name in shared} == {name: getattr(config, name) for name in shared}
    assert set(TrainConfig.__struct_fields__) - shared == {"templates"}
    execution = Execution()
    assert {n: flags[n] for n in execution.__struct_fields__} == msgspec.structs.asdict(execution)


def test_wrong_flags_are_a_usage_error_that_names_all(tmp_path):
    result = CliRunner().invoke(app, ["train", "x", "-o", "y", "--shots", "0", "--image-con-weight", "-1"])
    assert result.exit_code == 2
    assert "--shots" in result.output
    assert "--image-con-weight" in result.output


def test_tensorboard_hears_every_step_or_is_named_as_missing(tiny, photos, tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder):
            assert folder == str(tmp_path / "logs")

        def add_scalar(self, name, value, step):
            written.append((name, step, value))

        def flush(self):
            """Nothing is held back."""

    monkeypatch.setattr(backbone, "load_backbone", lambda name, pretrained, device: tiny)
    command = [
        "train",
        str(photos),
        "-o",
        str(tmp_path / "run"),
        "--model",
        "rmatk-micro",
        "--shots",
        "4",
        "--epochs",
        "1",
    ]
    command += ["--tensorboard", str(tmp_path / "logs")]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    missing = CliRunner().invoke(app, command)
    assert isinstance(missing.exception, MissingExtraError)
    assert missing.exception.hint == "pip install 'rmatk[tensorboard]'"
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    assert CliRunner().invoke(app, command).exit_code == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        figures = {name: value for name, step, value in written if step == line["step"]}
        assert figures == {name: value for name, value in line.items() if name not in ("step", "epoch")}
