"""A report as a DICOM SR, read back with pydicom."""

import functools
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from allkit.clinic.records import (
    CaseReport,
    FieldResult,
    Identifier,
    ModelIdentity,
    PersonName,
    SlideResult,
    Specimen,
    sha256_of,
)
from allkit.clinic.reports.sr import SCHEME, sr_of, uid_of
from allkit.errors import ExportError, ImageError

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")


def picture(value):
    stream = io.BytesIO()
    Image.fromarray(np.full((40, 50, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


STORE = {sha256_of(data): data for data in (picture(10), picture(20))}
FIRST, SECOND = STORE
PRELIMINARY = CaseReport(
    id="R1", case="C1", version=1, kind="preliminary", made_at="2026-01-31T09:15:00Z",
    patient="PSEUDO-1", patient_identifiers=(Identifier("P-4711", "HOSP"),),
    specimen=Specimen("blood", "2026-01-29", "May-Grünwald", "SP-9"), order=Identifier("A-1", "LIS"),
    fields=(
        FieldResult(
            number=1, name="Doe left.png", sha256=FIRST, verdict="accepted", label="Pro-B",
            probability=0.971234567, reader="Early Pre-B", changed=True, why="nucleoli",
        ),
        FieldResult(number=2, name="b.png", sha256=SECOND, verdict="refused", reasons=("blurred",)),
    ),
    model=ModelIdentity("tiny", "0.1", "ab" * 32, True, ("Benign", "Pro-B"), ("224-px fields",)),
    slide=SlideResult("accepted", 2, 1, label="Pro-B", probability=0.9, coarse="leukaemia"),
)  # fmt: skip
FINAL = replace(
    PRELIMINARY, kind="final", version=2, result="Early Pre-B", comment="Blasts Ä ≥ 20 %",
    signer=PersonName("ann@lab", "Dr Änn Lee"), signed_at="2026-01-31T09:14:00Z",
)  # fmt: skip


def written(report, **options):
    return sr_of(report, image_of=STORE.__getitem__, **options)


kept = functools.cache(written)  # making one takes a tenth of a second


def read(report, **options):
    return pydicom.dcmread(io.BytesIO(kept(report, **options)))


def groups(dataset):
    measured = [i for i in dataset.ContentSequence if i.ValueType == "CONTAINER"][-1]
    assert measured.ConceptNameCodeSequence[0].CodeValue == "126010"
    return list(measured.ContentSequence)


def said(group):
    """What a group says, by the name of each item."""
    found = {}
    for item in group.ContentSequence:
        name = item.ConceptNameCodeSequence[0].CodeMeaning
        if item.ValueType == "CODE":
            found[name] = item.ConceptCodeSequence[0].CodeMeaning
        elif item.ValueType == "NUM":
            found[name] = float(item.MeasuredValueSequence[0].NumericValue)
        elif item.ValueType in ("TEXT", "UIDREF"):
            found.setdefault(name, []).append(item.get("TextValue", item.get("UID")))
        else:
            found[name] = item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    return found


def test_the_same_report_gives_the_same_bytes_and_another_one_other_uids():
    assert written(FINAL) == written(FINAL)
    later = replace(FINAL, made_at="2026-02-01T00:00:00Z")
    assert read(later).SOPInstanceUID != read(FINAL).SOPInstanceUID
    assert read(later).StudyInstanceUID == read(FINAL).StudyInstanceUID


def test_the_document_is_a_tid_1500_that_other_software_reads():
    dataset = read(FINAL)
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"
    assert dataset.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    parsed = highdicom.sr.srread(io.BytesIO(kept(FINAL)))
    found = parsed.content.get_image_measurement_groups()
    assert [group.tracking_identifier for group in found] == ["case", "field 1", "field 2"]
    images = {one[2] for one in parsed.get_evidence()}
    assert len(images) == 2
    assert found[1].source_images[0].referenced_sop_instance_uid in images


def test_only_a_signed_report_is_verified():
    before = read(PRELIMINARY)
    assert (before.VerificationFlag, before.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert before.CompletionFlag == "PARTIAL"
    assert "VerifyingObserverSequence" not in before
    after = read(FINAL, organization="Haematology")
    assert (after.VerificationFlag, after.PreliminaryFlag) == ("VERIFIED", "FINAL")
    assert after.CompletionFlag == "COMPLETE"
    observer = after.VerifyingObserverSequence[0]
    assert observer.VerifyingObserverName == "Dr Änn Lee^"
    assert observer.VerifyingOrganization == "Haematology"
    assert observer.VerificationDateTime == "20260131091400"
    assert read(replace(PRELIMINARY, signer=FINAL.signer)).VerificationFlag == "UNVERIFIED"


def test_all_times_are_those_of_the_report():
    dataset = read(FINAL)
    assert (dataset.ContentDate, dataset.ContentTime) == ("20260131", "091500")
    assert (dataset.InstanceCreationDate, dataset.InstanceCreationTime) == ("20260131", "091500")
    assert dataset.TimezoneOffsetFromUTC == "+0000"
    times = {e.ContributionDateTime for e in dataset.get("ContributingEquipmentSequence", [])}
    assert times <= {"20260131091500"}


def test_what_the_reader_and_what_the_model_said_stand_apart():
    case, first, second = (said(group) for group in groups(read(FINAL)))
    assert case["Result of the reader for the case"] == "Early Pre-B"
    assert case["Class suggested by the model"] == "Pro-B"
    assert case["Group of classes suggested by the model"] == "leukaemia"
    assert case["Comment"] == ["Blasts Ä ≥ 20 %"]
    assert case["Algorithm Name"] == ["tiny"]
    assert case["Algorithm Family"] == "Artificial Intelligence"
    assert case["Algorithm Parameters"] == [f"sha256 {'ab' * 32}", "calibrated", "224-px fields"]
    assert first["Class given by the reader"] == "Early Pre-B"
    assert first["Class suggested by the model"] == "Pro-B"
    assert first["Probability"] == pytest.approx(0.971235)
    assert first["Whether the reader's class differs"] == "yes"
    assert second["Verdict of the model"] == "refused"
    assert "Class suggested by the model" not in second
    assert "Probability" not in second
    assert first["Source of Measurement"] == uid_of(f"image C1 1 {FIRST}")


def test_patient_and_study_hold_the_pseudonym_and_the_orders_number_only():
    dataset, data = read(FINAL), kept(FINAL)
    assert dataset.PatientID == "PSEUDO-1"
    assert str(dataset.PatientName) == "PSEUDO-1^"
    assert dataset.AccessionNumber == "A-1"
    for keyword in (
        "PatientBirthDate",
        "PatientSex",
        "StudyID",
        "StudyDate",
        "ReferringPhysicianName",
    ):
        assert not dataset[keyword].value
    for secret in (b"P-4711", b"HOSP", b"Doe"):
        assert secret not in data
    assert read(replace(FINAL, order=Identifier("x" * 17))).AccessionNumber == ""


def test_every_class_and_verdict_is_a_private_code():
    def codes(dataset):
        for element in dataset.iterall():
            if element.keyword == "ConceptCodeSequence":
                yield from element.value

    schemes = {(c.CodingSchemeDesignator, c.CodeMeaning) for c in codes(read(FINAL))}
    foreign = {meaning for scheme, meaning in schemes if scheme not in (SCHEME, "DCM")}
    assert foreign == {"Blood specimen", "English"}
    assert (SCHEME, "Early Pre-B") in schemes


def test_a_correction_points_to_the_version_before_and_says_why():
    corrected = replace(FINAL, kind="corrected", version=3, replaces=2, reason="field 1 again")
    dataset = read(corrected, replaces=FINAL)
    series = dataset.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    before = read(FINAL)
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert series.SeriesInstanceUID == before.SeriesInstanceUID
    assert said(groups(dataset)[0])["Comment"] == ["Blasts Ä ≥ 20 %", "field 1 again"]


def test_a_withdrawn_report_holds_no_result():
    withdrawn = replace(FINAL, kind="withdrawn", version=3, reason="another patient", replaces=2)
    dataset = read(withdrawn, replaces=FINAL)
    (case,) = (said(group) for group in groups(dataset))
    assert case["Kind of this version of the report"] == "withdrawn"
    assert case["Comment"] == ["another patient"]
    assert b"Early Pre-B" not in kept(withdrawn, replaces=FINAL)
    assert (dataset.VerificationFlag, dataset.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


def test_a_report_without_a_model_an_order_and_a_number_is_written():
    bare = replace(FINAL, model=None, slide=None, order=None, specimen=Specimen("marrow"))
    dataset = read(bare)
    assert "Algorithm Name" not in said(groups(dataset)[0])
    assert dataset.AccessionNumber == ""


def test_hostile_texts_stay_texts():
    odd = "a\\b^c=d\x1b" + "x" * 300
    hostile = replace(
        FINAL,
        patient=odd,
        result=odd,
        comment=f"one\n{odd}\0",
        signer=PersonName("x", odd),
        model=replace(FINAL.model, name=odd, version=odd),
        fields=(replace(FINAL.fields[0], reader=odd, label=odd), FINAL.fields[1]),
    )
    dataset = read(hostile)
    assert len(dataset.PatientID) == 64
    assert dataset.PatientID.startswith("a/b^c=d/x")
    assert said(groups(dataset)[0])["Result of the reader for the case"].startswith("a/b^c=d/x")
    assert said(groups(dataset)[0])["Comment"][0].startswith("one\na\\b^c=d x")


def test_what_cannot_be_written_is_an_error_for_the_user():
    with pytest.raises(ExportError, match="no fields"):
        written(replace(FINAL, fields=()))
    with pytest.raises(ImageError):
        sr_of(FINAL, image_of=lambda sha256: b"gone")


@pytest.mark.slow
def test_a_report_of_fifty_fields_is_written():
    many = tuple(replace(FINAL.fields[0], number=n) for n in range(1, 51))
    dataset = read(replace(FINAL, fields=many))
    assert len(groups(dataset)) == 51
