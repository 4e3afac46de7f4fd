"""Who vouches for a model: keys, signatures, and sites that open only what they trust."""

import errno
import json
import os
import re
import shutil
import stat
import subprocess

import pytest

import allkit
from allkit.cli.models import open_model
from allkit.errors import AllkitError, CheckpointError, ConfigError, ExportError
from allkit.evaluation.site_key import hide_groups
from allkit.files import model_hash
from allkit.model.folder import read_card, write_card
from allkit.runtime import signature
from attacks.hostile_models import SAVED, new_model, seal_folder


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with the keys `lab` and `other`."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("lab", "other"):
        signature.new_key(folder / name)
    return folder


@pytest.fixture
def model(tmp_path):
    return new_model(tmp_path)


@pytest.fixture
def exported(tmp_path):
    return shutil.copy(SAVED / "model.onnx", tmp_path / "model.onnx")


def test_a_signed_model_and_file_are_verified_by_the_public_key(cli, keys, model, exported):
    for path in (model, exported):
        assert cli("sign", path, "--key", keys / "lab")[0] == 0
        status, out, _ = cli("verify", path, "--key", keys / "lab.pub", "--json", "said.json")
        assert status == 0
        assert "by the key lab.pub" in out
        with open("said.json") as stream:
            assert json.load(stream)["signature"]["by"] == "lab.pub"
        assert cli("verify", path)[0] == 0  # says who says so, and checks the hashes


def test_any_of_several_keys_will_do(cli, keys, model):
    cli("sign", model, "--key", keys / "other")
    status, out, _ = cli("verify", model, "--key", keys)
    assert status == 0
    assert "by the key other.pub" in out


def test_another_key_no_signature_and_an_altered_model_are_told_apart(cli, keys, model, exported):
    for path in (model, exported):
        status, _, err = cli("verify", path, "--key", keys / "lab.pub")
        assert status == 2
        assert "is not signed" in err
        cli("sign", path, "--key", keys / "lab")
        status, _, err = cli("verify", path, "--key", keys / "other.pub")
        assert status == 2
        assert "was signed by another key" in err
    with open(exported, "ab") as stream:
        stream.write(b"x")
    text = (model / "model.json").read_text().replace('"drawn": true', '"drawn": false')
    (model / "model.json").write_text(text)
    seal_folder(model)  # who forges a model writes its hashes anew
    for path in (model, exported):
        status, _, err = cli("verify", path, "--key", keys / "lab.pub")
        assert status == 2
        assert "was altered after it was signed" in err


def test_a_signature_cannot_be_moved_or_given_another_date(keys, model, exported):
    private = signature.private_key(keys / "lab")
    public = signature.public_keys(keys / "lab.pub")
    signature.sign(model, private)
    signature.sign(exported, private)
    place = signature.signature_path(model)
    good = place.read_text()
    for change in (
        lambda s: s | {"signed": "2020-01-01T00:00:00Z"},
        lambda s: s | {"kind": "exported file"},
        lambda s: s | {"sha256": "0" * 64},
        lambda s: s | {"signature": "AAAA"},
        lambda s: s | {"signature": "***"},
        lambda s: s | {"key": "0" * 64},
        lambda s: s | {"format": 2},
        lambda s: s | {"algorithm": "none"},
        lambda s: s | {"more": 1},
        lambda s: [s],
        lambda s: json.loads(signature.signature_path(exported).read_text()),
    ):
        place.write_text(json.dumps(change(json.loads(good))))
        with pytest.raises(CheckpointError):
            signature.signed_by(model, public)
    for text in ("", "{", "[" * 10_000, "\xff"):
        place.write_text(text, encoding="latin-1")
        with pytest.raises(CheckpointError):
            signature.signed_by(model, public)


def test_signing_changes_no_hash_and_the_card_may_be_edited_after_it(keys, model, recwarn):
    before = model_hash(model)
    signature.sign(model, signature.private_key(keys / "lab"))
    assert model_hash(model) == before
    allkit.Classifier.load(model)
    assert not recwarn.list
    write_card(model, read_card(model) + "\nSeen in our laboratory.\n")
    signature.signed_by(model, signature.public_keys(keys / "lab.pub"))


def test_what_is_damaged_is_not_signed_and_nothing_is_signed_twice(cli, keys, model, exported):
    cli("sign", model, "--key", keys / "lab")
    status, _, err = cli("sign", model, "--key", keys / "lab")
    assert status == 2
    assert "--overwrite to sign anew" in err
    assert cli("sign", model, "--key", keys / "other", "--overwrite")[0] == 0
    (model / "plots" / "confusion.png").write_bytes(b"x")
    assert cli("sign", model, "--key", keys / "lab", "--overwrite")[0] == 2
    with open(exported, "ab") as stream:
        stream.write(b"x")
    assert cli("sign", exported, "--key", keys / "lab")[0] == 2


def test_a_site_opens_only_what_its_keys_signed(keys, model, exported, monkeypatch, tmp_path):
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    monkeypatch.setenv("ALLKIT_TRUSTED_KEYS", str(trusted))
    with pytest.raises(ConfigError, match="holds no public keys"):
        open_model(model)
    shutil.copy(keys / "lab.pub", trusted)
    for path, error in ((model, CheckpointError), (exported, ExportError)):
        with pytest.raises(error, match="is not signed"):
            open_model(path)
        signature.sign(path, signature.private_key(keys / "other"))
        with pytest.raises(error, match="another key"):
            open_model(path)
        signature.sign(path, signature.private_key(keys / "lab"), overwrite=True)
        open_model(path)
    with pytest.raises(CheckpointError, match="is not signed"):
        allkit.Classifier.load(SAVED / "model")
    monkeypatch.setenv("ALLKIT_TRUSTED_KEYS", "")
    with pytest.raises(ConfigError, match="is empty"):
        open_model(model)
    monkeypatch.setenv("ALLKIT_TRUSTED_KEYS", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="There is no key"):
        open_model(model)


def test_keys_are_private_and_encrypted_where_asked(cli, tmp_path, monkeypatch):
    status, out, err = cli("sign", "--new-key", "lab")
    assert status == 0
    assert len(out.strip()) == 64
    assert "keep it secret" in err
    if os.name != "nt":
        assert stat.S_IMODE((tmp_path / "lab").stat().st_mode) == 0o600
    assert cli("sign", "--new-key", "lab")[0] == 2  # a key is not replaced
    monkeypatch.setenv("ALLKIT_KEY_PASSPHRASE", "blue cells")
    assert cli("sign", "--new-key", "hidden")[0] == 0
    assert b"ENCRYPTED" in (tmp_path / "hidden").read_bytes()
    shutil.copy(SAVED / "model.onnx", "m.onnx")
    assert cli("sign", "m.onnx", "--key", "lab")[0] == 0  # which needs no passphrase
    assert cli("sign", "m.onnx", "--key", "hidden", "--overwrite")[0] == 0
    monkeypatch.setenv("ALLKIT_KEY_PASSPHRASE", "red cells")
    status, _, err = cli("sign", "m.onnx", "--key", "hidden", "--overwrite")
    assert status == 2
    assert "the passphrase is wrong" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m.onnx"], "Give a model and the key"),
        ([], "Give a model and the key"),
        (["--new-key", "a", "--key", "b"], "Give a model and the key"),
        (["m.onnx", "--key", "none"], "There is no key"),
        (["m.onnx", "--key", "lab.pub"], "is a public key"),
        (["m.onnx", "--key", "m.onnx"], "holds|bytes|no private key"),
        (["none", "--key", "lab"], "does not exist"),
    ],
)
def test_mistakes_are_named(cli, keys, tmp_path, words, message):
    for name in ("lab", "lab.pub"):
        shutil.copy(keys / name, tmp_path)
    shutil.copy(SAVED / "model.onnx", tmp_path / "m.onnx")
    status, _, err = cli("sign", *words)
    assert status == 2
    assert re.search(message, err)
    assert "Traceback" not in err


def test_a_private_key_is_not_taken_to_verify(cli, keys, model):
    cli("sign", model, "--key", keys / "lab")
    status, _, err = cli("verify", model, "--key", keys / "lab")
    assert status == 2
    assert "is a private key" in err


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_openssl_reads_the_keys_and_the_signature(keys, model, tmp_path):
    import base64

    found = signature.sign(model, signature.private_key(keys / "lab"))
    (tmp_path / "message").write_bytes(found.message)
    (tmp_path / "value").write_bytes(base64.b64decode(found.signature))
    done = subprocess.run(
        ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", keys / "lab.pub", "-rawin",
         "-in", "message", "-sigfile", "value"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert "Verified Successfully" in done.stdout + done.stderr


def test_what_is_no_file_is_not_signed_and_holds_no_site_key(cli, keys, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        status, _, err = cli("sign", path, "--key", keys / "lab")
        assert status == 2
        assert "is a pipe or a device" in err
        monkeypatch.setenv("ALLKIT_SITE_KEY_FILE", str(path))
        with pytest.raises(ConfigError, match="is a pipe or a device"):
            hide_groups(["a"])


def test_any_bytes_are_a_passphrase(cli, monkeypatch, tmp_path):
    monkeypatch.setitem(os.environ, "ALLKIT_KEY_PASSPHRASE", os.fsdecode(b"\xff\xfe"))
    assert cli("sign", "--new-key", tmp_path / "key")[0] == 0
    signature.private_key(tmp_path / "key", b"\xff\xfe")


def test_a_full_disk_leaves_no_half_key(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("allkit.files.on_disk", full)
        with pytest.raises(AllkitError, match="No space left"):
            signature.new_key(tmp_path / "key")
        assert list(tmp_path.iterdir()) == []
    signature.new_key(tmp_path / "key")


def test_only_the_line_of_the_card_is_not_signed(keys, model):
    signature.sign(model, signature.private_key(keys / "lab"))
    for name in ("plots/a  README.md", "a  README.md", "x/README.md"):
        good = (model / "SHA256SUMS").read_text()
        (model / "SHA256SUMS").write_text(f"{good}{'0' * 64}  {name}\n")
        with pytest.raises(CheckpointError, match="was altered after it was signed"):
            signature.signed_by(model, signature.public_keys(keys / "lab.pub"))
        with pytest.raises(CheckpointError, match="names what allkit does not write"):
            allkit.Classifier.load(model)
        (model / "SHA256SUMS").write_text(good)


def test_a_damaged_signature_is_told_without_any_key(keys, model, exported):
    private = signature.private_key(keys / "lab")
    for path in (model, exported):
        signature.sign(path, private)
        place = signature.signature_path(path)
        good = place.read_text()
        for text in ("", good.replace('"sha256": "', '"sha256": "0')[:-1], good[:50]):
            place.write_text(text)
            with pytest.warns(UserWarning, match=re.escape(place.name)):
                open_model(path)
        place.write_text(re.sub('"sha256": "[^"]*"', f'"sha256": "{"0" * 64}"', good))
        with pytest.warns(UserWarning, match="is not the signature of what lies there"):
            open_model(path)
