"""The engine of the frozen passes: the same results as PyTorch, or PyTorch."""

import copy
import importlib.util
import logging
import re
import sys

import numpy as np
import pytest
import torch

import allkit
from allkit.errors import AllkitError, ConfigError
from allkit.features import Extractor, FeatureCache, FrozenPass, engines

CPU = torch.device("cpu")
SPEC = allkit.InputSpec(32)


def needs_openvino():
    """Skip where it is not installed; importing it here would report that it was."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("the extra `openvino` is not installed")


@pytest.fixture
def told():
    """What allkit logs as information."""
    lines, log = [], logging.getLogger("allkit")

    class Lines(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    handler, before = Lines(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield lines
    log.setLevel(before)
    log.removeHandler(handler)


def small(seed=0):
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
            torch.nn.MaxPool2d(2), torch.nn.Conv2d(8, 16, 3), torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        )  # fmt: skip


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    sizes = [(32, 32), (40, 33), (32, 32), (64, 64), (32, 32)]
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes]


def test_openvino_computes_what_pytorch_computes(images):
    needs_openvino()
    ours = FrozenPass(small(), SPEC, CPU, engine="torch")(images)
    fast = FrozenPass(small(), SPEC, CPU, engine="auto")
    np.testing.assert_allclose(fast(images), ours, rtol=1e-4, atol=1e-5)
    assert fast.signature[0] == "openvino"
    np.testing.assert_array_equal(fast(images[:1]), fast(images)[:1])


def test_activations_at_a_cut_come_from_the_same_engine(images):
    needs_openvino()
    cut = FrozenPass(small()[:4], SPEC, CPU, engine="auto")(images)
    assert cut.shape == (5, 8, 16, 16)
    torch.testing.assert_close(
        cut, FrozenPass(small()[:4], SPEC, CPU)(images), rtol=1e-4, atol=1e-5
    )


def other_engine(monkeypatch, change):
    """Have OpenVINO compute `change(module)(x)`."""
    monkeypatch.setattr(
        engines, "_openvino", lambda module, example, precision: change(copy.deepcopy(module))
    )


def test_what_was_chosen_is_said_in_one_line_and_without_a_warning(images, told):
    needs_openvino()
    fast = FrozenPass(small(), SPEC, CPU, engine="auto")
    assert fast.account == ""
    assert told == []
    fast(images)
    fast(images)
    threads = torch.get_num_threads()
    assert re.fullmatch(
        rf"Features are computed by OpenVINO 20\S+ in float32, {threads} threads?; they differ from "
        rf"PyTorch's by less than 0\.001 %\.",
        fast.account,
    )
    assert told == [fast.account]


def test_what_is_no_engine_is_an_error_when_the_model_is_loaded(tiny_folder):
    with pytest.raises(ConfigError, match=r"'onednn' is no engine. Give auto, torch or openvino\."):
        allkit.Classifier.load(tiny_folder, engine="onednn")


def test_an_engine_that_disagrees_is_not_used(images, monkeypatch, told):
    needs_openvino()
    other_engine(monkeypatch, lambda module: lambda x: module(x) * 1.01)
    fast = FrozenPass(small(), SPEC, CPU, engine="auto")
    rows = fast(images)
    assert torch.equal(rows, FrozenPass(small(), SPEC, CPU)(images))
    assert fast.signature[0] == "torch"
    assert fast.account.startswith("Features are computed by PyTorch 2.")
    assert fast.account.endswith("not used: it differs from PyTorch by 1 %, more than 0.1 %.")
    assert told == [fast.account]


def test_openvino_that_is_asked_for_and_disagrees_is_an_error(images, monkeypatch):
    needs_openvino()
    other_engine(monkeypatch, lambda module: lambda x: module(x) * 1.01)
    with pytest.raises(
        ConfigError, match=r"engine = openvino.* by 1 %, more than 0\.1 %.* `torch`"
    ):
        FrozenPass(small(), SPEC, CPU, engine="openvino")(images)


def test_a_module_that_openvino_cannot_take_is_computed_by_pytorch(images):
    needs_openvino()

    class Branches(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) if float(x.sum()) > 0 else x.amax((2, 3))

    fast = FrozenPass(Branches(), SPEC, CPU, engine="auto")
    assert fast(images).shape == (5, 3)
    assert "OpenVINO is not used: it cannot compute the network (" in fast.account
    with pytest.raises(ConfigError, match="it cannot compute the network"):
        FrozenPass(Branches(), SPEC, CPU, engine="openvino")(images)


def test_an_engine_that_fails_while_it_computes_is_not_used(images, monkeypatch):
    needs_openvino()

    def failing(x):
        raise RuntimeError("an instruction that this processor lacks")

    other_engine(monkeypatch, lambda module: failing)
    fast = FrozenPass(small(), SPEC, CPU, engine="auto")
    assert fast(images).shape == (5, 16)
    assert "an instruction that this processor lacks" in fast.account


def rounding_elsewhere(module):
    """Return a network in bfloat16 that rounds where PyTorch does not: weights, and inputs of layers."""

    def round_inputs(_, inputs):
        return tuple(values.bfloat16().float() for values in inputs)

    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data = layer.weight.data.bfloat16().float()
            layer.register_forward_pre_hook(round_inputs)
    return module


def test_which_images_come_first_does_not_decide_whether_an_engine_agrees(drawn, monkeypatch):
    needs_openvino()
    data = allkit.Dataset.open(drawn)
    images = [data.read(index) for index in range(40)]
    chosen = set()
    for change, expected in (
        (rounding_elsewhere, "openvino"),
        (lambda module: lambda x: module(x) * 1.1, "torch"),
    ):
        other_engine(monkeypatch, change)
        for start in range(0, 40, 4):
            for count in (1, 4, 16):
                fast = FrozenPass(small(), SPEC, CPU, precision="bfloat16", engine="auto")
                fast.prepare(images[start : start + count])
                chosen.add((fast.engine, expected))
    assert chosen == {("openvino", "openvino"), ("torch", "torch")}


def test_the_features_of_a_refused_engine_are_kept_under_the_name_of_the_other(
    tmp_path, drawn, monkeypatch
):
    needs_openvino()
    data = allkit.Dataset.open(drawn).subset(range(6))
    other_engine(monkeypatch, lambda module: lambda x: module(x) + 1)
    cache = FeatureCache(tmp_path)

    def extractor(engine):
        return Extractor(small(), SPEC, ("small",), CPU, cache=cache, engine=engine)

    rows = extractor("auto").extract(data)
    np.testing.assert_array_equal(rows, extractor("torch").extract(data))
    assert [entry[1].split()[0] for entry in cache.entries()] == ["torch"]


def test_it_is_known_how_many_images_are_not_in_the_cache(tmp_path, drawn, told):
    data = allkit.Dataset.open(drawn).subset(range(6))
    extractor = Extractor(small(), SPEC, ("small",), CPU, cache=FeatureCache(tmp_path))
    assert extractor.missing(data) == 6
    extractor.extract(data.subset(range(4)))
    assert extractor.missing(data) == 2
    assert told == []
    extractor.extract(data, progress=lambda *_: None)
    assert told == ["features: 4 of 6 images are in the cache."]


def test_work_inside_other_work_does_not_tell_of_the_cache(tmp_path, drawn, told):
    data = allkit.Dataset.open(drawn).subset(range(4))
    extractor = Extractor(small(), SPEC, ("small",), CPU, cache=FeatureCache(tmp_path))
    for _ in range(2):
        extractor.extract(data)
    assert told == []


def test_openvino_that_is_asked_for_and_not_there_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'allkit\[openvino\]'"):
        FrozenPass(small(), SPEC, CPU, engine="openvino")
    assert FrozenPass(small(), SPEC, CPU, engine="auto").signature[0] == "torch"


def test_a_batch_that_does_not_fit_into_memory_is_computed_in_halves(images):
    tried = []

    class Small(torch.nn.Module):
        def forward(self, x):
            tried.append(len(x))
            if len(x) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return x.mean((2, 3))

    frozen = FrozenPass(Small(), SPEC, CPU)
    same = [images[0]] * 5
    with pytest.warns(UserWarning, match="do not fit into the memory of cpu"):
        assert frozen(same).shape == (5, 3)
    tried.clear()
    assert frozen(same).shape == (5, 3)
    assert tried == [2, 2, 1], "what did not fit once is not tried again"


def test_one_image_that_does_not_fit_into_memory_is_an_error_that_says_what_to_do(images):
    class Full(torch.nn.Module):
        def forward(self, x):
            raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(AllkitError, match=r"One image does not fit .* choose `device: cpu`"):
        FrozenPass(Full(), SPEC, CPU)(images[:1])


def test_features_that_are_no_numbers_stop_the_training_and_name_the_image(drawn):
    class Broken(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) / 0 * 0

    data = allkit.Dataset.open(drawn).subset(range(4))
    with pytest.raises(AllkitError, match=r"no numbers for .*drawn-00000"):
        Extractor(Broken(), SPEC, ("broken", "allkit-broken", "1.0"), CPU).extract(data)


def test_an_image_gets_the_same_bits_whichever_others_are_computed_with_it(drawn):
    seen = []

    class Watched(torch.nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x.mean((2, 3)) * len(x)  # as if it rounded by the size of the batch

    data = allkit.Dataset.open(drawn)
    frozen = FrozenPass(Watched(), SPEC, CPU)
    images = [data.read(i) for i in range(20)]
    whole = frozen(images, block=16)
    assert torch.equal(frozen(images[3:5], block=16), whole[3:5])
    extract = Extractor(Watched(), SPEC, ("watched",), CPU).extract
    np.testing.assert_array_equal(extract(data)[:20], whole.numpy())
    assert set(seen) == {16}
