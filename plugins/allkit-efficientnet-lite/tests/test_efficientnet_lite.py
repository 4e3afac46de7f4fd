import numpy as np
import pytest
import torch

from allkit import AllkitError
from allkit.plugins import Registry
from allkit.testing import conformance


@pytest.fixture(scope="module")
def record():
    return Registry().get("backbone", "efficientnet-lite0")


def test_the_backbone_is_offered_by_its_own_distribution():
    assert Registry().provider("backbone", "efficientnet-lite0").distribution == (
        "allkit-efficientnet-lite"
    )


def test_the_packaged_weights_are_those_of_imagenet(record):
    net = record.build("default").eval()
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(2, 3, 224, 224)).astype("float32"))
    with torch.inference_mode():
        features = net(images)
    assert features.shape == (2, 1280)
    # A trained stem has filters that differ; a random one of timm has a known small deviation.
    stem = net.stem[0].weight
    assert float(stem.detach().std()) > 0.1
    fresh = record.build("none").stem[0].weight
    assert not torch.equal(stem, fresh)


def test_the_stages_run_one_after_the_other_to_the_same_features(record):
    net = record.build("none").eval()
    assert tuple(name for name, _ in net.named_children()) == record.stages
    images = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        for cut in range(1, len(record.stages)):
            torch.testing.assert_close(net[cut:](net[:cut](images)), net(images))


def test_a_file_that_lacks_tensors_is_refused(record, tmp_path):
    from safetensors.torch import save_file

    save_file({"conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "part.safetensors")
    with pytest.raises(AllkitError, match="lacks"):
        record.build(tmp_path / "part.safetensors")


@pytest.mark.slow
@conformance("allkit-efficientnet-lite")
def test_conformance(check):
    check()
