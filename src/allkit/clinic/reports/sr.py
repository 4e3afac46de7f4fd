"""A frozen report as a DICOM Comprehensive SR with the template TID 1500."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from allkit.clinic.records import CaseReport, FieldResult, ModelIdentity
from allkit.errors import ExportError
from allkit.images.decode import read_info

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["SCHEME", "sr_of", "uid_of"]

SCHEME = "99ALLKIT"
"""The private scheme of all codes for classes, verdicts and kinds of a report."""
MICROSCOPIC = "1.2.840.10008.5.1.4.1.1.77.1.2"
SPECIMENS = {
    "blood": ("119297000", "Blood specimen"),
    "marrow": ("119359002", "Bone marrow specimen"),
}
SIGNED = ("final", "corrected")


def uid_of(text: str) -> str:
    """Return the UID that belongs to a text: 2.25 and a UUID made from its SHA-256."""
    return f"2.25.{uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16], version=5).int}"


def sr_of(
    report: CaseReport,
    *,
    image_of: Callable[[str], bytes],
    replaces: CaseReport | None = None,
    organization: str = "not stated",
) -> bytes:
    """Return a report as the bytes of a DICOM file; the same report gives the same bytes.

    `image_of` returns the stored file of a field by its hash, for the size of the image. `replaces` is the
    report before this version, to which the document then points. `organization` is the laboratory's
    name, which DICOM asks for beside the name of who verified. The document is VERIFIED only where the
    report is final or corrected and has a signer. Patient and study hold the pseudonym and the order's
    number, nothing else. All classes and verdicts have codes of `SCHEME`; none is a code of a disease.
    Raises `ExportError` for a report without fields, and `ImageError` for an image that cannot be read.
    """
    from highdicom.sr import ComprehensiveSR

    if not report.fields:
        raise ExportError(f"The report {report.id} has no fields, so there is no DICOM SR of it.")
    images = [_image(report, field, image_of(field.sha256)) for field in report.fields]
    signer = report.signer if report.kind in SIGNED else None
    made = datetime.fromisoformat(report.made_at)
    document = ComprehensiveSR(
        evidence=images,
        content=_content(report, images),
        series_instance_uid=uid_of(f"series of reports {report.case}"),
        series_number=2,
        sop_instance_uid=_uid_of_report(report),
        instance_number=max(1, report.version),
        manufacturer="allkit",
        is_complete=report.kind in SIGNED,
        is_final=report.kind in SIGNED,
        is_verified=signer is not None,
        verifying_observer_name=_person(signer.display) if signer is not None else None,
        verifying_organization=_line(organization),
        previous_versions=None if replaces is None else [_before(replaces)],
        series_description="allkit, research use",
        content_date=made.date(),
        content_time=made.time(),
    )
    _settle_times(document, report, made)
    stream = io.BytesIO()
    document.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _uid_of_report(report: CaseReport) -> str:
    return uid_of(f"report {report.sha256}")


def _line(text: str, length: int = 64) -> str:
    """Return a text that fits into one value of DICOM: no backslash, no control characters."""
    return "".join(c if c.isprintable() and c != "\\" else "/" for c in text)[:length]


def _lines(text: str) -> str:
    """Return a text of several lines without control characters."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text).strip()


def _person(display: str) -> str:
    """Return a name as DICOM has it; what is first and what is last in it is not known."""
    return _line(display, 60).replace("^", " ").replace("=", " ") + "^"


def _study(report: CaseReport) -> Dataset:
    from pydicom import Dataset

    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.PatientID = _line(report.patient)
    made.PatientName = _person(report.patient)
    made.PatientBirthDate = made.PatientSex = ""
    made.StudyInstanceUID = uid_of(f"study {report.case}")
    made.StudyID = made.StudyDate = made.StudyTime = made.ReferringPhysicianName = ""
    number = report.order.value if report.order is not None else ""
    made.AccessionNumber = number if len(number) <= 16 and number == _line(number) else ""
    return made


def _image(report: CaseReport, field: FieldResult, data: bytes) -> Dataset:
    """Return what the document has to know of the image of a field; no such file is written."""
    info = read_info(data, name=field.name)
    made = _study(report)
    made.SOPClassUID = MICROSCOPIC
    made.SOPInstanceUID = uid_of(f"image {report.case} {field.number} {field.sha256}")
    made.SeriesInstanceUID = uid_of(f"series of images {report.case}")
    made.Modality, made.Rows, made.Columns = "SM", info.height, info.width
    return made


def _before(report: CaseReport) -> Dataset:
    from pydicom.uid import ComprehensiveSRStorage

    made = _study(report)
    made.SOPClassUID, made.SOPInstanceUID = ComprehensiveSRStorage, _uid_of_report(report)
    made.SeriesInstanceUID = uid_of(f"series of reports {report.case}")
    return made


def _settle_times(document: Dataset, report: CaseReport, made: datetime) -> None:
    """Replace the time of writing, which highdicom puts in, by that of the report."""
    from pydicom.valuerep import DA, DT, TM

    day, hour = DA(made.date()), TM(made.time())
    document.InstanceCreationDate = document.ContentDate = day
    document.InstanceCreationTime = document.ContentTime = hour
    document.TimezoneOffsetFromUTC = "+0000"
    for equipment in document.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = DT(made.replace(tzinfo=None))
    signed = datetime.fromisoformat(report.signed_at) if report.signed_at else made
    for observer in document.get("VerifyingObserverSequence", []):
        observer.VerificationDateTime = DT(signed.replace(tzinfo=None))


# ── the content tree ──────────────────────────────────────────────────────────────────────────


def _content(report: CaseReport, images: list[Dataset]) -> Any:
    from highdicom.sr import CodedConcept, LanguageOfContentItemAndDescendants, MeasurementReport
    from pydicom.sr.codedict import codes

    withdrawn = report.kind == "withdrawn"
    groups = [] if withdrawn else [
        _group_of_field(report, field, image)
        for field, image in zip(report.fields, images, strict=True)
    ]  # fmt: skip
    return MeasurementReport(
        observation_context=_context(report),
        procedure_reported=_code("smear review", "Review of images of a smear"),
        imaging_measurements=[_group_of_case(report), *groups],
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            CodedConcept("en", "RFC5646", "English")
        ),
        referenced_images=images,
    )


def _code(value: str, meaning: str) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(_line(value), SCHEME, _line(meaning))


def _context(report: CaseReport) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    model = report.model
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid_of(f"model {model.sha256}" if model is not None else "allkit without a model"),
        name="allkit",
        model_name=_line(model.name) if model is not None else None,
    )
    person = None
    if report.signer is not None:
        person = sr.ObserverContext(
            codes.cid270.Person,
            sr.PersonObserverIdentifyingAttributes(name=_person(report.signer.display)),
        )
    number = report.specimen.number
    value, meaning = SPECIMENS[report.specimen.kind]
    return sr.ObservationContext(
        observer_person_context=person,
        observer_device_context=sr.ObserverContext(codes.cid270.Device, device),
        subject_context=sr.SubjectContext(
            subject_class=codes.DCM.Specimen,
            subject_class_specific_context=sr.SubjectContextSpecimen(
                uid=uid_of(f"specimen {report.case}"),
                identifier=_line(number) if number else None,
                specimen_type=sr.CodedConcept(value, "SCT", meaning),
            ),
        ),
    )


def _algorithm(model: ModelIdentity | None, *, whole: bool) -> Any:
    """Return the model's name and version; `whole` adds its hash, calibration and limits."""
    from highdicom.sr import AlgorithmIdentification
    from pydicom.sr.codedict import codes

    if model is None:
        return None
    state = (
        "calibrated" if model.calibrated else "uncalibrated: probabilities are not to be trusted"
    )
    return AlgorithmIdentification(
        name=_line(model.name),
        version=_line(model.version or "not stated"),
        parameters=[f"sha256 {model.sha256}", state, *model.limits] if whole else None,
        family=codes.DCM.ArtificialIntelligence,
        manufacturer="allkit" if whole else None,
    )


def _says(name: str, meaning: str, value: str | None) -> list[Any]:
    from highdicom.sr import QualitativeEvaluation

    if not value:
        return []
    return [QualitativeEvaluation(_code(name, meaning), _code(value, value))]


def _probability(value: float | None) -> list[Any]:
    """Return the model's probability of the class that it suggests, between 0 and 1."""
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    if value is None:
        return []
    return [
        Measurement(
            name=codes.DCM.Probability,
            value=round(value, 6),
            unit=codes.UCUM.NoUnits,
        )
    ]


def _group(
    report: CaseReport, what: str, *, says: list[Any], measured: list[Any], images: list[Dataset]
) -> Any:
    from highdicom import sr

    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=uid_of(f"group {report.case} {what}"), identifier=_line(what)
        ),
        algorithm_id=_algorithm(report.model, whole=not images),
        measurements=measured,
        qualitative_evaluations=says,
        source_images=[
            sr.SourceImageForMeasurementGroup.from_source_image(image) for image in images
        ],
    )


def _group_of_case(report: CaseReport) -> Any:
    """Return the group of the whole case: the reader's result, and what the model said."""
    from highdicom.sr import TextContentItem
    from pydicom.sr.codedict import codes

    slide = None if report.kind == "withdrawn" else report.slide
    says = _says("report kind", "Kind of this version of the report", report.kind)
    measured: list[Any] = []
    if report.kind != "withdrawn":
        says += _says("reader result", "Result of the reader for the case", report.result)
    if slide is not None:
        says += _says("model verdict", "Verdict of the model", slide.verdict)
        says += _says("model class", "Class suggested by the model", slide.label)
        says += _says("model coarse", "Group of classes suggested by the model", slide.coarse)
        measured += _probability(slide.probability)
    group = _group(report, "case", says=says, measured=measured, images=[])
    texts = [report.comment] if report.kind != "withdrawn" else []
    if report.kind in ("corrected", "withdrawn"):
        texts.append(report.reason)
    for text in filter(None, (_lines(text) for text in texts)):
        group[0].ContentSequence.append(
            TextContentItem(name=codes.DCM.Comment, value=text, relationship_type="CONTAINS")
        )
    return group


def _group_of_field(report: CaseReport, field: FieldResult, image: Dataset) -> Any:
    says = _says("model verdict", "Verdict of the model", field.verdict)
    says += _says("model class", "Class suggested by the model", field.label)
    says += _says("reader class", "Class given by the reader", field.reader)
    says += _says("changed", "Whether the reader's class differs", "yes" if field.changed else None)
    measured = _probability(field.probability)
    what = f"field {field.number}"
    return _group(report, what, says=says, measured=measured, images=[image])
