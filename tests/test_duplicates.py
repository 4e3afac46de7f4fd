from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from allkit.images.same_field import (
    DuplicatePair,
    clusters,
    find_duplicates,
    match,
    pack,
    signature,
    unpack,
)


def canvas(seed, size=420):
    """Return a wide piece of a slide: pale rings and dark blobs on white, (size, size, 3) uint8."""
    rng = np.random.default_rng(seed)
    image = np.full((size, size, 3), (240, 235, 240), np.uint8)
    for _ in range(220):
        x, y = rng.integers(0, size, 2).tolist()
        axes = rng.integers(6, 10, 2).tolist()
        cv2.ellipse(image, (x, y), axes, rng.uniform(0, 180), 0, 360, (200, 180, 195), -1)
        cv2.circle(image, (x, y), 3, (225, 210, 220), -1)
    for _ in range(35):
        x, y = rng.integers(0, size, 2).tolist()
        axes = rng.integers(9, 16, 2).tolist()
        colour = (110, int(rng.integers(40, 90)), 150)
        cv2.ellipse(image, (x, y), axes, rng.uniform(0, 180), 0, 360, colour, -1)
    grain = rng.normal(0, 3, image.shape)
    return np.clip(cv2.GaussianBlur(image, (0, 0), 1.2) + grain, 0, 255).astype(np.uint8)


def view(seed, x=100, y=100, size=224):
    return np.ascontiguousarray(canvas(seed)[y : y + size, x : x + size])


def with_scale_bar(image):
    image = image.copy()
    image[200:220, 190:222] = 255
    cv2.line(image, (194, 214), (216, 214), (0, 0, 0), 2)
    cv2.putText(image, "20um", (192, 209), cv2.FONT_HERSHEY_SIMPLEX, 0.28, (0, 0, 0))
    return image


def signatures(images):
    return [signature(image, hashlib.sha256(image.tobytes()).hexdigest()) for image in images]


def found(images):
    return find_duplicates(signatures(images), images.__getitem__)


def turned(image, degrees):
    middle = (image.shape[1] / 2, image.shape[0] / 2)
    return cv2.warpAffine(
        image, cv2.getRotationMatrix2D(middle, degrees, 1), (224, 224), borderMode=4
    )


ALTERED = {
    "darker": lambda image: (image * 0.75).astype(np.uint8),
    "recompressed": lambda image: cv2.imdecode(
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR
    ),
    "turned a little": lambda image: turned(image, 4),
    "turned by 90°": lambda image: np.ascontiguousarray(np.rot90(image)),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "out of focus": lambda image: cv2.GaussianBlur(image, (0, 0), 1.5),
    "smaller": lambda image: cv2.resize(image, (202, 202), interpolation=cv2.INTER_AREA),
}


def test_identical_files_are_exact_pairs_with_the_first_of_them():
    one, other = view(1), view(2)
    assert found([one, other, one, one]) == [
        DuplicatePair(0, 2, "exact", 1.0, (0.0, 0.0), 1.0),
        DuplicatePair(0, 3, "exact", 1.0, (0.0, 0.0), 1.0),
    ]


@pytest.mark.parametrize(
    ("x", "y", "kind"), [(20, 0, "near"), (60, -30, "near"), (-100, 10, "overlap")]
)
def test_a_moved_stage_is_found_with_its_shift_and_how_much_is_shared(x, y, kind):
    (pair,) = found([view(1), view(2), view(1, 100 + x, 100 + y)])
    assert (pair.a, pair.b, pair.kind) == (0, 2, kind)
    assert pair.shift == pytest.approx((x, y), abs=1)
    assert pair.overlap == pytest.approx((224 - abs(x)) * (224 - abs(y)) / 224**2, abs=0.03)
    assert pair.correlation > 0.9


@pytest.mark.parametrize("how", ALTERED)
def test_an_altered_copy_is_found(how):
    images = [view(1), view(2), ALTERED[how](view(1))]
    pairs = found(images)
    assert [(pair.a, pair.b, pair.kind) for pair in pairs] == [(0, 2, "near")]
    known = signatures(images)
    assert match(known[2:], known[:2]) == [(0, 0)]


def test_other_fields_of_one_style_are_no_pairs_though_they_share_the_scale_bar():
    images = [with_scale_bar(view(seed)) for seed in range(12)]
    assert found(images) == []
    assert match(signatures(images[:6]), signatures(images[6:])) == []


def test_blank_images_pair_only_when_their_bytes_agree():
    white = np.full((224, 224, 3), 255, np.uint8)
    speck = white.copy()
    speck[3, 4] = 254
    bars = [with_scale_bar(white), with_scale_bar(speck)]
    assert found([white, speck, *bars]) == []
    assert [pair.kind for pair in found([white, speck, white])] == ["exact"]


def test_cells_on_black_do_not_pair_by_their_outline():
    rng = np.random.default_rng(5)
    images = []
    for seed in range(6):
        cut = np.zeros((224, 224), np.uint8)
        cv2.ellipse(cut, (112, 112), rng.integers(60, 75, 2).tolist(), 0, 0, 360, 1, -1)
        images.append(cv2.resize(view(seed, size=40), (224, 224)) * cut[:, :, None])
    assert found(images) == []


def test_the_result_is_the_same_again_and_progress_is_told():
    images = [view(1), view(1, 130, 110), view(2), view(2, 90, 140)]
    told = []
    pairs = find_duplicates(
        signatures(images), images.__getitem__, progress=lambda done, of: told.append((done, of))
    )
    assert pairs == found(images)
    assert [(pair.a, pair.b) for pair in pairs] == [(0, 1), (2, 3)]
    assert told == [(i + 1, len(told)) for i in range(len(told))]


def test_few_or_no_images_are_no_fault():
    white = np.full((64, 64, 3), 255, np.uint8)
    assert found([]) == []
    assert found([white]) == []
    assert match([], []) == []
    assert match(signatures([view(1)]), []) == []
    assert match(signatures([white]), signatures([view(1)])) == []


def test_match_names_every_copy_of_a_known_image():
    known = signatures([view(1), view(2), view(1), view(1, 150, 100)])
    assert match(signatures([view(2), view(1)]), known) == [(0, 1), (1, 0), (1, 2), (1, 3)]


def test_clusters_close_the_pairs():
    assert clusters(7, [(5, 1), (2, 6), (6, 1), (0, 4), (4, 0)]) == [[0, 4], [1, 2, 5, 6]]
    assert clusters(2, [DuplicatePair(0, 1, "near", 0.9, (1.0, 2.0), 0.8)]) == [[0, 1]]
    assert clusters(3, []) == []


def test_a_signature_is_small():
    one = signature(view(1), "0" * 64)
    assert one.keypoints.nbytes + one.descriptors.nbytes <= 3600
    assert len(one.keypoints) > 50
    assert (one.keypoints[:, :2] >= 0).all()


@pytest.mark.parametrize("count", [0, 3])
def test_packed_signatures_come_back(count):
    images = [view(1), np.full((40, 90, 3), 255, np.uint8), view(2)][:count]
    packed = pack(signatures(images))
    assert all(isinstance(array, np.ndarray) for array in packed.values())
    back = unpack(packed)
    assert len(back) == count
    for one, other in zip(back, signatures(images), strict=True):
        assert (one.sha256, one.width, one.height) == (other.sha256, other.width, other.height)
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
        np.testing.assert_array_equal(one.descriptors, other.descriptors)
