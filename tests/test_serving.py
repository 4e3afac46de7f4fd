"""The server: images in, answers out, and what it does with too much, too large and too late."""

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
httpx = pytest.importorskip("httpx", reason="the extra `dev` is not installed")

from allkit.runtime.answers import stream  # noqa: E402 - after the check for the extra
from allkit.serving.app import Limits, create_app  # noqa: E402
from allkit.trust.verdict import Outputs, Trust  # noqa: E402

CLASSES = ("Benign", "Early", "Pre", "Pro")
KEY = "a-key-of-many-characters"


class Fake:
    """A model that answers by brightness; it can be held, slowed down, or made to fail."""

    classes = CLASSES

    def __init__(self, seconds=0.0):
        self.seconds, self.batches = seconds, []
        self.go = threading.Event()
        self.go.set()

    def outputs(self, images):
        self.batches.append(len(images))
        assert self.go.wait(20)
        time.sleep(self.seconds)
        if any(image.shape == (33, 33, 3) for image in images):
            raise RuntimeError("patient Doe broke the engine")
        logits = np.zeros((len(images), 4), np.float32)
        for row, image in enumerate(images):
            logits[row, int(image[0, 0, 0]) // 64] = 5
        return Outputs(logits, logits)

    def predict(self, images, *, batch_size=16):
        return list(stream(images, self.outputs, Trust(CLASSES), batch_size=batch_size))


def png(level=0, side=40):
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def client():
    """Start a server in a thread: `client(model, **settings)` → an httpx client."""
    import uvicorn

    opened = []

    def start(model=None, **settings):
        app = create_app(model or Fake(), name="tiny", **settings)
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        connection = httpx.Client(base_url=url, timeout=30, trust_env=False)
        opened.append((connection, server, thread, bound))
        connection.app = app
        return connection

    yield start
    for connection, server, thread, bound in opened:
        connection.close()
        server.should_exit = True
        thread.join(20)
        bound.close()


def send(connection, data, name="field.png", **further):
    return connection.post("/predict", files={"image": (name, data, "image/png")}, **further)


def plain(prediction):
    """What JSON makes of an answer."""
    return json.loads(json.dumps(prediction.to_dict()))


# ── one image ──────────────────────────────────────────────────────────────────────────────


def test_an_image_of_a_form_gets_the_answer_that_predict_gives(client):
    model = Fake()
    got = send(client(model), png(200))
    assert got.status_code == 200
    (expected,) = model.predict([np.full((40, 40, 3), 200, np.uint8)])
    assert got.json() == plain(expected) | {"image": "field.png"}
    assert got.json()["label"] == "Pro"
    assert got.json()["reason_codes"] == list(expected.reason_codes) == ["nothing_to_see"]
    assert got.headers["cache-control"] == "no-store"


def test_an_image_may_be_the_body_itself(client):
    got = client().post("/predict", content=png(70), headers={"Content-Type": "image/png"})
    assert (got.status_code, got.json()["label"]) == (200, "Early")


def test_what_is_no_image_is_refused_with_its_reason(client):
    connection = client()
    got = send(connection, b"text")
    assert got.status_code == 422
    assert got.json()["verdict"] == "unreadable"
    assert "field.png is a text file" in got.json()["error"]
    assert send(connection, png()[:60]).status_code == 422
    assert send(connection, b"").status_code == 422
    assert 'verdict="unreadable"} 3.0' in connection.get("/metrics").text


@pytest.mark.parametrize(
    ("request_", "status", "told"),
    [
        ({"files": [("a", ("a.png", png())), ("b", ("b.png", png()))]}, 400, "2 files"),
        ({"data": {"image": "text"}}, 415, "multipart/form-data"),
        ({"files": {"image": (None, "text")}}, 400, "0 files"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
        ({"json": {}}, 415, "multipart/form-data"),
        ({"content": b"", "headers": {"Content-Encoding": "gzip"}}, 415, "compressed"),
    ],
)
def test_a_form_that_is_none_is_told(client, request_, status, told):
    got = client().post("/predict", **request_)
    assert (got.status_code, told in got.json()["error"]) == (status, True), got.text


def test_a_request_that_is_too_large_is_refused_whether_it_says_so_or_not(client):
    connection = client(limits=Limits(request_bytes=10_000))
    assert send(connection, bytes(20_000)).status_code == 413

    def pieces():
        for _ in range(20):
            yield bytes(1000)

    got = connection.post("/predict", content=pieces(), headers={"Content-Type": "image/png"})
    assert got.status_code == 413
    assert "10,000 bytes" in got.json()["error"]
    assert send(connection, png()).status_code == 200


# ── the queue ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_images_that_arrive_together_are_answered_in_batches_each_with_its_own(client):
    model = Fake(seconds=0.05)
    connection = client(model)
    levels = [0, 70, 130, 200] * 16
    with ThreadPoolExecutor(64) as pool:
        found = list(pool.map(lambda level: send(connection, png(level)), levels))
    assert [got.status_code for got in found] == [200] * 64
    assert [got.json()["label"] for got in found] == [CLASSES[level // 64] for level in levels]
    assert max(model.batches) > 4
    assert sum(model.batches) == 64 + 1  # one to warm up


def test_a_full_server_says_when_to_come_again_and_recovers(client):
    model = Fake()
    connection = client(model, limits=Limits(images=3))
    model.go.clear()
    with ThreadPoolExecutor(3) as pool:
        inside = [pool.submit(send, connection, png(200)) for _ in range(3)]
        deadline = time.monotonic() + 10
        while "allkit_images_inside 3.0" not in connection.get("/metrics").text:
            assert time.monotonic() < deadline
        got = send(connection, png())
        assert (got.status_code, got.headers["retry-after"]) == (503, "1")
        model.go.set()
        assert [future.result().status_code for future in inside] == [200] * 3
    assert send(connection, png()).status_code == 200
    assert "allkit_images_inside 0.0" in connection.get("/metrics").text


def test_one_image_that_breaks_the_engine_does_not_take_others_with_it(client, capfd):
    connection = client(Fake(seconds=0.05))
    with ThreadPoolExecutor(12) as pool:
        sides = [40, 33, 40] * 4
        found = list(pool.map(lambda side: send(connection, png(200, side)), sides))
    assert [got.status_code for got in found] == [200, 500, 200] * 4
    assert "Doe" not in found[1].text
    assert "Doe" not in "".join(capfd.readouterr())


# ── who may ask ────────────────────────────────────────────────────────────────────────────


def test_with_a_key_only_health_is_open(client):
    connection = client(key=KEY)
    assert connection.get("/v2/health/live").status_code == 200
    assert connection.get("/v2/health/ready").json() == {"ready": True}
    for path in ("/metrics", "/v2", "/v2/models/tiny"):
        assert connection.get(path).status_code == 401
    assert send(connection, png()).status_code == 401
    for wrong in ("x", KEY[:-1], KEY + "x", "é", ""):
        headers = {"X-API-Key": wrong.encode()}
        assert send(connection, png(), headers=headers).status_code == 401
    assert send(connection, png(), headers={"X-API-Key": KEY}).status_code == 200
    bearer = {"Authorization": f"Bearer {KEY}"}
    assert connection.get("/metrics", headers=bearer).status_code == 200


def test_a_local_server_is_not_reached_under_another_name(client):
    connection = client()
    assert connection.get("/v2", headers={"Host": "evil.example:80"}).status_code == 421
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert connection.get("/v2", headers={"Host": host}).status_code == 200
    away = client(local=False, key=KEY)
    assert away.get("/v2/health/live", headers={"Host": "lab.example"}).status_code == 200


def test_it_describes_itself_in_openapi_and_loads_nothing_from_elsewhere(client):
    connection = client(key=KEY)
    assert connection.get("/openapi.json").status_code == 401
    page = connection.get("/openapi.json", headers={"X-API-Key": KEY}).json()
    assert {"/predict", "/v2/models/{model}/infer", "/metrics"} <= set(page["paths"])
    predict = page["paths"]["/predict"]["post"]
    assert "multipart/form-data" in predict["requestBody"]["content"]
    assert predict["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    assert predict["security"]
    (model,) = page["paths"]["/v2/models/{model}"]["get"]["parameters"]
    assert (model["name"], model["in"]) == ("model", "path")
    assert connection.get("/docs").status_code == 404


# ── the Open Inference Protocol ────────────────────────────────────────────────────────────


def infer(connection, body, **headers):
    return connection.post("/v2/models/tiny/infer", content=body, headers=headers)


def test_the_protocol_in_json(client):
    connection = client()
    assert connection.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert connection.get("/v2/models/tiny/ready").status_code == 200
    assert connection.get("/v2/models/tiny/versions/1").json()["name"] == "tiny"
    for path in ("other", "tiny/versions/2", "other/ready"):
        got = connection.get(f"/v2/models/{path}")
        assert (got.status_code, "There is no" in got.json()["error"]) == (404, True)
    files = [base64.b64encode(png(level)).decode() for level in (200, 70)]
    request = {
        "id": "7",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": files}],
        "outputs": [{"name": "label"}, {"name": "probabilities"}],
    }
    got = infer(connection, json.dumps(request)).json()
    assert (got["id"], got["model_name"], got["model_version"]) == ("7", "tiny", "1")
    label, probabilities = got["outputs"]
    assert label == {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["Pro", "Early"]}
    assert probabilities["shape"] == [2, 4]
    assert sum(probabilities["data"][:4]) == pytest.approx(1)
    pixels = np.full((1, 40, 40, 3), 130).tolist()
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, 40, 40, 3], "data": pixels}
    got = infer(connection, json.dumps({"inputs": [tensor]})).json()
    assert got["outputs"][0]["data"] == ["Pre"]
    assert len(got["outputs"]) == 8


def tensor(**changed):
    return {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]} | changed


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ("text", "no JSON object"),
        ([], "0 inputs"),
        ([tensor(), tensor()], "2 inputs"),
        ([tensor(name="x")], "known are"),
        ([tensor(datatype="FP32")], "known are"),
        ([tensor(shape="x")], "list of numbers"),
        ([tensor(shape=[2])], "holds 1 files"),
        ([tensor(shape=[True])], "list of numbers"),
        ([tensor(data=["ü"])], "base64"),
        ([tensor(data=None)], "neither"),
        ([tensor(data=["AAAA"])], "image 0 is not an image"),
        ([tensor(parameters={"binary_data_size": 9})], "0 bytes follow"),
        ([tensor(name="pixels", datatype="UINT8", shape=[2, 2, 4], data=[0])], "[N, H, W, 3]"),
        ([tensor(name="pixels", datatype="UINT8", shape=[2, 2, 3], data=[0])], "1 values"),
        ([tensor(name="pixels", datatype="UINT8", shape=[1, 1, 3], data=[0, 1, 256])], "0 to 255"),
        ([tensor(name="pixels", datatype="UINT8", shape=[1, 1, 3], data=[0, [1], 2])], "0 to 255"),
        ([tensor(name="pixels", datatype="UINT8", shape=[1, 1, 3], data=[[0], 1])], "nested"),
        ([tensor(name="pixels", datatype="UINT8", shape=[1, 1, 3], data=[0, 1, 2])], "1 × 1"),
    ],
)
def test_a_request_outside_the_protocol_is_told_in_a_sentence(client, inputs, told):
    got = infer(client(), json.dumps({"inputs": inputs}))
    assert got.status_code == 400
    assert told in got.json()["error"]


def test_binary_data_that_does_not_fit_its_head_is_told(client):
    connection = client()
    head = json.dumps({"inputs": [tensor(parameters={"binary_data_size": 3})]}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    assert "within a length" in infer(connection, head + b"abc", **length).json()["error"]
    assert "2 bytes follow" in infer(connection, head + b"ab", **length).json()["error"]
    length = {"Inference-Header-Content-Length": "9999"}
    assert "the body has" in infer(connection, head, **length).json()["error"]
    asked = {"inputs": [tensor()], "outputs": [{"name": "colour"}]}
    assert "Unknown output 'colour'" in infer(connection, json.dumps(asked)).json()["error"]


def test_a_stock_client_is_served(client):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        triton = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
        model = Fake()
        url = str(client(model).base_url).removeprefix("http://").rstrip("/")
        theirs = triton.InferenceServerClient(url)
        assert theirs.is_server_live()
        assert theirs.is_server_ready()
        assert theirs.is_model_ready("tiny")
        assert theirs.is_model_ready("tiny", "1")
        assert not theirs.is_model_ready("other")
        assert theirs.get_server_metadata()["name"] == "allkit"
        assert theirs.get_model_metadata("tiny")["outputs"][2]["shape"] == [-1, 4]
        files = np.array([png(level) for level in (200, 70, 0)], dtype=object)
        given = triton.InferInput("image", [3], "BYTES")
        given.set_data_from_numpy(files)
        got = theirs.infer("tiny", [given], request_id="9")
        assert got.get_response()["id"] == "9"
        assert list(got.as_numpy("label")) == [b"Pro", b"Early", b"Benign"]
        assert got.as_numpy("probabilities").shape == (3, 4)
        expected = model.predict(list(files))
        assert [json.loads(text) for text in got.as_numpy("prediction")] == [
            plain(answer) for answer in expected
        ]
        pixels = np.full((2, 50, 60, 3), 130, np.uint8)
        given = triton.InferInput("pixels", list(pixels.shape), "UINT8")
        given.set_data_from_numpy(pixels)
        wanted = [
            triton.InferRequestedOutput("label", binary_data=False),
            triton.InferRequestedOutput("probability", binary_data=True),
        ]
        got = theirs.infer("tiny", [given], outputs=wanted)
        assert list(got.as_numpy("label")) == ["Pre", "Pre"]  # JSON gives text
        assert got.as_numpy("probability").dtype == np.float32
        with pytest.raises(triton.InferenceServerException, match="There is no model"):
            theirs.infer("other", [given])
        theirs.close()


# ── the end ────────────────────────────────────────────────────────────────────────────────

SLOW = """
    import sys
    sys.path.insert(0, sys.argv[1])
    from test_serving import Fake
    from allkit.serving.app import create_app
    from allkit.serving.run import listen, serve

    bound = listen("127.0.0.1", 0)
    print(bound.getsockname()[1], flush=True)
    begun = []

    class Door:  # counts the requests for an answer that the server began to read
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            if scope.get("path") == "/predict":
                begun.append(scope)
            await self.app(scope, receive, send)

    app = create_app(Fake(seconds=0.3))
    app.add_middleware(Door)
    finished = serve(app, bound)
    print(len(begun))
    sys.exit(0 if finished else 3)
"""


@pytest.mark.slow
def test_told_to_end_it_answers_everything_that_it_took(tmp_path):
    script = tmp_path / "server.py"
    script.write_text(textwrap.dedent(SLOW))
    process = subprocess.Popen(
        [sys.executable, str(script), os.path.dirname(__file__)], stdout=subprocess.PIPE, text=True
    )
    port = int(process.stdout.readline())
    url = f"http://127.0.0.1:{port}"
    while True:
        with httpx.Client(trust_env=False) as probe:
            try:
                if probe.get(f"{url}/v2/health/ready").status_code == 200:
                    break
            except httpx.ConnectError:
                time.sleep(0.05)

    def work(_):
        """Ask until the server is gone: the answers, and what the last question came to."""
        statuses = []
        with httpx.Client(trust_env=False, timeout=30) as one:
            while True:
                try:
                    statuses.append(send_to(one, url).status_code)
                except (httpx.ConnectError, httpx.ReadError, httpx.WriteError):
                    return statuses, "refused"  # at the door, or before a byte was read
                except httpx.TransportError as error:
                    return statuses, repr(error)

    with ThreadPoolExecutor(32) as pool:
        working = [pool.submit(work, i) for i in range(32)]
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        found = [future.result() for future in working]
    begun, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    answers = [status for statuses, _ in found for status in statuses]
    assert set(answers) == {200}
    assert len(answers) == int(begun) > 32  # whoever was let in was told
    assert {end for _, end in found} == {"refused"}


def send_to(connection, url):
    return connection.post(f"{url}/predict", files={"image": ("a.png", png(200))})


# ── the command ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "0.0.0.0"], "it has no key"),
        (["--port", "70000"], "between 0 and 65535"),
        (["--api-key-file", "missing.txt"], "cannot be read"),
        (["--api-key-file", "short.txt"], "16 characters or more"),
        (["--queue", "0"], "must be positive"),
        (["--host", "no.such.host.invalid", "--api-key-file", "key.txt"], "cannot be used"),
    ],
)
def test_a_mistake_in_the_command_is_told_before_a_model_is_loaded(cli, tmp_path, arguments, told):
    (tmp_path / "short.txt").write_text("abc")
    (tmp_path / "key.txt").write_text(KEY + "\n")
    status, _, err = cli("serve", "no-model", *arguments)
    assert (status, told in err) == (2, True), err


def test_a_port_in_use_is_told(cli):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, _, err = cli("serve", "no-model", "--port", taken.getsockname()[1])
    assert status == 2
    assert "cannot be used" in err


WITHOUT_TORCH = """
    import sys
    for name in ("torch", "timm", "pandas", "sklearn", "pyarrow"):
        sys.modules[name] = None
    from allkit.cli import main
    main()
"""


@pytest.fixture(scope="module", params=["folder", "file"])
def command(request, tiny, tiny_folder, tmp_path_factory):
    """What serves or predicts with a model folder, and with an exported file without torch."""
    if request.param == "folder":
        return [sys.executable, "-m", "allkit"], tiny_folder
    script = tmp_path_factory.mktemp("served") / "light.py"
    script.write_text(textwrap.dedent(WITHOUT_TORCH))
    tiny.export(script.with_name("tiny.onnx"))
    return [sys.executable, str(script)], script.with_name("tiny.onnx")


@pytest.mark.slow
def test_many_images_are_answered_from_either(command, drawn, tmp_path):
    program, model = command
    out = tmp_path / "answers.jsonl"
    images = drawn.parent / "images"
    subprocess.run([*program, "predict", str(model), str(images), "--out", str(out)], check=True)
    assert len(out.read_text().splitlines()) == 48


@pytest.mark.slow
def test_the_command_serves_either_and_logs_no_name(command):
    program, model = command
    environment = os.environ | {"ALLKIT_API_KEY": KEY}
    process = subprocess.Popen(
        [*program, "serve", str(model), "--port", "0"],
        stderr=subprocess.PIPE, env=environment, text=True,
    )  # fmt: skip
    line = process.stderr.readline()
    url = re.search(r"http://\S+", line)[0]
    deadline = time.monotonic() + 60
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as connection:
        while True:
            try:
                connection.get("/v2/health/ready").raise_for_status()
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        got = send(connection, png(99), "Jane-Doe.png", headers={"X-API-Key": KEY})
        assert got.status_code == 200
        assert set(got.json()["probabilities"]) == set(CLASSES)
        send(connection, b"broken", "Jane-Doe.png", headers={"X-API-Key": KEY})
    process.terminate()
    rest = process.communicate(timeout=30)[1]
    assert process.returncode == 0
    assert "everything accepted was answered" in rest
    assert "Doe" not in line + rest
    assert KEY not in line + rest


def test_small_answers_are_sent_at_once():
    from allkit.serving.run import listen

    with listen("127.0.0.1", 0) as bound:
        # What asyncio asks of a socket before it turns Nagle's algorithm off: 40 ms otherwise.
        assert bound.proto == socket.IPPROTO_TCP
