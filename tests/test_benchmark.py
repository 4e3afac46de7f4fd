"""`allkit benchmark`: models and files side by side."""

import json

import pytest
from PIL import Image

KEYS = {
    "latency_p50_ms", "latency_p95_ms", "throughput_images_s", "size_mb", "peak_rss_mb",
    "start_up_s", "accuracy",
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "model.onnx"
    tiny.export(path)
    return path


@pytest.mark.slow
def test_one_file_has_its_figures_at_the_top(cli, exported, drawn):
    status, out, err = cli("benchmark", exported, "--data", drawn, "--json", "b.json")
    assert status == 0, err
    with open("b.json") as file:
        found = json.load(file)
    assert set(found) >= KEYS
    assert 0 < found["latency_p50_ms"] <= found["latency_p95_ms"]
    assert found["throughput_images_s"] > 0
    assert found["size_mb"] == pytest.approx(exported.stat().st_size / 1e6)
    assert 50 < found["peak_rss_mb"] < 2000
    assert 0.1 < found["start_up_s"] < 60
    assert 0 <= found["accuracy"] <= 1
    assert "p50 ms" in out


@pytest.mark.slow
def test_several_stand_side_by_side_in_table_json_and_picture(cli, exported, tiny_folder):
    status, out, err = cli(
        "benchmark", tiny_folder, exported, "--json", "b.json", "--plot", "b.png"
    )  # fmt: skip
    assert status == 0, err
    with open("b.json") as file:
        found = json.load(file)
    assert set(found["models"]) == {str(tiny_folder), str(exported)}
    assert all(set(row) >= KEYS for row in found["models"].values())
    assert found["models"][str(exported)]["accuracy"] is None  # drawn images, asked for nothing
    # PyTorch is not in the process that answers from a file.
    memory = [found["models"][str(p)]["peak_rss_mb"] for p in (exported, tiny_folder)]
    assert memory[0] < memory[1] - 100
    assert "48 drawn images" in out
    with Image.open("b.png") as picture:
        assert picture.width > 600


@pytest.mark.slow
def test_what_cannot_be_measured_is_told_at_once(cli, exported, tmp_path):
    assert cli("benchmark", "nothing.onnx")[0] == 2
    data = bytearray(exported.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.onnx").write_bytes(data)
    status, _, err = cli("benchmark", "bad.onnx")
    assert (status, "was altered or damaged" in err, "Traceback" in err) == (2, True, False)
    assert cli("benchmark", exported, "--plot", "b.svg")[0] == 2
