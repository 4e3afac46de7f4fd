from allkit.plugins import Registry
from allkit.testing import conformance


@conformance("allkit-openvino")
def test_conformance(check):
    check()


def test_writing_and_answering_contact_nobody(
    allkit_model, allkit_images, allkit_no_network, tmp_path
):
    record = Registry().get("exporter", "openvino")
    path = tmp_path / "model.openvino"
    record.write(allkit_model, path, precision="float32", calibration=None)
    assert len(record.open(path).predict(allkit_images)) == len(allkit_images)
    assert allkit_no_network == []
