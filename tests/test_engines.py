"""The engine of the frozen passes: the same results as PyTorch, or PyTorch."""

import importlib.util
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


def test_an_engine_that_disagrees_is_not_used(images, monkeypatch):
    needs_openvino()
    monkeypatch.setattr(
        engines, "_openvino", lambda module, example, precision: lambda x: module(x) * 1.01
    )
    fast = FrozenPass(small(), SPEC, CPU, engine="auto")
    with pytest.warns(UserWarning, match=r"differ from PyTorch's by 0\.01, allowed are 0\.001"):
        rows = fast(images)
    assert torch.equal(rows, FrozenPass(small(), SPEC, CPU)(images))
    assert fast.signature[0] == "torch"


def test_a_module_that_openvino_cannot_take_is_computed_by_pytorch(images):
    needs_openvino()

    class Branches(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) if float(x.sum()) > 0 else x.amax((2, 3))

    fast = FrozenPass(Branches(), SPEC, CPU, engine="auto")
    with pytest.warns(UserWarning, match="OpenVINO is not used"):
        rows = fast(images)
    assert rows.shape == (5, 3)


def test_the_features_of_a_refused_engine_are_kept_under_the_name_of_the_other(
    tmp_path, drawn, monkeypatch
):
    needs_openvino()
    data = allkit.Dataset.open(drawn).subset(range(6))
    monkeypatch.setattr(
        engines, "_openvino", lambda module, example, precision: lambda x: module(x) + 1
    )
    cache = FeatureCache(tmp_path)

    def extractor(engine):
        return Extractor(small(), SPEC, ("small",), CPU, cache=cache, engine=engine)

    with pytest.warns(UserWarning, match="OpenVINO is not used"):
        rows = extractor("auto").extract(data)
    np.testing.assert_array_equal(rows, extractor("torch").extract(data))
    assert [entry[1].split()[0] for entry in cache.entries()] == ["torch"]


def test_openvino_that_is_asked_for_and_not_there_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'allkit\[openvino\]'"):
        FrozenPass(small(), SPEC, CPU, engine="openvino")
    assert FrozenPass(small(), SPEC, CPU, engine="auto").signature[0] == "torch"


def test_a_batch_that_does_not_fit_into_memory_is_computed_in_halves(images):
    class Small(torch.nn.Module):
        def forward(self, x):
            if len(x) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return x.mean((2, 3))

    frozen = FrozenPass(Small(), SPEC, CPU)
    same = [images[0]] * 5
    with pytest.warns(UserWarning, match="do not fit into the memory of cpu"):
        assert frozen(same).shape == (5, 3)


def test_features_that_are_no_numbers_stop_the_training_and_name_the_image(drawn):
    class Broken(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) / 0 * 0

    data = allkit.Dataset.open(drawn).subset(range(4))
    with pytest.raises(AllkitError, match=r"no numbers for .*drawn-00000"):
        Extractor(Broken(), SPEC, ("broken",), CPU).extract(data)


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
